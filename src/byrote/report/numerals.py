"""Numbers as people read them: three significant digits, thin spaces in thousands, a true minus sign."""

import math
from collections.abc import Sequence
from typing import TypeGuard

from byrote.core import time_span

THIN_SPACE = "\u202f"
MINUS = "−"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def present(number: float | int | None) -> TypeGuard[float | int]:
    """Say whether there is a number: neither None nor NaN nor infinite.

    >>> present(0), present(None), present(float("nan"))
    (True, False, False)
    """
    return number is not None and math.isfinite(number)


def grouped(number: float, *, decimals: int = 0) -> str:
    """Write a number with fixed decimals and thin spaces between thousands.

    >>> grouped(60000).replace("\u202f", "_"), grouped(-0.0004, decimals=3), grouped(-1.25, decimals=1)
    ('60_000', '0.000', '−1.2')
    """
    rounded = round(number, decimals)
    text = f"{abs(rounded) if rounded == 0 else rounded:,.{decimals}f}"
    return text.replace(",", THIN_SPACE).replace("-", MINUS)


def significant(number: float, *, digits: int = 3) -> str:
    """Write a number to so many significant digits.

    >>> significant(0.09876), significant(1.0), significant(12.34), significant(0.0000123), significant(0)
    ('0.0988', '1.00', '12.3', '1.23 × 10⁻⁵', '0')
    """
    if number == 0:
        return "0"
    if not 1e-4 <= abs(number) < 1e7:
        mantissa, exponent = f"{number:.{digits - 1}e}".replace("-", MINUS, 1 if number < 0 else 0).split("e")
        return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return grouped(number, decimals=_decimals(number, digits=digits))


def aligned(numbers: Sequence[float]) -> tuple[str, ...]:
    """Write an estimate and what belongs to it, such as its interval, with the same decimals.

    The first number decides: three significant digits but at most three decimals from 0.01 up, two significant digits
    below. Where the largest needs fewer, it decides. Nought is written `0`.

    >>> aligned([0.994, 0.9912, 0.9999]), aligned([12.3, 0.123]), aligned([0.005, -0.012, 0.022])
    (('0.994', '0.991', '1.000'), ('12.3', '0.1'), ('0.005', '−0.012', '0.022'))
    >>> aligned([0.0, 0.0, 0.00256]), aligned([0.0004, -2.0, 3.0])
    (('0', '0', '0.0026'), ('0.000', '−2.000', '3.000'))
    """
    largest = max(map(abs, numbers))
    if largest and not 1e-4 <= largest < 1e7:
        return tuple(significant(number) for number in numbers)
    decimals = min(_places(numbers[0]), _places(largest) + (round(largest, 2) >= 1)) if numbers[0] else _places(largest)
    return tuple(grouped(number, decimals=decimals) if number else "0" for number in numbers)


def plain(number: float, *, digits: int = 3) -> str:
    """Write a number that is exact by its nature, such as a null, without trailing zeros.

    >>> plain(0.0), plain(0.1), plain(1.0), plain(-2.5)
    ('0', '0.1', '1', '−2.5')
    """
    text = significant(number, digits=digits)
    return text.rstrip("0").rstrip(".") if "." in text and "×" not in text else text


def p_value(probability: float) -> str:
    """Write a p-value with its sign.

    >>> p_value(0.0004), p_value(0.0321), p_value(1.0)
    ('p < 0.001', 'p = 0.032', 'p = 1')
    """
    if probability < 0.001:
        return "p < 0.001"
    return f"p = {float(f'{probability:.2g}'):g}"


def counted(number: int, *, one: str, many: str) -> str:
    """Write a count with its noun.

    >>> counted(1, one="run", many="runs"), counted(5, one="run", many="runs")
    ('1 run', '5 runs')
    """
    return f"{grouped(number)} {one if number == 1 else many}"


def duration(seconds: float) -> str:
    """Write a time span in the two units that matter.

    >>> duration(0.42), duration(48.2), duration(125), duration(4800)
    ('0.42 s', '48 s', '2 min 5 s', '1 h 20 min')
    """
    return f"{significant(seconds, digits=2)} s" if seconds < 10 else time_span(seconds).replace(",", THIN_SPACE)


def _places(number: float) -> int:
    if abs(number) < 0.01:
        return _decimals(number, digits=2) if number else 0
    return min(3, _decimals(number, digits=3))


def _decimals(number: float, *, digits: int) -> int:
    exponent = int(f"{abs(number):.{digits - 1}e}".split("e")[1])
    return max(0, digits - 1 - exponent)
