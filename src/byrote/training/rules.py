"""What a recipe says of a step, for many runs at once: the numbers that may differ between them as vectors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, assert_never, final

import torch
from jaxtyping import Float
from torch import Tensor

from byrote.records import (
    SAM,
    SGD,
    Adam,
    AdamW,
    AllExamples,
    BalancedSubset,
    BatchSize,
    Constant,
    Cosine,
    LeftOut,
    Linear,
    Optimiser,
    Recipe,
    Regularisers,
    RunSpec,
    Schedule,
    Step,
    Subset,
    Switch,
    TrueLabels,
    WarmUp,
)

PerRun = float | Float[Tensor, "run"]
"""One number for all runs, or one for each, in float64 where the device has it."""


class Phase(NamedTuple):
    """How steps are taken from one step of a recipe on."""

    step: int
    """The first, counted from 0."""
    optimiser: Optimiser
    schedule: Schedule
    batch_size: BatchSize
    regularisers: Regularisers


def phases(recipe: Recipe) -> tuple[Phase, ...]:
    """A recipe's phases in order: as it begins, and one for each switch."""
    first = Phase(0, recipe.optimiser, recipe.schedule, recipe.batch_size, recipe.regularisers)
    later = [Phase(s.step, s.optimiser, s.schedule, s.batch_size, s.regularisers) for s in recipe.switches]
    return (first, *later)


class Batch(NamedTuple):
    """Where a step of a training is taken."""

    step: int
    """Counted from 0."""
    epoch: int
    """Counted from 0."""
    begin: int
    """The first position in the epoch's order."""
    end: int
    """The position after the last."""
    phase: int
    """Which of the recipe's phases."""


def batch_size(spec: RunSpec, *, num_examples: int, phase: int = 0) -> int:
    """Examples in a batch, left-out ones among them: as many as make the recipe's batch size of examples trained on.

    A run on 70 % of the examples takes as many steps an epoch, on about as many examples each, as it would alone. With
    batches of a few a batch may hold none it is trained on: a step with a gradient of 0.
    """
    asked = phases(spec.learner.recipe)[phase].batch_size
    if asked == "all":
        return num_examples
    fraction = spec.subset.fraction if isinstance(spec.subset, BalancedSubset) else 1.0
    return min(num_examples, max(1, round(asked / fraction)))


def batches(spec: RunSpec, *, num_examples: int) -> tuple[tuple[Batch, ...], ...]:
    """Every step of every epoch, in order. An epoch visits every example once; a switch may fall within one.

    Raises:
        ValueError: a switch comes after the last step.
    """
    changes = [phase.step for phase in phases(spec.learner.recipe)]
    sizes = [batch_size(spec, num_examples=num_examples, phase=index) for index in range(len(changes))]
    epochs: list[tuple[Batch, ...]] = []
    step = phase = 0
    for epoch in range(spec.learner.recipe.epochs):
        planned: list[Batch] = []
        begin = 0
        while begin < num_examples:
            while phase + 1 < len(changes) and changes[phase + 1] <= step:
                phase += 1
            end = min(num_examples, begin + sizes[phase])
            planned.append(Batch(step, epoch, begin, end, phase))
            step, begin = step + 1, end
        epochs.append(tuple(planned))
    if changes[-1] >= step:
        raise ValueError(f"The recipe's switch at step {changes[-1]:,} never comes: the training has {step:,} steps.")
    return tuple(epochs)


class Clock(NamedTuple):
    """How far a training is."""

    step: int
    """Counted from 0."""
    epoch: int
    """Counted from 0."""
    total: int
    """Steps of the whole training."""


def learning_rate(optimiser: Optimiser, schedule: Schedule, clock: Clock) -> float:
    """η at a step.

    >>> learning_rate(SGD(lr=0.1), Cosine(), Clock(step=50, epoch=5, total=100))
    0.05
    """
    match schedule:
        case WarmUp():
            return min(1.0, (clock.step + 1) / schedule.steps) * learning_rate(optimiser, schedule.then, clock)
        case Constant():
            return optimiser.lr
        case Step():
            return optimiser.lr * schedule.factor ** (clock.epoch // schedule.every)
        case Cosine():
            return optimiser.lr * (1 + math.cos(math.pi * clock.step / clock.total)) / 2
        case Linear():
            return optimiser.lr * (1 - clock.step / clock.total)
        case _:
            assert_never(schedule)


def batchmates(spec: RunSpec) -> RunSpec:
    """What runs must have in common to be trained together: everything but seed, order, labels, subset index, the
    examples left out and the numbers of their recipes (learning rates and schedules, momenta, weight decay,
    regularisers).
    """
    learner = replace(spec.learner, recipe=structure(spec.learner.recipe))
    return replace(spec, seed=0, order=0, labels=TrueLabels(), subset=_any_like(spec.subset), learner=learner)


def _any_like(subset: Subset) -> Subset:
    match subset:
        case AllExamples():
            return subset
        case BalancedSubset():
            return replace(subset, index=0)
        case LeftOut():
            return LeftOut(positions=(), reason="")
        case _:
            assert_never(subset)


def structure(recipe: Recipe) -> Recipe:
    """A recipe without the numbers that may differ between runs that are trained together."""
    switches = tuple(
        Switch(step=switch.step, optimiser=_kind(switch.optimiser), batch_size=switch.batch_size)
        for switch in recipe.switches
    )
    return replace(
        recipe,
        optimiser=_kind(recipe.optimiser),
        schedule=Constant(),
        regularisers=Regularisers(),
        switches=switches,
    )


def _kind(optimiser: Optimiser) -> Optimiser:
    match optimiser:
        case SAM():
            return SAM(base=_base_kind(optimiser.base))
        case _:
            return _base_kind(optimiser)


def _base_kind(optimiser: SGD | Adam | AdamW) -> SGD | Adam | AdamW:
    return SGD(nesterov=optimiser.nesterov) if isinstance(optimiser, SGD) else type(optimiser)()


class Rules(NamedTuple):
    """What is in force at a step. The optimiser's kind is one for all runs; its numbers are in the other fields."""

    optimiser: SGD | Adam | AdamW
    """The rule of the step, of SAM the base's; read for its kind and for `nesterov` only."""
    lr: PerRun
    momentum: PerRun
    weight_decay: PerRun
    beta1: PerRun
    beta2: PerRun
    eps: PerRun
    rho: PerRun
    """SAM's radius; 0 without SAM."""
    label_smoothing: PerRun
    input_noise: PerRun
    clip_norm: PerRun
    """Infinite where nothing is clipped."""
    fisher_penalty: PerRun
    dropout: Float[Tensor, "run"]
    """Rate of every dropout layer; NaN leaves each layer's own."""


@final
class Rulebook:
    """The rules of runs that are trained together, step by step."""

    def __init__(self, recipes: Sequence[Recipe], *, total: int, device: torch.device) -> None:
        """Read the recipes, which have one structure, for so many steps."""
        self._phases = [phases(recipe) for recipe in recipes]
        self._total, self._device = total, device
        self._fixed = [self._rules(index) for index in range(len(self._phases[0]))]

    def at(self, batch: Batch) -> Rules:
        """The rules of a step."""
        clock = Clock(batch.step, batch.epoch, self._total)
        now = [own[batch.phase] for own in self._phases]
        return self._fixed[batch.phase]._replace(
            lr=self._per_run([learning_rate(phase.optimiser, phase.schedule, clock) for phase in now])
        )

    def _rules(self, index: int) -> Rules:
        now = [own[index] for own in self._phases]
        bases = [phase.optimiser.base if isinstance(phase.optimiser, SAM) else phase.optimiser for phase in now]

        def number(read: Callable[[SGD | Adam | AdamW], float]) -> PerRun:
            return self._per_run([read(base) for base in bases])

        def regulariser(read: Callable[[Regularisers], float]) -> PerRun:
            return self._per_run([read(phase.regularisers) for phase in now])

        return Rules(
            optimiser=bases[0],
            lr=math.nan,
            momentum=number(lambda base: base.momentum if isinstance(base, SGD) else 0.0),
            weight_decay=number(lambda base: base.weight_decay),
            beta1=number(lambda base: 0.0 if isinstance(base, SGD) else base.beta1),
            beta2=number(lambda base: 0.0 if isinstance(base, SGD) else base.beta2),
            eps=number(lambda base: 0.0 if isinstance(base, SGD) else base.eps),
            rho=self._per_run([phase.optimiser.rho if isinstance(phase.optimiser, SAM) else 0.0 for phase in now]),
            label_smoothing=regulariser(lambda own: own.label_smoothing),
            input_noise=regulariser(lambda own: own.input_noise),
            clip_norm=regulariser(lambda own: math.inf if own.clip_norm is None else own.clip_norm),
            fisher_penalty=regulariser(lambda own: own.fisher_penalty),
            dropout=self._vector([math.nan if (p := r.regularisers.dropout) is None else p for r in now]),
        )

    def _per_run(self, values: Sequence[float]) -> PerRun:
        return values[0] if len(set(values)) == 1 else self._vector(values)

    def _vector(self, values: Sequence[float]) -> Float[Tensor, "run"]:
        # Apple's GPUs have no float64.
        dtype = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.tensor(values, dtype=dtype, device=self._device)
