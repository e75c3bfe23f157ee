"""A user's error, shown with its own words and its own line."""

import sysconfig
import traceback
from pathlib import Path

OURS = str(Path(__file__).parent.parent)
PYTHONS = sysconfig.get_path("stdlib")


def describe_failure(error: BaseException) -> str:
    """Say what went wrong in a user's code, and where in it.

    >>> describe_failure(ValueError("width must be even"))
    'ValueError: width must be even'

    Args:
        error: what the user's code raised.

    Returns:
        The error's kind and words; the file and line of the innermost frame that is the user's own, or else of a
        package other than torch, when there is one.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    own = [frame for frame in frames if not _is_installed(frame.filename)] or frames
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}{place}"


def _is_theirs(filename: str) -> bool:
    """Neither byrote's, nor torch's, nor Python's."""
    if filename.startswith((OURS, "<")) or "/torch/" in filename:
        return False
    return _is_installed(filename) or not filename.startswith(PYTHONS)


def _is_installed(filename: str) -> bool:
    return "site-packages" in filename or "dist-packages" in filename
