"""Laws of taking a budget apart, by a cost that is known: what is trained can be summarised in time."""

import time
from collections.abc import Sequence

import numpy as np
import pytest

from byrote.auditing import default_learner
from byrote.auditing.limits import FINISHING_SHARE, finishing_seconds, limits
from byrote.auditing.planner import GENEROUS, USUAL, Amount, Planner
from byrote.auditing.rounds import PLANNED
from byrote.core import BudgetError
from byrote.data import Examples, Task
from byrote.records import RunSpec
from byrote.studies import AUDITED, STUDIES

TASKS = {
    number: Task(
        train=Examples(np.zeros((number, 1)), np.arange(number) % 10), test=Examples(np.zeros((500, 1)), [0, 1] * 250)
    )
    for number in (1500, 60_000)
}


def planner(size: int, *, each: float) -> Planner:
    """Every run takes as long."""

    def cost(specs: Sequence[RunSpec]) -> float:
        return each * len(specs)

    studies = tuple(STUDIES[name]() for name in AUDITED)
    return Planner(task=TASKS[size], learner=default_learner(TASKS[size]), studies=studies, seed=0, cost=cost)


@pytest.mark.parametrize(
    ("size", "seconds", "each", "most"),
    [(1500, 60.0, 0.05, GENEROUS), (60_000, 600.0, 0.5, GENEROUS), (60_000, 600.0, 2.0, USUAL)],
    ids=["small", "large", "default"],
)
def test_what_can_be_trained_can_be_summarised_in_the_time_that_is_kept(
    size: int, seconds: float, each: float, most: Amount
) -> None:
    plan, began = planner(size, each=each), time.monotonic()
    bounds = limits(plan, seconds=seconds, began=began, looking=0.0, most=most)
    assert bounds.training.ends == pytest.approx(began + seconds - bounds.finishing)
    runs = plan.foreseen(plan.within(PLANNED * (seconds - bounds.finishing), most))
    assert len(runs) > len(plan.smallest())
    assert finishing_seconds(plan.task, runs) <= bounds.finishing * 1.001
    assert bounds.finishing < seconds / 2


def test_many_runs_have_more_time_kept_than_few() -> None:
    few, many = (
        limits(planner(1500, each=each), seconds=120.0, began=time.monotonic(), looking=0.0, most=GENEROUS)
        for each in (2.0, 0.05)
    )
    assert few.finishing >= FINISHING_SHARE * 120
    assert many.finishing > 3 * few.finishing


def test_the_smallest_audit_has_its_summary_counted() -> None:
    plan = planner(60_000, each=1.0)
    needed = plan.least() + finishing_seconds(plan.task, plan.smallest())
    with pytest.raises(BudgetError, match="the smallest audit takes about"):
        limits(plan, seconds=needed - 1.0, began=time.monotonic(), looking=0.0, most=GENEROUS)
    assert limits(plan, seconds=needed + 2.0, began=time.monotonic(), looking=0.0, most=GENEROUS).finishing >= (
        finishing_seconds(plan.task, plan.smallest())
    )


def test_what_runs_on_a_sample_say_is_less() -> None:
    plan = planner(60_000, each=1.0)
    whole = plan.foreseen(plan.fixed(4))
    per_run = [
        finishing_seconds(plan.task, runs[:1]) - finishing_seconds(plan.task) for runs in (whole, plan.smallest())
    ]
    assert per_run[0] > 10 * per_run[1] > 0
