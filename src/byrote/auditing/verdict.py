"""One paragraph of plain words."""

from collections.abc import Sequence

from byrote.records import Section

ORDER = ("lookup", "memorisation", "membership", "random-data")
"""What people ask first."""


def verdict(sections: Sequence[Section]) -> str:
    """Say what was learnt, what is memorised, what a table would do, and whether anything leaks."""
    first = [section for name in ORDER for section in sections if section.study == name]
    rest = [section for section in sections if section.study not in ORDER]
    return " ".join(section.summary for section in (*first, *rest))
