"""A claim, stated: from an interval to a finding."""

import math

from byrote.records import Finding, Interval, Verdict

NOTHING = Interval(value=math.nan, low=-math.inf, high=math.inf, se=math.nan, count=0)
"""What is known before anything was measured."""


def claim(
    name: str,
    statement: str,
    *,
    study: str,
    paper: str,
    unit: str,
    interval: Interval = NOTHING,
    null: float | None = None,
    p_value: float | None = None,
    num_runs: int = 0,
    verdict: Verdict = "inconclusive",
    least: float = -math.inf,
    most: float = math.inf,
) -> Finding:
    """State a claim with its numbers; an end that is infinite is left out, and so are both when nothing bounds them.

    Args:
        name: the claim's name.
        statement: one plain sentence with the numbers in it.
        study: the study's name.
        paper: where the claim comes from.
        unit: what the value counts.
        interval: the estimate.
        null: the value that would mean nothing is going on.
        p_value: where a test was made.
        num_runs: runs behind the value.
        verdict: what the numbers support.
        least: the unit's smallest possible value; the interval does not go below it.
        most: the unit's largest possible value.
    """
    bounded = math.isfinite(interval.low)
    low = min(interval.value, max(least, interval.low)) if bounded else None
    high = max(interval.value, min(most, interval.high)) if bounded and math.isfinite(interval.high) else None
    return Finding(
        study=study,
        claim=name,
        statement=statement,
        value=interval.value,
        low=low,
        high=high,
        unit=unit,
        null=null,
        p_value=p_value,
        num_runs=num_runs,
        verdict=verdict,
        paper=paper,
    )
