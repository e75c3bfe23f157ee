"""Who works on what: one small file for every holder alive, in `claims/`."""

import json
import os
import secrets
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, final

from byrote.core import StoreError
from byrote.store.locks import FileLock, LocksUnsupportedError, is_locked

FOLDER = "claims"
GATE = "gate.lock"
"""Locked for moments: by whoever looks which claims there are and makes one of their own."""
PATIENCE = 60.0
"""Seconds to wait at the gate, through which everybody passes in milliseconds."""
PAUSE = 0.002
"""Seconds between two tries."""


class Holder(NamedTuple):
    """A process that is alive, or one part of it, and the keys that only it may work on."""

    name: str
    host: str
    process: int
    since: datetime
    keys: frozenset[str]


@final
class Claims:
    """The claims on what a store's folder holds.

    A holder's file is locked while it lives. The kernel drops the lock when the process dies, so a claim never
    outlives its holder, and a process number that is used again deceives nobody. Where a file system has no locks,
    everybody gets what they ask for: work may be done twice, and is then kept once.
    """

    def __init__(self, folder: Path) -> None:
        """Of the store in this folder. Nothing is made yet."""
        self.folder = folder / FOLDER

    @contextmanager
    def gate(self) -> Iterator[bool]:
        """Let one thread of one process in at a time.

        Yields:
            Whether the file system has locks at all.

        Raises:
            StoreError: somebody has kept it shut for a minute.
            OSError: the folder is not there or cannot be written to.
        """
        lock = FileLock(self.folder / GATE)
        supported = self._enter(lock)
        try:
            yield supported
        finally:
            lock.release()

    @contextmanager
    def hold(self, keys: Sequence[str] = ()) -> Iterator[Holder]:
        """Claim keys until the context ends or the process dies, whichever is first.

        Yields:
            The holder, with those of the keys that nobody else holds.
        """
        with self.gate() as supported:
            taken = (
                {key for holder in self.living(remove_dead=True) for key in holder.keys} if supported else set[str]()
            )
            holder = _holder(keys=frozenset(keys) - taken)
            path = self.folder / f"{holder.name}.json"
            lock = FileLock(path)
            try:
                if supported:
                    _acquire(lock)  # Who only looks may hold it for a moment.
                    path.write_text(_text(holder), encoding="utf-8")
            except BaseException:
                _end(lock)
                raise
        try:
            yield holder
        finally:
            _end(lock)

    def living(self, *, remove_dead: bool = False) -> Iterator[Holder]:
        """Every holder that is alive.

        Args:
            remove_dead: also remove the files of those that are not; at the gate only, where nobody is being made.

        Raises:
            LocksUnsupportedError: nobody can tell.
        """
        is_locked(self.folder / GATE)
        for path in sorted(self.folder.glob("*.json")):
            if is_locked(path):
                holder = _parsed(path)
                if holder is not None:
                    yield holder
            elif remove_dead:
                path.unlink(missing_ok=True)

    def _enter(self, lock: FileLock) -> bool:
        if not self.folder.is_dir():
            self.folder.mkdir(exist_ok=True)
        try:
            _acquire(lock)
        except LocksUnsupportedError:
            return False
        return True


def _acquire(lock: FileLock) -> None:
    """Try until it is got."""
    latest = time.monotonic() + PATIENCE
    while not lock.acquire():
        if time.monotonic() > latest:
            raise StoreError(
                f"Another process has kept {lock.path} locked for {PATIENCE:g} s. Find out which (fuser, lsof) and "
                f"continue or end it, then start again."
            )
        time.sleep(PAUSE)


def _holder(*, keys: Collection[str]) -> Holder:
    process = os.getpid()
    name = f"{process}-{secrets.token_hex(8)}"
    return Holder(name, socket.gethostname(), process, datetime.now(UTC), frozenset(keys))


def _text(holder: Holder) -> str:
    about = {"host": holder.host, "process": holder.process, "since": holder.since.isoformat()}
    return json.dumps({**about, "keys": sorted(holder.keys)}, indent=2)


def _parsed(path: Path) -> Holder | None:
    """None for one that is just being made, or has just ended."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        since = datetime.fromisoformat(about["since"])
        return Holder(path.stem, about["host"], about["process"], since, frozenset(about["keys"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _end(lock: FileLock) -> None:
    """Give a claim back. A child that was forked meanwhile does not hold it, and leaves the file alone."""
    if lock.held:
        lock.release()
        with suppress(OSError):
            lock.path.unlink(missing_ok=True)
