"""The only place that joins studies, engine, executor and store."""

from byrote.auditing.audit import OnInterim, audit
from byrote.auditing.budget import check_amounts, parse_budget
from byrote.auditing.conditions import condition
from byrote.auditing.folder import claim_folder, gives_way, has_complete_audit
from byrote.auditing.own_fit import fit_and_score
from byrote.auditing.plan import AuditPlan, PlannedFits, PlannedRuns, plan
from byrote.auditing.recipes import default_learner, default_recipe
from byrote.auditing.result import Audit
from byrote.auditing.setting import Workers, num_workers
from byrote.scoring import Table

__all__ = [
    "Audit",
    "AuditPlan",
    "OnInterim",
    "PlannedFits",
    "PlannedRuns",
    "Table",
    "Workers",
    "audit",
    "check_amounts",
    "claim_folder",
    "condition",
    "default_learner",
    "default_recipe",
    "fit_and_score",
    "gives_way",
    "has_complete_audit",
    "num_workers",
    "parse_budget",
    "plan",
]
