"""Where runs are trained."""

from byrote.execution.local import Deadline, LocalExecutor, OnProgress, Progress, silent

__all__ = ["Deadline", "LocalExecutor", "OnProgress", "Progress", "silent"]
