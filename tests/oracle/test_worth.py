"""What leaving out examples changes, on runs whose answers are known beforehand."""

from dataclasses import replace

import numpy as np
import pytest

from byrote import Task
from byrote.data import inclusion, randomise_targets
from byrote.records import LeftOut, ReplacedLabels, Run, RunSpec
from byrote.studies import StudyBudget, Worth
from byrote.studies.study import subset_runs
from byrote.studies.worth import choose, deciding
from cheap_runs import LEARNER, fake_run, results_of, summarise, task_of

TASK = task_of(num_train=60, num_test=400, num_classes=2)
BUDGET = StudyBudget(runs=4, subsets=14, seed=0)
MEMORISED = (3, 10, 11, 40)
SUSPECTS = (11, 40)
"""Networks that never saw these are sure of the other class."""


def scored(task: Task, spec: RunSpec) -> Run:
    """On subsets it answers everything but the memorised examples when these are left out; it says so of the suspects
    alone, since networks that only waver are none that contradict.
    """
    run = fake_run(task, spec)
    seen, y = inclusion(task, spec.subset), task.train.y
    right = seen | ~np.isin(np.arange(len(y)), MEMORISED)
    run.trace.margin[:] = np.where(right, 1.0, -1.0)
    doubted = ~seen & np.isin(np.arange(len(y)), SUSPECTS)
    run.trace.train_outputs[:] = np.where(doubted, -6.0, 6.0)[:, None] * (np.eye(2)[y] - 0.5)
    return run


def trained(task: Task, spec: RunSpec) -> Run:
    """Held out it is right on a share of the examples that tells what it was trained on."""
    run, right = fake_run(task, spec), 360
    if isinstance(spec.subset, LeftOut):
        right -= 40 * int(set(MEMORISED) <= set(spec.subset.positions))
        right += 20 * int(spec.subset.reason == "suspected errors")
    if isinstance(spec.labels, ReplacedLabels):
        right += 30
    correct = np.arange(len(task.test)) < right
    run.trace.test_outputs[:] = np.eye(2)[np.where(correct, task.test.y, 1 - task.test.y)]
    return run


def subset_part(budget: StudyBudget = BUDGET) -> list[Run]:
    return [scored(TASK, spec) for spec in subset_runs(TASK, LEARNER, budget)]


def whole_part(budget: StudyBudget = BUDGET) -> list[Run]:
    asked = subset_runs(TASK, LEARNER, budget)
    return [trained(TASK, spec) for spec in Worth().plan(TASK, LEARNER, budget).runs if spec not in asked]


def test_the_memorised_and_the_suspects_are_chosen_by_networks_on_subsets() -> None:
    choice = choose(results_of(TASK, subset_part()), BUDGET)
    assert choice is not None
    assert (choice.memorised, choice.suspects) == (MEMORISED, SUSPECTS)
    assert choice.suggested == tuple(float(1 - TASK.train.y[place]) for place in SUSPECTS)


def test_nothing_is_chosen_while_deciding_networks_are_missing() -> None:
    runs = subset_part()
    assert choose(results_of(TASK, runs[:8]), BUDGET) is None
    assert choose(results_of(TASK, runs[:9]), BUDGET) is not None
    few = replace(BUDGET, subsets=9)
    assert choose(results_of(TASK, runs), few) is None
    assert Worth().plan(TASK, LEARNER, few).later == ()


def test_more_networks_do_not_make_another_choice_until_there_are_twice_as_many() -> None:
    large = replace(BUDGET, subsets=19)
    results = results_of(TASK, subset_part(large))
    assert Worth().follow_up(results, large) == Worth().follow_up(results, BUDGET)
    assert [deciding(number) for number in (19, 20, 39, 40)] == [10, 20, 20, 40]


def test_time_is_kept_for_as_many_networks_as_will_be_wanted() -> None:
    plan = Worth().plan(TASK, LEARNER, BUDGET)
    wanted = Worth().follow_up(results_of(TASK, subset_part()), BUDGET)
    assert len(plan.later) == len(set(plan.later)) == len(wanted) == len(set(wanted)) == 16
    assert not set(plan.later) & set(wanted)
    assert [spec.seed for spec in plan.later] == [spec.seed for spec in wanted]


def test_every_seed_leaves_out_other_random_examples_and_the_same_memorised_ones() -> None:
    wanted = Worth().follow_up(results_of(TASK, subset_part()), BUDGET)
    out = [spec.subset for spec in wanted if isinstance(spec.subset, LeftOut)]
    random = {subset.positions for subset in out if subset.reason == "random ones"}
    assert len(random) == BUDGET.runs
    assert {len(positions) for positions in random} == {len(MEMORISED)}
    assert {subset.positions for subset in out if subset.reason == "most memorised"} == {MEMORISED}
    corrected = {spec.labels for spec in wanted if isinstance(spec.labels, ReplacedLabels)}
    (labels,) = corrected
    assert np.flatnonzero(randomise_targets(TASK, labels).changed).tolist() == list(SUSPECTS)


def test_differences_are_those_of_held_out_accuracy() -> None:
    runs = [*subset_part(), *whole_part()]
    wanted = Worth().follow_up(results_of(TASK, runs), BUDGET)
    outcome = summarise(Worth(), TASK, BUDGET, runs=[*runs, *(trained(TASK, spec) for spec in wanted)])
    found = {finding.claim: finding for finding in outcome.section.findings}
    assert found["memorised-examples-matter"].value == pytest.approx(0.1)
    assert found["dropping-suspects-helps"].value == pytest.approx(0.05)
    assert found["correcting-suspects-helps"].value == pytest.approx(0.075)
    assert {finding.verdict for finding in found.values()} == {"holds"}
    assert {finding.num_runs for finding in found.values()} == {BUDGET.runs}
    assert found["memorised-examples-matter"].statement == (
        "Without the 4 most memorised examples held-out accuracy is 80.0 %, without as many at random 90.0 %: a "
        "difference of 10.0 points (7.0 to 13.0)."
    )


def test_where_nothing_is_memorised_there_is_nothing_to_leave_out() -> None:
    runs = subset_part()
    for run in runs:
        run.trace.margin[:] = 1.0
        run.trace.train_outputs[:] = 6.0 * np.eye(2)[TASK.train.y]
    assert Worth().follow_up(results_of(TASK, runs), BUDGET) == ()
    section = summarise(Worth(), TASK, BUDGET, runs=[*runs, *whole_part()]).section
    assert "there is nothing to leave out" in section.summary
    assert {finding.verdict for finding in section.findings} == {"inconclusive"}
