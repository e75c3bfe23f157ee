"""How far it is, in one line, for whoever waits for a call from Python."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

from byrote.execution import OnProgress, Progress, silent

SOON = 2.0
"""Seconds that nobody needs to be told anything in."""
EVERY = 0.5
"""Seconds after which the line is written anew."""


@contextmanager
def progress_line(wanted: bool, *, on_progress: OnProgress | None) -> Iterator[OnProgress]:
    """Whom to tell how far it is: the caller's own function or, if wanted, a line on standard error, gone in the end.

    The line is for terminals and notebooks; in files, where nobody waits, there is none.

    Args:
        wanted: whether to show the line.
        on_progress: told instead.
    """
    if on_progress is not None:
        yield on_progress
    elif wanted and sys.stderr is not None and _is_watched(sys.stderr):
        line = _Line(sys.stderr)
        try:
            yield line.tell
        finally:
            line.close()
    else:
        yield silent


def how_to_go_on(folder: Path | None, *, done: int, noun: str) -> str:
    """What becomes of the work after a stop.

    >>> how_to_go_on(None, done=3, noun="network")
    'Nothing was kept of 3 networks. Give out=…, a folder, and a stop loses none that is finished.'

    Args:
        folder: that keeps what is finished, or None.
        done: how many are finished.
        noun: of what.
    """
    number = f"{done:,} {noun}{'' if done == 1 else 's'}"
    if folder is None:
        return f"Nothing was kept of {number}. Give out=…, a folder, and a stop loses none that is finished."
    return f"{number} {'is' if done == 1 else 'are'} new in {folder}. The same call again goes on from there."


def _is_watched(stream: Any) -> bool:
    """Whether it is a terminal's or a notebook's."""
    return stream.isatty() or type(stream).__module__.split(".")[0] == "ipykernel"


@final
class _Line:
    """The last that was told, written anew every half second, so that the clock is seen to go on."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._started = stream, time.monotonic()
        self._progress, self._began, self._width = Progress("", 0, 0), self._started, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="byrote-progress", daemon=True)
        self._thread.start()

    def tell(self, progress: Progress) -> None:
        """How far it is now."""
        if progress.kind != self._progress.kind:
            self._began = time.monotonic()
        self._progress = progress

    def close(self) -> None:
        """Take the line away."""
        self._ended.set()
        self._thread.join()
        if self._width:
            self._write("")
            self._write("")

    def _go_on(self) -> None:
        wait = SOON
        while not self._ended.wait(wait):
            wait, now, progress = EVERY, time.monotonic(), self._progress
            if progress.stage:
                total, far = int(now - self._started), ""
                if progress.total > 1 or progress.done:
                    far = f": {progress.how_far(seconds=now - self._began)}"
                self._write(f"{progress.stage}{far} ({total // 60}:{total % 60:02} so far)")

    def _write(self, text: str) -> None:
        """Over what stands there; a stream that has gone away is not worth a failure."""
        with suppress(OSError, ValueError):
            self._stream.write(f"\r{text:<{self._width}}{'' if text else chr(13)}")
            self._stream.flush()
        self._width = len(text)
