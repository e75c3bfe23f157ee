"""What is half written, and by whom."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from byrote.core import StoreError
from byrote.store.claims import Claims
from byrote.store.manifest import CORE

_PATTERN = re.compile(r"\.writing-(?P<key>[0-9a-f]+)-(?P<holder>[\w-]+)(\.old)?")


class Leftover(NamedTuple):
    """A folder that is being written, or was when its writer died."""

    path: Path
    key: str
    """Of the run or fit that it was to become."""
    holder: str
    """Who writes it, by the name in `claims/`."""


def leftover_name(key: str, *, holder: str) -> str:
    """Of the folder in which a holder writes what gets a key; with `.old` behind it, what that replaces."""
    return f".writing-{key}-{holder}"


def leftovers(folder: Path) -> Iterator[Leftover]:
    """All that is half written in a store's folder, by the living and the dead."""
    for name in CORE:
        for path in sorted((folder / name).glob(".writing-*")):
            match = _PATTERN.fullmatch(path.name)
            if match is not None:
                yield Leftover(path, match["key"], match["holder"])


def sweep(folder: Path) -> int:
    """Remove what processes that died left half written. What the living are writing stays.

    Returns:
        How many half-written runs and fits were removed.

    Raises:
        StoreError: the folder is not there or cannot be written to.
    """
    claims, num_removed = Claims(folder), 0
    try:
        with claims.gate() as supported:
            if not supported:  # Nobody can tell who is alive.
                return 0
            found = list(leftovers(folder))
            living = {holder.name for holder in claims.living(remove_dead=True)}
            for left in found:
                if left.holder not in living:
                    shutil.rmtree(left.path, ignore_errors=True)
                    num_removed += not left.path.exists()
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"Could not tidy up {folder}: {error.strerror or error}. Make it writable.") from error
    return num_removed
