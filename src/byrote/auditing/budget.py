"""A budget as people write it."""

import math
import re

from byrote.core import BudgetError

DEFAULT_BUDGET = 600.0
"""Seconds, when neither a budget nor a number of runs was given."""
UNITS = {
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
}
PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def parse_budget(text: str | float) -> float:
    """Seconds of a budget.

    >>> parse_budget("5m"), parse_budget("1h30m"), parse_budget("2 minutes"), parse_budget("90"), parse_budget(2.5)
    (300.0, 5400.0, 120.0, 90.0, 2.5)

    Raises:
        BudgetError: it is not a time above 0.
    """
    seconds = _seconds(text) if isinstance(text, str) else float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise BudgetError(f"Expected a budget above 0, such as 60s, 5m or 1h30m, got {text!r}.")
    return seconds


def seconds_of(budget: str | float | None) -> float:
    """Of a budget; the usual one unless it is given."""
    return DEFAULT_BUDGET if budget is None else parse_budget(budget)


def _seconds(text: str) -> float:
    """The sum of its parts; NaN when it has none, or something else besides."""
    plain = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", plain):
        return float(plain)
    parts = PART.findall(plain)
    if not parts or PART.sub("", plain) or any(unit not in UNITS for _, unit in parts):
        return math.nan
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def check_amounts(*, runs: int | None, budget: str | float | None, seed: int) -> None:
    """Refuse numbers that no audit can be made with, before anything is loaded.

    Raises:
        ValueError: runs or the seed is out of range, or both runs and a budget are given.
        BudgetError: the budget is not a time above 0.
    """
    if runs is not None and budget is not None:
        raise ValueError(f"Expected a budget or a number of runs, got both (budget {budget}, runs {runs}). Drop one.")
    if runs is not None and runs < 1:
        raise ValueError(f"Expected runs at least 1, got {runs!r}.")
    if seed < 0:
        raise ValueError(f"Expected a seed at least 0, got {seed!r}.")
    if budget is not None:
        parse_budget(budget)
