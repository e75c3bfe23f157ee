"""Laws of keeping a budget, with a clock and a trainer that are make-believe: whatever training really takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byrote.auditing import default_learner
from byrote.auditing.costs import LEAST_SCALE, MOST_SCALE, Costs
from byrote.auditing.interim import EVERY, SHARE, Interim
from byrote.auditing.planner import Amount, Planner
from byrote.auditing.rounds import Rounds
from byrote.data import Examples, Task
from byrote.execution import Deadline, OnProgress, OnShard, Progress
from byrote.records import Extras, RunSpec
from byrote.studies import Lookup, Memorisation, StudyBudget
from byrote.training import AbstractProbe, Checkpoint

TASK = Task(train=Examples(np.zeros((200, 1)), np.arange(200) % 2), test=Examples(np.zeros((50, 1)), [0, 1] * 25))
PREDICTED = 0.5
"""Seconds of a run, as the make-believe engine predicts it."""
MOST = Amount(runs=20, subsets=150)
SHARD = 5
"""Runs in a shard."""


class Clock:
    """Seconds that pass only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Trainer:
    """Takes `factor` times as long as predicted, and begins no shard that it knows would end too late."""

    def __init__(self, clock: Clock, *, factor: float, num_workers: int = 1) -> None:
        self.clock, self.factor, self.num_workers = clock, factor, num_workers
        self.there: set[RunSpec] = set()
        self.rounds = 0

    def missing(self, specs: Sequence[RunSpec], *, extras: Extras) -> list[RunSpec]:
        return [spec for spec in dict.fromkeys(specs) if spec not in self.there]

    def train(
        self,
        specs: Sequence[RunSpec],
        *,
        deadline: Deadline | None,
        on_progress: OnProgress,
        on_shard: OnShard,
        probes: Sequence[AbstractProbe],
        keep_weights: bool,
    ) -> bool:
        self.rounds += 1
        missing = self.missing(specs, extras=Extras())
        for first in range(0, len(missing), SHARD):
            shard = missing[first : first + SHARD]
            if deadline is not None:
                left = deadline.ends - self.clock.now
                shard = shard[: max(0, int(left / (self.factor * PREDICTED)))]
            if shard:
                on_progress(Progress("training", first, len(missing)))
                self.clock.now += self.factor * PREDICTED * len(shard)
                self.there.update(shard)
                on_shard()
        return not self.missing(specs, extras=Extras())


def no_follow_ups(budgets: Mapping[str, StudyBudget]) -> list[RunSpec]:
    return []


def silent(progress: Progress) -> None:
    pass


def rounds_of(
    trainer: Trainer, *, runs: int | None = None, follow_ups: Any = no_follow_ups, on_progress: OnProgress = silent
) -> Rounds:
    extras = Extras()
    costs = Costs(missing=lambda specs: trainer.missing(specs, extras=extras), predicted=lambda spec: PREDICTED)
    planner = Planner(task=TASK, learner=default_learner(TASK), studies=(Lookup(), Memorisation()), seed=0, cost=costs)
    return Rounds(
        planner,
        trainer=trainer,
        costs=costs,
        follow_ups=follow_ups,
        extras=extras,
        runs=runs,
        most=MOST,
        on_progress=on_progress,
        clock=trainer.clock,
    )


def never(clock: Clock) -> Interim:
    return Interim(lambda: None, began=0.0, guess=float("inf"), clock=clock)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Deadlines go by it, too."""
    made = Clock()
    monkeypatch.setattr("byrote.execution.deadline.time.monotonic", made)
    return made


@given(factor=st.floats(0.1, 5), seconds=st.floats(20, 120))
@settings(max_examples=10, deadline=None)
def test_a_budget_is_used_and_kept_whatever_a_run_takes(factor: float, seconds: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = Clock()
        patch.setattr("byrote.execution.deadline.time.monotonic", made)
        trainer = Trainer(made, factor=factor)
        rounds = rounds_of(trainer)
        rounds.train(Deadline(began=0.0, ends=seconds), interim=never(made))
    assert made.now <= seconds
    assert trainer.there <= rounds.new
    assert len(trainer.there) >= Memorisation.fewest_subsets
    most = MOST.runs + MOST.subsets
    assert made.now >= 0.75 * seconds or len(trainer.there) == most
    assert trainer.rounds <= 6


def test_a_plan_that_turns_out_too_large_is_made_smaller_in_time(clock: Clock) -> None:
    """Four times as slow as predicted: the plan that is left is finished, not cut."""
    trainer = Trainer(clock, factor=4.0)
    rounds = rounds_of(trainer)
    rounds.train(Deadline(began=0.0, ends=200.0), interim=never(clock))
    wanted = rounds._planner.runs(rounds.budgets)
    assert trainer.missing(wanted, extras=Extras()) == []
    assert len(wanted) > 80


def test_what_workers_are_at_is_not_given_up_for_a_better_plan(clock: Clock) -> None:
    trainer = Trainer(clock, factor=4.0, num_workers=4)
    rounds_of(trainer).train(Deadline(began=0.0, ends=200.0), interim=never(clock))
    assert trainer.rounds == 1
    assert clock.now <= 200


@pytest.mark.parametrize("deadline", [None, Deadline(began=0.0, ends=100.0)])
def test_what_results_ask_for_is_trained_too_and_first(clock: Clock, deadline: Deadline | None) -> None:
    trainer = Trainer(clock, factor=1.0)
    planned = set[RunSpec]()

    def wanted(budgets: Mapping[str, StudyBudget]) -> list[RunSpec]:
        """One more network than the plan has, once there are any."""
        planner = rounds._planner
        planned.update(planner.runs(budgets))
        return [spec for spec in planner.runs(planner.fixed(30)) if spec not in planned][:1] if trainer.there else []

    rounds = rounds_of(trainer, runs=None if deadline else 2, follow_ups=wanted)
    rounds.train(deadline, interim=never(clock))
    assert trainer.there - planned if deadline is None else trainer.rounds > 1
    assert trainer.there <= rounds.new


def test_the_time_left_is_that_of_all_groups_and_rounds(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the runs compute something on the way, and are trained apart; then one more run is asked for."""
    trainer, told = Trainer(clock, factor=1.0), list[tuple[float, Progress]]()

    def wanted(budgets: Mapping[str, StudyBudget]) -> list[RunSpec]:
        return rounds._planner.runs(rounds._planner.fixed(21))[-1:] if trainer.there else []

    rounds = rounds_of(trainer, runs=20, follow_ups=wanted, on_progress=lambda how: told.append((clock.now, how)))
    runs = rounds._planner.runs(rounds.budgets)
    apart = dict.fromkeys(runs[::2], (Checkpoint(),))
    monkeypatch.setattr(Planner, "probes", lambda self, budgets: apart)
    rounds.train(None, interim=never(clock))
    assert trainer.rounds == 3
    first_round = [(now, how) for now, how in told if now < PREDICTED * len(runs)]
    assert len(first_round) == len(runs) / SHARD
    for now, how in first_round:
        assert how.done == pytest.approx(now)
        assert how.total == pytest.approx(PREDICTED * len(runs))
    now, how = told[-1]
    assert (how.done, how.total) == pytest.approx((now, now + PREDICTED))


def test_a_number_of_runs_is_trained_whatever_it_takes_and_nothing_twice(clock: Clock) -> None:
    trainer = Trainer(clock, factor=50.0)
    rounds = rounds_of(trainer, runs=7)
    rounds.train(None, interim=never(clock))
    assert len(trainer.there) == 14
    again = rounds_of(trainer, runs=7)
    again.train(None, interim=never(clock))
    assert again.new == set()
    assert trainer.rounds == 1


@given(taken=st.lists(st.floats(0.01, 100), min_size=1, max_size=5))
def test_costs_follow_what_was_taken_within_reason(taken: list[float]) -> None:
    specs = rounds_of(Trainer(Clock(), factor=1.0))._planner.runs(
        {
            "lookup": StudyBudget(runs=0, subsets=len(taken) + 1, seed=0),
            "memorisation": StudyBudget(runs=0, subsets=len(taken) + 1, seed=0),
        }
    )
    there = set[RunSpec]()
    costs = Costs(missing=lambda asked: [spec for spec in asked if spec not in there], predicted=lambda spec: 2.0)
    assert costs(specs) == pytest.approx(2 * len(specs))
    for seconds, spec in zip(taken, specs, strict=False):
        there.add(spec)
        costs.learn([spec], seconds=seconds)
    ratio = min(MOST_SCALE, max(LEAST_SCALE, sum(taken) / (2 * len(taken))))
    assert costs(specs) == pytest.approx(2 * ratio)
    assert costs(specs[: len(taken)]) == 0


@given(cost=st.floats(0.1, 60), guess=st.floats(0, 30), steps=st.lists(st.floats(0.01, 60), min_size=20, max_size=200))
def test_interim_reports_are_rare_and_cheap(cost: float, guess: float, steps: list[float]) -> None:
    clock, told = Clock(), list[float]()

    def tell() -> None:
        told.append(clock.now)
        clock.now += cost

    interim = Interim(tell, began=0.0, guess=guess, clock=clock)
    for seconds in steps:
        clock.now += seconds
        interim()
        if len(told) > 1:
            assert interim.seconds <= SHARE * clock.now + cost * 1e-6
    assert all(later - earlier >= EVERY for earlier, later in zip([0.0, *told], told, strict=False))
    assert interim.seconds == pytest.approx(cost * len(told))
    if sum(steps) > 2 * (EVERY + max(cost, guess) / SHARE) + max(steps):
        assert told
