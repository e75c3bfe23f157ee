"""`byrote scores`."""

import inspect
import os
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
from rich.console import Console
from rich.table import Table as Shown
from rich.text import Text

from byrote import scoring
from byrote.cli.console import DONE, err, exit_status, say
from byrote.cli.progress import progress_bar
from byrote.core import DataError, StoreError, did_you_mean
from byrote.execution import OnProgress, Progress

ARRAYS = [name for name in inspect.signature(scoring.scores).parameters if name != "on_run"]
"""What the archive may hold: what `byrote.scores` takes."""
QUICK = 2.0
"""Seconds in which nothing is said."""
NUM_SHOWN = 10
SHOWN = {
    "id": "id",
    "target": "target",
    "memorisation": "memorised",
    "memorisation_raw": "published score",
    "heldout_correct": "right if left out",
    "label_suspicion": "suspicion",
    "heldout_target": "suggested",
    "status": "status",
}
"""Columns, and what they are headed on the screen."""


def run(*, arrays: Path, output: Path, csv: bool) -> int:
    """Read, score, write and say what is there. Returns the exit status."""
    return exit_status(lambda: _score(arrays, output, csv))


def _score(arrays: Path, output: Path, csv: bool) -> int:
    if output.suffix.lower() not in (".parquet", ".pq"):
        raise StoreError(f"Expected --output with the ending .parquet, got {output}. For CSV beside it: --csv")
    given = _read(arrays)
    with progress_bar(err, first="reading") as tell:
        table = scoring.scores(**given, on_run=_when_slow(tell, total=len(given["inclusion"])))
    written = [output, *([output.with_suffix(".csv")] if csv else [])]
    for path in written:
        _write(table, path)
    _show(table)
    say(f"{len(table):,} examples, {len(given['inclusion']):,} runs: written to {' and '.join(map(str, written))}.")
    return DONE


def _read(path: Path) -> dict[str, np.ndarray]:
    """The archive's arrays; nothing is unpickled.

    Raises:
        DataError: not such an archive, an array of objects, or one that nobody knows.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(f"Expected an .npz archive with several arrays, got the one array of {path}.")
            _check_names(archive.files, path)
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is damaged or no .npz archive: {error}. Write it with numpy.savez.") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} is no .npz archive of plain arrays, as numpy.savez writes it. If there are objects in it: turn "
            f"objects into text or numbers."
        ) from error


def _check_names(names: list[str], path: Path) -> None:
    unknown = [name for name in names if name not in ARRAYS]
    if unknown:
        hint = did_you_mean(unknown[0], ARRAYS)
        raise DataError(f"Unknown array {unknown[0]!r} in {path}.{hint} Known: {', '.join(ARRAYS)}.")
    if "inclusion" not in names:
        raise DataError(
            f"Expected an array 'inclusion' in {path}, a mask of shape [run, example] of who was trained on what; got "
            f"{', '.join(names) or 'no arrays'}."
        )


def _when_slow(tell: OnProgress, *, total: int) -> Callable[[int], None]:
    began = time.monotonic()

    def on_run(done: int) -> None:
        if time.monotonic() - began > QUICK:
            tell(Progress(stage="reading runs", done=done, total=total))

    return on_run


def _write(table: scoring.Table, path: Path) -> None:
    """Whole, or not at all."""
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table.arrow, unfinished)
        else:
            pyarrow.parquet.write_table(table.arrow, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _show(table: scoring.Table) -> None:
    """How many of each status, the most memorised examples, and what has to be known."""
    console = Console()
    counts = Counter(table["status"].tolist())
    console.print(Text(", ".join(f"{number:,} {status}" for status, number in counts.most_common())))
    best = "memorisation_raw" if table.arrow["memorisation"].null_count == len(table) else "memorisation"
    order = np.argsort(-np.nan_to_num(table[best].astype(float), nan=-np.inf), kind="stable")[:NUM_SHOWN]
    columns = [name for name in SHOWN if name in table.columns and table.arrow[name].null_count < len(table)]
    shown = Shown(
        title=f"the highest {SHOWN[best]}" if best != "memorisation" else "the most memorised",
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for name in columns:
        shown.add_column(SHOWN[name], overflow="fold")
    for row in table.arrow.select(columns).take(order).to_pylist():
        shown.add_row(*(Text(_cell(value)) for value in row.values()))
    console.print(shown)
    for note in table.notes:
        say(note)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
