"""Numbers before pixels: the closed set of figures a study may hand to the report."""

from dataclasses import dataclass
from typing import Literal, final

Number = float | int | None
Cell = str | float | int | None


@final
@dataclass(frozen=True, kw_only=True)
class Series:
    """A line, with a band when low and high are given."""

    name: str
    x: tuple[Number, ...]
    y: tuple[Number, ...]
    low: tuple[Number, ...] = ()
    high: tuple[Number, ...] = ()


@final
@dataclass(frozen=True, kw_only=True)
class Curves:
    """Lines with bands over seeds."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    caption: str = ""
    log_x: bool = False
    log_y: bool = False
    reference: float | None = None
    """A horizontal line, such as chance."""
    reference_label: str = ""
    points: bool = False
    """Dots alone, not joined by lines."""
    kind: Literal["curves"] = "curves"


@final
@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar with its 95 % interval."""

    label: str
    value: Number
    low: Number = None
    high: Number = None
    group: str = ""
    """Bars of one group share a colour."""


@final
@dataclass(frozen=True, kw_only=True)
class Bars:
    """Values side by side with intervals."""

    title: str
    x_label: str
    bars: tuple[Bar, ...]
    caption: str = ""
    reference: float | None = None
    reference_label: str = ""
    kind: Literal["bars"] = "bars"


@final
@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts per bin: `len(edges) == len(counts) + 1`."""

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How a score is distributed."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Counts, ...]
    caption: str = ""
    log_y: bool = False
    kind: Literal["histogram"] = "histogram"


@final
@dataclass(frozen=True, kw_only=True)
class Share:
    """One part of a whole."""

    name: str
    value: float


@final
@dataclass(frozen=True, kw_only=True)
class ShareRow:
    """A whole and its parts, which add up to at most 1."""

    label: str
    parts: tuple[Share, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Shares:
    """Stacked horizontal bars: of 100 answers, how many are what."""

    title: str
    rows: tuple[ShareRow, ...]
    caption: str = ""
    kind: Literal["shares"] = "shares"


@final
@dataclass(frozen=True, kw_only=True)
class Column:
    """A table's column."""

    name: str
    digits: int | None = None
    """Decimals of a number; None: as it is."""


@final
@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that sorts."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    kind: Literal["table"] = "table"


@final
@dataclass(frozen=True, kw_only=True)
class ImageContent:
    """Grey or colour pixels, 0 to 255, row by row."""

    height: int
    width: int
    channels: Literal[1, 3]
    pixels: tuple[int, ...]
    """height × width × channels values."""
    kind: Literal["image"] = "image"


@final
@dataclass(frozen=True, kw_only=True)
class RowContent:
    """A table's row: names and values."""

    names: tuple[str, ...]
    values: tuple[Cell, ...]
    kind: Literal["row"] = "row"


@final
@dataclass(frozen=True, kw_only=True)
class TextContent:
    """Plain text; escaped wherever it is shown."""

    text: str
    kind: Literal["text"] = "text"


Content = ImageContent | RowContent | TextContent


@final
@dataclass(frozen=True, kw_only=True)
class Beside:
    """An example that another is shown beside."""

    name: str
    """Why it is there: `nearest 7`."""
    id: str
    content: Content
    target: str


@final
@dataclass(frozen=True, kw_only=True)
class GalleryItem:
    """One example, shown."""

    id: str
    content: Content
    target: str
    """The label or number it was trained with."""
    suggested: str = ""
    """What the networks that never saw it say; empty when the same or unknown."""
    notes: tuple[tuple[str, str], ...] = ()
    """Names and values under the picture, such as ("memorisation", "0.97 ± 0.04")."""
    beside: tuple[Beside, ...] = ()
    """Examples to compare it with."""


@final
@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Examples, shown as what they are."""

    title: str
    items: tuple[GalleryItem, ...]
    caption: str = ""
    kind: Literal["gallery"] = "gallery"


@final
@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A number at every place of a plane, or for every pair of names, as a colour; lines may lie over it."""

    title: str
    x_label: str
    y_label: str
    value_label: str
    """What the colours stand for."""
    x: tuple[Number | str, ...]
    """Where the columns are, ascending; or their names."""
    y: tuple[Number | str, ...]
    """Where the rows are, ascending, from below; or their names, from above."""
    values: tuple[tuple[Number, ...], ...]
    """A row for every y, a number for every x; None where there is none."""
    paths: tuple[Series, ...] = ()
    """Over a plane of numbers, from the first point to the last, which is marked."""
    contours: bool = False
    """Whether lines of equal value are drawn, too."""
    log: bool = False
    """Whether colours go by the logarithm; values of 0 and less then have none."""
    caption: str = ""
    kind: Literal["heatmap"] = "heatmap"


Figure = Curves | Bars | Histogram | Shares | Table | Gallery | Heatmap
