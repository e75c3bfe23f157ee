"""`byrote labels`."""

from functools import partial
from pathlib import Path
from typing import Any

from pyarrow import csv as arrow_csv

from byrote.auditing import Audit
from byrote.cli import audit
from byrote.cli.console import exit_status, say
from byrote.core import SpecError, StoreError
from byrote.studies import Labels


def run(*, false_discovery_rate: float, csv: bool, as_json: bool, **settings: Any) -> int:
    """Judge the labels, and say where the table is. Returns the exit status."""

    def work() -> int:
        if not 0 < false_discovery_rate < 1:
            raise SpecError(f"Expected --false-discovery-rate between 0 and 1, got {false_discovery_rate:g}.")
        study = Labels(false_discovery_rate=false_discovery_rate)
        on_saved = partial(_write, as_csv=csv, quiet=as_json)
        return audit.run(study=study, as_json=as_json, on_saved=on_saved, **settings)

    return exit_status(work)


def _write(result: Audit, place: Path, *, as_csv: bool, quiet: bool) -> None:
    """The table is in the folder already, if there is one; as CSV when that was asked for."""
    path = place / "labels.parquet"
    said = f"Labels: {path}"
    if not path.exists():
        said = f"Labels: no table, {'and no CSV, ' if as_csv else ''}as too few networks judged them."
    elif as_csv:
        path = path.with_suffix(".csv")
        said = f"Labels: {path}"
        try:
            arrow_csv.write_csv(result.labels.arrow, path)
        except OSError as error:
            raise StoreError(f"Could not write {path}: {error.strerror or error}.") from error
    if not quiet:
        say(said)
