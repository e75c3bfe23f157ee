"""Values side by side: a dot, its 95 % interval as a whisker, the number beside it."""

from collections.abc import Sequence

from byrote.records import Bar, Bars
from byrote.records.figures import Number
from byrote.report.labels import brief, plot_label
from byrote.report.numerals import aligned, present, significant
from byrote.report.palette import Ink, Palette
from byrote.report.plots import REFERENCE_LINE, Json, Key, Plot, described, embedded, layout, note, plain_numbers

_ROW_HEIGHT = 36
_FRAME_HEIGHT = 56


def plot_bars(figure: Bars, *, inks: Palette) -> Plot:
    """Draw one row a value; bars of one group share a colour."""
    groups = list(dict.fromkeys(bar.group for bar in figure.bars))
    rows = list(enumerate(figure.bars))
    traces = [_dots([row for row in rows if row[1].group == group], ink=inks[group]) for group in groups]
    keys = tuple(
        Key(name=brief(group) or "other", ink=Ink(inks[group].colour, "marker"), traces=(index,))
        for index, group in enumerate(groups)
    )
    return Plot(
        data=embedded(traces, _layout(figure)),
        height=_height(figure),
        x_label=brief(figure.x_label),
        y_label="",
        keys=keys if len(keys) > 1 else (),
        description=described(figure.title, (f"{brief(bar.label)}: {_estimate(bar)}" for bar in figure.bars)),
        empty=not any(present(bar.value) for bar in figure.bars),
    )


def _height(figure: Bars) -> int:
    return _ROW_HEIGHT * max(len(figure.bars), 1) + _FRAME_HEIGHT


def _layout(figure: Bars) -> Json:
    look = layout(height=_height(figure), hover="closest")
    look["xaxis"] |= {"showgrid": True, "showline": False, "range": _range(figure)}
    look["yaxis"] |= {
        "tickvals": list(range(len(figure.bars))),
        "ticktext": [plot_label(bar.label, lines=2) for bar in figure.bars],
        "range": [len(figure.bars) - 0.5, -0.5],
        "fixedrange": True,
        "showline": False,
        "ticks": "",
        "ticklabelstandoff": 8,
    }
    numbers = [_beside(row, bar) for row, bar in enumerate(figure.bars) if present(bar.value)]
    look["annotations"] += numbers
    look["margin"]["r"] = 14 + 8 * max((len(number["text"]) for number in numbers), default=0)
    if present(figure.reference):
        _mark(look, at=float(figure.reference), label=figure.reference_label)
    return look


def _range(figure: Bars) -> list[float]:
    """From the least to the greatest of all that is drawn, with a little room; notes do not widen it."""
    ends = [end for bar in figure.bars for end in (bar.value, bar.low, bar.high) if present(end)]
    ends += [figure.reference] if present(figure.reference) else []
    least, greatest = float(min(ends, default=0.0)), float(max(ends, default=1.0))
    room = 0.06 * (greatest - least) or 0.1 * abs(greatest) or 1.0
    return [least - room, greatest + room]


def _mark(look: Json, *, at: float, label: str) -> None:
    place = {"yref": "paper", "y0": 0, "y1": 1, "x0": at, "x1": at, "layer": "below"}
    look["shapes"].append(place | {"type": "line", "line": REFERENCE_LINE})
    if label:
        place = {"yref": "paper", "y": 1, "yanchor": "bottom", "x": at, "xanchor": "auto"}
        look["annotations"].append(note(label) | place)
        look["margin"]["t"] = 26


def _dots(rows: Sequence[tuple[int, Bar]], *, ink: Ink) -> Json:
    bars = [bar for _, bar in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": plain_numbers(bar.value for bar in bars),
        "y": [row for row, _ in rows],
        "hovertext": [f"{plot_label(bar.label)}<br>{_estimate(bar)}" for bar in bars],
        "hoverinfo": "text",
        "marker": {"color": ink.colour, "size": 8.5},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [_gap(bar.value, bar.high) for bar in bars],
            "arrayminus": [_gap(bar.value, bar.low) for bar in bars],
            "color": ink.colour,
            "thickness": 2,
            "width": 0,
        },
    }


def _beside(row: int, bar: Bar) -> Json:
    """The number at the right end of its row, where a table would have it."""
    return {
        "text": aligned([number for number in (bar.value, bar.low, bar.high) if present(number)])[0],
        "showarrow": False,
        "xref": "paper",
        "x": 1,
        "xanchor": "left",
        "xshift": 8,
        "y": row,
        "yanchor": "middle",
        "font": {"color": "--ink", "size": 12.5},
    }


def _estimate(bar: Bar) -> str:
    if not present(bar.value):
        return "no value"
    if not (present(bar.low) and present(bar.high)):
        return significant(bar.value)
    return "{} ({} to {})".format(*aligned([bar.value, bar.low, bar.high]))


def _gap(value: Number, end: Number) -> float:
    return abs(float(value) - float(end)) if present(value) and present(end) else 0.0
