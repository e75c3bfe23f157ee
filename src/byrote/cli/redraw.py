"""`byrote report`."""

import webbrowser
from pathlib import Path

import typer

from byrote.auditing import Audit
from byrote.cli.console import DONE, exit_status, say


def run(*, folder: Path, open_in_browser: bool) -> int:
    """Draw it again. Returns the exit status."""
    return exit_status(lambda: _redraw(folder, open_in_browser))


def _redraw(folder: Path, open_in_browser: bool) -> int:
    path = Audit.load(folder).report(folder / "report.html")
    typer.echo(f"Report: {path}")
    if open_in_browser and not webbrowser.open(path.resolve().as_uri()):
        say("No browser could be started; open the file yourself.")
    return DONE
