"""Tables that people look at."""

import html
import json
from collections.abc import Sequence
from typing import Any, final

import pyarrow as pa

from byrote.core import did_you_mean, require

SHOWN = 20
"""Rows in a notebook."""
NOTES = b"byrote.notes"
"""Where notes are, in the schema's metadata."""


@final
class Table:
    """An Arrow table that shows itself well.

    >>> table = Table(pa.table({"id": [7, 8], "score": [0.25, None]}))
    >>> len(table), table.columns, table.to_pylist()[0]
    (2, ('id', 'score'), {'id': 7, 'score': 0.25})
    """

    def __init__(self, arrow: pa.Table) -> None:
        """Wrap an Arrow table."""
        self.arrow = arrow

    def __len__(self) -> int:
        return self.arrow.num_rows

    def __getitem__(self, column: str) -> Any:
        """A column as a NumPy array.

        Raises:
            KeyError: there is no such column.
        """
        if column not in self.columns:
            known = ", ".join(self.columns)
            raise KeyError(f"Unknown column {column!r}.{did_you_mean(str(column), self.columns)} Known: {known}.")
        return self.arrow[column].to_numpy()

    @property
    def notes(self) -> tuple[str, ...]:
        """What somebody who reads the table has to know; kept in what is written of `arrow`."""
        return tuple(json.loads((self.arrow.schema.metadata or {}).get(NOTES, b"[]")))

    def with_notes(self, notes: Sequence[str]) -> "Table":
        """The same table with these notes."""
        kept = {**(self.arrow.schema.metadata or {}), NOTES: json.dumps(list(notes)).encode()}
        return Table(self.arrow.replace_schema_metadata(kept))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(self.arrow.column_names)

    def to_pandas(self) -> Any:
        """A pandas DataFrame.

        Raises:
            MissingExtraError: pandas is not installed (`pip install 'byrote[pandas]'`).
        """
        require("pandas", extra="pandas", purpose="A DataFrame")
        return self.arrow.to_pandas()

    def to_pylist(self) -> list[dict[str, Any]]:
        """A list of dictionaries, one per row."""
        return self.arrow.to_pylist()

    def __repr__(self) -> str:
        rows = [
            self.columns,
            *(tuple(_shown(v) for v in row.values()) for row in self.arrow.slice(0, SHOWN).to_pylist()),
        ]
        widths = [min(40, max(len(row[column]) for row in rows)) for column in range(len(self.columns))]
        lines = [
            "  ".join(cell[:40].ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        more = [f"… {len(self) - SHOWN:,} more rows"] if len(self) > SHOWN else []
        return "\n".join([*lines, *more, *self.notes])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_shown(value))}</td>" for value in row.values()) + "</tr>"
            for row in self.arrow.slice(0, SHOWN).to_pylist()
        )
        more = f"<p>… {len(self) - SHOWN:,} more rows</p>" if len(self) > SHOWN else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}{notes}"


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
