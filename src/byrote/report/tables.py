"""Tables, each cell both as it reads and as it sorts."""

from dataclasses import dataclass
from typing import final

from byrote.records import Cell, Table
from byrote.report.labels import brief, printable
from byrote.report.numerals import MINUS, grouped, present


@final
@dataclass(frozen=True, kw_only=True)
class GridCell:
    """A cell; `sort` is the number behind the text, empty for text and for what is missing."""

    text: str
    sort: str
    missing: bool


@final
@dataclass(frozen=True, kw_only=True)
class Heading:
    """A column's head."""

    name: str
    numeric: bool
    """Every cell that is there is a number: the column sorts by size and is set flush right."""


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table for the page."""

    headings: tuple[Heading, ...]
    rows: tuple[tuple[GridCell, ...], ...]


def table_grid(table: Table) -> Grid:
    """Write every cell with its column's decimals.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(
                f"Expected {len(table.columns)} cells a row in {table.title!r}, got {len(row)}: {row!r:.80}."
            )
    digits = [column.digits for column in table.columns]
    return Grid(
        headings=tuple(
            Heading(name=brief(column.name, limit=60), numeric=_numeric([row[index] for row in table.rows]))
            for index, column in enumerate(table.columns)
        ),
        rows=tuple(
            tuple(grid_cell(cell, digits=places) for cell, places in zip(row, digits, strict=True))
            for row in table.rows
        ),
    )


def grid_cell(cell: Cell, *, digits: int | None) -> GridCell:
    """Write one cell.

    >>> grid_cell(0.5, digits=3).text, grid_cell(12, digits=None).text, grid_cell(None, digits=2).text
    ('0.500', '12', '–')
    """
    if isinstance(cell, str):
        return GridCell(text=printable(cell), sort="", missing=False)
    if not present(cell):
        return GridCell(text="–", sort="", missing=True)
    text = f"{cell:.6g}" if isinstance(cell, float) else str(cell)
    shown = text.replace("-", MINUS, 1) if digits is None else grouped(cell, decimals=digits)
    return GridCell(text=shown, sort=repr(float(cell)), missing=False)


def _numeric(cells: list[Cell]) -> bool:
    there = [cell for cell in cells if isinstance(cell, str) or present(cell)]
    return bool(there) and not any(isinstance(cell, str) for cell in there)
