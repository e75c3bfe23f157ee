"""`byrote report`."""

import webbrowser
from pathlib import Path

import typer

from byrote.auditing import Audit
from byrote.cli.console import complain, expected


def run(*, folder: Path, open_in_browser: bool) -> int:
    """Draw it again. Returns the exit status."""
    try:
        path = Audit.load(folder).report(folder / "report.html")
    except Exception as error:
        if not expected(error):
            raise
        complain(error)
        return 2
    typer.echo(f"Report: {path}")
    if open_in_browser and not webbrowser.open(path.resolve().as_uri()):
        typer.echo("No browser could be started; open the file yourself.", err=True)
    return 0
