"""How scores are distributed: counts per bin, several series laid over one another."""

from byrote.records import Counts, Histogram
from byrote.report.labels import brief, plot_label
from byrote.report.numerals import aligned, grouped
from byrote.report.palette import Ink, Palette
from byrote.report.plots import Json, Key, Plot, described, embedded, layout, scale

HEIGHT = 280


def plot_histogram(figure: Histogram, *, inks: Palette) -> Plot:
    """Draw counts per bin; bins need not be equally wide.

    Raises:
        ValueError: a series has not one edge more than counts.
    """
    several = len(figure.series) > 1
    traces = [_bins(counts, ink=inks[counts.name], several=several) for counts in figure.series]
    look = layout(height=HEIGHT, hover="closest")
    look |= {"barmode": "overlay", "bargap": 0}
    everything = [count for counts in figure.series for count in counts.counts]
    look["yaxis"] |= scale(everything, log=figure.log_y) | {"showgrid": True}
    keys = tuple(
        Key(name=brief(counts.name), ink=Ink(inks[counts.name].colour, "square"), traces=(index,))
        for index, counts in enumerate(figure.series)
    )
    return Plot(
        data=embedded(traces, look),
        height=HEIGHT,
        x_label=brief(figure.x_label),
        y_label=brief(figure.y_label),
        keys=keys if several else (),
        description=described(figure.title, (_summary(counts) for counts in figure.series)),
        empty=not any(everything),
    )


def _bins(counts: Counts, *, ink: Ink, several: bool) -> Json:
    if len(counts.edges) != len(counts.counts) + 1:
        raise ValueError(
            f"Expected one edge more than counts in {counts.name!r:.80}, got {len(counts.edges)} edges and "
            f"{len(counts.counts)} counts."
        )
    bins = list(zip(counts.edges[:-1], counts.edges[1:], counts.counts, strict=True))
    return {
        "type": "bar",
        "name": plot_label(counts.name, width=32, lines=1),
        "x": [(low + high) / 2 for low, high, _ in bins],
        "y": list(counts.counts),
        "width": [float(high - low) for low, high, _ in bins],
        "hovertext": ["{} to {}: {}".format(*aligned([low, high]), grouped(count)) for low, high, count in bins],
        "hoverinfo": "text+name" if several else "text",
        "marker": {
            "color": f"{ink.colour}/{0.55 if several else 0.8}",
            "line": {"color": ink.colour, "width": 0.6},
        },
    }


def _summary(counts: Counts) -> str:
    return f"{brief(counts.name)}: {grouped(sum(counts.counts))} in {len(counts.counts)} bins"
