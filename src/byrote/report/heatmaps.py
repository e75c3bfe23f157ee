"""A number at every place of a plane, as a colour."""

import math
from collections.abc import Sequence

from byrote.records import Heatmap, Series
from byrote.records.figures import Number
from byrote.report.labels import brief, plot_label
from byrote.report.numerals import present, significant
from byrote.report.plots import Json, Plot, described, embedded, layout, plain_numbers

HEIGHT = 380
_MOST_NAMES = 40
"""Rows of names that are told apart by their own height."""
_ROW_HEIGHT = 22
COLOURS = ((0, "--heat-1"), (0.25, "--heat-2"), (0.5, "--heat-3"), (0.75, "--heat-4"), (1, "--heat-5"))
_NUM_TICKS = 5

Names = tuple[Number | str, ...]


def plot_heatmap(figure: Heatmap) -> Plot:
    """Draw colours with their scale, lines of equal value and paths where the figure asks for them.

    Raises:
        ValueError: there is not one value for every x and y, or positions and names are mixed, or do not ascend, or a
            path lies over names or has not as many y as x.
    """
    _check(figure)
    columns, rows = _places(figure.x), _places(figure.y)
    heights = [[_height(value, log=figure.log) for value in row] for row in figure.values]
    known = [height for row in heights for height in row if height is not None]
    traces = [_colours(figure, columns, rows, heights, known)]
    if figure.contours and known and min(known) < max(known):
        traces.append(_contours(columns, rows, heights))
    for path in figure.paths:
        traces += _path(path)
    return Plot(
        data=embedded(traces, _layout(figure, columns, rows)),
        height=_total_height(figure),
        x_label=brief(figure.x_label),
        y_label=brief(figure.y_label),
        keys=(),
        description=described(figure.title, _told(figure)),
        empty=not known,
    )


def _check(figure: Heatmap) -> None:
    widths = {len(row) for row in figure.values}
    if len(figure.values) != len(figure.y) or (figure.y and widths != {len(figure.x)}):
        raise ValueError(
            f"Expected {len(figure.y)} rows of {len(figure.x)} values in {figure.title!r:.80}, one for each y and x, "
            f"got {len(figure.values)} rows of {sorted(widths)}."
        )
    for name, axis in (("x", figure.x), ("y", figure.y)):
        if _has_names(axis):
            if figure.paths or not all(isinstance(place, str) for place in axis):
                raise ValueError(f"Expected names alone as {name} of {figure.title!r:.80}, and no path over them.")
            continue
        numbers = [place for place in axis if not isinstance(place, str) and present(place)]
        if len(numbers) < len(axis) or numbers != sorted(set(numbers)):
            raise ValueError(f"Expected ascending numbers as {name} of {figure.title!r:.80}, got {axis!r:.80}.")
    for path in figure.paths:
        if len(path.x) != len(path.y):
            raise ValueError(f"Expected one y for each x in path {path.name!r:.80}, got {len(path.y)}.")


def _has_names(axis: Names) -> bool:
    return any(isinstance(place, str) for place in axis)


def _places(axis: Names) -> list[float]:
    """Names stand one after the other."""
    if _has_names(axis):
        return [float(index) for index in range(len(axis))]
    return [float(place) for place in axis if not isinstance(place, str) and place is not None]


def _height(value: Number, *, log: bool) -> float | None:
    if not present(value) or (log and value <= 0):
        return None
    return math.log10(value) if log else float(value)


def _colours(
    figure: Heatmap,
    columns: Sequence[float],
    rows: Sequence[float],
    heights: Sequence[Sequence[float | None]],
    known: Sequence[float],
) -> Json:
    return {
        "type": "heatmap",
        "x": columns,
        "y": rows,
        "z": heights,
        "text": _hovers(figure),
        "hoverinfo": "text",
        "colorscale": [list(stop) for stop in COLOURS],
        "colorbar": _scale(figure, known),
        "xgap": 1 if _has_names(figure.x) else 0,
        "ygap": 1 if _has_names(figure.y) else 0,
    }


def _hovers(figure: Heatmap) -> list[list[str]]:
    def said(place: Number | str) -> str:
        return plot_label(place, lines=1) if isinstance(place, str) else significant(place or 0.0)

    return [
        [
            f"{said(x)}, {said(y)}: {significant(value) if present(value) else 'no value'}"
            for x, value in zip(figure.x, row, strict=True)
        ]
        for y, row in zip(figure.y, figure.values, strict=True)
    ]


def _scale(figure: Heatmap, known: Sequence[float]) -> Json:
    """What the colours stand for, told at a few of them."""
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    ticks = [low + (high - low) * part / (_NUM_TICKS - 1) for part in range(_NUM_TICKS)] if low < high else [low]
    return {
        "title": {
            "text": plot_label(figure.value_label, width=40, lines=1),
            "side": "right",
            "font": {"color": "--ink-soft", "size": 12},
        },
        "tickvals": ticks,
        "ticktext": [significant(10**tick if figure.log else tick, digits=2) for tick in ticks],
        "tickfont": {"color": "--ink-soft", "size": 11.5},
        "thickness": 12,
        "outlinewidth": 0,
        "len": 1,
    }


def _contours(columns: Sequence[float], rows: Sequence[float], heights: Sequence[Sequence[float | None]]) -> Json:
    return {
        "type": "contour",
        "x": columns,
        "y": rows,
        "z": heights,
        "contours": {"coloring": "none"},
        "ncontours": 12,
        "line": {"color": "--ink/0.45", "width": 0.8},
        "showscale": False,
        "hoverinfo": "skip",
    }


def _path(path: Series) -> list[Json]:
    """A line with a light edge, so that it is seen on every colour, and its end."""
    x, y = plain_numbers(path.x), plain_numbers(path.y)
    line = {"type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip"}
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "hovertext": [f"{plot_label(path.name, lines=1)}, {number} of {len(x)}" for number in range(1, len(x) + 1)],
        "hoverinfo": "text",
        "marker": {
            "color": "--series-2",
            "size": [*[5] * (len(x) - 1), 11][: len(x)],
            "line": {"color": "--paper", "width": 1},
        },
    }
    edge = line | {"line": {"color": "--paper", "width": 4}}
    return [edge, line | {"line": {"color": "--series-2", "width": 2}}, dots]


def _layout(figure: Heatmap, columns: Sequence[float], rows: Sequence[float]) -> Json:
    look = layout(height=_total_height(figure), hover="closest")
    for name, axis, places in (("xaxis", figure.x, columns), ("yaxis", figure.y, rows)):
        look[name] |= {"showline": False, "ticks": "outside"}
        if _has_names(axis):
            names = [plot_label(str(place), lines=1, width=18) for place in axis]
            look[name] |= {"tickvals": list(places), "ticktext": names, "ticks": ""}
    if _has_names(figure.y):
        look["yaxis"] |= {"autorange": "reversed"}
    return look


def _total_height(figure: Heatmap) -> int:
    return max(HEIGHT, _ROW_HEIGHT * min(len(figure.y), _MOST_NAMES) + 60) if _has_names(figure.y) else HEIGHT


def _told(figure: Heatmap) -> list[str]:
    """Where it is lowest and highest, and where paths end."""
    found = [
        (float(value), x, y)
        for y, row in zip(figure.y, figure.values, strict=True)
        for x, value in zip(figure.x, row, strict=True)
        if present(value)
    ]
    if not found:
        return ["no value"]
    told: list[str] = []
    for word, choose in (("lowest", min), ("highest", max)):
        value, x, y = choose(found, key=lambda each: each[0])
        told.append(f"{brief(figure.value_label)} is {word}, {significant(value)}, at {_place(x)} and {_place(y)}")
    for path in figure.paths:
        ends = [(x, y) for x, y in zip(path.x, path.y, strict=True) if present(x) and present(y)]
        if ends:
            told.append(f"{brief(path.name)} ends at {_place(ends[-1][0])} and {_place(ends[-1][1])}")
    return told


def _place(place: Number | str) -> str:
    return brief(place, limit=40) if isinstance(place, str) else significant(place or 0.0)
