"""Progress and messages go to standard error; results alone to standard output."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from byrote.cli.start import STOPPED
from byrote.core import ByroteError

err = Console(stderr=True)
OURS = str(Path(__file__).parent.parent)
DONE, GATE_FAILED, MISUSED, FAULT = 0, 1, 2, 70
"""Exit statuses; `STOPPED` is the other."""


def exit_status(work: Callable[[], int]) -> int:
    """Do a command's work; turn what ends it early into one message and an exit status.

    Only a fault of byrote's own, which no message could explain, is shown with its traceback.
    """
    try:
        return work()
    except KeyboardInterrupt:
        say("Stopped. Every finished network is kept: run the same command again to go on from there.")
        return STOPPED
    except BrokenPipeError:
        raise
    except Exception as error:
        if is_expected(error):
            complain(error)
            return MISUSED
        traceback.print_exc()
        say("This is a fault in byrote. Please report it, with the lines above. Every finished network is kept.")
        return FAULT


def is_expected(error: Exception) -> bool:
    """Whether an exception is about what the user gave or has, not about byrote.

    A ValueError or TypeError is, if byrote itself raised it; one out of a library's depths is byrote's fault.
    """
    if isinstance(error, (ByroteError, OSError)):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, (ValueError, TypeError)) and bool(frames) and frames[-1].filename.startswith(OURS)


def complain(error: Exception) -> None:
    """One clear message and no traceback."""
    err.print(Text.assemble(("error: ", "bold red"), _words(error)), soft_wrap=True)


def say(message: str) -> None:
    """A sentence on standard error."""
    sys.stdout.flush()
    err.print(Text(message), soft_wrap=True)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    return str(error) or type(error).__name__
