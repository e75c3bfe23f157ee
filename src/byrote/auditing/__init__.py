"""The only place that joins studies, engine, executor and store."""

from byrote.auditing.audit import Audit, audit
from byrote.auditing.budget import check_amounts, parse_budget
from byrote.auditing.folder import claim_folder, has_complete_audit
from byrote.auditing.recipes import default_learner, default_recipe
from byrote.auditing.table import Table

__all__ = [
    "Audit",
    "Table",
    "audit",
    "check_amounts",
    "claim_folder",
    "default_learner",
    "default_recipe",
    "has_complete_audit",
    "parse_budget",
]
