"""A stored audit as one self-contained HTML page."""

from byrote.report.page import render, write_report

__all__ = ["render", "write_report"]
