"""What a curve says that somebody who trains should know now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from byrote.monitoring.columns import Row

What = Literal["edge of stability", "break-even passed", "Fisher explosion"]

SUSTAINED = 3
"""Measurements in a row at the edge of stability."""
EXPLOSION = 5.0
"""Times its first value that the Fisher's trace has reached when it is called an explosion."""


@final
class TrajectoryWarning(UserWarning):
    """A training has come to a place that a monitor warns of."""


@final
@dataclass(frozen=True, kw_only=True)
class Warned:
    """A warning that was given."""

    what: What
    step: int
    """At which it was seen."""
    text: str


def new_warnings(rows: Sequence[Row], *, given: Sequence[Warned]) -> list[Warned]:
    """What the latest row adds to the warnings that were given already; each is given once.

    - edge of stability: λη/2 ≥ 1, or what takes its place for the optimiser, in three measurements in a row.
    - break-even passed: for the first time growth ≥ 1, or λη/2 ≥ 1 where growth is not measured.
    - Fisher explosion: Tr F is above five times its first value, by more than twice its standard error.

    >>> rows = [{"step": step, "stability": 1.1, "lambda_max": 22.0, "lr": 0.1} for step in (5, 10, 15)]
    >>> [(warned.what, warned.step) for warned in new_warnings(rows, given=[])]
    [('edge of stability', 15), ('break-even passed', 15)]

    Args:
        rows: all, the latest one last.
        given: already.
    """
    if not rows:
        return []
    step, known = round(rows[-1]["step"]), {warned.what for warned in given}
    found: list[tuple[What, str]] = [
        ("edge of stability", _edge(rows)),
        ("break-even passed", _break_even(rows)),
        ("Fisher explosion", _explosion(rows)),
    ]
    return [Warned(what=what, step=step, text=text) for what, text in found if text and what not in known]


def _edge(rows: Sequence[Row]) -> str:
    measured = [row for row in rows if "stability" in row]
    if "stability" not in rows[-1] or len(measured) < SUSTAINED:
        return ""
    last = measured[-SUSTAINED:]
    if not all(row["stability"] >= 1 for row in last):
        return ""
    return (
        f"Edge of stability: in {SUSTAINED} measurements in a row, since step {round(last[0]['step'])}, the sharpness "
        f"is at least what the optimiser's steps can bear ({last[-1]['stability']:.3g} times that; 1 is the edge). The "
        "loss may oscillate along the sharpest direction; a smaller learning rate leaves the edge."
    )


def _break_even(rows: Sequence[Row]) -> str:
    row = rows[-1]
    if row.get("lambda_max", 0.0) <= 0:
        return ""
    if "growth" in row:
        measure, value = "mean square growth along the sharpest direction", row["growth"]
    else:
        measure, value = "sharpness over what the optimiser's steps can bear", row.get("stability", 0.0)
    if not value >= 1:
        return ""
    return (
        f"Break-even passed: at step {round(row['step'])} the {measure} is {value:.3g}, for the first time at least 1. "
        "From here on steps do not approach the bottom of the valley that training was in."
    )


def _explosion(rows: Sequence[Row]) -> str:
    traces = [row for row in rows if "fisher_trace" in row]
    if "fisher_trace" not in rows[-1] or len(traces) < 2:
        return ""
    first, last = traces[0], traces[-1]
    surely = last["fisher_trace"] - 2 * last["fisher_trace_se"]
    if not surely >= EXPLOSION * first["fisher_trace"] > 0:
        return ""
    return (
        f"Fisher explosion: the trace of the Fisher is {last['fisher_trace']:.3g} at step {round(last['step'])}, "
        f"{last['fisher_trace'] / first['fisher_trace']:.3g} times that of step {round(first['step'])}. Early in "
        "training that went with worse generalisation (Jastrzębski et al. 2021); a larger learning rate, or a penalty "
        "on the Fisher's trace, prevents it."
    )
