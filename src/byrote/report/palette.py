"""Which name has which colour. Colours are CSS variables, so that light, dark and paper each have their own."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, assert_never

from byrote.records import Bars, Curves, Figure, Gallery, Heatmap, Histogram, Shares, Table

NUM_COLOURS = 8
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_MEANINGS = {
    "learnt": "learnt",
    "chance alone": "chance",
    "memorised": "memorised",
    "never fitted": "unfitted",
    "wrong": "unfitted",
    "unexplained": "unfitted",
}


class Ink(NamedTuple):
    """How a series is drawn: the name of a CSS variable, and a dash so that colour is never the only difference."""

    colour: str
    dash: str


Palette = Mapping[str, Ink]


def palette(figures: Sequence[Figure]) -> Palette:
    """Give every name in these figures one ink, the same in all of them.

    Args:
        figures: figures that are read together, such as those of one study.

    Returns:
        From the name of a series, group or part to its ink. Parts with a fixed meaning (learnt, memorised,
        chance alone, wrong) keep their colour in every report; a name that is alone in its figure needs none of
        its own and gets the first.
    """
    names = dict.fromkeys(name for figure in figures for name in _names(figure))
    told_apart = dict.fromkeys(name for figure in figures if len(set(_names(figure))) > 1 for name in _names(figure))
    free = (name for name in told_apart if name not in _MEANINGS)
    inks = {
        name: Ink(f"--series-{index % NUM_COLOURS + 1}", _DASHES[index % len(_DASHES)])
        for index, name in enumerate(free)
    }
    alone = {name: Ink("--series-1", "solid") for name in names}
    return alone | inks | {name: Ink(f"--{_MEANINGS[name]}", "solid") for name in names if name in _MEANINGS}


def _names(figure: Figure) -> list[str]:
    match figure:
        case Curves(series=series):
            return [line.name for line in series]
        case Histogram(series=series):
            return [counts.name for counts in series]
        case Bars(bars=bars):
            return [bar.group for bar in bars]
        case Shares(rows=rows):
            return [part.name for row in rows for part in row.parts]
        case Table() | Gallery() | Heatmap():
            return []
        case _:
            assert_never(figure)
