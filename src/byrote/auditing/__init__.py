"""The only place that joins studies, engine, executor and store."""

from byrote.auditing.audit import OnInterim, audit
from byrote.auditing.budget import check_amounts, parse_budget
from byrote.auditing.conditions import condition
from byrote.auditing.folder import claim_folder, has_complete_audit
from byrote.auditing.recipes import default_learner, default_recipe
from byrote.auditing.result import Audit
from byrote.auditing.setting import Workers
from byrote.auditing.table import Table

__all__ = [
    "Audit",
    "OnInterim",
    "Table",
    "Workers",
    "audit",
    "check_amounts",
    "claim_folder",
    "condition",
    "default_learner",
    "default_recipe",
    "has_complete_audit",
    "parse_budget",
]
