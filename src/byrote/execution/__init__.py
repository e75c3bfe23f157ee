"""Where runs are trained."""

from byrote.execution.deadline import Deadline
from byrote.execution.describe import describe
from byrote.execution.executor import AbstractExecutor
from byrote.execution.keeper import Keeper
from byrote.execution.local import LocalExecutor
from byrote.execution.processes import ProcessExecutor
from byrote.execution.progress import OnProgress, OnShard, Progress, silent, unheard

__all__ = [
    "AbstractExecutor",
    "Deadline",
    "Keeper",
    "LocalExecutor",
    "OnProgress",
    "OnShard",
    "ProcessExecutor",
    "Progress",
    "describe",
    "silent",
    "unheard",
]
