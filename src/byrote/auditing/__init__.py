"""The only place that joins studies, engine, executor and store."""

from byrote.auditing.audit import Audit, audit
from byrote.auditing.budget import parse_budget
from byrote.auditing.folder import claim_folder
from byrote.auditing.recipes import default_learner, default_recipe
from byrote.auditing.table import Table

__all__ = ["Audit", "Table", "audit", "claim_folder", "default_learner", "default_recipe", "parse_budget"]
