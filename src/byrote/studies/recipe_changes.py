"""A recipe, changed: at another learning rate or batch size, or from a step on."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from byrote.records import SAM, BatchSize, Learner, Optimiser, Recipe, RunSpec, Switch, with_learning_rate
from byrote.studies.study import lengthened
from byrote.training import Phase, batches, phases

Change = Callable[[Optimiser], Optimiser]
"""What becomes of an optimiser."""


def always(recipe: Recipe, change: Change) -> Recipe:
    """The recipe with every optimiser that it ever takes changed.

    >>> always(Recipe(), at_rate(0.1)).optimiser.lr
    0.010000000000000002

    Args:
        recipe: its own switches stay where they are.
        change: of each optimiser.
    """
    switches = tuple(replace(switch, optimiser=change(switch.optimiser)) for switch in recipe.switches)
    return replace(recipe, optimiser=change(recipe.optimiser), switches=switches)


def from_step(recipe: Recipe, step: int, change: Change) -> Recipe:
    """The recipe as it is, and from a step on with every optimiser changed.

    >>> [switch.step for switch in from_step(Recipe(), 50, at_rate(0.1)).switches]
    [50]

    Args:
        recipe: its own switches stay where they are.
        step: the first that is taken in the new way; 0: all of them.
        change: of each optimiser.
    """
    if step == 0:
        return always(recipe, change)
    before = [phase for phase in phases(recipe) if phase.step < step]
    later = [replace(own, optimiser=change(own.optimiser)) for own in recipe.switches if own.step > step]
    now = next((phase for phase in phases(recipe) if phase.step == step), before[-1])
    kept = [switch for switch in recipe.switches if switch.step < step]
    return replace(recipe, switches=(*kept, _switch(now, step=step, optimiser=change(now.optimiser)), *later))


def with_batch(recipe: Recipe, size: int, *, num_examples: int) -> Recipe:
    """The recipe with batches of another size throughout; what it counts in steps keeps its share of the training.

    >>> with_batch(Recipe(batch_size=50), 100, num_examples=1000).batch_size
    100

    Args:
        recipe: its batches.
        size: of the new ones.
        num_examples: in an epoch.
    """
    before, after = (math.ceil(num_examples / batch_of(own, num_examples)) for own in (recipe.batch_size, size))
    moved = lengthened(recipe, epochs=recipe.epochs, steps=after / before)
    switches = tuple(replace(switch, batch_size=size) for switch in moved.switches)
    return replace(moved, batch_size=size, switches=switches)


def batch_of(size: BatchSize, num_examples: int) -> int:
    """Examples in a batch out of so many.

    >>> batch_of("all", 50), batch_of(64, 50), batch_of(32, 50)
    (50, 50, 32)
    """
    return num_examples if size == "all" else min(size, num_examples)


def at_rate(factor: float) -> Change:
    """So many times the learning rate."""
    return lambda optimiser: with_learning_rate(optimiser, factor * optimiser.lr)


def with_decay(weight_decay: float) -> Change:
    """Another weight decay; of SAM, its base's."""

    def change(optimiser: Optimiser) -> Optimiser:
        if isinstance(optimiser, SAM):
            return replace(optimiser, base=replace(optimiser.base, weight_decay=weight_decay))
        return replace(optimiser, weight_decay=weight_decay)

    return change


def decay_of(recipe: Recipe) -> float:
    """The largest weight decay that the recipe ever has.

    >>> decay_of(Recipe())
    0.0
    """
    bases = [own.optimiser.base if isinstance(own.optimiser, SAM) else own.optimiser for own in phases(recipe)]
    return max(base.weight_decay for base in bases)


@lru_cache(maxsize=1024)
def total_steps(recipe: Recipe, number: int) -> int:
    """Optimiser steps of a training on so many examples.

    >>> total_steps(Recipe(batch_size=64, epochs=3), 100)
    6
    """
    spec = RunSpec(task="", learner=Learner(model=_no_network, recipe=recipe), seed=0, order=0)
    return sum(map(len, batches(spec, num_examples=number)))


def _no_network() -> None:
    """Stands for a network where only the recipe matters."""


def _switch(phase: Phase, *, step: int, optimiser: Optimiser) -> Switch:
    return Switch(
        step=step,
        optimiser=optimiser,
        schedule=phase.schedule,
        batch_size=phase.batch_size,
        regularisers=phase.regularisers,
    )
