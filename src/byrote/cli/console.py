"""Progress and messages go to standard error; results alone to standard output."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from byrote import execution
from byrote.core import ByroteError

err = Console(stderr=True)
LINE_EVERY = 15.0
"""Seconds between lines of progress where standard error is not a terminal."""


def complain(error: Exception) -> None:
    """One clear message and no traceback."""
    err.print(f"[bold red]error:[/] {_plain(str(error))}", highlight=False, soft_wrap=True)


def expected(error: Exception) -> bool:
    """Whether an exception is about what the user gave, not about byrote."""
    return isinstance(error, (ByroteError, ValueError, TypeError, FileNotFoundError, PermissionError))


@contextmanager
def progress_bar() -> Iterator[execution.OnProgress]:
    """A bar with the time left; on something that is not a terminal, a line now and then."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        current = bar.add_task("starting", total=None)
        stage = ""

        def show(progress: execution.Progress) -> None:
            nonlocal stage, current
            if progress.stage.split()[0] != stage.split(" ")[0] or not stage:
                bar.remove_task(current)
                current = bar.add_task(progress.stage, total=progress.total)
            stage = progress.stage
            bar.update(current, description=progress.stage, completed=progress.done, total=progress.total)

        yield show


@final
class _Lines:
    """Progress in lines."""

    def __init__(self) -> None:
        self._stage, self._began, self._last = "", time.monotonic(), 0.0

    def __call__(self, progress: execution.Progress) -> None:
        now = time.monotonic()
        stage = progress.stage.split()[0]
        if stage == self._stage and now - self._last < LINE_EVERY:
            return
        if stage != self._stage:
            self._stage, self._began = stage, now
        self._last = now
        share = progress.done / progress.total if progress.total else 0.0
        left = f", about {(now - self._began) * (1 - share) / share:.0f} s left" if share > 0.02 and share < 1 else ""
        print(f"{progress.stage}: {share:.0%}{left}", file=sys.stderr, flush=True)


def _plain(text: str) -> str:
    """Brackets in messages are not markup."""
    return text.replace("[", "\\[")
