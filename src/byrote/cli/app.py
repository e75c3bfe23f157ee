"""What can be typed. Every command's work is in a module of its own, imported when it is called."""

import importlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from byrote.cli.options import of_an_audit, taking
from byrote.cli.start import interruptible

app = typer.Typer(
    name="byrote",
    help="What did your neural network learn, and what does it merely know by rote?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


class Listed(StrEnum):
    """What `byrote list` can list."""

    TASKS = "tasks"
    MODELS = "models"
    STUDIES = "studies"
    MEASURES = "measures"


@app.command()
@taking(of_an_audit)
def audit(**settings: Any) -> None:
    """Find out what a network learns of a task, what it memorises, and whether anything leaks."""
    _audit("audit", study=None, **settings)


@app.command()
@taking(of_an_audit)
def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="See: byrote list studies.", show_default=False)],
    **settings: Any,
) -> None:
    """Ask one study alone; its findings go into a folder of its own beside the runs."""
    _audit("audit", study=study, **settings)


@app.command()
@taking(of_an_audit)
def labels(
    false_discovery_rate: Annotated[
        float, typer.Option(help="Share of the flagged labels that may be right.", rich_help_panel="Output")
    ] = 0.1,
    csv: Annotated[bool, typer.Option("--csv", help="Write labels.csv, too.", rich_help_panel="Output")] = False,
    **settings: Any,
) -> None:
    """Say of every training label how likely it is wrong, what it may be instead, and why: a table and a page."""
    _audit("labels", false_discovery_rate=false_discovery_rate, csv=csv, **settings)


@app.command(name="list")
def list_(
    what: Annotated[
        Listed | None, typer.Argument(metavar="[tasks|models|studies|measures]", show_default=False)
    ] = None,
) -> None:
    """List the tasks, models, studies and measures there are."""
    _call("catalogue", what=None if what is None else what.value)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="An audit's folder.", show_default=False)],
    open_: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
) -> None:
    """Draw the report again from what is stored."""
    _call("redraw", folder=folder, open_in_browser=open_)


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An audit's folder.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """List the networks and baselines in a folder: what they are, whether they are whole, what they cost."""
    _call("stored", folder=folder, as_json=as_json)


@app.command()
def scores(
    arrays: Annotated[
        Path, typer.Argument(metavar="ARRAYS.npz", help="Arrays of what your runs say.", show_default=False)
    ],
    output: Annotated[Path, typer.Option(help="The table to write.")] = Path("scores.parquet"),
    csv: Annotated[bool, typer.Option("--csv", help="Write it as CSV, too.")] = False,
) -> None:
    """Score every example by the outputs of runs that you trained elsewhere, each on a random subset.

    The archive, written by `numpy.savez`, holds `inclusion` (a mask, runs × examples: who was trained on what) and,
    of every run on every example, in evaluation mode, one of these:

    1. `logits` (runs × examples × classes) with `targets` (columns of the logits, or among `classes`);

    2. `predictions` (runs × examples) with numbers as `targets`;

    3. what you kept of the logits, each runs × examples: `correct`, `margin`, `loss`, `probability` of the target.

    If you have them: `covariates` (any number × runs × examples, such as AUM), `classes`, `ids`, `groups`, and
    `test_logits` or `test_predictions` with
    `test_targets`, or `test_correct`, and `test_ids`.
    """
    _call("scores", arrays=arrays, output=output, csv=csv)


@app.command()
def doctor(
    as_json: AsJson = False,
    forget: Annotated[bool, typer.Option("--forget", help="Forget which ways to train were fastest.")] = False,
) -> None:
    """Say what byrote runs on, how fast it is, and what it remembers of that."""
    _call("doctor", as_json=as_json, forget=forget)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(importlib.import_module("importlib.metadata").version("byrote"))
        raise typer.Exit


def _audit(module: str, *, context: Any, **settings: Any) -> None:
    """Tell when the command began, too, if it began as a process: that is what `main` hands over."""
    _call(module, began=context.find_root().obj, **settings)


def _call(module: str, **settings: Any) -> None:
    """Import a command's module and run it; the one place where importing waits."""
    command = importlib.import_module(f"byrote.cli.{module}")
    interruptible()
    raise typer.Exit(command.run(**settings))
