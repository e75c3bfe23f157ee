"""A value with its interval against its null, as a drawing small enough for a line of text."""

from dataclasses import dataclass
from typing import final

from byrote.records import Finding
from byrote.report.numerals import plain

WIDTH = 208.0
_MARGIN = 10.0


@final
@dataclass(frozen=True, kw_only=True)
class IntervalMark:
    """Horizontal positions in pixels, from 0 to `WIDTH`; None: not drawn."""

    value: float
    low: float | None
    high: float | None
    null: float | None
    null_text: str
    null_align: str
    """How the null's number is set at its position, so that it stays inside: start, middle or end."""


def interval_mark(finding: Finding) -> IntervalMark | None:
    """Place a finding's value, interval and null on one axis, from the least to the greatest with a little room.

    Returns:
        None when there is nothing to compare: no value, or neither an interval nor a null.
    """
    value, low, high, null = finding.value, finding.low, finding.high, finding.null
    if value is None or (null is None and (low is None or high is None)):
        return None
    numbers = [float(number) for number in (value, low, high, null) if number is not None]
    start, end = _roomy(min(numbers), max(numbers))
    null_at = _place(null, start, end)
    return IntervalMark(
        value=_at(value, start, end),
        low=_place(low, start, end),
        high=_place(high, start, end),
        null=null_at,
        null_text=plain(null) if null is not None else "",
        null_align=_align(null_at),
    )


def _roomy(least: float, greatest: float) -> tuple[float, float]:
    span = greatest - least or abs(greatest) or 1.0
    return least - 0.12 * span, greatest + 0.12 * span


def _at(number: float, start: float, end: float) -> float:
    return round(_MARGIN + (WIDTH - 2 * _MARGIN) * (number - start) / (end - start), 1)


def _place(number: float | None, start: float, end: float) -> float | None:
    return None if number is None else _at(number, start, end)


def _align(place: float | None) -> str:
    if place is None or 40 <= place <= WIDTH - 40:
        return "middle"
    return "start" if place < 40 else "end"
