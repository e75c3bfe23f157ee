"""What is in a folder, without reading arrays."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, final

from byrote.core import ByroteError, StoreError
from byrote.records import FitSpec, RunSpec, decode, share_of_rest
from byrote.store.claims import Claims
from byrote.store.leftovers import Leftover, leftovers
from byrote.store.locks import LocksUnsupportedError
from byrote.store.manifest import CORE, NAME, WEIGHTS, missing_part, read_manifest, refuse_other_schema

StoredKind = Literal["run", "fit"]
StoredStatus = Literal["completed", "diverged", "in progress", "interrupted", "unreadable"]


@final
@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """What a folder says of one run or fit."""

    key: str
    kind: StoredKind | None
    """None for one in progress of which nothing is written yet."""
    spec: RunSpec | FitSpec | None
    """None where it cannot be read, or is not written yet."""
    status: StoredStatus
    """`in progress`: a living process holds it; `interrupted`: half written by one that died; `unreadable`: damaged."""
    message: str
    """How a run failed, what a fit approximated, who works on it, or what is wrong with it and what to do."""
    seconds: float
    """Wall time it took; 0 where unknown."""
    bytes: int
    """Of all its files."""
    written: datetime | None
    """When, in UTC."""
    probes: tuple[str, ...] = ()
    """Keys of the probes whose results are there."""
    probing_share: float = 0.0
    """What they cost, as a share of the run's time without them."""
    has_weights: bool = False


def list_runs(folder: Path) -> Iterator[StoredRun]:
    """Every run and fit that a folder holds, whole or not, and those that are being made; no array is read.

    Raises:
        StoreError: there is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise StoreError(f"There is no folder {folder}.")
    return _list_runs(folder)


def _list_runs(folder: Path) -> Iterator[StoredRun]:
    try:
        for name in CORE:
            if (folder / name).is_dir():
                places = sorted(path for path in (folder / name).iterdir() if path.is_dir() and path.name[0] != ".")
                yield from (_stored(place) for place in places)
        yield from _unfinished(folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error.strerror or error}. Make it readable.") from error


def _stored(place: Path) -> StoredRun:
    bare = StoredRun(
        key=place.name,
        kind=_kind(place),
        spec=None,
        status="unreadable",
        message="",
        seconds=0.0,
        bytes=_bytes(place),
        written=None,
    )
    try:
        about = read_manifest(place)
        bare = replace(bare, written=datetime.fromtimestamp((place / NAME).stat().st_mtime, UTC))
        refuse_other_schema(place, about["schema"])
        whole = _described(bare, about, source=str(place / NAME))
        lack = missing_part(place, about)
        return replace(whole, status="unreadable", message=f"{lack}. {_ADVICE}") if lack else whole
    except ByroteError as error:
        return replace(bare, message=str(error))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return replace(bare, message=f"{_what(error)}. {_ADVICE}")


_ADVICE = "Delete that folder to have it made again."


def _described(bare: StoredRun, about: dict[str, Any], *, source: str) -> StoredRun:
    if bare.kind == "fit":
        spec = decode(FitSpec, about["spec"], source=source)
        return replace(bare, spec=spec, status="completed", message=about["note"], seconds=about["seconds"])
    probes = about.get("probes", {})
    return replace(
        bare,
        spec=decode(RunSpec, about["spec"], source=source),
        status=about["status"],
        message=about["message"],
        seconds=about["seconds"],
        probes=tuple(probes),
        probing_share=share_of_rest(sum(probe["seconds"] for probe in probes.values()), of=about["seconds"]),
        has_weights=WEIGHTS in about.get("files", {}),
    )


def _unfinished(folder: Path) -> Iterator[StoredRun]:
    """What is being made, and what was when its maker died."""
    half = list(leftovers(folder))
    try:
        living = list(Claims(folder).living())
    except LocksUnsupportedError:
        return
    names = {holder.name for holder in living}
    for left in half:
        if left.holder not in names:
            yield _interrupted(left)
    stored = {path.name for name in CORE for path in (folder / name).glob("[!.]*")}
    for holder in living:
        for key in sorted(holder.keys - stored):
            message = f"Held by process {holder.process} on {holder.host} since {holder.since:%Y-%m-%d %H:%M:%S} UTC."
            yield StoredRun(
                key=key, kind=None, spec=None, status="in progress", message=message, seconds=0.0, bytes=0, written=None
            )


def _interrupted(left: Leftover) -> StoredRun:
    return StoredRun(
        key=left.key,
        kind=_kind(left.path),
        spec=None,
        status="interrupted",
        message="Its process died while it was written. Start the audit again: it is removed and made anew.",
        seconds=0.0,
        bytes=_bytes(left.path),
        written=None,
    )


def _kind(place: Path) -> StoredKind:
    return "run" if place.parent.name == "runs" else "fit"


def _bytes(place: Path) -> int:
    try:
        return sum(path.lstat().st_size for path in place.rglob("*") if not path.is_dir())
    except OSError:  # It was just removed, or given its final name.
        return 0


def _what(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{NAME} is not there"
    if isinstance(error, KeyError):
        return f"{NAME} has no {error}"
    return f"{NAME} cannot be read ({error})"
