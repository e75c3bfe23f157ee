"""What runs trained elsewhere say: outputs, or a recorder in any loop, turned into tables of per-example scores."""

from byrote.scoring.table import Table

__all__ = [
    "Table",
]
