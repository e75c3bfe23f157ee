"""Lines with shaded bands."""

import math
from collections.abc import Sequence

from byrote.records import Curves, Series
from byrote.records.figures import Number
from byrote.report.labels import brief, plot_label
from byrote.report.numerals import aligned, present, significant
from byrote.report.palette import Ink, Palette
from byrote.report.plots import REFERENCE_LINE, Json, Key, Plot, described, embedded, layout, note, plain_numbers, scale

HEIGHT = 320
_FEW_POINTS = 15


def plot_curves(figure: Curves, *, inks: Palette) -> Plot:
    """Draw lines with bands, log axes and a reference line where the figure asks for them.

    Raises:
        ValueError: a series has not as many y, low or high as x.
    """
    traces: list[Json] = []
    keys: list[Key] = []
    floor = _least_positive(figure.series) if figure.log_y else None
    for series in figure.series:
        _check(series)
        added = [
            *_band(series, ink=inks[series.name], floor=floor),
            _line(series, ink=inks[series.name], points=figure.points),
        ]
        indices = tuple(range(len(traces), len(traces) + len(added)))
        ink = Ink(inks[series.name].colour, "marker") if figure.points else inks[series.name]
        keys.append(Key(name=brief(series.name), ink=ink, traces=indices))
        traces += added
    return Plot(
        data=embedded(traces, _layout(figure)),
        height=HEIGHT,
        x_label=brief(figure.x_label),
        y_label=brief(figure.y_label),
        keys=tuple(keys) if len(keys) > 1 else (),
        description=described(
            figure.title, (_reach(series) if figure.points else _end(series) for series in figure.series)
        ),
        empty=not any(present(y) for series in figure.series for y in series.y),
    )


def _check(series: Series) -> None:
    lengths = {"y": len(series.y), "low": len(series.low), "high": len(series.high)}
    for name, length in lengths.items():
        if length != len(series.x) and (length or name == "y"):
            raise ValueError(f"Expected {len(series.x)} {name} in series {series.name!r:.80}, one per x, got {length}.")


def _line(series: Series, *, ink: Ink, points: bool) -> Json:
    ends = zip(series.low, series.high, strict=True) if series.low and series.high else [(None, None)] * len(series.y)
    return {
        "type": "scatter",
        "mode": "markers" if points else "lines+markers" if len(series.x) <= _FEW_POINTS else "lines",
        "name": plot_label(series.name, width=32, lines=1),
        "x": plain_numbers(series.x),
        "y": plain_numbers(series.y),
        "customdata": [_range(low, high) for low, high in ends],
        "hovertemplate": f"{'%{x:.3~g}, ' * points}%{{y:.3~g}}%{{customdata}}",
        "line": {"color": ink.colour, "width": 2.2, "dash": ink.dash},
        "marker": {"color": ink.colour, "size": 8 if points else 6},
    }


def _band(series: Series, *, ink: Ink, floor: float | None) -> list[Json]:
    """One closed shape for every stretch in which both ends are there; on a log axis cut at the least number shown."""
    xs: list[Number] = []
    ys: list[Number] = []
    stretch: list[tuple[Number, Number, Number]] = []
    points = zip(series.x, series.low, series.high, strict=True) if series.low and series.high else ()
    for x, low, high in [*points, (None, None, None)]:
        if present(x) and present(low) and present(high):
            stretch.append((x, low, high) if floor is None else (x, max(low, floor), max(high, floor)))
        elif stretch:
            there, back = stretch, stretch[::-1]
            xs += [*(point[0] for point in there), *(point[0] for point in back), None]
            ys += [*(point[1] for point in there), *(point[2] for point in back), None]
            stretch = []
    if not xs:
        return []
    shape = {"type": "scatter", "mode": "none", "fill": "toself", "hoverinfo": "skip"}
    return [shape | {"x": xs[:-1], "y": ys[:-1], "fillcolor": f"{ink.colour}/0.16"}]


def _layout(figure: Curves) -> Json:
    xs = [x for series in figure.series for x in series.x]
    ys = [y for series in figure.series for y in series.y if present(y)]
    look = layout(height=HEIGHT, hover="closest" if figure.points else "x unified")
    look["xaxis"] |= scale(xs, log=figure.log_x)
    look["yaxis"] |= scale(ys, log=figure.log_y) | {"showgrid": True}
    if ys and not figure.log_y and 0 <= min(ys) < max(ys) / 2:
        look["yaxis"]["rangemode"] = "tozero"
    if present(figure.reference) and not (figure.log_y and figure.reference <= 0):
        _mark(look, height=float(figure.reference), label=figure.reference_label, log=figure.log_y)
    return look


def _mark(look: Json, *, height: float, label: str, log: bool) -> None:
    place = {"xref": "paper", "x0": 0, "x1": 1, "y0": height, "y1": height, "layer": "below"}
    look["shapes"].append(place | {"type": "line", "line": REFERENCE_LINE})
    if label:
        place = {"xref": "paper", "x": 1, "xanchor": "right", "yanchor": "bottom"}
        look["annotations"].append(note(label) | place | {"y": math.log10(height) if log else height})


def _range(low: Number, high: Number) -> str:
    return " ({} to {})".format(*aligned([low, high])) if present(low) and present(high) else ""


def _end(series: Series) -> str:
    values = [y for y in series.y if present(y)]
    return f"{brief(series.name)} ends at {significant(values[-1])}" if values else f"{brief(series.name)}: no value"


def _reach(series: Series) -> str:
    spans = [_span([value for value in values if present(value)]) for values in (series.x, series.y)]
    return f"{brief(series.name)}: {len(series.x)} dots from {spans[0]} across and {spans[1]} up"


def _span(values: Sequence[float | int]) -> str:
    return f"{significant(min(values))} to {significant(max(values))}" if values else "nowhere"


def _least_positive(series: Sequence[Series]) -> float | None:
    ends = [end for line in series for end in (*line.y, *line.low) if present(end) and end > 0]
    return float(min(ends)) if ends else None
