"""One file per question."""

from byrote.studies.background import Background
from byrote.studies.difficulty import Difficulty
from byrote.studies.early_phase import EarlyPhase
from byrote.studies.labels import Labels
from byrote.studies.lookup import Lookup
from byrote.studies.membership import Membership
from byrote.studies.memorisation import Memorisation
from byrote.studies.minima import Minima
from byrote.studies.random_data import RandomData
from byrote.studies.registry import AUDITED, STUDIES
from byrote.studies.study import MOST_SAMPLE_EPOCHS, SUBSET_FRACTION, AbstractStudy, Outcome, Plan, Results, StudyBudget
from byrote.studies.worth import Worth

__all__ = [
    "AUDITED",
    "MOST_SAMPLE_EPOCHS",
    "STUDIES",
    "SUBSET_FRACTION",
    "AbstractStudy",
    "Background",
    "Difficulty",
    "EarlyPhase",
    "Labels",
    "Lookup",
    "Membership",
    "Memorisation",
    "Minima",
    "Outcome",
    "Plan",
    "RandomData",
    "Results",
    "StudyBudget",
    "Worth",
]
