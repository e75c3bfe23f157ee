"""What did your neural network learn, and what does it merely know by rote?

Public names are imported when they are first used, so that the command line answers before torch is loaded.
"""

import importlib
import os
from typing import Any

# Read when torch loads OpenMP, and numpy its OpenBLAS. Threads that spin while they wait make small networks eighty
# times slower, and kernel machines thirty times, as soon as another process wants a core; threads that sleep do not.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

_HOMES = {
    "Audit": "byrote.auditing",
    "audit": "byrote.auditing",
    "plan": "byrote.auditing",
    "fit_and_score": "byrote.auditing",
    "Examples": "byrote.data",
    "Task": "byrote.data",
    "load": "byrote.data",
    "SAM": "byrote.records",
    "SGD": "byrote.records",
    "Adam": "byrote.records",
    "AdamW": "byrote.records",
    "Constant": "byrote.records",
    "Cosine": "byrote.records",
    "Finding": "byrote.records",
    "Learner": "byrote.records",
    "Linear": "byrote.records",
    "Recipe": "byrote.records",
    "Regularisers": "byrote.records",
    "Step": "byrote.records",
    "Switch": "byrote.records",
    "WarmUp": "byrote.records",
    "Monitor": "byrote.monitoring",
    "Recorder": "byrote.scoring",
    "scores": "byrote.scoring",
    "ByroteError": "byrote.core",
}
_MODULES = ("baselines", "integrations", "measures", "models", "studies")

__all__ = [
    "SAM",
    "SGD",
    "Adam",
    "AdamW",
    "Audit",
    "ByroteError",
    "Constant",
    "Cosine",
    "Examples",
    "Finding",
    "Learner",
    "Linear",
    "Monitor",
    "Recipe",
    "Recorder",
    "Regularisers",
    "Step",
    "Switch",
    "Task",
    "WarmUp",
    "audit",
    "baselines",
    "fit_and_score",
    "integrations",
    "load",
    "measures",
    "models",
    "plan",
    "scores",
    "studies",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"byrote.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'byrote' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
