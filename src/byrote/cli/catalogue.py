"""`byrote list`."""

import inspect

from rich.console import Console
from rich.table import Table
from rich.text import Text

from byrote import measures
from byrote.data import SOURCES
from byrote.models import MODELS
from byrote.studies import STUDIES


def run(*, what: str | None) -> int:
    """Print one list, or all."""
    lists = {"tasks": _tasks, "models": _models, "studies": _studies, "measures": _measures}
    console = Console()
    for name in lists if what is None else [what]:
        table = Table(title=name, title_justify="left", box=None, show_header=False, pad_edge=False)
        for row in lists[name]():
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        if what is None:
            console.print()
    return 0


def _tasks() -> list[tuple[str, ...]]:
    return [(name, source.description, source.missing() or "ready") for name, source in SOURCES.items()]


def _models() -> list[tuple[str, ...]]:
    return [
        (name, MODELS[name].summary, ", ".join(f"{k}={v}" for k, v in MODELS[name].defaults.items())) for name in MODELS
    ]


def _studies() -> list[tuple[str, ...]]:
    return [(name, STUDIES[name].question) for name in STUDIES]


def _measures() -> list[tuple[str, ...]]:
    public = ((name, getattr(measures, name)) for name in measures.__all__)
    return [(name, (inspect.getdoc(thing) or "").split("\n")[0]) for name, thing in public if inspect.isfunction(thing)]
