"""Train in rounds: what the plan asks for, what its results make worth asking, and more while there is time."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, final, runtime_checkable

from byrote.auditing.costs import Costs
from byrote.auditing.interim import Interim
from byrote.auditing.planner import Amount, Planner
from byrote.execution import Deadline, OnProgress, OnShard, Progress
from byrote.records import Extras, RunSpec
from byrote.studies import StudyBudget
from byrote.training import AbstractProbe

MOST_ROUNDS = 6
"""Plans that are made for one budget: each knows better than the one before what a run takes."""
PLANNED = 0.95
"""Of the time left that is planned for; the rest is for what nobody foresees."""
TELLING = 0.1
"""Of the time of a round: after so much of it, its pace says when it will end."""
LATE = 1.1
"""A round that would take so many times as long as there is time is planned anew."""


@runtime_checkable
class Trainer(Protocol):
    """What trains and fits: an executor."""

    @property
    def num_workers(self) -> int:
        """Shards that are under way at once."""
        ...

    def missing(self, specs: Sequence[RunSpec], *, extras: Extras) -> list[RunSpec]:
        """Those that are not stored."""
        ...

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
        """Train what is missing; says whether all is there."""
        ...


class _Group(NamedTuple):
    """Runs that have to be kept with the same."""

    missing: list[RunSpec]
    probes: tuple[AbstractProbe, ...]
    extras: Extras


class _LateError(Exception):
    """Raised between two shards when the plan turns out to be too large."""


@final
class Rounds:
    """Plans, trains, and plans again with what is known then."""

    def __init__(
        self,
        planner: Planner,
        *,
        trainer: Trainer,
        costs: Costs,
        follow_ups: Callable[[Mapping[str, StudyBudget]], Sequence[RunSpec]],
        extras: Extras,
        runs: int | None,
        most: Amount,
        on_progress: OnProgress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is planned yet but the number of runs, if there is one.

        Args:
            planner: chooses how much studies may ask for.
            trainer: trains it.
            costs: what runs take, as far as is known.
            follow_ups: the runs beyond the plan that are wanted by now.
            extras: what every run has to be kept with.
            runs: of each kind; None: as many as there is time for.
            most: of each kind, when the time decides.
            on_progress: told how far it is.
            clock: seconds.
        """
        self._planner, self._trainer, self._costs, self._follow_ups = planner, trainer, costs, follow_ups
        self._extras, self._fixed, self._most = extras, runs is not None, most
        self._whole, self._clock = _Whole(on_progress), clock
        self.budgets = planner.fixed(runs or 1)
        """How much studies ask for, by the latest plan."""
        self.new: set[RunSpec] = set()
        """Runs that were wanted and not there: those of them that are there now were trained meanwhile."""

    def train(self, deadline: Deadline | None, *, interim: Interim) -> None:
        """Train until all that is wanted is there, or the time is over.

        Args:
            deadline: when it has to end; None: when all is there.
            interim: told of every shard.
        """
        for number in range(MOST_ROUNDS):
            if deadline is not None:
                kept = self.budgets if number else None
                self.budgets = self._planner.within(PLANNED * deadline.left, self._most, kept=kept)
            wanted = list(dict.fromkeys([*self._follow_ups(self.budgets), *self._planner.runs(self.budgets)]))
            groups = [group for group in self._groups(wanted) if group.missing]
            self._whole.plan([self._costs.predicted(group.missing) for group in groups])
            if not groups or not all(self._go_on(group, deadline, interim) for group in groups):
                return

    def _groups(self, wanted: Sequence[RunSpec]) -> list["_Group"]:
        """What is missing of the runs, apart by what they have to compute on the way."""
        asked = self._planner.probes(self.budgets)
        alike: dict[tuple[AbstractProbe, ...], list[RunSpec]] = {}
        for spec in wanted:
            alike.setdefault(asked.get(spec, ()), []).append(spec)
        groups: list[_Group] = []
        for probes, specs in alike.items():
            extras = replace(self._extras, probes=tuple(probe.key for probe in probes))
            groups.append(_Group(self._trainer.missing(specs, extras=extras), probes, extras))
        return groups

    def _go_on(self, group: "_Group", deadline: Deadline | None, interim: Interim) -> bool:
        """Train what is missing; says whether there is a reason to plan again."""
        self.new.update(group.missing)
        pace = _Pace(group.missing, costs=self._costs, trainer=self._trainer, extras=group.extras, clock=self._clock)
        before = interim.seconds
        allowed = None if deadline is None or self._trainer.num_workers > 1 else deadline.left

        def told(progress: Progress) -> None:
            pace.begin()
            self._whole(progress)

        def on_shard() -> None:
            interim()
            if allowed is not None and pace.is_late(allowed, aside=interim.seconds - before):
                raise _LateError

        late = finished = False
        try:
            finished = self._trainer.train(
                group.missing,
                deadline=deadline,
                on_progress=told,
                on_shard=on_shard,
                probes=group.probes,
                keep_weights=group.extras.weights,
            )
        except _LateError:
            late = True
        finally:
            pace.settle(aside=interim.seconds - before)
            self._whole.next(finished=finished)
        return late or finished


@final
class _Whole:
    """How far training is over all groups and rounds, as one stretch of work."""

    def __init__(self, told: OnProgress) -> None:
        """Nothing is done."""
        self._told, self._seconds = told, list[float]()
        self._before, self._now = 0.0, 0.0

    def plan(self, seconds: Sequence[float]) -> None:
        """From now on there are groups to train that take so long, as predicted."""
        self._seconds = list(seconds)

    def next(self, *, finished: bool) -> None:
        """The first of the groups is over, or given up where it was."""
        seconds = self._seconds.pop(0)
        self._before, self._now = self._before + (seconds if finished else self._now), 0.0

    def __call__(self, progress: Progress) -> None:
        """Say how far all is when the first group is so far."""
        share = progress.done / progress.total if progress.total else 0.0
        self._now = share * self._seconds[0]
        self._told(progress._replace(done=self._before + self._now, total=self._before + sum(self._seconds)))


@final
class _Pace:
    """How a round gets on, against what was predicted."""

    def __init__(
        self,
        missing: Sequence[RunSpec],
        *,
        costs: Costs,
        trainer: Trainer,
        extras: Extras,
        clock: Callable[[], float],
    ) -> None:
        self._missing, self._costs, self._trainer, self._extras = missing, costs, trainer, extras
        self._clock = clock
        self._began: float | None = None
        self._judged = False

    def begin(self) -> None:
        """Training has begun: ways to train have been timed by now, which is not repeated."""
        if self._began is None:
            self._began = self._clock()

    def is_late(self, allowed: float, *, aside: float) -> bool:
        """Whether, at the pace so far, the round takes clearly longer than allowed; judged once, when it can be told.

        Args:
            allowed: seconds from its beginning.
            aside: seconds of them that were spent on something else.
        """
        elapsed = self._elapsed(aside)
        if self._judged or elapsed < TELLING * allowed:
            return False
        self._judged = True
        done, total = self._costs.predicted(self._done()), self._costs.predicted(self._missing)
        return done > 0 and elapsed / done * total > LATE * allowed

    def settle(self, *, aside: float) -> None:
        """Learn what the runs that are there now have cost."""
        self._costs.learn(self._done(), seconds=self._elapsed(aside))

    def _elapsed(self, aside: float) -> float:
        return 0.0 if self._began is None else self._clock() - self._began - aside

    def _done(self) -> list[RunSpec]:
        absent = set(self._trainer.missing(self._missing, extras=self._extras))
        return [spec for spec in self._missing if spec not in absent]
