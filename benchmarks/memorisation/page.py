"""Where tables stand in a page."""

import re
from typing import NamedTuple


class Markers(NamedTuple):
    """Comments around a table that a command writes."""

    begin: str
    end: str


def markers(name: str, *, module: str) -> Markers:
    """The comments around what one benchmark writes.

    Args:
        name: of the benchmark, one in a page.
        module: what to run with `python -m`.
    """
    return Markers(
        f"<!-- {name} benchmark: begin (written by python -m {module} --page) -->", f"<!-- {name} benchmark: end -->"
    )


def page_with(page: str, text: str, *, between: Markers) -> str:
    """The page with the text between its markers.

    Raises:
        ValueError: the page does not have both markers, each once.
    """
    begin, end = between
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"Expected {begin!r} and {end!r} once each in the page. Add them where the table belongs.")
    return re.sub(f"{re.escape(begin)}.*{re.escape(end)}", lambda _: f"{begin}\n\n{text}\n{end}", page, flags=re.DOTALL)
