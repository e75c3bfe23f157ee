"""Write the table of score columns into docs/scores.md; with --check, say whether it is there as it should be."""

import sys
from pathlib import Path

from byrote.records import SCORE_COLUMNS, ScoreColumn

PAGE = Path(__file__).parents[1] / "docs" / "scores.md"
BEGIN, END = "<!-- columns -->\n", "<!-- /columns -->"
HEAD = "| column | is | type | unit | range | a high value says | at | paper |"


def table() -> str:
    """One row for each column, and one more for what it is of numbers."""
    rows = [row for name, column in SCORE_COLUMNS.items() for row in _rows(name, column)]
    return "\n".join([HEAD, "|" + "---|" * HEAD.count(" | ") + "---|", *rows]) + "\n"


def _rows(name: str, column: ScoreColumn) -> list[str]:
    names = ", ".join(f"`{name}{ending}`" for ending in ("", *column.endings))
    doors = ", ".join(door for door in column.doors)
    only = column.kinds == ("numbers",)
    meaning = f"of numbers, in place of `{column.stand_in}`: {column.meaning}" if only else column.meaning
    kind = "numbers" if only else "classes"
    rows = [
        _row(names, meaning, column.type, column.unit, _range(column.bounds(kind)), column.more, doors, column.paper)
    ]
    if only:
        return rows
    if "numbers" not in column.kinds:
        other = f"`{column.stand_in}` in its place" if column.stand_in else f"null: {column.lacking}"
        return [*rows, _row("", f"of numbers, {other}")]
    if column.numbers_meaning or column.numbers_unit:
        changed = (column.numbers_unit, _range(column.bounds("numbers"))) if column.numbers_unit else ("", "")
        return [*rows, _row("", f"of numbers, {column.numbers_meaning or 'the same'}", "", *changed)]
    return rows


def _row(*cells: str) -> str:
    width = HEAD.count(" | ") + 1
    padded = (*(cell.replace("|", "\\|") for cell in cells), *[""] * (width - len(cells)))
    return f"| {' | '.join(padded)} |".replace("|  |", "| |").replace("|  |", "| |")


def _range(bounds: tuple[float | None, float | None]) -> str:
    low, high = bounds
    if low is None and high is None:
        return ""
    shown = ["" if end is None else f"{end:.3g}".replace("-", "−") for end in (low, high)]
    return f"{shown[0]} to {shown[1]}" if high is not None else f"{shown[0]} or more"


def main() -> int:
    """Returns the exit status."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    whole = f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}"
    if "--check" in sys.argv[1:]:
        if page != whole:
            print(f"The table in {PAGE} is not that of the columns. Run: python scripts/score_columns.py")
        return int(page != whole)
    PAGE.write_text(whole, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
