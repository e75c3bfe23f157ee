"""Train what is missing, shard by shard, in this process, and keep every shard before the next begins."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, assert_never, final

import numpy as np
import torch

from byrote.baselines import fit_baseline
from byrote.data import Task, inclusion, randomise_targets, sample_positions
from byrote.execution.keeper import Keeper
from byrote.records import (
    AllExamples,
    ExactMatch,
    Fit,
    FitSpec,
    Forest,
    Inputs,
    KernelMachine,
    NearestNeighbours,
    RunSpec,
    Sample,
    TrueInputs,
)
from byrote.training import DTYPES, Path, TrainingData, batchmates, choose_path, train, training_data

TEST_COST = 0.4
"""Evaluating an example, against training on it."""
OVERHEAD = 1.2
"""A step in earnest, with its record, against a step that is timed."""
KEPT_DATA = 2
"""Input variants kept on the device at once."""
GRACE = 1.1
"""A shard that runs past the deadline is dropped when the whole took this many times as long as allowed."""


class Progress(NamedTuple):
    """How far it is."""

    stage: str
    """What is being done, in words."""
    done: float
    """Of the total: predicted seconds of training, or baselines fitted. Never falls within a stage."""
    total: float
    """Reached when all is there."""


OnProgress = Callable[[Progress], None]
"""Told how far it is. What it raises ends the work; what was kept before stays kept."""


def silent(progress: Progress) -> None:
    """Show nothing."""


@final
@dataclass(frozen=True, kw_only=True)
class Deadline:
    """When to stop, in seconds of `time.monotonic`."""

    began: float
    """When the time that is allowed began."""
    ends: float
    """When it is over."""

    @property
    def length(self) -> float:
        """Seconds allowed in all."""
        return self.ends - self.began

    @property
    def left(self) -> float:
        """Seconds; negative when it has passed."""
        return self.ends - time.monotonic()

    @property
    def abandon(self) -> bool:
        """Whether it is so late that even work under way has to stop."""
        return time.monotonic() > self.began + GRACE * self.length


class _OutOfTimeError(Exception):
    """Raised inside a shard that outlasts the deadline's grace."""


class _Shard(NamedTuple):
    """Runs that are trained together, and how."""

    specs: list[RunSpec]
    path: Path


@final
class LocalExecutor:
    """Trains and fits in this process. What is in the store is not trained again."""

    def __init__(self, task: Task, *, store: Keeper, device: torch.device) -> None:
        """Train on one task, keep in one store, on one device."""
        self._task = task
        self._store = store
        self.device = device
        self.num_trained = 0
        """Runs trained so far by this executor."""
        self._data: dict[tuple[Inputs, Sample | None, str], TrainingData] = {}
        self._paths: dict[tuple[RunSpec, bool], Path] = {}
        self._seconds_per_run: dict[RunSpec, float] = {}
        self._speeds: dict[RunSpec, float] = {}

    def missing(self, specs: Sequence[RunSpec | FitSpec]) -> list[RunSpec | FitSpec]:
        """Those that are not in the store, each once, in order."""
        return [spec for spec in dict.fromkeys(specs) if spec not in self._store]

    def missing_runs(self, specs: Sequence[RunSpec]) -> list[RunSpec]:
        """As `missing`, for runs."""
        return [spec for spec in dict.fromkeys(specs) if spec not in self._store]

    def predicted_seconds(self, spec: RunSpec) -> float:
        """What one run among many will take, from a few steps timed once per learner on the task as it is."""
        whole = replace(batchmates(spec), inputs=TrueInputs(), sample=None, subset=AllExamples())
        whole = replace(whole, learner=replace(whole.learner, recipe=replace(whole.learner.recipe, epochs=1)))
        if whole not in self._speeds:
            self._speeds[whole] = OVERHEAD * self._path(whole, 8).seconds_per_visit
        train, test = len(self._task.train), len(self._task.test)
        if spec.sample is not None:
            train, test = min(train, spec.sample.train), min(test, spec.sample.test)
        return self._speeds[whole] * spec.learner.recipe.epochs * (train + TEST_COST * test)

    def seconds_per_run(self, spec: RunSpec, *, num_runs: int) -> float:
        """Predicted from a few timed steps, or known from runs like it."""
        key = _alike(spec)
        if key not in self._seconds_per_run:
            path, data = self._path(spec, num_runs), self._training_data(spec)
            visits = spec.learner.recipe.epochs * (len(data.train_x) + TEST_COST * len(data.test_x))
            self._seconds_per_run[key] = path.seconds_per_visit * visits
        return self._seconds_per_run[key]

    def train(
        self, specs: Sequence[RunSpec], *, deadline: Deadline | None = None, on_progress: OnProgress = silent
    ) -> bool:
        """Train what the store lacks; earlier specs first. Every run is kept before the next shard begins.

        Args:
            specs: most important first.
            deadline: nothing is begun that is predicted to end later; None: no limit.
            on_progress: told after every epoch.

        Returns:
            Whether everything asked for is in the store.

        Raises:
            ValueError: a spec belongs to another task.
            ModelError: the model cannot be trained on this task.
            StoreError: a run cannot be kept.
        """
        self._refuse_strangers(specs)
        shards = self._shards(self.missing_runs(specs))
        costs = [self.seconds_per_run(shard.specs[0], num_runs=len(shard.specs)) * len(shard.specs) for shard in shards]
        done, total = 0.0, sum(costs)
        for shard, cost in zip(shards, costs, strict=True):
            chosen = shard.specs[: self._affordable(shard, deadline)]
            if chosen:
                num_epochs = len(chosen) * chosen[0].learner.recipe.epochs
                bar = _ShardProgress(done, total, cost, num_epochs, on_progress, deadline)
                try:
                    self._train_shard(chosen, shard.path, bar)
                except _OutOfTimeError:
                    break
            done += cost
            on_progress(Progress("training", done, total))
        return not self.missing(specs)

    def fit(
        self, specs: Sequence[FitSpec], *, deadline: Deadline | None = None, on_progress: OnProgress = silent
    ) -> bool:
        """Fit the baselines that the store lacks, in order.

        Args:
            specs: most important first.
            deadline: no fit is begun after it; None: no limit.
            on_progress: told before every fit, and at the end.

        Returns:
            Whether everything asked for is in the store.

        Raises:
            ValueError: a spec belongs to another task.
            StoreError: a fit cannot be kept.
        """
        self._refuse_strangers(specs)
        missing = [spec for spec in dict.fromkeys(specs) if spec not in self._store]
        for position, spec in enumerate(missing):
            if deadline is not None and deadline.left <= 0:
                return False
            on_progress(Progress(f"fitting {describe(spec)}", position, len(missing)))
            self._store.write_fit(self._fit(spec))
        on_progress(Progress("fitting", len(missing), len(missing)))
        return True

    def _refuse_strangers(self, specs: Sequence[RunSpec | FitSpec]) -> None:
        others = {spec.task for spec in specs} - {self._task.fingerprint}
        if others:
            raise ValueError(
                f"Expected specs of the task {self._task.name!r} with the fingerprint {self._task.fingerprint}, got "
                f"{', '.join(sorted(others))}: other data, or data prepared in another way."
            )

    def _shards(self, specs: Sequence[RunSpec]) -> list[_Shard]:
        """Runs that train together, as many as are stacked at once; shards in the order of their runs' importance."""
        groups: dict[RunSpec, list[tuple[int, RunSpec]]] = {}
        for position, spec in enumerate(specs):
            groups.setdefault(batchmates(spec), []).append((position, spec))
        placed: list[tuple[float, _Shard]] = []
        for members in groups.values():
            path = self._path(members[0][1], len(members))
            for part in np.array_split(np.arange(len(members)), math.ceil(len(members) / path.num_stacked)):
                importance = float(np.mean([members[index][0] for index in part]))
                placed.append((importance, _Shard([members[index][1] for index in part], path)))
        return [shard for _, shard in sorted(placed, key=lambda pair: pair[0])]

    def _affordable(self, shard: _Shard, deadline: Deadline | None) -> int:
        """How many of a shard's runs are predicted to end in time."""
        if deadline is None:
            return len(shard.specs)
        return max(0, int(deadline.left / self.seconds_per_run(shard.specs[0], num_runs=len(shard.specs))))

    def _train_shard(self, specs: list[RunSpec], path: Path, bar: "_ShardProgress") -> None:
        began = time.monotonic()
        for run in train(specs, self._training_data(specs[0]), path=path, on_epoch=bar):
            self._store.write_run(run)
            self.num_trained += 1
        self._seconds_per_run[_alike(specs[0])] = (time.monotonic() - began) / len(specs)

    def _path(self, spec: RunSpec, num_runs: int) -> Path:
        key = (_alike(spec), num_runs > 1)
        if key not in self._paths:
            self._paths[key] = choose_path(self._training_data(spec), spec, num_runs=num_runs)
        return self._paths[key]

    def _training_data(self, spec: RunSpec) -> TrainingData:
        dtype = spec.learner.recipe.dtype
        key = (spec.inputs, spec.sample, dtype)
        if key not in self._data:
            while len(self._data) >= KEPT_DATA:
                self._data.pop(next(iter(self._data)))
            self._data[key] = training_data(
                self._task, inputs=spec.inputs, sample=spec.sample, device=self.device, dtype=DTYPES[dtype]
            )
        return self._data[key]

    def _fit(self, spec: FitSpec) -> Fit:
        began = time.perf_counter()
        positions = sample_positions(self._task, spec.sample)
        part = self._task if spec.sample is None else self._task.part(train=positions.train, test=positions.test)
        included = inclusion(part, spec.subset)
        train_x, test_x = (part.normalise(x).reshape(len(x), -1) for x in (part.train.x, part.test.x))
        fitted = fit_baseline(
            spec.baseline,
            x=train_x[included],
            y=randomise_targets(part, spec.labels).targets[included],
            queries=np.concatenate([test_x, train_x]) if spec.evaluate_train else test_x,
            num_classes=part.num_classes,
            seed=spec.seed,
        )
        return Fit(
            spec=spec,
            train_outputs=fitted.outputs[len(test_x) :] if spec.evaluate_train else None,
            test_outputs=fitted.outputs[: len(test_x)],
            note=fitted.note,
            seconds=time.perf_counter() - began,
        )


def _alike(spec: RunSpec) -> RunSpec:
    """What decides how fast a run is and how it may be trained: the inputs do not."""
    return replace(batchmates(spec), inputs=TrueInputs())


@final
class _ShardProgress:
    """Turns finished epochs into progress, and ends a shard that outlasts its deadline."""

    def __init__(
        self,
        done: float,
        total: float,
        cost: float,
        num_epochs: int,
        on_progress: OnProgress,
        deadline: Deadline | None,
    ) -> None:
        self._done, self._total, self._cost = done, total, cost
        self._num_epochs, self._epochs = num_epochs, 0
        self._on_progress, self._deadline = on_progress, deadline

    def __call__(self, num_runs: int) -> None:
        self._epochs += num_runs
        done = self._done + self._cost * (self._epochs / self._num_epochs)
        self._on_progress(Progress("training", done, self._total))
        if self._deadline is not None and self._deadline.abandon:
            raise _OutOfTimeError


def describe(spec: FitSpec) -> str:
    """A baseline in words: `forest`, `5 nearest neighbours`."""
    match spec.baseline:
        case NearestNeighbours(num_neighbours=1):
            return "nearest neighbour"
        case NearestNeighbours(num_neighbours=number):
            return f"{number} nearest neighbours"
        case KernelMachine(kernel=kernel):
            return f"{kernel} kernel machine"
        case ExactMatch() | Forest() as baseline:
            return baseline.kind.replace("-", " ")
        case _:
            assert_never(spec.baseline)
