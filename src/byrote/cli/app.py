"""What can be typed. Every command's work is in a module of its own, imported when it is called."""

import importlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from byrote.cli.start import interruptible

app = typer.Typer(
    name="byrote",
    help="What did your neural network learn, and what does it merely know by rote?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

TASK_HELP = "digits, fashion-mnist, mnist-1d, a .csv/.tsv/.parquet/.npz file, or my_module:make_task."


class Listed(StrEnum):
    """What `byrote list` can list."""

    TASKS = "tasks"
    MODELS = "models"
    STUDIES = "studies"
    MEASURES = "measures"


Task = Annotated[str, typer.Argument(metavar="TASK", help=TASK_HELP, show_default=False)]
Target = Annotated[str | None, typer.Option(help="A table's target column.", rich_help_panel="Data")]
Group = Annotated[
    str | None, typer.Option(help="A table's column of groups that must stay together.", rich_help_panel="Data")
]
Regression = Annotated[
    bool | None,
    typer.Option("--regression/--classification", help="The target is a number, or a class.", rich_help_panel="Data"),
]
DataDir = Annotated[Path | None, typer.Option(help="Where a data set's files are.", rich_help_panel="Data")]
TestFraction = Annotated[
    float, typer.Option(help="Held-out share, when the data are not split.", rich_help_panel="Data")
]
Model = Annotated[str, typer.Option(help="mlp, cnn, linear, or my_module:Net.", rich_help_panel="Learner")]
Width = Annotated[int | None, typer.Option(help="Units or channels of byrote's own models.", rich_help_panel="Learner")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data.", rich_help_panel="Learner")]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate.", rich_help_panel="Learner")]
BatchSize = Annotated[int | None, typer.Option(help="Examples a step.", rich_help_panel="Learner")]
Runs = Annotated[int | None, typer.Option(help="Networks per condition, instead of a budget.", rich_help_panel="Cost")]
Budget = Annotated[
    str | None,
    typer.Option(help="Time it may take: 60s, 5m, 1h30m.", show_default="10m", rich_help_panel="Cost"),
]
Seed = Annotated[int, typer.Option(help="The root of every random number.", rich_help_panel="Cost")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, …", show_default="a GPU if there is one", rich_help_panel="Cost")
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for runs, tables and report.", show_default="runs/TASK", rich_help_panel="Output"),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the findings as JSON, and nothing else, on standard output.", rich_help_panel="Output"
    ),
]
FailOn = Annotated[
    list[str] | None,
    typer.Option(
        help="Exit 1 on this: leak, or a claim such as beats-forest that does not hold. Can be repeated.",
        metavar="CLAIM",
        rich_help_panel="Output",
    ),
]


@app.command()
def audit(
    task: Task,
    target: Target = None,
    group: Group = None,
    regression: Regression = None,
    data_dir: DataDir = None,
    test_fraction: TestFraction = 0.2,
    model: Model = "mlp",
    width: Width = None,
    epochs: Epochs = None,
    lr: Rate = None,
    batch_size: BatchSize = None,
    runs: Runs = None,
    budget: Budget = None,
    seed: Seed = 0,
    device: Device = None,
    out: Out = None,
    as_json: Json = False,
    fail_on: FailOn = None,
) -> None:
    """Find out what a network learns of a task, what it memorises, and whether anything leaks."""
    _call("audit", study=None, **dict(locals()))


@app.command()
def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="See: byrote list studies.", show_default=False)],
    task: Task,
    target: Target = None,
    group: Group = None,
    regression: Regression = None,
    data_dir: DataDir = None,
    test_fraction: TestFraction = 0.2,
    model: Model = "mlp",
    width: Width = None,
    epochs: Epochs = None,
    lr: Rate = None,
    batch_size: BatchSize = None,
    runs: Runs = None,
    budget: Budget = None,
    seed: Seed = 0,
    device: Device = None,
    out: Out = None,
    as_json: Json = False,
    fail_on: FailOn = None,
) -> None:
    """Ask one study alone; its findings go into a folder of its own beside the runs."""
    _call("audit", **dict(locals()))


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


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(importlib.import_module("importlib.metadata").version("byrote"))
        raise typer.Exit


def _call(module: str, **settings: Any) -> None:
    """Import a command's module and run it; the one place where importing waits."""
    command = importlib.import_module(f"byrote.cli.{module}")
    interruptible()
    raise typer.Exit(command.run(**settings))
