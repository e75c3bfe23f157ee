"""Runs on disk or in memory."""

from byrote.store.folder import FolderStore
from byrote.store.leftovers import sweep
from byrote.store.listing import StoredKind, StoredRun, StoredStatus, list_runs
from byrote.store.store import AbstractStore, MemoryStore

__all__ = [
    "AbstractStore",
    "FolderStore",
    "MemoryStore",
    "StoredKind",
    "StoredRun",
    "StoredStatus",
    "list_runs",
    "sweep",
]
