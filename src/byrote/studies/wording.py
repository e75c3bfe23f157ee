"""Numbers as a sentence says them."""

import math
from collections.abc import Sequence

from byrote.records import Interval


def percent(share: float) -> str:
    """A share with one decimal; all and nothing without.

    >>> percent(0.9871), percent(1.0), percent(0.99999)
    ('98.7 %', '100 %', '>99.9 %')
    """
    if 0.9995 <= share < 1:
        return ">99.9 %"
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.0f} %" if share in (0, 1) else f"{minus(f'{100 * share:.1f}')} %"


def percent_within(interval: Interval) -> str:
    """A share with its interval, where there is one.

    >>> percent_within(Interval(value=0.5, low=0.4, high=0.6, se=0.05, count=9))
    '50.0 % (40.0 to 60.0)'
    """
    return f"{percent(interval.value)}{_ends(interval, scale=100, decimals=1)}"


def hundredths(interval: Interval) -> str:
    """Of 100, with the interval, where there is one.

    >>> hundredths(Interval(value=0.0243, low=0.017, high=0.031, se=0.003, count=9))
    '2.4 (1.7 to 3.1)'
    """
    return f"{minus(f'{100 * interval.value:.1f}')}{_ends(interval, scale=100, decimals=1)}"


def points(interval: Interval) -> str:
    """A difference of two shares in percentage points, with the interval, where there is one.

    >>> points(Interval(value=-0.002, low=-0.012, high=0.008, se=0.005, count=9))
    '−0.2 points (−1.2 to 0.8)'
    """
    return f"{minus(f'{100 * interval.value:.1f}')} points{_ends(interval, scale=100, decimals=1)}"


def decimal(interval: Interval) -> str:
    """A plain number to three decimals, with the interval, where there is one.

    >>> decimal(Interval(value=0.91, low=float("-inf"), high=float("inf"), se=float("nan"), count=1))
    '0.910'
    """
    return f"{minus(f'{interval.value:.3f}')}{_ends(interval, scale=1, decimals=3)}"


def times(interval: Interval) -> str:
    """A ratio, with the interval, where there is one.

    >>> times(Interval(value=10.22, low=8.0, high=13.1, se=1.2, count=5))
    '10.2 (8.0 to 13.1) times'
    """
    decimals = 0 if interval.value >= 99.95 else 1 if interval.value >= 2.995 else 2
    return f"{interval.value:,.{decimals}f}{_ends(interval, scale=1, decimals=decimals)} times"


def p_text(p: float | None) -> str:
    """A p-value.

    >>> p_text(0.0312), p_text(0.0001), p_text(0.004), p_text(None)
    ('p = 0.03', 'p < 0.001', 'p = 0.004', 'no test possible')
    """
    if p is None or not math.isfinite(p):
        return "no test possible"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.01 else f"p = {p:.3f}"


def counted(number: int, *, one: str, many: str) -> str:
    """A number of things.

    >>> counted(1, one="run", many="runs"), counted(1200, one="run", many="runs")
    ('1 run', '1,200 runs')
    """
    return f"{number:,} {one if number == 1 else many}"


def how_many(number: int) -> str:
    """A number, or the word for none.

    >>> how_many(0), how_many(1200)
    ('none', '1,200')
    """
    return f"{number:,}" if number else "none"


def listed(words: Sequence[str]) -> str:
    """Things one after the other.

    >>> listed(["a table", "a forest", "a kernel machine"])
    'a table, a forest and a kernel machine'
    """
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def article(noun: str) -> str:
    """A noun with its indefinite article.

    >>> article("1-NN table"), article("exact-match table")
    ('a 1-NN table', 'an exact-match table')
    """
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def capitalised(sentence: str) -> str:
    """A sentence's first letter, large; the rest as it is.

    >>> capitalised("the 1-NN table wins.")
    'The 1-NN table wins.'
    """
    return sentence[:1].upper() + sentence[1:]


def minus(number: str) -> str:
    """A number with a true minus sign, and without one before zero.

    >>> minus("-1.2"), minus("-0.0")
    ('−1.2', '0.0')
    """
    return number.lstrip("-") if not number.strip("-0.,") else number.replace("-", "−")


def _ends(interval: Interval, *, scale: float, decimals: int) -> str:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    low, high = (minus(f"{scale * end:,.{decimals}f}") for end in (interval.low, interval.high))
    return f" ({low} to {high})"
