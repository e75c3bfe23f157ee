"""Runs on disk or in memory."""

from byrote.store.folder import FolderStore
from byrote.store.store import AbstractStore, MemoryStore

__all__ = ["AbstractStore", "FolderStore", "MemoryStore"]
