"""How runs are trained and how long that takes, from a few timed steps and from runs that are done."""

import math
import time
from dataclasses import replace
from typing import NamedTuple, final

from byrote.data import Task
from byrote.execution.desk import Desk
from byrote.execution.shards import RunShard, Way
from byrote.records import AllExamples, RunSpec, Sample, TrueInputs
from byrote.training import STACKS, Path, Remembered, batchmates, choose_path, threads

DOUBLED_TWICE = 4
"""A stack that a population had room for so many times over would not be larger in a larger population."""
TEST_COST = 0.4
"""Evaluating an example, against training on it."""
MANY = 8
"""Runs, when it is not known yet how many there will be."""
EPOCHS = (1, 3)
"""Of a short and of a long rehearsal."""
REHEARSALS = 3
"""Of each; the least time counts, so that what is loaded once does not."""
BRIEF = 0.05
"""Seconds that an epoch of a rehearsal is meant to take, and, four times over, that they all may take."""
FEWEST, MOST = 512, 4096
"""Training examples of a rehearsal."""


class Speed(NamedTuple):
    """What training takes in earnest."""

    overhead: float
    """Seconds of a visit, its record and evaluation included, against the timed steps; at least 1."""
    seconds_per_run: float
    """Whatever is visited: networks are made, labels and subsets drawn, records put together."""

    def duration(self, path: Path, *, visits: float) -> float:
        """Seconds of one run."""
        return self.seconds_per_run + path.seconds_per_visit * self.overhead * visits


UNREHEARSED = Speed(1.2, 0.0)
"""Where no rehearsal was held."""


class _Timed(NamedTuple):
    """What was found out about populations of a size."""

    size: int
    path: Path

    def holds_for(self, size: int) -> bool:
        """Whether another size would be trained alike."""
        if size <= self.size:
            return self.path.num_stacked <= size
        return self.path.num_stacked * DOUBLED_TWICE <= self.size


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
        self._found: dict[RunSpec, list[_Timed]] = {}
        self._learnt: dict[RunSpec, Way] = {}
        self._speeds: dict[RunSpec, Speed] = {}

    def way(self, spec: RunSpec, num_runs: int) -> Way:
        """How a run is trained that is one of so many like it, and how long that takes."""
        path = self._path(spec, num_runs)
        return Way(path, self.seconds_per_run(spec, path=path))

    def seconds_per_run(self, spec: RunSpec, *, path: Path) -> float:
        """On one worker, trained in this way; predicted from a few timed steps and from how long runs like it took."""
        timed, learnt = self._timed_seconds(spec, path), self._learnt.get(_alike(spec))
        if learnt is None:
            return timed
        ratio = timed / self._timed_seconds(spec, learnt.path)
        return learnt.seconds * (ratio if math.isfinite(ratio) and ratio > 0 else 1.0)

    def predicted_seconds(self, spec: RunSpec) -> float:
        """Of one run among many on one worker, timed and rehearsed once per learner on the task as it is."""
        whole = _whole(spec)
        if whole not in self._speeds:
            with threads(self._num_threads):
                self._speeds[whole] = self._rehearse(whole)
        return self._speeds[whole].duration(self._path(whole, MANY), visits=_visits(spec, self._desk.task))

    def learn(self, spec: RunSpec, *, path: Path, seconds: float) -> None:
        """A run like this, trained in this way, took so long."""
        self._learnt[_alike(spec)] = Way(path, seconds)

    def _timed_seconds(self, spec: RunSpec, path: Path) -> float:
        speed = self._speeds.get(_whole(spec), UNREHEARSED)
        return speed.duration(path, visits=_visits(spec, self._desk.task))

    def _path(self, spec: RunSpec, num_runs: int) -> Path:
        """The fastest; timed anew where another size of population says nothing about this one."""
        size = _rounded_up(num_runs)
        found = self._found.setdefault(_alike(spec), [])
        for known in found:
            if known.holds_for(size):
                return known.path
        with threads(self._num_threads):
            path = choose_path(
                self._desk.training_data(spec),
                spec,
                num_runs=size,
                num_workers=self._num_workers,
                remembered=self._remembered,
            )
        found.append(_Timed(size, path))
        return path

    def _rehearse(self, whole: RunSpec) -> Speed:
        """Train a few runs on a part of the task in earnest, but for few epochs: what an epoch takes, and the rest."""
        path, began = self._path(whole, MANY), time.perf_counter()
        size = min(MOST, max(FEWEST, int(BRIEF / (path.seconds_per_visit * path.num_stacked))))
        few = replace(whole, sample=Sample(train=size, test=max(1, size // 4), draw=0))
        rounds: list[list[float]] = []
        try:
            while not rounds or (len(rounds) < REHEARSALS and time.perf_counter() - began < 4 * BRIEF):
                rounds.append([self._timed(_lasting(few, epochs), path) for epochs in EPOCHS])
        except Exception:  # The part lacks a class, or the model is at fault: then the training itself will say so.
            return UNREHEARSED
        short, long = (min(times) for times in zip(*rounds, strict=True))
        fewer, more = (path.seconds_per_visit * _visits(_lasting(few, epochs), self._desk.task) for epochs in EPOCHS)
        overhead = max(1.0, (long - short) / (more - fewer))
        return Speed(overhead, max(0.0, short - overhead * fewer))

    def _timed(self, spec: RunSpec, path: Path) -> float:
        """Seconds per run."""
        specs = tuple(replace(spec, seed=seed) for seed in range(path.num_stacked))
        began = time.perf_counter()
        self._desk.do(RunShard(specs=specs, path=path, cost=0.0), on_epoch=lambda num_runs: None)
        return (time.perf_counter() - began) / len(specs)


def _rounded_up(num_runs: int) -> int:
    """To a size that a stack may have; larger populations are trained as ones of the largest are."""
    return next((size for size in STACKS if size >= num_runs), STACKS[-1])


def _visits(spec: RunSpec, task: Task) -> float:
    """Every epoch visits the training examples and evaluates the test examples; at the end all are evaluated."""
    num_train, num_test = len(task.train), len(task.test)
    if spec.sample is not None:
        num_train, num_test = min(num_train, spec.sample.train), min(num_test, spec.sample.test)
    return spec.learner.recipe.epochs * (num_train + TEST_COST * num_test) + TEST_COST * (num_train + num_test)


def _lasting(spec: RunSpec, epochs: int) -> RunSpec:
    return replace(spec, learner=replace(spec.learner, recipe=replace(spec.learner.recipe, epochs=epochs)))


def _whole(spec: RunSpec) -> RunSpec:
    """One epoch on all of the task: what the speed of a learner is found out with."""
    return _lasting(replace(batchmates(spec), inputs=TrueInputs(), sample=None, subset=AllExamples()), 1)


def _alike(spec: RunSpec) -> RunSpec:
    """What decides how fast a run is and how it may be trained: the inputs do not."""
    return replace(batchmates(spec), inputs=TrueInputs())
