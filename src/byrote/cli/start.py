"""Where the command begins: before anything heavy is imported, Ctrl-C already has its meaning."""

import importlib
import os
import signal
import sys
import time
from types import FrameType

STOPPED = 130
"""The exit status after Ctrl-C, as shells have it: 128 + SIGINT."""


def main() -> None:
    """Run the command line.

    A budget counts from here, before libraries are loaded.

    Exit 0 when done, 1 when a gate failed, 2 for wrong usage or input, 130 after Ctrl-C, 70 for a fault in byrote.
    """
    began = time.monotonic()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    importlib.import_module("byrote.cli.app").app(obj=began)


def interruptible() -> None:
    """From here on there is something to keep: let Ctrl-C be a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once. An exception amid imports could surface as any other error, traceback and all."""
    print("\nStopped before anything was begun.", file=sys.stderr, flush=True)
    os._exit(STOPPED)
