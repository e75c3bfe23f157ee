"""Wholes and their parts: stacked bars that are labelled directly."""

from dataclasses import dataclass
from typing import final

from byrote.records import ShareRow, Shares
from byrote.report.labels import brief
from byrote.report.numerals import grouped
from byrote.report.palette import Palette

_ROOM_FOR_A_NUMBER = 5.0


@final
@dataclass(frozen=True, kw_only=True)
class Part:
    """One stretch of a bar."""

    name: str
    percent: float
    """Of the whole, 0 to 100: the stretch's width."""
    number: str
    """The same, as it is written."""
    inside: bool
    """There is room for the number in the bar."""
    colour: str
    """A CSS variable."""


@final
@dataclass(frozen=True, kw_only=True)
class Whole:
    """One bar."""

    label: str
    parts: tuple[Part, ...]


def share_rows(figure: Shares, *, inks: Palette) -> tuple[Whole, ...]:
    """Turn shares into percent, as they are drawn and as they are written.

    Raises:
        ValueError: a share is negative, or a row's shares add up to more than 1.
    """
    return tuple(_whole(row, inks=inks) for row in figure.rows)


def _whole(row: ShareRow, *, inks: Palette) -> Whole:
    total = sum(part.value for part in row.parts)
    if not total <= 1 + 1e-6 or any(part.value < 0 for part in row.parts):
        raise ValueError(f"Expected shares of {row.label!r} from 0 and adding up to at most 1, got {row.parts}.")
    return Whole(
        label=brief(row.label),
        parts=tuple(
            Part(
                name=brief(part.name, limit=60),
                percent=round(100 * part.value, 3),
                number=_percent(part.value),
                inside=100 * part.value >= _ROOM_FOR_A_NUMBER,
                colour=inks[part.name].colour,
            )
            for part in row.parts
        ),
    )


def _percent(share: float) -> str:
    """Whole numbers, as people count answers; a decimal only where it would read as none.

    >>> _percent(0.81), _percent(0.004), _percent(0.0)
    ('81', '0.4', '0')
    """
    percent = 100 * share
    return grouped(percent, decimals=0 if percent >= 1 or percent == 0 else 1)
