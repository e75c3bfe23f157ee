"""Wholes and their parts: stacked bars that are labelled directly."""

from dataclasses import dataclass
from typing import final

from byrote.records import Share, ShareRow, Shares
from byrote.report.labels import brief
from byrote.report.numerals import grouped
from byrote.report.palette import Palette

_ROOM_FOR_A_NUMBER = 9.0
"""Percent: four digits fit on a phone."""


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
    """Turn shares into percent, as they are drawn and as they are written: with a decimal unless all are whole.

    Raises:
        ValueError: a share is negative, or a row's shares add up to more than 1.
    """
    percents = [100 * part.value for row in figure.rows for part in row.parts]
    decimals = 0 if all(abs(percent - round(percent)) < 0.05 for percent in percents) else 1
    return tuple(_whole(row, inks=inks, decimals=decimals) for row in figure.rows)


def _whole(row: ShareRow, *, inks: Palette, decimals: int) -> Whole:
    total = sum(part.value for part in row.parts)
    if not total <= 1 + 1e-6 or any(part.value < 0 for part in row.parts):
        raise ValueError(f"Expected shares of {row.label!r:.80} from 0 and adding up to at most 1, got {row.parts}.")
    return Whole(
        label=brief(row.label),
        parts=tuple(_part(part, colour=inks[part.name].colour, decimals=decimals) for part in row.parts),
    )


def _part(share: Share, *, colour: str, decimals: int) -> Part:
    percent = round(100 * share.value, 3)
    return Part(
        name=brief(share.name, limit=60),
        percent=percent,
        number=grouped(percent, decimals=decimals) if percent else "0",
        inside=percent >= _ROOM_FOR_A_NUMBER,
        colour=colour,
    )
