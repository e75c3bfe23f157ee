"""A budget as people write it."""

import math
import re

from byrote.core import BudgetError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_budget(text: str | float) -> float:
    """Seconds of a budget.

    >>> parse_budget("5m"), parse_budget("1h30m"), parse_budget("90"), parse_budget(2.5)
    (300.0, 5400.0, 90.0, 2.5)

    Raises:
        BudgetError: it is not a time above 0.
    """
    if isinstance(text, (int, float)):
        seconds = float(text)
    else:
        plain = text.strip().lower()
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*(h|m|s)(?:[a-z]*)\s*", plain)
        if re.fullmatch(r"\d+(\.\d+)?", plain):
            seconds = float(plain)
        elif parts and re.fullmatch(r"(?:\d+(?:\.\d+)?\s*(?:h|m|s)[a-z]*\s*)+", plain):
            seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
        else:
            raise BudgetError(f"Expected a budget such as 60s, 5m or 1h30m, got {text!r}.")
    if not (math.isfinite(seconds) and seconds > 0):
        raise BudgetError(f"Expected a budget above 0 seconds, got {text!r}.")
    return seconds
