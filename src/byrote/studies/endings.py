"""Recipes around a learner's own on true and on random labels, and where their networks ended."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple, final

import numpy as np

from byrote.core import derive
from byrote.data import Task
from byrote.probing import Examined, HessianSpectra, LossSurfaces, Sharpnesses, TopCurvature
from byrote.records import SAM, Constant, CorruptedLabels, Learner, ProbeResult, Run, RunSpec
from byrote.studies.ends import End, end_of, last_values, reasons
from byrote.studies.recipe_changes import total_steps
from byrote.studies.recipes_around import Role, Variant, recipes_around
from byrote.studies.study import Results, StudyBudget, lengthened, run_seed, sampled
from byrote.training import AbstractProbe, Checkpoint, Given

EXAMINED = Examined(num_batches=2, batch_size=256)
"""Training examples on which curvature is measured, the same ones at every end, and as many held-out ones."""
NUM_MOMENTS = 5
"""Of a training, at which its sharpness is looked at."""
NUM_CHECKPOINTS = 12
"""Of the training whose way is drawn."""
GRADIENTS, FURTHER_GRADIENTS, LANDSCAPE_GRADIENTS = 70, 70, 170
"""What is measured of every run, along the way of those of the learner's own recipe, and of the first seed's around
their ends, in gradients of the examples looked at."""

PER_GRADIENT = 0.6
"""Of what it takes to learn from as many examples, evaluations on the way included. Measured: 0.4 of a convolutional
network, 1 of a small perceptron that trains in a stack."""

Labels = Literal["true", "random"]
KINDS: tuple[Labels, ...] = ("true", "random")


@final
class Condition(NamedTuple):
    """A recipe and what its targets are."""

    variant: Variant
    labels: Labels

    @property
    def key(self) -> tuple[Role, Labels]:
        """By which it is found again."""
        return self.variant.role, self.labels

    @property
    def is_own(self) -> bool:
        """Whether it is the learner's own recipe."""
        return self.variant.role == "own"


@final
class Planned(NamedTuple):
    """A run of a condition, and what is measured of it."""

    condition: Condition
    spec: RunSpec
    probes: tuple[AbstractProbe, ...]
    as_long: RunSpec
    """A training that takes about as long as measuring does."""


@final
class Ended(NamedTuple):
    """What came of a condition; runs, ends and what was asked of them in the order of the seeds."""

    condition: Condition
    runs: tuple[Run, ...]
    ends: tuple[End, ...]
    probes: tuple[tuple[AbstractProbe, ...], ...]
    specs: tuple[RunSpec, ...]
    """Of all that were planned, the first seed's first."""

    @property
    def by_seed(self) -> dict[int, End]:
        """Every end."""
        return {end.seed: end for end in self.ends}

    @property
    def fit(self) -> float:
        """Mean training accuracy, or R²; NaN without runs."""
        return float(np.mean([end.fit for end in self.ends])) if self.ends else math.nan

    def first(self) -> tuple[Run, tuple[AbstractProbe, ...]] | None:
        """The first seed's run with its probes, if it is there."""
        pairs = zip(self.runs, self.probes, strict=True)
        return next((pair for pair in pairs if pair[0].spec == self.specs[0]), None) if self.specs else None

    def checkpoints(self) -> Iterator[tuple[Run, ProbeResult]]:
        """Of every run whose weights were kept."""
        for run, probes in zip(self.runs, self.probes, strict=True):
            for probe in probes:
                if isinstance(probe, Checkpoint) and probe.key in run.probes:
                    yield run, run.probes[probe.key]

    def reasons(self) -> list[str]:
        """Why something could not be measured."""
        return [reason for run, probes in zip(self.runs, self.probes, strict=True) for reason in reasons([run], probes)]


Endings = Mapping[tuple[Role, Labels], Ended]
"""In the order of a table: true labels first, the learner's own recipe first."""


def conditions(task: Task, learner: Learner, budget: StudyBudget, *, stretch: int) -> tuple[Condition, ...]:
    """Every recipe on true labels, then on random ones.

    Args:
        task: the whole one.
        learner: the user's.
        budget: of the study.
        stretch: how many times the recipe's epochs each takes.
    """
    own = sampled(learner, task, budget.sample).recipe
    longer = lengthened(own, epochs=stretch * own.epochs, steps=stretch)
    number = num_examples(task, budget)
    variants = recipes_around(longer, num_examples=number, regression=bool(task.regression))
    return tuple(Condition(variant, labels) for labels in KINDS for variant in variants)


def num_examples(task: Task, budget: StudyBudget) -> int:
    """That every network is trained on."""
    return len(task.train) if budget.sample is None else min(len(task.train), budget.sample.train)


def planned(condition: Condition, task: Task, learner: Learner, budget: StudyBudget) -> tuple[Planned, ...]:
    """Its run of every seed; random labels are drawn anew for each."""
    number = num_examples(task, budget)
    return tuple(
        Planned(
            condition,
            spec,
            _probes(condition, spec, is_first=index == 0, number=number),
            _as_long(condition, spec, is_first=index == 0, number=number),
        )
        for index, spec in enumerate(_specs(condition, task, learner, budget))
    )


def endings(part: Task, results: Results, budget: StudyBudget, *, stretch: int) -> Endings:
    """What is there.

    Args:
        part: the task, or the part of it that was looked at.
        results: of the plan.
        budget: of the study.
        stretch: as for `conditions`.
    """
    task, learner = results.task, results.learner
    found: dict[tuple[Role, Labels], Ended] = {}
    for condition in conditions(task, learner, budget, stretch=stretch):
        asked = planned(condition, task, learner, budget)
        specs = tuple(each.spec for each in asked)
        probes = {each.spec: each.probes for each in asked}
        runs = tuple(results.completed(specs))
        own = tuple(probes[run.spec] for run in runs)
        ends = tuple(end_of(part, run, each) for run, each in zip(runs, own, strict=True))
        found[condition.key] = Ended(condition, runs, ends, own, specs)
    return found


def of_labels(found: Endings, labels: Labels) -> dict[str, Ended]:
    """By the name of the recipe."""
    return {own.condition.variant.name: own for own in found.values() if own.condition.labels == labels}


def said_of_first(found: Endings, labels: Labels) -> dict[str, dict[str, np.ndarray]]:
    """What probes said in the end of the first seed's network, by the name of the recipe."""
    firsts = {name: own.first() for name, own in of_labels(found, labels).items()}
    return {name: last_values(*first) for name, first in firsts.items() if first is not None}


def _specs(condition: Condition, task: Task, learner: Learner, budget: StudyBudget) -> tuple[RunSpec, ...]:
    own = replace(sampled(learner, task, budget.sample), recipe=condition.variant.recipe)
    seeds = [run_seed(budget, index) for index in range(budget.runs)]
    true = [RunSpec(task=task.fingerprint, learner=own, seed=seed, order=seed, sample=budget.sample) for seed in seeds]
    if condition.labels == "true":
        return tuple(true)
    return tuple(
        replace(spec, labels=CorruptedLabels(fraction=1.0, draw=derive(spec.seed, "random labels"))) for spec in true
    )


def _probes(condition: Condition, spec: RunSpec, *, is_first: bool, number: int) -> tuple[AbstractProbe, ...]:
    """Every run is measured in the end; the first seed's around it; those of the learner's own recipe on the way."""
    total = total_steps(spec.learner.recipe, number)
    end = Given(steps=(total,))
    spectra = HessianSpectra(at=end, examined=EXAMINED, optional=True)
    if is_first and condition.is_own:
        spectra = replace(spectra, num_density_probes=2, blocks=True)
    probes: list[AbstractProbe] = [spectra, Sharpnesses(at=end, examined=EXAMINED, optional=True)]
    if is_first:
        probes.append(LossSurfaces(at=end, examined=EXAMINED, optional=True))
    if condition.is_own:
        way = _spread(total, NUM_MOMENTS)
        probes.append(TopCurvature(at=way, examined=EXAMINED, among_examples=False, optional=True))
    if condition.is_own and condition.labels == "true":
        probes.append(Checkpoint(at=_spread(total, NUM_CHECKPOINTS) if is_first else end))
    return tuple(probes)


def _spread(total: int, number: int) -> Given:
    """From the start to the end, closer together in the beginning."""
    return Given(steps=tuple(sorted({round(total * (place / (number - 1)) ** 2) for place in range(number)})))


def _as_long(condition: Condition, spec: RunSpec, *, is_first: bool, number: int) -> RunSpec:
    gradients = GRADIENTS + is_first * LANDSCAPE_GRADIENTS + condition.is_own * FURTHER_GRADIENTS
    count, size = EXAMINED.of(number)
    epochs = max(1, math.ceil(PER_GRADIENT * gradients * count * size / number))
    optimiser = spec.learner.recipe.optimiser
    base = optimiser.base if isinstance(optimiser, SAM) else optimiser
    recipe = replace(spec.learner.recipe, optimiser=base, epochs=epochs, schedule=Constant(), switches=())
    return replace(spec, order=spec.order + 1, learner=replace(spec.learner, recipe=recipe))
