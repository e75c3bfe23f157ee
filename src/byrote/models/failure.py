"""A user's error, shown with its own words and its own line."""

import traceback
from pathlib import Path

OURS = str(Path(__file__).parent.parent)


def describe_failure(error: BaseException) -> str:
    """Say what went wrong in a user's code, and where in it.

    >>> describe_failure(ValueError("width must be even"))
    'ValueError: width must be even'

    Args:
        error: what the user's code raised.

    Returns:
        The error's kind and words; the file and line of the innermost frame that is neither byrote's nor torch's,
        when there is one.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}{place}"


def _is_theirs(filename: str) -> bool:
    return not (filename.startswith((OURS, "<")) or "/torch/" in filename)
