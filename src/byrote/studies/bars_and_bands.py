"""Intervals as bars and bands; an end that is infinite is not drawn."""

import math
from collections.abc import Sequence

from byrote.records import Bar, Interval, Series


def bar(label: str, interval: Interval, *, group: str, shift: float = 0.0) -> Bar:
    """One bar.

    >>> bar("forest", Interval(value=0.5, low=-math.inf, high=math.inf, se=math.nan, count=1), group="forest").low

    Args:
        label: what it is of.
        interval: value and ends.
        group: bars of one group share a colour.
        shift: added to all three.
    """
    bounded = math.isfinite(interval.low) and math.isfinite(interval.high)
    return Bar(
        label=label,
        value=interval.value + shift,
        low=interval.low + shift if bounded else None,
        high=interval.high + shift if bounded else None,
        group=group,
    )


def band(name: str, x: Sequence[float], intervals: Sequence[Interval], *, shift: float = 0.0) -> Series:
    """A line, with a band where every point has an interval.

    Args:
        name: what it is of.
        x: where the points are.
        intervals: value and ends at each.
        shift: added to all of them.
    """
    banded = all(math.isfinite(end) for point in intervals for end in (point.low, point.high))
    return Series(
        name=name,
        x=tuple(x),
        y=tuple(point.value + shift for point in intervals),
        low=tuple(point.low + shift for point in intervals) if banded else (),
        high=tuple(point.high + shift for point in intervals) if banded else (),
    )
