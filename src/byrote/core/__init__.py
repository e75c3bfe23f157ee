"""What every layer may use and nothing else does: errors, seeds, registries, entry points, optional packages."""

from byrote.core.entry import load_attribute
from byrote.core.errors import (
    BudgetError,
    ByroteError,
    DataError,
    MissingExtraError,
    ModelError,
    SpecError,
    StoreError,
    UnknownNameError,
)
from byrote.core.failure import describe_failure
from byrote.core.optional import require
from byrote.core.registry import Registry, did_you_mean
from byrote.core.seeds import derive
from byrote.core.spans import time_span

__all__ = [
    "BudgetError",
    "ByroteError",
    "DataError",
    "MissingExtraError",
    "ModelError",
    "Registry",
    "SpecError",
    "StoreError",
    "UnknownNameError",
    "derive",
    "describe_failure",
    "did_you_mean",
    "load_attribute",
    "require",
    "time_span",
]
