"""A budget, taken apart: when fitting and training have to end so that there is time for the rest."""

import math
import time
from collections.abc import Iterable
from typing import NamedTuple, final

from byrote.auditing.planner import Amount, Planner
from byrote.auditing.rounds import PLANNED
from byrote.core import BudgetError
from byrote.data import Task
from byrote.execution import Deadline
from byrote.records import RunSpec

FIT_SHARE = 0.45
"""Of a budget that baselines may take."""
FINISHING, FINISHING_PER_EXAMPLE = 2.0, 1e-4
"""Seconds kept for summaries and the report, at least: on any task, and for each training example."""
FINISHING_PER_ANSWER = 1e-5
"""Seconds kept besides for what each run says of each example, of training and test examples. Measured with 65 to 445
runs on 1,438 to 60,000 training examples, the studies of an audit take 5 to 9 millionths of a second for it.
"""
FINISHING_SHARE = 0.03
"""Of a budget, if that is more."""
HALVINGS = 3
"""Steps of the search for a reserve that is no larger than what it leaves time to train will need."""


@final
class Limits(NamedTuple):
    """When what has to end."""

    seconds: float
    """The whole budget."""
    finishing: float
    """Kept for summaries and the report."""
    fitting: Deadline
    training: Deadline


def finishing_seconds(task: Task, runs: Iterable[RunSpec] = ()) -> float:
    """What summaries and a report of a task and of these runs take, roughly."""
    answers = sum(_num_answers(task, spec) for spec in runs)
    return FINISHING + FINISHING_PER_EXAMPLE * len(task.train) + FINISHING_PER_ANSWER * answers


def _num_answers(task: Task, spec: RunSpec) -> int:
    """Examples that a run says something of, whether it was trained on them or not."""
    if spec.sample is None:
        return len(task.train) + len(task.test)
    return min(len(task.train), spec.sample.train) + min(len(task.test), spec.sample.test)


def limits(planner: Planner, *, seconds: float, began: float, looking: float, most: Amount) -> Limits:
    """Take a budget apart.

    Args:
        planner: knows what the smallest audit costs, and how many runs there is time for.
        seconds: the whole budget.
        began: when it began, in seconds of `time.monotonic`.
        looking: seconds until the data have been looked at.
        most: networks of each kind that are trained if there is time.

    Raises:
        BudgetError: the smallest audit takes longer; the message says how long.
    """
    smallest = max(finishing_seconds(planner.task, planner.smallest()), FINISHING_SHARE * seconds)
    needed, spent = planner.least(), time.monotonic() - began + looking
    least = math.ceil(spent + needed + smallest)
    if least > seconds:
        raise BudgetError(
            f"A budget of {seconds:g} s is too small: with {planner.learner} the smallest audit takes about "
            f"{least} s here. Give it {least}s or more (--budget), or a smaller learner (--width, --epochs)."
        )
    finishing = _reserve(planner, smallest=smallest, left=seconds - spent, most=most)
    ends = began + seconds - finishing
    latest = min(began + FIT_SHARE * (seconds - finishing), ends - needed)
    return Limits(seconds, finishing, Deadline(began=began, ends=latest), Deadline(began=began, ends=ends))


def _reserve(planner: Planner, *, smallest: float, left: float, most: Amount) -> float:
    """Seconds that are enough to summarise as many runs as can be trained in the rest.

    What is kept for summaries cannot be trained in: the more is kept, the fewer runs there are to summarise. So what
    the runs need that fit beside the smallest reserve is enough, and between these two it is searched.
    """

    def needed(reserve: float) -> float:
        runs = planner.foreseen(planner.within(PLANNED * (left - reserve), most))
        return max(smallest, finishing_seconds(planner.task, runs))

    low, high = smallest, min(needed(smallest), left - planner.least())
    for _ in range(HALVINGS if high > low else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if needed(middle) <= middle else (middle, high)
    return max(smallest, high)
