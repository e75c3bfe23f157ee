"""An audit on disk."""

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from byrote.core import ByroteError, StoreError
from byrote.records import SCHEMA, Finding, Record, dumps, encode, loads

MARKER = "byrote.json"
"""Says that a folder is byrote's."""
LEFT = re.compile(r"^\..+-\d+-[0-9a-f]{8}$")
"""Names that files have while they are written."""
COPIES = ("labels.csv",)
"""Of tables, in another format, made on request after the audit is written."""
LONG_AGO = 600.0
"""Seconds."""

FINDING_COLUMNS = pa.schema(
    [
        ("study", pa.string()),
        ("claim", pa.string()),
        ("statement", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("unit", pa.string()),
        ("null", pa.float64()),
        ("p_value", pa.float64()),
        ("num_runs", pa.int64()),
        ("verdict", pa.string()),
        ("paper", pa.string()),
    ]
)


def refuse_folder(folder: Path, *, task: str) -> None:
    """Refuse a folder that cannot hold an audit of a task; nothing is written.

    Raises:
        StoreError: it is a file, holds something else, an audit of another task or one of a newer byrote.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"Expected a folder at {folder}, but a file is there. Choose another with --out.")
    strange = sorted(path.name for path in folder.iterdir() if not LEFT.match(path.name)) if folder.is_dir() else []
    if strange and MARKER not in strange:
        raise StoreError(
            f"The folder {folder} holds something else ({', '.join(strange[:3])} …). Choose an empty or a new one with "
            f"--out."
        )
    _refuse_other_task(folder, task)
    _refuse_newer(folder / "audit.json")


def claim_folder(folder: Path, *, about: dict[str, Any]) -> None:
    """Make a folder byrote's, or find that it is already, and clear away what dead processes left half written.

    Raises:
        StoreError: it is one that `refuse_folder` refuses, or cannot be written to.
    """
    marker, text = folder / MARKER, json.dumps({"schema": SCHEMA, **about}, indent=2)
    try:
        refuse_folder(folder, task=str(about.get("task", "")))
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        if not marker.exists() or marker.read_bytes() != text.encode():
            write_text(marker, text)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"Cannot write to {folder}: {error.strerror or error}. Choose another folder with --out."
        ) from error


def _sweep(folder: Path) -> None:
    """Temporary files that nobody has touched for a while; nothing here takes as long to write."""
    for path in folder.iterdir():
        with suppress(OSError):
            if LEFT.match(path.name) and time.time() - path.stat().st_mtime > LONG_AGO:
                path.unlink()


def _refuse_other_task(folder: Path, name: str) -> None:
    """A folder belongs to the task it was made for, by name: its data may change, and its runs are found by content."""
    if not (folder / MARKER).exists():
        return
    try:
        there = json.loads((folder / MARKER).read_text(encoding="utf-8")).get("task", name)
    except (ValueError, AttributeError):
        return
    if there != name:
        raise StoreError(
            f"The folder {folder} holds an audit of {there!r}, which one of {name!r} would replace. "
            f"Choose another with --out."
        )


def findings_table(findings: tuple[Finding, ...]) -> pa.Table:
    """One row per finding."""
    return pa.Table.from_pylist([encode(finding) for finding in findings], schema=FINDING_COLUMNS)


def write_audit(folder: Path, *, record: Record, tables: Mapping[str, pa.Table | None]) -> None:
    """Write `audit.json`, `findings.json`, `findings.parquet` and the tables of examples, each whole or not at all.

    A table that is None is removed where an earlier audit left one: it is not of this one. So is any copy of a table.

    Raises:
        StoreError: it cannot be written.
    """
    findings = tuple(finding for section in record.sections for finding in section.findings)
    try:
        write_text(folder / "findings.json", dumps(findings))
        _write_table(folder / "findings.parquet", findings_table(findings))
        for name, table in tables.items():
            if table is None:
                (folder / f"{name}.parquet").unlink(missing_ok=True)
            else:
                _write_table(folder / f"{name}.parquet", table)
        for name in COPIES:
            (folder / name).unlink(missing_ok=True)
        write_text(folder / "audit.json", dumps(record))
    except OSError as error:
        raise StoreError(
            f"Could not write to {folder}: {error.strerror or error}. The runs in it are intact."
        ) from error


def read_record(folder: Path) -> Record:
    """The audit that a folder holds.

    Raises:
        StoreError: there is none, it cannot be read, or it was written by a newer byrote.
    """
    path = folder / "audit.json"
    if not path.is_file():
        raise StoreError(f"There is no audit in {folder}: expected {path}.{_hint(folder)}")
    try:
        text = path.read_text(encoding="utf-8")
        schema = json.loads(text)["schema"]
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path} is not an audit that byrote wrote. Run byrote audit again to replace it.") from error
    _refuse_schema(path, schema)
    return loads(Record, text, source=str(path))


def _refuse_newer(path: Path) -> None:
    """What is no audit may be replaced, and what a newer byrote wrote may not."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))["schema"]
    except (OSError, ValueError, TypeError, KeyError):
        return
    _refuse_schema(path, schema)


def _refuse_schema(path: Path, schema: object) -> None:
    if schema != SCHEMA:
        raise StoreError(
            f"{path} has schema {schema!r}; this byrote reads {SCHEMA}. Upgrade byrote, or choose another folder with "
            f"--out."
        )


def has_complete_audit(folder: Path) -> bool:
    """Whether an audit that was not stopped is there."""
    try:
        return read_record(folder).complete
    except (ByroteError, OSError):
        return False


def gives_way(folder: Path, *, to: Record, final: bool) -> bool:
    """Whether the audit that a folder holds, if it holds one, may be replaced.

    What says nothing replaces nothing. A complete audit gives way to another complete one, and to one that its budget
    ended with more networks behind it; never to one that is not final, because it is still under way or was stopped.

    Args:
        folder: of the report.
        to: the audit that would be written.
        final: whether it ended by itself.
    """
    if to.cost.num_runs == 0 and not final:
        return False
    try:
        there = read_record(folder)
    except (ByroteError, OSError):
        return True
    return to.complete or not there.complete or (final and to.cost.num_runs > there.cost.num_runs)


def _hint(folder: Path) -> str:
    """Where the audit may be instead."""
    if not folder.is_dir():
        return " There is no such folder."
    below = sorted(path.parent.name for path in folder.glob("*/audit.json"))
    if below:
        return f" There is one in {' and in '.join(str(folder / name) for name in below)}."
    return " Its runs are there, but no audit was finished: run it again." if (folder / MARKER).exists() else ""


def read_table(folder: Path, name: str) -> pa.Table | None:
    """A table of examples that a folder holds: `examples`, `labels`."""
    path = folder / f"{name}.parquet"
    return pq.read_table(path) if path.exists() else None


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_table(path: Path, table: pa.Table) -> None:
    with whole(path) as temporary:
        pq.write_table(table, temporary)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another name to write under, renamed when all is written and gone when it is not."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
