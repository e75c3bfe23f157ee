"""A budget, taken apart: when fitting and training have to end so that there is time for the rest."""

import math
import time
from typing import NamedTuple, final

from byrote.auditing.planner import Planner
from byrote.core import BudgetError
from byrote.data import Task
from byrote.execution import Deadline

FIT_SHARE = 0.45
"""Of a budget that baselines may take."""
FINISHING, FINISHING_PER_EXAMPLE = 2.0, 1e-4
"""Seconds kept for summaries and the report, at least: on any task, and for each training example."""
FINISHING_SHARE = 0.03
"""Of a budget, if that is more."""


@final
class Limits(NamedTuple):
    """When what has to end."""

    seconds: float
    """The whole budget."""
    finishing: float
    """Kept for summaries and the report."""
    fitting: Deadline
    training: Deadline


def finishing_seconds(task: Task) -> float:
    """What summaries and a report of a task take, roughly."""
    return FINISHING + FINISHING_PER_EXAMPLE * len(task.train)


def limits(planner: Planner, *, seconds: float, began: float, looking: float) -> Limits:
    """Take a budget apart.

    Args:
        planner: knows what the smallest audit costs.
        seconds: the whole budget.
        began: when it began, in seconds of `time.monotonic`.
        looking: seconds until the data have been looked at.

    Raises:
        BudgetError: the smallest audit takes longer; the message says how long.
    """
    finishing = max(finishing_seconds(planner.task), FINISHING_SHARE * seconds)
    needed = planner.least()
    least = math.ceil(time.monotonic() - began + looking + needed + finishing)
    if least > seconds:
        raise BudgetError(
            f"A budget of {seconds:g} s is too small: with {planner.learner} the smallest audit takes about "
            f"{least} s here. Give it {least}s or more (--budget), or a smaller learner (--width, --epochs)."
        )
    ends = began + seconds - finishing
    latest = min(began + FIT_SHARE * (seconds - finishing), ends - needed)
    return Limits(seconds, finishing, Deadline(began=began, ends=latest), Deadline(began=began, ends=ends))
