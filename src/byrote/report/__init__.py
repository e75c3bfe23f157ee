"""A stored audit, or a training that was watched, as one self-contained HTML page."""

from byrote.report.page import render, render_trajectory, write_report, write_trajectory

__all__ = ["render", "render_trajectory", "write_report", "write_trajectory"]
