"""Laws of planning, by a cost that is known: a budget is kept, more time gives no fewer networks, nothing is random."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byrote.auditing import default_learner
from byrote.auditing.planner import GENEROUS, HALVINGS, USUAL, Amount, Planner
from byrote.data import Examples, Task
from byrote.records import RunSpec
from byrote.studies import STUDIES, StudyBudget

VISIT = 1e-6
"""Seconds of training on one example once, in this make-believe."""
TASKS = {
    number: Task(
        train=Examples(np.zeros((number, 1)), np.arange(number) % 10), test=Examples(np.zeros((500, 1)), [0, 1] * 250)
    )
    for number in (300, 6000, 60_000)
}
sizes = pytest.mark.parametrize("size", TASKS)
AUDITED_ALIKE = ("memorisation", "random-data", "membership", "labels")
chosen = st.lists(st.sampled_from(sorted(STUDIES)), min_size=1, unique=True)


def planner(size: int, studies: Sequence[str] = tuple(STUDIES)) -> Planner:
    def cost(specs: Sequence[RunSpec]) -> float:
        examples = [TASKS[size].train.x.shape[0] if spec.sample is None else spec.sample.train for spec in specs]
        return sum(VISIT * n * spec.learner.recipe.epochs for n, spec in zip(examples, specs, strict=True))

    task = TASKS[size]
    return Planner(
        task=task,
        learner=default_learner(task),
        studies=tuple(STUDIES[name]() for name in studies),
        seed=0,
        cost=cost,
    )


def union(plan: Planner, budgets: Mapping[str, StudyBudget]) -> list[RunSpec]:
    """With what is wanted once these are there, and what stands for what they compute: a budget that does not pay for
    that is not kept.
    """
    plans = [study.plan(plan.task, plan.learner, budgets[study.name]) for study in plan.studies]
    beside = [spec for made in plans for own in made.alongside.values() for spec in own]
    return list(dict.fromkeys([*(spec for made in plans for spec in made.foreseen), *beside]))


def fewest_subsets(plan: Planner) -> int:
    return max((study.fewest_subsets for study in plan.studies if study.uses_subsets), default=0)


def amount(budget: StudyBudget, size: int) -> tuple[int, int, int]:
    """How much is looked at, then how often: what more time may only make more of."""
    return (size if budget.sample is None else budget.sample.train, budget.subsets, budget.runs)


@sizes
@given(studies=chosen, times=st.floats(1, 3) | st.floats(2, 100), most=st.sampled_from([USUAL, GENEROUS]))
@settings(max_examples=12, deadline=None)
def test_a_budget_is_kept(size: int, studies: list[str], times: float, most: Amount) -> None:
    """From the least on: where each study's fewest cost more than its share, the others get less."""
    plan = planner(size, studies)
    seconds = plan.least() * times
    budgets = plan.within(seconds, most)
    assert plan.cost(union(plan, budgets)) <= seconds * (1 + 1e-9)
    for study in plan.studies:
        runs, subsets = budgets[study.name].runs, budgets[study.name].subsets
        assert not study.uses_runs or study.fewest_runs <= runs <= most.runs
        assert not study.uses_subsets or fewest_subsets(plan) <= subsets <= most.subsets


@sizes
@pytest.mark.parametrize("name", sorted(STUDIES))
def test_more_time_gives_a_larger_sample_or_else_no_fewer_networks(size: int, name: str) -> None:
    plan = planner(size, [name])
    amounts = [
        amount(plan.within(plan.least() * times, GENEROUS)[name], size) for times in (1, 1.5, 2, 3, 5, 10, 30, 100)
    ]
    assert amounts == sorted(amounts)
    assert amounts[0] < amounts[-1]


@sizes
def test_enough_time_gives_the_most_and_no_more(size: int) -> None:
    plan = planner(size)
    budgets = plan.within(1e9, USUAL)
    for study in plan.studies:
        assert budgets[study.name].runs == (USUAL.runs if study.uses_runs else 0)
        assert budgets[study.name].subsets == (USUAL.subsets if study.uses_subsets else 0)


@sizes
def test_at_the_least_the_fewest_networks_are_trained(size: int) -> None:
    plan = planner(size)
    budgets = plan.within(plan.least(), GENEROUS)
    assert plan.cost(union(plan, budgets)) == pytest.approx(plan.least())
    assert all(budgets[name].runs == STUDIES[name].fewest_runs for name in ("lookup", "random-data"))
    assert budgets["memorisation"].subsets == fewest_subsets(plan)


@pytest.mark.parametrize("names", [("memorisation",), AUDITED_ALIKE, ("membership",), tuple(STUDIES)], ids="-".join)
def test_studies_that_share_networks_all_get_what_the_one_needs_that_needs_most(names: tuple[str, ...]) -> None:
    plan = planner(300, names)
    budgets = plan.within(plan.least(), GENEROUS)
    needed = {name: STUDIES[name].fewest_subsets for name in names if STUDIES[name].uses_subsets}
    assert {budgets[name].subsets for name in needed} == {max(needed.values())}


def test_what_studies_need_is_what_they_say_they_need() -> None:
    """Attacks take 6 networks, a choice of what to leave out takes 10."""
    assert {name: study.fewest_subsets for name, study in STUDIES.items() if study.uses_subsets} == {
        "labels": 4,
        "lookup": 4,
        "membership": 6,
        "memorisation": 4,
        "worth": 10,
    }


def test_what_does_not_fit_is_priced_once_by_each_study_however_often_the_search_comes_by() -> None:
    plan = planner(6000)
    asked: Counter[tuple[RunSpec, ...]] = Counter()

    def cost(specs: Sequence[RunSpec]) -> float:
        asked[tuple(specs)] += 1
        return plan.cost(specs)

    replace(plan, cost=cost).within(plan.least(), GENEROUS)
    on_subsets = [specs for specs in asked if all(spec.subset.kind == "balanced" for spec in specs)]
    too_many = [specs for specs in on_subsets if plan.cost(specs) > plan.least()]
    assert len(too_many) > 3
    assert max(asked[specs] for specs in too_many) <= len(plan.studies) < HALVINGS


@sizes
@given(times=st.floats(1, 12), faster=st.floats(0.2, 4))
@settings(max_examples=4, deadline=None)
def test_what_is_under_way_keeps_its_sample_unless_not_even_the_fewest_fit(
    size: int, times: float, faster: float
) -> None:
    plan = planner(size)
    before = plan.within(plan.least() * times, GENEROUS)
    seconds = plan.least() * max(1.0, times * faster)
    after = plan.within(seconds, GENEROUS, kept=before)
    assert plan.cost(union(plan, after)) <= seconds * (1 + 1e-9)
    if faster >= 1:
        assert {name: budget.sample for name, budget in after.items()} == {
            name: budget.sample for name, budget in before.items()
        }
        assert all(after[name].runs >= before[name].runs for name in before)
        assert all(after[name].subsets >= before[name].subsets for name in before)


@sizes
def test_plans_are_the_same_twice_and_studies_that_share_networks_look_at_the_same_sample(size: int) -> None:
    plan = planner(size)
    budgets = plan.within(10 * plan.least(), GENEROUS)
    assert budgets == plan.within(10 * plan.least(), GENEROUS)
    assert budgets["lookup"].sample == budgets["memorisation"].sample
    assert budgets["lookup"].subsets == budgets["memorisation"].subsets


def test_a_number_of_runs_is_what_every_study_gets_on_the_whole_task() -> None:
    plan = planner(60_000)
    assert plan.fixed(7) == {name: StudyBudget(runs=7, subsets=7, seed=0) for name in STUDIES}


@sizes
@pytest.mark.parametrize("times", [1.5, 4.0, 30.0])
@pytest.mark.parametrize("names", [("memorisation", "random-data"), AUDITED_ALIKE[:-1]], ids="-".join)
def test_a_study_that_only_looks_at_what_others_pay_for_takes_nothing_from_them(
    size: int, times: float, names: tuple[str, ...]
) -> None:
    """When it needs no more networks than these: to judge labels takes as few as to score examples."""
    few, more = planner(size, names), planner(size, (*names, "labels"))
    seconds = few.least() * times
    without, together = few.within(seconds, GENEROUS), more.within(seconds, GENEROUS)
    assert {name: together[name] for name in without} == without
    assert together["labels"] == without["memorisation"]
