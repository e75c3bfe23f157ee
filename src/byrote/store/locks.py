"""Locks on files that the kernel drops when their holder dies, however it dies."""

import errno
import os
import sys
import weakref
from pathlib import Path
from typing import final

if sys.platform == "win32":
    import msvcrt

    _FAR = 2**30
    """Byte that is locked: Windows lets nobody read a locked byte, and no file here is that long."""

    def _lock(handle: int, *, shared: bool) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBRLCK if shared else msvcrt.LK_NBLCK, 1)

    def _unlock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(handle: int, *, shared: bool) -> None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)


_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


class LocksUnsupportedError(Exception):
    """The file system has no locks."""


@final
class FileLock:
    """One holder at a time among all threads and processes. A forked child does not hold what its parent holds."""

    def __init__(self, path: Path) -> None:
        """Name a file; it is made when the lock is tried."""
        self.path = path
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds it through this object."""
        return self._handle is not None

    def acquire(self) -> bool:
        """Try once.

        Raises:
            OSError: the file cannot be made.
            LocksUnsupportedError: there are no locks on this file system.
        """
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        _HELD.add(self)  # Before it is locked: a fork in another thread must not miss it.
        got = False
        try:
            got = _tried(self._handle, shared=False)
        finally:
            if not got:
                self._close()
        return got

    def release(self) -> None:
        """Let it go, when it is held here."""
        if self._handle is not None:
            _unlock(self._handle)
            self._close()

    def forget(self) -> None:
        """In a forked child: close the parent's handle, so that the lock ends with the parent."""
        if self._handle is not None:
            self._close()

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        _HELD.discard(self)
        if handle is not None:
            os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether anyone holds the lock on a file; a file that is not there is held by nobody.

    Raises:
        LocksUnsupportedError: there are no locks on this file system.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if not _tried(handle, shared=True):
            return True
        _unlock(handle)
        return False
    finally:
        os.close(handle)


def _tried(handle: int, *, shared: bool) -> bool:
    """Whether a lock was got at once."""
    try:
        _lock(handle, shared=shared)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno in _UNSUPPORTED:
            raise LocksUnsupportedError from error
        raise
    return True


_HELD: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_all)
