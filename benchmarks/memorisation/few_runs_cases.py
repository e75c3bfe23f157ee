"""Tasks and recipes on which memorisation is estimated from few runs."""

from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from byrote.core import derive
from byrote.data import Task, load, sample_positions
from byrote.models import mlp
from byrote.records import SGD, AdamW, Learner, Recipe, Sample

NUM_TEST = 256


@final
@dataclass(frozen=True, kw_only=True)
class Case:
    """A learner, and the examples it is trained on."""

    name: str
    source: Literal["fashion-mnist", "mnist-1d", "digits"]
    num_examples: int
    flipped: float
    """The share of labels that are exchanged for another class."""
    width: int
    """Hidden units of the network's one hidden layer."""
    recipe: Recipe

    @property
    def learner(self) -> Learner:
        """As byrote says it."""
        return Learner(model=mlp(width=self.width), recipe=self.recipe)

    def shortened(self) -> "Case":
        """A few steps of it, for a smoke run."""
        return replace(self, num_examples=100, recipe=replace(self.recipe, epochs=2))


CASES = (
    Case(
        name="Fashion-MNIST, SGD",
        source="fashion-mnist",
        num_examples=1000,
        flipped=0.1,
        width=128,
        recipe=Recipe(optimiser=SGD(lr=0.05), epochs=15),
    ),
    Case(
        name="MNIST-1D, SGD",
        source="mnist-1d",
        num_examples=1000,
        flipped=0.1,
        width=256,
        recipe=Recipe(optimiser=SGD(lr=0.1), epochs=40),
    ),
    Case(
        name="MNIST-1D, AdamW",
        source="mnist-1d",
        num_examples=1000,
        flipped=0.1,
        width=128,
        recipe=Recipe(optimiser=AdamW(lr=2e-3), epochs=60),
    ),
    Case(
        name="MNIST-1D, AdamW, no flips, stopped before it fits",
        source="mnist-1d",
        num_examples=2000,
        flipped=0.0,
        width=128,
        recipe=Recipe(optimiser=AdamW(lr=2e-3), epochs=25),
    ),
    Case(
        name="MNIST-1D, SGD, stopped before it fits",
        source="mnist-1d",
        num_examples=1000,
        flipped=0.1,
        width=128,
        recipe=Recipe(optimiser=SGD(lr=0.05), epochs=15),
    ),
)

LEAVE_ONE_OUT = Case(
    name="digits, SGD",
    source="digits",
    num_examples=400,
    flipped=0.1,
    width=64,
    recipe=Recipe(optimiser=SGD(lr=0.1), epochs=30),
)


def task_of(case: Case) -> Task:
    """A seeded, stratified part of the data, with wrong labels."""
    whole = load(case.source)
    positions = sample_positions(whole, Sample(train=case.num_examples, test=NUM_TEST, draw=0))
    task = whole.part(train=positions.train, test=positions.test)
    rng = np.random.default_rng(derive(0, "flips"))
    wrong = rng.permutation(case.num_examples)[: round(case.flipped * case.num_examples)]
    labels = task.train.y.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, task.num_classes, size=len(wrong))) % task.num_classes
    return replace(task, train=task.train.with_targets(labels))
