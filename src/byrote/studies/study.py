"""What every study is: a plan, and a summary of what came of it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from types import MappingProxyType
from typing import ClassVar, NamedTuple, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from byrote.core import derive
from byrote.data import Task, inclusion, sample_positions
from byrote.records import (
    BalancedSubset,
    Fit,
    FitSpec,
    Learner,
    Recipe,
    Run,
    RunSpec,
    Sample,
    Schedule,
    Section,
    Step,
    Switch,
    WarmUp,
)
from byrote.studies.background import Background
from byrote.training import AbstractProbe

SUBSET_FRACTION = 0.7
"""m/n of Feldman & Zhang 2020."""
MOST_SAMPLE_EPOCHS = 6
"""A run on a sample of the task takes up to this many times the recipe's epochs, because it has fewer steps in each."""

PLANNED_AT_ONCE = 50
"""Networks on subsets."""


@final
@dataclass(frozen=True, kw_only=True)
class StudyBudget:
    """How much a study may ask for."""

    runs: int
    """Networks per condition: seeds, label draws."""
    subsets: int
    """Networks on random subsets."""
    seed: int
    """The root of all seeds."""
    sample: Sample | None = None
    """What a study that trains many networks looks at; None: the whole task."""


class Plan(NamedTuple):
    """What a study asks for, most important first."""

    runs: tuple[RunSpec, ...]
    fits: tuple[FitSpec, ...]
    probes: Mapping[RunSpec, tuple[AbstractProbe, ...]] = MappingProxyType({})
    """What some of the runs have to compute on the way; their results have it in `Run.probes`."""
    later: tuple[RunSpec, ...] = ()
    """Runs that cost what those will that `follow_up` is sure to want: time is kept for them; they are not trained."""
    alongside: Mapping[RunSpec, tuple[RunSpec, ...]] = MappingProxyType({})
    """Runs that take as long as what some of the runs compute on the way. They are not trained: time is kept for them
    until the run itself is there."""

    @property
    def foreseen(self) -> tuple[RunSpec, ...]:
        """All that will have to be trained, as far as it is known."""
        return (*self.runs, *self.later)


class Outcome(NamedTuple):
    """What a study found."""

    section: Section
    examples: pa.Table | None
    """One row per training example; None when the study has no per-example scores."""
    labels: pa.Table | None = None
    """One row per training example, of a study that judges their labels."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """What came of a plan: the runs and fits that exist. Diverged runs are kept apart."""

    task: Task
    learner: Learner
    runs: Mapping[RunSpec, Run]
    """Completed ones."""
    fits: Mapping[FitSpec, Fit]
    diverged: tuple[Run, ...] = ()
    known: Background | None = None
    """What somebody has found out about the task already."""

    @cached_property
    def background(self) -> Background:
        """What the task says by itself."""
        return self.known or Background(self.task)

    def completed(self, specs: tuple[RunSpec, ...]) -> list[Run]:
        """The completed ones of these, in order. A run that gives no finite number on a test example has diverged."""
        found = [self.runs[spec] for spec in specs if spec in self.runs]
        return [run for run in found if _is_finite(run)]

    def lost(self, specs: tuple[RunSpec, ...]) -> tuple[str, ...]:
        """A note on how many of these diverged, if any did."""
        asked = set(specs)
        lost = [run for run in (*self.diverged, *self.runs.values()) if run.spec in asked]
        lost = [run for run in lost if run.status == "diverged" or not _is_finite(run)]
        if not lost:
            return ()
        number = "1 run diverged and is" if len(lost) == 1 else f"{len(lost)} runs diverged and are"
        return (f"{number} left out. {lost[0].message}".strip(),)


def _is_finite(run: Run) -> bool:
    return bool(np.isfinite(run.trace.test_outputs).all())


class AbstractStudy(ABC):
    """One question, asked of a task and a learner."""

    name: ClassVar[str]
    question: ClassVar[str]
    uses_runs: ClassVar[bool] = False
    """Whether `StudyBudget.runs` matters to it."""
    uses_subsets: ClassVar[bool] = False
    """Whether `StudyBudget.subsets` matters to it."""
    fewest_runs: ClassVar[int] = 1
    """A budget that does not reach for so many networks per condition is too small."""
    fewest_subsets: ClassVar[int] = 4
    """A budget that does not reach for so many networks on subsets is too small."""
    uses_neighbours: ClassVar[bool] = False
    """Whether `Background.nearest` matters to it."""
    uses_leaks: ClassVar[bool] = False
    """Whether `Background.leaks` matters to it."""
    uses_values: ClassVar[bool] = False
    """Whether `Background.values` matters to it."""
    largest_task: ClassVar[int | None] = None
    """On more training examples than this, it looks at a sample unless told how many runs to train."""

    @abstractmethod
    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """Say which runs and fits are needed. Pure: the same arguments give the same plan."""

    @abstractmethod
    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """Say which further runs are wanted, given what came of the plan so far; most studies want none. Pure."""

    @abstractmethod
    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Answer from what is there, which may be less than was planned. Pure."""


class AbstractSubsetStudy(AbstractStudy):
    """A question asked of networks on balanced random subsets of 70 %; studies that ask for them share them."""

    uses_subsets: ClassVar[bool] = True

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """The networks."""
        return Plan(subset_runs(task, learner, budget), ())

    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """None."""
        return ()


def run_seed(budget: StudyBudget, index: int) -> int:
    """The seed of the index-th network; studies that ask for the same network use the same one."""
    return derive(budget.seed, "run", index)


def lengthened(recipe: Recipe, *, epochs: int, steps: float) -> Recipe:
    """The same recipe over another number of epochs: what it counts in epochs or steps keeps its share of the training.

    A warm-up over the first tenth of the steps, a fall of the learning rate after half of the epochs and a switch at
    three quarters are there again in a training that is twice as long, as the cosine is that ends with it.

    >>> lengthened(Recipe(epochs=10, schedule=WarmUp(steps=30, then=Step(every=5))), epochs=20, steps=2.0).schedule
    WarmUp(steps=60, then=Step(every=10, factor=0.1, kind='step'), kind='warm-up')

    Args:
        recipe: what to lengthen or shorten.
        epochs: how many there are to be.
        steps: how many times as many optimiser steps as before that makes.
    """
    factor = epochs / recipe.epochs
    return replace(
        recipe,
        epochs=epochs,
        schedule=_lengthened_schedule(recipe.schedule, epochs=factor, steps=steps),
        switches=_lengthened_switches(recipe.switches, epochs=factor, steps=steps),
    )


def _lengthened_schedule(schedule: Schedule, *, epochs: float, steps: float) -> Schedule:
    if isinstance(schedule, WarmUp):
        then = schedule.then
        kept = replace(then, every=max(1, round(then.every * epochs))) if isinstance(then, Step) else then
        return WarmUp(steps=max(1, round(schedule.steps * steps)), then=kept)
    if isinstance(schedule, Step):
        return replace(schedule, every=max(1, round(schedule.every * epochs)))
    return schedule


def _lengthened_switches(switches: tuple[Switch, ...], *, epochs: float, steps: float) -> tuple[Switch, ...]:
    """In their order, each at a step of its own, however close they come."""
    moved: list[Switch] = []
    for switch in switches:
        earliest = moved[-1].step + 1 if moved else 1
        schedule = _lengthened_schedule(switch.schedule, epochs=epochs, steps=steps)
        moved.append(replace(switch, step=max(earliest, round(switch.step * steps)), schedule=schedule))
    return tuple(moved)


def _num_steps(recipe: Recipe, *, num_examples: float) -> int:
    """Optimiser steps of a training on so many examples."""
    batches = 1 if recipe.batch_size == "all" else math.ceil(num_examples / recipe.batch_size)
    return recipe.epochs * batches


def sampled(learner: Learner, task: Task, sample: Sample | None) -> Learner:
    """The learner on a sample: more epochs where each has fewer steps, as it has not with full batches."""
    if sample is None:
        return learner
    recipe, number, part = learner.recipe, len(task.train), min(len(task.train), sample.train)
    longest = 1.0 if recipe.batch_size == "all" else float(MOST_SAMPLE_EPOCHS)
    epochs = max(1, round(recipe.epochs * min(longest, max(1.0, number / part))))
    before, after = (
        _num_steps(own, num_examples=size) for own, size in ((recipe, number), (replace(recipe, epochs=epochs), part))
    )
    return replace(learner, recipe=lengthened(recipe, epochs=epochs, steps=after / before))


def on_subsets(learner: Learner, task: Task, sample: Sample | None) -> Learner:
    """The learner on a random subset: as many epochs, which have fewer steps, except with full batches."""
    own = sampled(learner, task, sample)
    number = len(task.train) if sample is None else min(len(task.train), sample.train)
    before, after = (_num_steps(own.recipe, num_examples=number * share) for share in (1.0, SUBSET_FRACTION))
    return replace(own, recipe=lengthened(own.recipe, epochs=own.recipe.epochs, steps=after / before))


def subset_runs(task: Task, learner: Learner, budget: StudyBudget) -> tuple[RunSpec, ...]:
    """Networks on balanced random subsets, `budget.subsets` of them."""
    own = on_subsets(learner, task, budget.sample)
    blocks = range(math.ceil(budget.subsets / PLANNED_AT_ONCE))
    runs = (run for block in blocks for run in _subset_block(task.fingerprint, own, budget.seed, budget.sample, block))
    return tuple(islice(runs, budget.subsets))


@lru_cache(maxsize=128)
def _subset_block(
    fingerprint: str, learner: Learner, root: int, sample: Sample | None, block: int
) -> tuple[RunSpec, ...]:
    """Some networks on subsets in a row. Kept, because planning asks for the same ones again and again."""
    return tuple(
        RunSpec(
            task=fingerprint,
            learner=learner,
            seed=(seed := derive(root, "run", index)),
            order=seed,
            subset=BalancedSubset(fraction=SUBSET_FRACTION, draw=root, index=index),
            sample=sample,
        )
        for index in range(block * PLANNED_AT_ONCE, (block + 1) * PLANNED_AT_ONCE)
    )


def sampled_part(task: Task, sample: Sample | None) -> Task:
    """The part of the task that runs with this sample saw."""
    if sample is None:
        return task
    positions = sample_positions(task, sample)
    return task.part(train=positions.train, test=positions.test)


def sampled_positions(task: Task, sample: Sample | None) -> Int[np.ndarray, "example"]:
    """Positions in the task of the training examples that runs with this sample saw."""
    return sample_positions(task, sample).train


def inclusion_mask(part: Task, runs: list[Run]) -> Bool[np.ndarray, "run example"]:
    """Which of the part's training examples each run was trained on."""
    return np.stack([inclusion(part, run.spec.subset) for run in runs])


def quality(part: Task, runs: list[Run]) -> Float[np.ndarray, "run example"]:
    """After training, per example: 1 for a right answer and 0 for a wrong one; for regression, minus the squared
    error in units of the target's variance, so that its mean plus 1 is R².
    """
    final = np.stack([run.trace.loss[-1] if part.regression else run.trace.margin[-1] for run in runs])
    return -final.astype(np.float64) if part.regression else (final > 0).astype(np.float64)


def heldout_quality(task: Task, outputs: Float[np.ndarray, "example output"]) -> Float[np.ndarray, "example"]:
    """As `quality`, for outputs on test examples: an answer is right when the target's output is the largest, and no
    other is as large; regression errors in units of the test targets' variance, or of the training targets' where the
    test targets do not vary.
    """
    y = task.test.y
    if task.regression:
        spread = np.var(y) if np.ptp(y) > 0 else np.var(task.train.y)
        return -((outputs[:, 0].astype(np.float64) - y) ** 2) / spread
    own = np.arange(outputs.shape[1]) == y[:, None]
    return (outputs[own] > np.where(own, -np.inf, outputs).max(1)).astype(np.float64)


def heldout_qualities(task: Task, runs: list[Run]) -> Float[np.ndarray, "run example"]:
    """`heldout_quality` of networks after training; at least one."""
    return np.stack([heldout_quality(task, run.trace.test_outputs) for run in runs])


def chance(part: Task) -> float:
    """What always giving the commonest answer scores: the majority's share, or R² = 0."""
    return 0.0 if part.regression else float(np.bincount(part.train.y).max() / len(part.train.y))


def shift(task: Task) -> float:
    """What turns a mean `quality` into a score: 1 for R², nothing for accuracy."""
    return 1.0 if task.regression else 0.0


def score_name(task: Task) -> str:
    """What a score is called."""
    return "R²" if task.regression else "accuracy"


def describe_sample(task: Task, sample: Sample, *, test: bool = False) -> str:
    """What was looked at instead of the whole task, in words."""
    kind = "random" if task.regression else "stratified"
    train = f"{min(sample.train, len(task.train)):,} of {len(task.train):,} training"
    if not test or sample.test >= len(task.test):
        return f"a {kind} sample of {train} examples"
    return f"a {kind} sample of {train} and {sample.test:,} of {len(task.test):,} test examples"
