"""What every executor does: make what the store lacks, most important first, in time, and keep it shard by shard."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import TypeVar

import joblib

from byrote.execution.crew import AbstractCrew
from byrote.execution.deadline import Deadline
from byrote.execution.describe import describe
from byrote.execution.desk import Desk
from byrote.execution.forecast import Forecast
from byrote.execution.keeper import Keeper, is_kept
from byrote.execution.progress import OnProgress, OnShard, Progress, Tally, silent, unheard
from byrote.execution.session import Ledger, Session, Terms
from byrote.execution.shards import FitShard, RunShard, Shard, cut_shards
from byrote.records import NOTHING, Extras, FitSpec, RunSpec
from byrote.training import AbstractProbe, Remembered

S = TypeVar("S", RunSpec, FitSpec)


class AbstractExecutor(ABC):
    """Trains and fits on one task. What is in the store is not made again, and what another process is making is
    waited for, or taken over when that process dies.

    Rows do not depend on which executor makes them, nor on its number of workers: in float64 they are equal to about
    1e-10, in float32 rounding sets them apart where the number of runs trained together differs.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        store: Keeper,
        num_workers: int,
        num_threads: int | None,
        remembered: Remembered | None,
    ) -> None:
        """Plan at a desk, keep in a store, for so many workers of so many threads."""
        self.device = desk.device
        self.num_workers = num_workers
        self._task, self._store, self._ledger = desk.task, store, Ledger()
        self._forecast = Forecast(desk, num_workers=num_workers, num_threads=num_threads, remembered=remembered)
        self._num_busy = _num_busy(desk, num_workers=num_workers, num_threads=num_threads)

    @property
    @abstractmethod
    def _crew(self) -> AbstractCrew:
        """Who does the shards."""

    @property
    def trained(self) -> frozenset[RunSpec]:
        """The runs that this executor has trained and kept so far: not those that were there, nor what others made."""
        return frozenset(self._ledger.trained)

    @property
    def num_trained(self) -> int:
        """How many those are."""
        return len(self._ledger.trained)

    @property
    def failures(self) -> list[str]:
        """What went wrong on the way without ending the work, in plain words: workers that died, runs given up."""
        return list(self._ledger.failures)

    def close(self) -> None:
        """End the workers. They also end with this process, however it ends."""
        self._crew.close()

    def __enter__(self) -> "AbstractExecutor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def missing(self, specs: Sequence[S], *, extras: Extras = NOTHING) -> list[S]:
        """Those that are not in the store, or, of runs, not with these extras; each once, in order."""
        return [spec for spec in dict.fromkeys(specs) if not is_kept(self._store, spec, extras=extras)]

    def predicted_seconds(self, spec: RunSpec, *, num_runs: int | None = None) -> float:
        """By how much one run lengthens the work, from a few steps timed once per learner on the task as it is.

        With workers, runs go side by side: what one takes is divided by the number of workers that can be busy, which
        is no more than there are processors for, and one on a GPU, which they share.

        Args:
            spec: which.
            num_runs: in all; None: many.
        """
        busy = self._num_busy if num_runs is None else max(1, min(self._num_busy, num_runs))
        return self._forecast.predicted_seconds(spec) / busy

    def seconds_per_run(self, spec: RunSpec, *, num_runs: int) -> float:
        """On one worker, predicted from a few timed steps and from how long runs like it took."""
        return self._forecast.way(spec, num_runs).seconds

    def train(
        self,
        specs: Sequence[RunSpec],
        *,
        deadline: Deadline | None = None,
        on_progress: OnProgress = silent,
        on_shard: OnShard = unheard,
        probes: Sequence[AbstractProbe] = (),
        keep_weights: bool = False,
    ) -> bool:
        """Train what the store lacks; earlier specs first. Every run is kept before it counts as done.

        A worker that dies costs its shard once: it is trained again by a new one, and given up if that dies too. Runs
        that do not fit into memory together are trained fewer at a time. `failures` tells of both.

        Args:
            specs: most important first.
            deadline: nothing is begun that is predicted to end later, and what outlasts it by a tenth of the time
                allowed is dropped; None: no limit.
            on_progress: told as epochs pass.
            on_shard: told after every shard that is whole in the store.
            probes: what every run has to have computed on the way.
            keep_weights: whether every run has to keep its trained weights.

        Returns:
            Whether everything asked for is in the store.

        Raises:
            ValueError: a spec belongs to another task.
            ModelError: the model cannot be trained on this task.
            StoreError: a run cannot be kept.
        """
        self._refuse_strangers(specs)
        extras = Extras(probes=tuple(probe.key for probe in probes), weights=keep_weights)
        shards = cut_shards(
            self._open(specs, extras=extras),
            way=self._forecast.way,
            num_workers=self.num_workers,
            seconds_left=None if deadline is None else deadline.left - self._crew.seconds_to_start,
            probes=probes,
            keep_weights=keep_weights,
        )
        self._work(shards, extras=extras, deadline=deadline, on_progress=on_progress, on_shard=on_shard)
        return not self.missing(specs, extras=extras)

    def fit(
        self,
        specs: Sequence[FitSpec],
        *,
        deadline: Deadline | None = None,
        on_progress: OnProgress = silent,
        on_shard: OnShard = unheard,
    ) -> bool:
        """Fit the baselines that the store lacks, in order.

        Args:
            specs: most important first.
            deadline: no fit is begun after it, and one under way in a worker is dropped, for which a new worker is
                started at once; None: no limit.
            on_progress: told before every fit, and after it.
            on_shard: told after every fit that is whole in the store.

        Returns:
            Whether everything asked for is in the store.

        Raises:
            ValueError: a spec belongs to another task.
            StoreError: a fit cannot be kept.
        """
        self._refuse_strangers(specs)
        shards = [FitShard(specs=(spec,)) for spec in self._open(specs, extras=NOTHING)]
        self._work(shards, extras=NOTHING, deadline=deadline, on_progress=on_progress, on_shard=on_shard)
        self._crew.call_back()
        done = not self.missing(specs)
        if done:
            on_progress(Progress("fitting", len(shards), len(shards)))
        return done

    def _open(self, specs: Sequence[S], *, extras: Extras) -> list[S]:
        """Those that are missing and have not been given up."""
        return [spec for spec in self.missing(specs, extras=extras) if spec not in self._ledger.given_up]

    def _work(
        self,
        shards: Sequence[Shard],
        *,
        extras: Extras,
        deadline: Deadline | None,
        on_progress: OnProgress,
        on_shard: OnShard,
    ) -> None:
        terms = Terms(
            extras=extras,
            affordable=lambda shard: self._affordable(shard, deadline),
            is_over=lambda: deadline is not None and deadline.left <= 0,
            is_too_late=lambda: deadline is not None and bool(shards) and _is_too_late(shards[0], deadline),
            stage=_stage,
            learn=self._learn,
            on_shard=on_shard,
        )
        tally = Tally(math.fsum(shard.cost for shard in shards), on_progress=on_progress)
        Session(shards, crew=self._crew, store=self._store, ledger=self._ledger, tally=tally, terms=terms).run()

    def _affordable(self, shard: Shard, deadline: Deadline | None) -> int:
        if deadline is None:
            return len(shard.specs)
        if isinstance(shard, FitShard):
            return len(shard.specs) if deadline.left > 0 else 0
        seconds = self._forecast.seconds_per_run(shard.specs[0], path=shard.path)
        left = deadline.left - self._crew.seconds_to_start
        return min(len(shard.specs), max(0, int(left / seconds)))

    def _learn(self, shard: Shard, seconds: float) -> None:
        if isinstance(shard, RunShard):
            self._forecast.learn(shard.specs[0], path=shard.path, seconds=seconds / len(shard.specs))

    def _refuse_strangers(self, specs: Sequence[RunSpec | FitSpec]) -> None:
        others = {spec.task for spec in specs} - {self._task.fingerprint}
        if others:
            raise ValueError(
                f"Expected specs of the task {self._task.name!r} with the fingerprint {self._task.fingerprint}, got "
                f"{', '.join(sorted(others))}: other data, or data prepared in another way."
            )


def _num_busy(desk: Desk, *, num_workers: int, num_threads: int | None) -> int:
    """How many workers can be busy without taking turns."""
    if desk.device.type != "cpu":
        return 1
    return max(1, min(num_workers, joblib.cpu_count() // (num_threads or 1)))


def _is_too_late(shard: Shard, deadline: Deadline) -> bool:
    """Training that is almost done may finish; a fit never says how far it is."""
    return deadline.abandon if isinstance(shard, RunShard) else deadline.left <= 0


def _stage(shard: Shard) -> str:
    return "training" if isinstance(shard, RunShard) else f"fitting {describe(shard.specs[0])}"
