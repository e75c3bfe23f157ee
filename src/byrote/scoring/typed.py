"""Tables whose columns are what the register of columns says."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from byrote.records import ColumnType, Kind, notes_by_kind, score_column

TYPES: Mapping[ColumnType, pa.DataType] = {
    "number": pa.float64(),
    "count": pa.int64(),
    "flag": pa.bool_(),
    "text": pa.string(),
}
"""Of columns whose type is not that of what was given."""


def typed_table(columns: Mapping[str, Any]) -> pa.Table:
    """A table of known columns, each of its own type.

    >>> typed_table({"count": pa.array([3.0, None]), "aum": pa.nulls(2)}).schema.types
    [DataType(int64), DataType(double)]

    Args:
        columns: Arrow arrays by name.

    Raises:
        UnknownNameError: `byrote.records.SCORE_COLUMNS` has no such column.
    """
    return pa.table({name: _typed(name, column) for name, column in columns.items()})


def _typed(name: str, column: Any) -> Any:
    wanted = TYPES.get(score_column(name).type)
    return column if wanted is None or column.type == wanted else column.cast(wanted)


def kind_notes(table: pa.Table, *, kind: Kind) -> tuple[str, ...]:
    """Why columns hold nothing that targets of this kind cannot have."""
    empty = (name for name in table.column_names if table[name].null_count == table.num_rows)
    return notes_by_kind(frozenset(empty), kind)
