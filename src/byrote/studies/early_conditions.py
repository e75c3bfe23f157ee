"""What the study of the early phase trains, all of it around the learner's own recipe."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from byrote.core import derive
from byrote.data import Task
from byrote.probing import BatchGradients, CriticalStep, Examined, FisherTrace, SharpestSteps, TopCurvature
from byrote.records import (
    SAM,
    SGD,
    Adam,
    Constant,
    CorruptedLabels,
    Learner,
    Optimiser,
    Recipe,
    Regularisers,
    RunSpec,
    Sample,
    TrueLabels,
)
from byrote.studies.recipe_changes import (
    always,
    at_rate,
    batch_of,
    decay_of,
    from_step,
    total_steps,
    with_batch,
    with_decay,
)
from byrote.studies.study import StudyBudget, run_seed, sampled
from byrote.studies.watching import moments
from byrote.training import AbstractProbe, Checkpoint, Given

NAME = "early-phase"
SLOW = 0.1
"""Times the recipe's learning rate."""
EARLIEST, LATEST = 1 / 200, 1 / 2
"""Of the training, between which these lie."""
DECAY = 5e-4
"""Weight decay where the recipe has none."""
PENALTY = 0.1
"""Fisher penalty where the recipe has none."""
FLIPPED = 0.2
"""Of the labels are drawn anew."""
EDGE_MOMENTS = 12
PENALISED = 2
"""Gradients that a step with a Fisher penalty takes besides its own."""
DEARER = 1.5
"""A gradient that a probe takes, against one of the training."""

GRADIENTS, CURVATURE, FISHER, REACH = "gradients", "curvature", "fisher", "reach"
STEPS, PATH, END, EDGE = "steps", "path", "end", "edge"
COSTS = {GRADIENTS: 1.7, CURVATURE: 15.3, FISHER: 4.3, REACH: 4.5, STEPS: 20.0, EDGE: 11.3}
"""Gradients that a probe takes at a moment."""


class Extent(NamedTuple):
    """How much is looked at."""

    rates: tuple[float, ...]
    """Times the recipe's learning rate."""
    batches: tuple[int, ...]
    """Times the recipe's batch size; parts of it where batches cannot be larger."""
    num_branches: int
    """Steps at which the learning rate falls, besides the start."""
    num_moments: int
    """Of a training."""
    examined: Examined
    edge: int
    """Examples, and steps, of full-batch training."""


WHOLE = Extent((1.0, 10**-0.5, SLOW), (1, 4, 16), 4, 12, Examined(num_batches=16, batch_size=32), 400)
BRIEF = Extent((1.0, SLOW), (1, 16), 3, 8, Examined(num_batches=16, batch_size=16), 200)
"""Where time is short, so that a sample of the task is looked at."""


class Kind(NamedTuple):
    """One condition of the study; its networks differ in their seed alone."""

    name: str
    recipe: Recipe
    sample: Sample | None
    flipped: bool = False
    """Whether a part of the labels is drawn anew."""


class Decays(NamedTuple):
    """When weights decay."""

    throughout: Kind
    first: Kind
    second: Kind
    never: Kind


class Penalties(NamedTuple):
    """A tenth of the learning rate, with and without a Fisher penalty."""

    without: Kind
    penalised: Kind
    flipped: Kind
    flipped_penalised: Kind


class Design(NamedTuple):
    """Everything that is trained for one seed."""

    extent: Extent
    own: Kind
    rates: tuple[Kind, ...]
    """From the recipe's own down to a tenth."""
    batches: tuple[Kind, ...]
    """From the smallest up; fewer than two where there are too few examples."""
    branches: Mapping[int, Kind]
    """By the step from which the learning rate is a tenth, ascending from 0."""
    decays: Decays | None
    """None where a training has no two halves."""
    penalties: Penalties
    edge: Kind | None
    """Full batches; None where no stability limit is known."""
    weight_decay: float
    penalty: float

    @property
    def slow(self) -> Kind:
        """A tenth of the learning rate."""
        return self.rates[-1]

    @property
    def grid(self) -> tuple[Kind, ...]:
        """Other learning rates and batch sizes, one at a time."""
        return tuple(dict.fromkeys((*self.rates, *self.batches)))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All, most important first."""
        grid = (self.own, self.slow, *self.batches[::-1], *self.rates)
        decays = () if self.decays is None else self.decays
        edge = () if self.edge is None else (self.edge,)
        return tuple(dict.fromkeys((*grid, *self.branches.values(), *decays, *self.penalties, *edge)))


def design(task: Task, learner: Learner, budget: StudyBudget) -> Design:
    """What is trained on a task; the same for every seed."""
    own = sampled(learner, task, budget.sample)
    number = len(task.train) if budget.sample is None else min(budget.sample.train, len(task.train))
    extent = WHOLE if budget.sample is None else BRIEF
    return _design(own.recipe, budget.sample, extent, number, min(len(task.test), extent.edge), budget.seed)


def spec_of(kind: Kind, task: Task, learner: Learner, budget: StudyBudget, *, index: int) -> RunSpec:
    """The network of a seed."""
    seed = run_seed(budget, index)
    labels = CorruptedLabels(fraction=FLIPPED, draw=derive(seed, "flipped labels")) if kind.flipped else TrueLabels()
    own = Learner(model=learner.model, recipe=kind.recipe)
    return RunSpec(task=task.fingerprint, learner=own, seed=seed, order=seed, labels=labels, sample=kind.sample)


@lru_cache(maxsize=64)
def _design(recipe: Recipe, sample: Sample | None, extent: Extent, number: int, edge_tests: int, draw: int) -> Design:
    own = Kind("own recipe", recipe, sample)
    rates = tuple(
        own if factor == 1 else Kind(_rate_name(recipe, factor), always(recipe, at_rate(factor)), sample)
        for factor in extent.rates
    )
    total = total_steps(recipe, number)
    places = sorted(
        set(np.geomspace(max(1, EARLIEST * total), LATEST * total, extent.num_branches).astype(int).tolist())
    )
    later = {
        step: Kind(f"{_rate_name(recipe, SLOW)} from step {step:,}", _slowed(recipe, step), sample)
        for step in places
        if 1 <= step < total
    }
    weight_decay = decay_of(recipe) or DECAY
    penalty = recipe.regularisers.fisher_penalty or PENALTY
    return Design(
        extent=extent,
        own=own,
        rates=rates,
        batches=_batches(own, extent, number),
        branches={0: rates[-1], **later},
        decays=_decays(own, weight_decay, half=total // 2),
        penalties=_penalties(rates[-1], penalty),
        edge=_edge(recipe, sample, extent, number, edge_tests, draw),
        weight_decay=weight_decay,
        penalty=penalty,
    )


def _rate_name(recipe: Recipe, factor: float) -> str:
    return f"rate {factor * recipe.optimiser.lr:.3g}"


def _slowed(recipe: Recipe, step: int) -> Recipe:
    return from_step(recipe, step, at_rate(SLOW))


def _batches(own: Kind, extent: Extent, number: int) -> tuple[Kind, ...]:
    """At least four times apart from one to the next, but for the largest, which may be all examples."""
    size = batch_of(own.recipe.batch_size, number)
    larger = sorted({min(number, times * size) for times in extent.batches} - {size})
    smaller = sorted({max(1, size // times) for times in extent.batches} - {size})
    sizes = [size, *larger] if larger else [*smaller, size]
    return tuple(
        own
        if one == size
        else Kind(f"batches of {one:,}", with_batch(own.recipe, one, num_examples=number), own.sample)
        for one in sizes
    )


def _decays(own: Kind, weight_decay: float, *, half: int) -> Decays | None:
    if half < 1:
        return None
    on, off = with_decay(weight_decay), with_decay(0.0)
    recipes = {
        "decay throughout": always(own.recipe, on),
        "decay in the first half": from_step(always(own.recipe, on), half, off),
        "decay in the second half": from_step(always(own.recipe, off), half, on),
        "no decay": always(own.recipe, off),
    }
    return Decays(
        *(own if made == own.recipe else own._replace(name=name, recipe=made) for name, made in recipes.items())
    )


def _penalties(slow: Kind, penalty: float) -> Penalties:
    without, penalised = _penalised(slow.recipe, 0.0), _penalised(slow.recipe, penalty)
    plain = slow if without == slow.recipe else slow._replace(name=f"{slow.name}, no penalty", recipe=without)
    held = slow if penalised == slow.recipe else slow._replace(name=f"{slow.name}, penalty", recipe=penalised)
    flipped = slow._replace(name="flipped labels", recipe=without, flipped=True)
    return Penalties(plain, held, flipped, flipped._replace(name="flipped labels, penalty", recipe=penalised))


def _penalised(recipe: Recipe, penalty: float) -> Recipe:
    def changed(own: Regularisers) -> Regularisers:
        return replace(own, fisher_penalty=penalty)

    switches = tuple(replace(switch, regularisers=changed(switch.regularisers)) for switch in recipe.switches)
    return replace(recipe, regularisers=changed(recipe.regularisers), switches=switches)


def _edge(recipe: Recipe, sample: Sample | None, extent: Extent, number: int, tests: int, draw: int) -> Kind | None:
    """As many full-batch steps as the training has steps, at a constant rate, on a part of the task."""
    if limit_of(recipe.optimiser) is None:
        return None
    small = sample if number <= extent.edge else Sample(train=extent.edge, test=tests, draw=draw)
    full = replace(
        recipe,
        batch_size="all",
        epochs=min(extent.edge, total_steps(recipe, number)),
        schedule=Constant(),
        regularisers=Regularisers(),
        switches=(),
    )
    return Kind("full batches", full, small)


def limit_of(optimiser: Optimiser) -> Optimiser | None:
    """The optimiser, if a sharpness is known beyond which its steps grow."""
    if isinstance(optimiser, SAM) or (isinstance(optimiser, Adam) and optimiser.weight_decay):
        return None
    return optimiser


def is_plain(optimiser: Optimiser) -> bool:
    """Whether it is gradient descent, of which a break-even point is known."""
    return isinstance(optimiser, SGD)


def probes_of(made: Design, kind: Kind, *, number: int) -> dict[str, AbstractProbe]:
    """What is asked of the networks of one condition, by what it is called here.

    Args:
        made: the whole design.
        kind: one of its conditions.
        number: of training examples.
    """
    recipe = kind.recipe
    asked: dict[str, AbstractProbe] = {}
    if kind == made.edge:
        total = total_steps(recipe, min(number, made.extent.edge))
        at = Given(steps=tuple(sorted(set(np.linspace(0, total, EDGE_MOMENTS).round().astype(int).tolist()))))
        whole = Examined(num_batches=1, batch_size=made.extent.edge)
        return {EDGE: TopCurvature(at=at, examined=whole, among_examples=False, optional=True)}
    total = total_steps(recipe, number)
    at = moments(total, epochs=recipe.epochs, number=made.extent.num_moments)
    if kind in made.grid:
        asked |= _along(recipe, at, made.extent.examined, number)
    if kind in made.penalties:
        asked[FISHER] = FisherTrace(at=at, examined=made.extent.examined, optional=True)
    if kind in made.branches.values():
        asked[END] = Checkpoint(at=Given(steps=(total,)))
    if kind == made.own:
        few = at.steps[:: max(1, len(at.steps) // 4)]
        asked[PATH] = Checkpoint(at=Given(steps=tuple(sorted({*few, total}))))
        asked[STEPS] = SharpestSteps(
            learning_rate=recipe.optimiser.lr,
            at=Given(steps=_early_and_late(at, few=made.extent == BRIEF)),
            examined=made.extent.examined,
            optional=True,
        )
    return asked


def _along(recipe: Recipe, at: Given, examined: Examined, number: int) -> dict[str, AbstractProbe]:
    size = batch_of(recipe.batch_size, number)
    parts = max(1, min(number, examined.num_batches * examined.batch_size) // size)
    return {
        GRADIENTS: BatchGradients(at=at, examined=examined, optional=True),
        CURVATURE: TopCurvature(at=at, examined=examined, optional=True),
        FISHER: FisherTrace(at=at, examined=examined, optional=True),
        REACH: CriticalStep(
            learning_rate=recipe.optimiser.lr,
            at=at,
            examined=Examined(num_batches=parts, batch_size=size),
            optional=True,
        ),
    }


def _early_and_late(at: Given, *, few: bool) -> tuple[int, ...]:
    """After the first steps, in the middle on a logarithmic scale, and at the end; or in the middle alone."""
    steps = at.steps[1:]
    middle = steps[len(steps) // 2]
    return (middle,) if few else tuple(sorted({steps[0], middle, steps[-1]}))


def as_long(made: Design, kind: Kind, *, number: int) -> int:
    """How many times the training of one of its networks its probes and its Fisher penalty take, about."""
    examined = made.extent.examined
    trained_on = min(number, made.extent.edge) if kind == made.edge else number
    looked_at = trained_on if kind == made.edge else min(number, examined.num_batches * examined.batch_size)
    total = total_steps(kind.recipe, trained_on)
    gradients = sum(
        COSTS.get(name, 0.0) * len(probe.steps(total)) for name, probe in probes_of(made, kind, number=number).items()
    )
    further = PENALISED if kind.recipe.regularisers.fisher_penalty else 0
    return further + math.ceil(DEARER * gradients * looked_at / (kind.recipe.epochs * trained_on))
