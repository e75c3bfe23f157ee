"""Findings as the page says them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never, final

from byrote.records import Finding
from byrote.report.intervals import IntervalMark, interval_mark
from byrote.report.labels import brief, printable, spoken
from byrote.report.numerals import aligned, counted, p_value, plain, significant
from byrote.report.papers import CitationPart, citation

Tone = Literal["holds", "fails", "open", "leak"]


@final
@dataclass(frozen=True, kw_only=True)
class Claim:
    """A finding, in words, numbers and marks."""

    id: str
    name: str
    statement: str
    verdict: str
    tone: Tone
    """How it looks. A claim that does not hold is a finding like any other; only a leak is a warning."""
    value: str
    interval: str
    unit: str
    details: tuple[str, ...]
    """Null, p-value and number of runs."""
    mark: IntervalMark | None
    paper: tuple[CitationPart, ...]


def claims(findings: Sequence[Finding], *, prefix: str) -> tuple[Claim, ...]:
    """Prepare the findings of one section; their ids begin with the prefix."""
    return tuple(_claim(finding, place=f"{prefix}-finding-{index + 1}") for index, finding in enumerate(findings))


def tone(finding: Finding) -> Tone:
    """Choose how a verdict looks."""
    match finding.verdict:
        case "holds":
            return "holds"
        case "does not hold":
            return "leak" if finding.claim == "no-leak" else "fails"
        case "inconclusive":
            return "open"
        case _:
            assert_never(finding.verdict)


def _claim(finding: Finding, *, place: str) -> Claim:
    value, interval = _estimate(finding)
    chosen = tone(finding)
    return Claim(
        id=place,
        name=spoken(finding.claim),
        statement=printable(finding.statement),
        verdict="does not hold: a leak" if chosen == "leak" else finding.verdict,
        tone=chosen,
        value=value,
        interval=interval,
        unit=brief(finding.unit, limit=60),
        details=_details(finding),
        mark=interval_mark(finding),
        paper=citation(finding.paper),
    )


def _estimate(finding: Finding) -> tuple[str, str]:
    if finding.value is None:
        return "", ""
    if finding.low is None or finding.high is None:
        return significant(finding.value), ""
    value, low, high = aligned([finding.value, finding.low, finding.high])
    return value, f"{low} to {high}"


def _details(finding: Finding) -> tuple[str, ...]:
    null = f"null {plain(finding.null)}" if finding.null is not None else ""
    probability = p_value(finding.p_value) if finding.p_value is not None else ""
    runs = counted(finding.num_runs, one="run", many="runs")
    return tuple(detail for detail in (null, probability, runs) if detail)
