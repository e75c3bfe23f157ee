"""Every figure of the closed set, as what the page's templates show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never, final

from byrote.records import Bars, Curves, Figure, Gallery, Heatmap, Histogram, Shares, Table
from byrote.report.bars import plot_bars
from byrote.report.curves import plot_curves
from byrote.report.galleries import Card, gallery_cards
from byrote.report.heatmaps import plot_heatmap
from byrote.report.histograms import plot_histogram
from byrote.report.labels import brief, printable
from byrote.report.palette import Palette, palette
from byrote.report.plots import Plot
from byrote.report.shares import Whole, share_rows
from byrote.report.tables import Grid, table_grid

Body = Plot | Grid | tuple[Whole, ...] | tuple[Card, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure, its template and its place."""

    id: str
    """Unique on the page."""
    title: str
    caption: str
    template: str
    """The file in `templates/figures/` that shows `body`."""
    wide: bool
    """It takes the whole width of the page; narrow ones stand in pairs."""
    body: Body


def drawings(figures: Sequence[Figure], *, prefix: str) -> tuple[Drawing, ...]:
    """Prepare the figures of one section, with one palette for all of them.

    Args:
        figures: in the order of the page.
        prefix: what their ids begin with.
    """
    inks = palette(figures)
    wide = _wide(figures)
    return tuple(
        _drawing(figure, place=f"{prefix}-figure-{index + 1}", wide=wide[index], inks=inks)
        for index, figure in enumerate(figures)
    )


def _drawing(figure: Figure, *, place: str, wide: bool, inks: Palette) -> Drawing:
    match figure:
        case Curves():
            template, body = "plot.html", plot_curves(figure, inks=inks)
        case Bars():
            template, body = "plot.html", plot_bars(figure, inks=inks)
        case Histogram():
            template, body = "plot.html", plot_histogram(figure, inks=inks)
        case Heatmap():
            template, body = "plot.html", plot_heatmap(figure)
        case Shares():
            template, body = "shares.html", share_rows(figure, inks=inks)
        case Table():
            template, body = "table.html", table_grid(figure)
        case Gallery():
            template, body = "gallery.html", gallery_cards(figure)
        case _:
            assert_never(figure)
    title, caption = brief(figure.title), printable(figure.caption)
    return Drawing(id=place, title=title, caption=caption, template=template, wide=wide, body=body)


def _wide(figures: Sequence[Figure]) -> list[bool]:
    """Narrow figures pair up in order; whoever finds no partner gets the whole width."""
    wide = [not isinstance(figure, Curves | Bars | Histogram | Heatmap) for figure in figures]
    index = 0
    while index < len(figures):
        if wide[index]:
            index += 1
        elif index + 1 < len(figures) and not wide[index + 1]:
            index += 2
        else:
            wide[index] = True
            index += 1
    return wide
