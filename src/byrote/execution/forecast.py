"""How runs are trained and how long that takes, from a few timed steps and from runs that are done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, final

import torch

from byrote.data import inclusion, randomise_targets
from byrote.execution.desk import Desk
from byrote.execution.shards import Way
from byrote.models import build
from byrote.records import AllExamples, BalancedSubset, CorruptedLabels, RunSpec, TrueInputs
from byrote.training import DTYPES, Path, Remembered, batchmates, choose_path

TEST_COST = 0.4
"""Evaluating an example, against training on it."""
OVERHEAD = 1.2
"""A step in earnest, with its record, against a step that is timed."""
MANY = 8
"""Runs, when it is not known yet how many there will be."""


class _Speed(NamedTuple):
    seconds_per_visit: float
    seconds_per_run: float
    """Whatever is visited: to make the network and draw what it is trained on."""


@final
class Forecast:
    """Ways and durations, each found out once."""

    def __init__(self, desk: Desk, *, num_workers: int, num_threads: int | None, remembered: Remembered | None) -> None:
        """Time at this desk.

        Args:
            desk: with the task, on the device to train on.
            num_workers: who will share the machine's memory.
            num_threads: within an operation, for each of them; None: torch's own setting.
            remembered: timings of earlier processes; None: time again.
        """
        self._desk, self._num_workers, self._num_threads = desk, num_workers, num_threads
        self._remembered = remembered
        self._paths: dict[tuple[RunSpec, bool], Path] = {}
        self._seconds: dict[RunSpec, float] = {}
        self._speeds: dict[RunSpec, _Speed] = {}

    def way(self, spec: RunSpec, num_runs: int) -> Way:
        """How a run is trained that is one of so many like it, and how long that takes."""
        return Way(self._path(spec, num_runs), self.seconds_per_run(spec, num_runs=num_runs))

    def seconds_per_run(self, spec: RunSpec, *, num_runs: int) -> float:
        """On one worker; predicted from a few timed steps, or known from runs like it."""
        key = _alike(spec)
        if key not in self._seconds:
            path, data = self._path(spec, num_runs), self._desk.training_data(spec)
            seconds = _Speed(path.seconds_per_visit, self._fixed(spec))
            self._seconds[key] = _duration(seconds, spec, num_train=len(data.train_x), num_test=len(data.test_x))
        return self._seconds[key]

    def predicted_seconds(self, spec: RunSpec) -> float:
        """Of one run among many on one worker, timed once per learner on the task as it is."""
        whole = replace(batchmates(spec), inputs=TrueInputs(), sample=None, subset=AllExamples())
        whole = replace(whole, learner=replace(whole.learner, recipe=replace(whole.learner.recipe, epochs=1)))
        if whole not in self._speeds:
            self._speeds[whole] = _Speed(OVERHEAD * self._path(whole, MANY).seconds_per_visit, self._fixed(whole))
        task = self._desk.task
        num_train, num_test = len(task.train), len(task.test)
        if spec.sample is not None:
            num_train, num_test = min(num_train, spec.sample.train), min(num_test, spec.sample.test)
        return _duration(self._speeds[whole], spec, num_train=num_train, num_test=num_test)

    def learn(self, spec: RunSpec, seconds: float) -> None:
        """A run like this took so long."""
        self._seconds[_alike(spec)] = seconds

    def _path(self, spec: RunSpec, num_runs: int) -> Path:
        key = (_alike(spec), num_runs > 1)
        if key not in self._paths:
            with _threads(self._num_threads):
                self._paths[key] = choose_path(
                    self._desk.training_data(spec),
                    spec,
                    num_runs=num_runs,
                    num_workers=self._num_workers,
                    remembered=self._remembered,
                )
        return self._paths[key]

    def _fixed(self, spec: RunSpec) -> float:
        """Seconds to make one network, corrupt its labels and draw a subset."""
        task, began = self._desk.training_data(spec).task, time.perf_counter()
        build(spec.learner.model, task=task, seed=0, dtype=DTYPES[spec.learner.recipe.dtype])
        randomise_targets(task, CorruptedLabels(fraction=0.5, draw=0))
        inclusion(task, BalancedSubset(fraction=0.5, draw=0, index=0))
        return time.perf_counter() - began


def _duration(speed: _Speed, spec: RunSpec, *, num_train: int, num_test: int) -> float:
    """Every epoch visits the training examples and evaluates the test examples; at the end all are evaluated."""
    epochs = spec.learner.recipe.epochs
    visits = epochs * (num_train + TEST_COST * num_test) + TEST_COST * (num_train + num_test)
    return speed.seconds_per_run + speed.seconds_per_visit * visits


def _alike(spec: RunSpec) -> RunSpec:
    """What decides how fast a run is and how it may be trained: the inputs do not."""
    return replace(batchmates(spec), inputs=TrueInputs())


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)
