"""Examples shown as what they are: images as images, rows as rows, text as text."""

from dataclasses import dataclass
from typing import assert_never, final

from byrote.records import Content, Gallery, GalleryItem, ImageContent, RowContent, TextContent
from byrote.report.labels import brief, printable
from byrote.report.png import data_uri
from byrote.report.tables import grid_cell


@final
@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image, inlined."""

    source: str
    width: int
    height: int


@final
@dataclass(frozen=True, kw_only=True)
class Entries:
    """A row of a table, as names and values."""

    pairs: tuple[tuple[str, str], ...]


@final
@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text."""

    text: str


@final
@dataclass(frozen=True, kw_only=True)
class Shown:
    """An example as what it is: one of the three."""

    picture: Picture | None = None
    entries: Entries | None = None
    passage: Passage | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Companion:
    """An example beside another."""

    name: str
    id: str
    target: str
    shown: Shown


@final
@dataclass(frozen=True, kw_only=True)
class Card:
    """One example."""

    id: str
    target: str
    suggested: str
    notes: tuple[tuple[str, str], ...]
    shown: Shown
    beside: tuple[Companion, ...] = ()

    @property
    def slim(self) -> bool:
        """Many of it fit side by side."""
        return self.shown.picture is not None


def gallery_cards(gallery: Gallery) -> tuple[Card, ...]:
    """Prepare every item of a gallery."""
    return tuple(_card(item) for item in gallery.items)


def _card(item: GalleryItem) -> Card:
    return Card(
        id=brief(item.id, limit=60),
        target=brief(item.target, limit=80),
        suggested=brief(item.suggested, limit=80),
        notes=tuple((brief(name, limit=60), brief(value, limit=60)) for name, value in item.notes),
        shown=_shown(item.content),
        beside=tuple(
            Companion(
                name=brief(other.name, limit=60),
                id=brief(other.id, limit=60),
                target=brief(other.target, limit=80),
                shown=_shown(other.content),
            )
            for other in item.beside
        ),
    )


def _shown(content: Content) -> Shown:
    match content:
        case ImageContent():
            return Shown(picture=Picture(source=data_uri(content), width=content.width, height=content.height))
        case RowContent():
            pairs = zip(content.names, content.values, strict=True)
            told = tuple((brief(name), grid_cell(value, digits=None).text) for name, value in pairs)
            return Shown(entries=Entries(pairs=told))
        case TextContent():
            return Shown(passage=Passage(text=printable(content.text)))
        case _:
            assert_never(content)
