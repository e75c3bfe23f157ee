"""How far it is: a bar with the time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text
from typing_extensions import override

from byrote import execution

LINE_EVERY = 15.0
"""Seconds between lines of progress where standard error is not a terminal."""


@contextmanager
def progress_bar(console: Console, *, first: str) -> Iterator[execution.OnProgress]:
    """Show progress on standard error; whatever is printed meanwhile goes there too, so that results stay alone.

    Args:
        console: where.
        first: what is being done until somebody says otherwise.
    """
    with redirect_stdout(sys.stderr):
        if not console.is_terminal:
            yield _Lines()
            return
        with _columns(console) as bar:
            yield _Bar(bar, first)


def _columns(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        _TimeLeft(),
        console=console,
        transient=True,
        expand=True,
    )


@final
class _TimeLeft(ProgressColumn):
    """`0:12 left`, when that can be said."""

    @override
    def render(self, task: Task) -> Text:
        seconds = task.time_remaining
        return Text("" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02} left", style="cyan")


@final
class _Bar:
    """Progress on a terminal: one bar a stage, gone when all is done. Of a stage in one step no share is shown."""

    def __init__(self, bar: Progress, first: str) -> None:
        self._bar, self._stage = bar, ""
        self._task = bar.add_task(first, total=None)

    def __call__(self, progress: execution.Progress) -> None:
        total = None if progress.total == 1 and not progress.done else progress.total
        if progress.kind != self._stage:
            self._stage = progress.kind
            self._bar.remove_task(self._task)
            self._task = self._bar.add_task(progress.stage, total=total)
        self._bar.update(self._task, description=progress.stage, completed=progress.done, total=total)


@final
class _Lines:
    """Progress in lines: when a stage begins, and every so often while it lasts."""

    def __init__(self) -> None:
        self._stage, self._began, self._last = "", 0.0, 0.0

    def __call__(self, progress: execution.Progress) -> None:
        now = time.monotonic()
        if progress.kind != self._stage:
            self._stage, self._began, self._last = progress.kind, now, now
            self._print(progress.stage)
        elif now - self._last >= LINE_EVERY:
            self._last = now
            self._print(f"{progress.stage}: {progress.how_far(seconds=now - self._began)}")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
