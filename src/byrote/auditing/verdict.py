"""One paragraph of plain words."""

from collections.abc import Mapping, Sequence

from byrote.records import Finding, Section, TaskCard


def verdict(task: TaskCard, sections: Sequence[Section]) -> str:
    """Say what was learnt, what is memorised, what a table would do, and whether anything leaks."""
    findings = {finding.claim: finding for section in sections for finding in section.findings}
    parts = [_shares(task, findings)]
    for claim in ("never-fitted-share", "beats-lookup-table", "beats-forest", "beats-kernel"):
        finding = findings.get(claim)
        if finding is not None and finding.value is not None and (claim != "never-fitted-share" or finding.value > 0):
            parts.append(finding.statement)
    for claim in ("random-labels-are-fitted", "true-labels-fit-faster", "no-leak"):
        if claim in findings:
            parts.append(findings[claim].statement)
    said = [part for part in parts if part]
    return " ".join(said) or "Nothing was finished in time, so nothing can be said yet."


def _shares(task: TaskCard, findings: Mapping[str, Finding]) -> str:
    learnt, known = findings.get("learnt-share"), findings.get("memorised-share")
    if learnt is None or known is None or learnt.value is None or known.value is None:
        return ""
    if not task.classes:
        return (
            f"Of the variance of the training targets, {_points(learnt)} % is learnt (explained for examples that were "
            f"left out) and {_points(known)} % is memorised (explained only for examples that were trained on)."
        )
    return (
        f"Of 100 training answers, {_points(learnt)} are learnt, {100 * task.chance:.1f} chance alone would give and "
        f"{_points(known)} are memorised."
    )


def _points(finding: Finding) -> str:
    if finding.value is None:
        return "an unknown number"
    if finding.low is None or finding.high is None:
        return f"{100 * finding.value:.1f}"
    return f"{100 * finding.value:.1f} ({100 * finding.low:.1f} to {100 * finding.high:.1f})"
