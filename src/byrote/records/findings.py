"""What an audit claims, and how sure it is."""

import math
from dataclasses import dataclass
from typing import Literal, final

Verdict = Literal["holds", "does not hold", "inconclusive"]


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """One claim, tested on the user's own task."""

    study: str
    claim: str
    """The claim's name: `random-labels-are-fitted`."""
    statement: str
    """One plain sentence with the numbers in it."""
    value: float | None
    """The estimate; None when there is none."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of the 95 % interval."""
    unit: str
    """What value, low and high count: `share`, `accuracy`, `ratio`, `R²` …"""
    null: float | None
    """The value that would mean nothing is going on."""
    p_value: float | None
    """Where a test was made."""
    num_runs: int
    """Runs behind the value."""
    verdict: Verdict
    paper: str
    """The claim's source, as `Author year, title, URL`."""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", "null", "p_value"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                object.__setattr__(self, name, None)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"Expected low at most high, got {self.low} and {self.high} for {self.claim}.")


def above(*, low: float | None, high: float | None, null: float, margin: float = 0.0) -> Verdict:
    """Judge the claim "the value is above `null`" by its interval.

    `holds` when the whole interval is above `null`; `does not hold` when the whole interval is below `null + margin`,
    a margin being what would be too small to matter; otherwise `inconclusive`.

    >>> above(low=0.1, high=0.3, null=0), above(low=-0.2, high=-0.1, null=0), above(low=-0.1, high=0.1, null=0)
    ('holds', 'does not hold', 'inconclusive')
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return "inconclusive"
    if low > null:
        return "holds"
    return "does not hold" if high < null + margin or (margin == 0 and high <= null) else "inconclusive"


def within(*, low: float | None, high: float | None, null: float, margin: float) -> Verdict:
    """Judge the claim "the value is `null`, give or take `margin`" by its interval (equivalence test).

    >>> within(low=0.08, high=0.13, null=0.1, margin=0.05)
    'holds'
    >>> within(low=0.3, high=0.4, null=0.1, margin=0.05), within(low=0.0, high=0.4, null=0.1, margin=0.05)
    ('does not hold', 'inconclusive')
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return "inconclusive"
    if low >= null - margin and high <= null + margin:
        return "holds"
    return "does not hold" if low > null + margin or high < null - margin else "inconclusive"
