"""What an audit found, for a terminal of 80 columns."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from byrote.records import Finding

STYLES = {"holds": "green", "does not hold": "yellow", "inconclusive": "dim"}


def show_summary(verdict: str, *, findings: Sequence[Finding], report: str) -> None:
    """Print the verdict, a line for each finding, and a last line on the report."""
    console = Console()
    console.print()
    console.print(Text(verdict))
    console.print()
    console.print(_table(findings))
    console.print()
    console.print(Text(report), soft_wrap=True)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim", overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("95 % interval")
    table.add_column("runs", justify="right")
    for finding in findings:
        table.add_row(
            Text(finding.verdict, style=STYLES[finding.verdict]),
            finding.claim,
            _number(finding.value),
            _interval(finding),
            str(finding.num_runs),
        )
    return table


def _interval(finding: Finding) -> str:
    if finding.low is None and finding.high is None:
        return ""
    if finding.low is None:
        return f"at most {_number(finding.high)}"
    if finding.high is None:
        return f"at least {_number(finding.low)}"
    return f"{_number(finding.low)} to {_number(finding.high)}"


def _number(value: float | None) -> str:
    """Three digits, and no more than three decimals.

    >>> _number(0.03244), _number(12.345), _number(1234.5), _number(0.0), _number(None)
    ('0.032', '12.3', '1,234', '0', '')
    """
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"
