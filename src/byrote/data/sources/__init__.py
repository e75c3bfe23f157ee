"""Where tasks come from: one file for each source, and `load` for all of them."""

from byrote.data.sources.load import SOURCES, load
from byrote.data.sources.source import Source

__all__ = ["SOURCES", "Source", "load"]
