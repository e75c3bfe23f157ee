"""`spec.json`: what a run or fit is, and which files it consists of."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from byrote.core import StoreError
from byrote.records import FitSpec, RunSpec, dumps

SCHEMA = 1
"""Of the files of a run or fit. Raised when they change shape; newer ones are refused."""
NAME = "spec.json"
WEIGHTS = "weights.safetensors"
PROBES = "probes"
CORE: Mapping[str, tuple[str, ...]] = {
    "runs": ("curves.parquet", "trace.safetensors"),
    "fits": ("outputs.safetensors",),
}
"""By the folder they are in, the files that every run or fit has."""


def place_of(folder: Path, spec: RunSpec | FitSpec) -> Path:
    """Where a store in a folder keeps it."""
    return folder / ("runs" if isinstance(spec, RunSpec) else "fits") / spec.key


def probe_file(key: str) -> str:
    """Where in a run's folder a probe's values are."""
    return f"{PROBES}/{key}.safetensors"


def read_manifest(place: Path) -> dict[str, Any]:
    """What `spec.json` says.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not what byrote writes.
    """
    about = json.loads((place / NAME).read_text(encoding="utf-8"))
    if not isinstance(about, dict):
        raise ValueError("it is not an object")
    return about


def write_manifest(place: Path, about: Mapping[str, Any]) -> None:
    """Write `spec.json`."""
    (place / NAME).write_text(dumps({"schema": SCHEMA, **about}), encoding="utf-8")


def stamps(place: Path) -> dict[str, dict[str, int | str]]:
    """What every file in a folder is like, by its name there."""
    names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    return {name: _stamp(place / name) for name in names if name != NAME}


def missing_part(place: Path, about: Mapping[str, Any], *, extras: Iterable[str] = ()) -> str:
    """The first thing that keeps a run or fit from being whole, in words; empty when it is whole.

    Args:
        place: its folder.
        about: what its `spec.json` says.
        extras: files that are asked for besides those that every run or fit has.
    """
    if about["schema"] != SCHEMA:
        return ""  # Reading it says what to do. It must not be trained again and replaced.
    files = about.get("files", {})
    for name in (*CORE[place.parent.name], *extras):
        path, stamp = place / name, files.get(name)
        if stamp is None and name not in CORE[place.parent.name]:
            return f"{name} is not there"
        try:
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is not there"
        if size != (size or None if stamp is None else stamp["bytes"]):
            return f"{name} has {size:,} bytes" + (f" instead of {stamp['bytes']:,}" if stamp else "")
    return ""


def check_file(place: Path, about: Mapping[str, Any], name: str) -> Path:
    """A file's path, when its bytes are those that were written. Byrote 0.1.0 kept no account of them.

    Raises:
        ValueError: they are others.
    """
    stamp = about.get("files", {}).get(name)
    if stamp is not None and _stamp(place / name) != stamp:
        raise ValueError(f"the bytes of {name} are not those that were written")
    return place / name


def refuse_other_schema(place: Path, schema: object) -> None:
    """Refuse what another version of byrote wrote.

    Raises:
        StoreError: the schema is not ours.
    """
    if schema != SCHEMA:
        raise StoreError(
            f"{place / NAME} has schema {schema!r}; this byrote reads {SCHEMA}. Upgrade byrote, or choose another "
            f"folder with --out."
        )


def _stamp(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
