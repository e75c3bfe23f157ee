"""The studies by name."""

from byrote.core import Registry
from byrote.studies.difficulty import Difficulty
from byrote.studies.early_phase import EarlyPhase
from byrote.studies.labels import Labels
from byrote.studies.lookup import Lookup
from byrote.studies.membership import Membership
from byrote.studies.memorisation import Memorisation
from byrote.studies.minima import Minima
from byrote.studies.random_data import RandomData
from byrote.studies.representation import Representation
from byrote.studies.study import AbstractStudy
from byrote.studies.worth import Worth

STUDIES: Registry[type[AbstractStudy]] = Registry("study")
ALL = (
    RandomData,
    Lookup,
    Memorisation,
    Membership,
    Labels,
    Worth,
    Difficulty,
    EarlyPhase,
    Minima,
    Representation,
)
for study in ALL:
    STUDIES.add(study.name)(study)

AUDITED = ("random-data", "lookup", "memorisation", "membership")
"""The studies of a whole audit: what networks on all data, on random data and on subsets say."""
