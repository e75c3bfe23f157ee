"""Train what is missing, shard by shard, in this process, and keep every run before the next begins."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch

from byrote.baselines import fit_baseline
from byrote.data import Task, inclusion, randomise_targets, sample_positions
from byrote.records import Fit, FitSpec, Inputs, RunSpec, Sample
from byrote.store import AbstractStore
from byrote.training import DTYPES, Path, TrainingData, batchmates, choose_path, train, training_data

KEPT_DATA = 2
"""Input variants kept on the device at once."""
GRACE = 1.1
"""A shard that runs past the deadline is dropped when the whole took this many times as long as allowed."""


class Progress(NamedTuple):
    """How far it is."""

    stage: str
    done: float
    """In predicted seconds."""
    total: float


OnProgress = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Show nothing."""


@final
@dataclass(frozen=True, kw_only=True)
class Deadline:
    """When to stop, on the monotonic clock."""

    began: float
    ends: float

    @property
    def left(self) -> float:
        """Seconds; negative when it has passed."""
        return self.ends - time.monotonic()

    @property
    def abandon(self) -> bool:
        """Whether it is so late that even work under way has to stop."""
        return time.monotonic() > self.began + GRACE * (self.ends - self.began)


class _OutOfTimeError(Exception):
    """Raised inside a shard that outlasts the deadline's grace."""


@final
class LocalExecutor:
    """Runs in this process. What is in the store is not trained again."""

    def __init__(self, task: Task, *, store: AbstractStore, device: torch.device) -> None:
        """Train on one task, keep in one store, on one device."""
        self._task = task
        self._store = store
        self._device = device
        self._data: dict[tuple[Inputs, Sample | None, str], TrainingData] = {}
        self._paths: dict[tuple[RunSpec, bool], Path] = {}
        self._seconds_per_run: dict[RunSpec, float] = {}

    def missing(self, specs: Sequence[RunSpec | FitSpec]) -> list[RunSpec | FitSpec]:
        """Those that are not in the store, each once, in order."""
        return [spec for spec in dict.fromkeys(specs) if spec not in self._store]

    def seconds_per_run(self, spec: RunSpec, *, num_runs: int) -> float:
        """Predicted from a few timed steps, or known from runs that shared its batches."""
        key = batchmates(spec)
        if key not in self._seconds_per_run:
            path, data = self._path(spec, num_runs), self._training_data(spec)
            visits = spec.learner.recipe.epochs * (len(data.train_x) + 0.4 * len(data.test_x))
            self._seconds_per_run[key] = path.seconds_per_visit * visits
        return self._seconds_per_run[key]

    def train(
        self, specs: Sequence[RunSpec], *, deadline: Deadline | None = None, on_progress: OnProgress = silent
    ) -> bool:
        """Train what the store lacks; earlier specs first. Returns whether everything asked for is there.

        Args:
            specs: most important first.
            deadline: no shard is begun that is predicted to end later; None: no limit.
            on_progress: told after every epoch.

        Raises:
            ModelError: the model cannot be trained on this task.
            StoreError: a run cannot be kept.
        """
        missing = [spec for spec in self.missing(specs) if isinstance(spec, RunSpec)]
        shards = list(self._shards(missing))
        costs = [self.seconds_per_run(shard[0], num_runs=len(shard)) * len(shard) for shard in shards]
        done, total = 0.0, sum(costs)
        for shard, cost in zip(shards, costs, strict=True):
            chosen = self._fitting(shard, deadline)
            if chosen:
                bar = _ShardProgress(
                    done, total, cost, len(chosen) * shard[0].learner.recipe.epochs, on_progress, deadline
                )
                if not self._train_shard(chosen, bar):
                    break
            done += cost
            on_progress(Progress("training", done, total))
        return not self.missing(specs)

    def fit(
        self, specs: Sequence[FitSpec], *, deadline: Deadline | None = None, on_progress: OnProgress = silent
    ) -> bool:
        """Fit the baselines that the store lacks, in order. Returns whether everything asked for is there."""
        missing = [spec for spec in self.missing(specs) if isinstance(spec, FitSpec)]
        for position, spec in enumerate(missing):
            if deadline is not None and deadline.left <= 0:
                break
            on_progress(Progress(f"fitting {describe(spec)}", position, len(missing)))
            self._store.write_fit(self._fit(spec))
        on_progress(Progress("fitting", len(missing), len(missing)))
        return not self.missing(specs)

    def _shards(self, specs: Sequence[RunSpec]) -> Iterator[list[RunSpec]]:
        """Runs that share batches, as many as are stacked at once; shards in the order of their runs' importance."""
        groups: dict[RunSpec, list[tuple[int, RunSpec]]] = {}
        for position, spec in enumerate(specs):
            groups.setdefault(batchmates(spec), []).append((position, spec))
        shards: list[tuple[float, list[RunSpec]]] = []
        for members in groups.values():
            size = self._path(members[0][1], len(members)).num_stacked
            for begin in range(0, len(members), size):
                part = members[begin : begin + size]
                shards.append((float(np.mean([position for position, _ in part])), [spec for _, spec in part]))
        yield from (shard for _, shard in sorted(shards, key=lambda shard: shard[0]))

    def _fitting(self, shard: list[RunSpec], deadline: Deadline | None) -> list[RunSpec]:
        if deadline is None:
            return shard
        return shard[: max(0, int(deadline.left / self.seconds_per_run(shard[0], num_runs=len(shard))))]

    def _train_shard(self, specs: list[RunSpec], bar: "_ShardProgress") -> bool:
        began = time.monotonic()
        try:
            runs = train(specs, self._training_data(specs[0]), path=self._path(specs[0], len(specs)), on_epoch=bar)
        except _OutOfTimeError:
            return False
        for run in runs:
            self._store.write_run(run)
        self._seconds_per_run[batchmates(specs[0])] = (time.monotonic() - began) / len(specs)
        return True

    def _path(self, spec: RunSpec, num_runs: int) -> Path:
        key = (batchmates(spec), num_runs > 1)
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
                self._task, inputs=spec.inputs, sample=spec.sample, device=self._device, dtype=DTYPES[dtype]
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
        self._on_progress(Progress("training", self._done + self._cost * self._epochs / self._num_epochs, self._total))
        if self._deadline is not None and self._deadline.abandon:
            raise _OutOfTimeError


def describe(spec: FitSpec) -> str:
    """A baseline in words: `forest`, `5 nearest neighbours`."""
    match spec.baseline.kind:
        case "nearest-neighbours":
            return f"{spec.baseline.num_neighbours} nearest neighbours"
        case "kernel":
            return f"{spec.baseline.kernel} kernel machine"
        case kind:
            return kind.replace("-", " ")
