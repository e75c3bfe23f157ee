"""What every plot has in common: plotly figures as plain JSON, drawn by the page's own few lines of JavaScript.

A colour is written as the name of a CSS variable (`--series-1`, or `--series-1/0.2` to let the ground shine through);
the page puts the colour of its present theme in its place.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from plotly.offline import get_plotlyjs

from byrote.records.figures import Number
from byrote.report.labels import brief, plot_label
from byrote.report.numerals import present, significant
from byrote.report.palette import Ink

Json = dict[str, Any]

REFERENCE_LINE: Json = {"color": "--ink-faint", "width": 1.4, "dash": "dot"}
FEW_DECADES = 100.0
"""Over a smaller ratio powers of ten are too few ticks, and"""
HARDLY_ANY = 4.0
"""over a smaller one 1, 2, 5, … are."""
_CLEAR = "rgba(0,0,0,0)"


@final
@dataclass(frozen=True, kw_only=True)
class Key:
    """One entry of a plot's legend; pressing it hides or shows its traces."""

    name: str
    ink: Ink
    traces: tuple[int, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot, ready for the page."""

    data: str
    """JSON that may stand inside a script element."""
    height: int
    """Pixels."""
    x_label: str
    y_label: str
    keys: tuple[Key, ...]
    """Empty when there is nothing to tell apart."""
    description: str
    """The figure in words, for those who cannot see it."""
    empty: bool


def plotly_script() -> str:
    """Return plotly.js, whole."""
    return get_plotlyjs()


def embedded(traces: Sequence[Json], layout: Json) -> str:
    """Write a plotly figure as JSON without any character that could end a script element or begin a comment.

    >>> embedded([], {"title": "</script>"})
    '{"traces":[],"layout":{"title":"\\\\u003c/script\\\\u003e"}}'
    """
    text = json.dumps({"traces": traces, "layout": layout}, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def described(title: str, parts: Iterable[str]) -> str:
    """Put a figure in words.

    >>> described("Fit", ["mlp ends at 0.9", "cnn ends at 0.95"])
    'Fit. mlp ends at 0.9; cnn ends at 0.95.'
    """
    return f"{brief(title)}. {'; '.join(parts)}."


def layout(*, height: int, hover: Literal["closest", "x unified"]) -> Json:
    """The look that all plots share: transparent ground, quiet axes, no legend of plotly's own."""
    axis = {
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
        "gridcolor": "--rule",
        "linecolor": "--ink-faint",
        "tickcolor": "--ink-faint",
        "tickfont": {"color": "--ink-soft", "size": 12},
        "separatethousands": True,
        "exponentformat": "power",
    }
    return {
        "height": height,
        "margin": {"l": 8, "r": 10, "t": 14, "b": 8},
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"color": "--ink-soft", "size": 12},
        "separators": ".\u202f",
        "hovermode": hover,
        "showlegend": False,
        "hoverlabel": {"bgcolor": "--paper", "bordercolor": "--rule", "font": {"color": "--ink"}, "namelength": 32},
        "xaxis": axis | {"showline": True, "ticks": "outside", "nticks": 7},
        "yaxis": axis | {"nticks": 6},
        "shapes": [],
        "annotations": [],
    }


def scale(numbers: Sequence[Number], *, log: bool) -> Json:
    """A linear axis, or a logarithmic one: with a tick for every power of ten, or finer where there are few of them."""
    positive = [number for number in numbers if present(number) and number > 0]
    if not log:
        return {"type": "linear"}
    if not positive:
        return {"type": "log"}
    low, high = min(positive), max(positive)
    if high / low >= FEW_DECADES:
        return {"type": "log", "dtick": 1, "exponentformat": "none" if low >= 1e-4 and high < 1e7 else "power"}
    if high / low < HARDLY_ANY:
        return {"type": "log"}
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return {"type": "log", "tickvals": ticks, "ticktext": [significant(tick, digits=1) for tick in ticks]}


def note(text: str) -> Json:
    """A few words beside a reference line."""
    font = {"color": "--ink-soft", "size": 11.5}
    return {"text": plot_label(text, width=36, lines=1), "showarrow": False, "font": font, "bgcolor": "--paper/0.7"}


def plain_numbers(numbers: Iterable[Number]) -> list[Number]:
    """Numbers as JSON can hold them: what is not finite is missing."""
    return [number if present(number) else None for number in numbers]
