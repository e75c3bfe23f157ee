"""Files and folders that outlive a power cut."""

import errno
import os
import sys
from pathlib import Path

_NOT_FOR_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""Some network file systems have no fsync of folders; their renames are durable when the server says so."""


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk. Windows does that by itself."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Wait until a folder, its files and the folders in it are on the disk."""
    for path in folder.iterdir():
        (sync_tree if path.is_dir() else sync_file)(path)
    sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, and wait until they are on the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
