"""What is trained: a network, on which examples, by which recipe."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal, final

import numpy as np
import torch
from benchmarks.engine.networks import (
    Products,
    Transformer,
    convolutional,
    convolutional_products,
    dense,
    dense_products,
    transformer_products,
)
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from byrote.data import Task, load, sample_positions
from byrote.records import SGD, AdamW, Recipe, Sample

NUM_TEST = 256
POPULATIONS = (1, 8, 64, 256)
JUDGED = 64
"""The population that the targets speak of."""
Kind = Literal["mlp", "cnn", "transformer"]


@final
@dataclass(frozen=True, kw_only=True)
class Case:
    """One network with its data and recipe."""

    network: str
    kind: Kind
    make: Callable[[], nn.Module]
    products: Products
    source: Literal["digits", "fashion-mnist"]
    num_train: int
    """The last batch is as full as the others, or nearly."""
    epochs: int
    batch_size: int = 128
    optimiser: SGD | AdamW = field(default_factory=lambda: SGD(lr=0.05, momentum=0.9))
    populations: tuple[int, ...] = POPULATIONS

    @property
    def name(self) -> str:
        """Unique."""
        return f"{self.network}, {self.recipe_name}"

    @property
    def judged(self) -> int:
        """The population that targets speak of; the largest one when all are smaller."""
        return max(population for population in self.populations if population <= JUDGED)

    @property
    def recipe_name(self) -> str:
        """As a table says it."""
        return "SGD" if isinstance(self.optimiser, SGD) else "AdamW"

    @property
    def recipe(self) -> Recipe:
        """As byrote says it."""
        return Recipe(optimiser=self.optimiser, batch_size=self.batch_size, epochs=self.epochs)

    @cached_property
    def num_parameters(self) -> int:
        """Trainable ones."""
        return sum(weight.numel() for weight in self.make().parameters())

    def shortened(self) -> "Case":
        """A few steps of it, for a smoke run."""
        return replace(self, num_train=64, batch_size=32, epochs=1, populations=(1, 4))

    def operations(self, *, num_test: int, traces: bool) -> int:
        """Floating-point operations of one run's matrix products: training and a held-out evaluation every epoch; a
        trace adds one forward pass over the training examples at the end.
        """
        training = self.products.training * self.num_train * self.epochs
        held_out = self.products.forward * num_test * self.epochs
        return training + held_out + (self.products.forward * self.num_train if traces else 0)

    def torch_optimiser(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """PyTorch's own optimiser of the recipe, as its users write it."""
        return self.torch_optimiser_class(parameters, **self.torch_settings)

    @property
    def torch_optimiser_class(self) -> Callable[..., torch.optim.Optimizer]:
        """Of PyTorch."""
        return torch.optim.SGD if isinstance(self.optimiser, SGD) else torch.optim.AdamW

    @property
    def torch_settings(self) -> dict[str, float]:
        """What differs from PyTorch's defaults, byrote's AdamW having the same."""
        lr = {"lr": self.optimiser.lr}
        return {**lr, "momentum": self.optimiser.momentum} if isinstance(self.optimiser, SGD) else lr


def _dense(*widths: int, num_train: int, epochs: int, **others: object) -> Case:
    return Case(
        network="-".join(map(str, widths)),
        kind="mlp",
        make=partial(dense, widths),
        products=dense_products(widths),
        source="fashion-mnist" if widths[0] == 784 else "digits",
        num_train=num_train,
        epochs=epochs,
        **others,  # pyright: ignore[reportArgumentType]
    )


def _convolutional(*channels: int, size: str, num_train: int, epochs: int, **others: object) -> Case:
    first, second = channels
    return Case(
        network=f"CNN of {size} ({first} and {second} channels)",
        kind="cnn",
        make=partial(convolutional, (first, second)),
        products=convolutional_products((first, second)),
        source="fashion-mnist",
        num_train=num_train,
        epochs=epochs,
        **others,  # pyright: ignore[reportArgumentType]
    )


_ADAMW = {"optimiser": AdamW(lr=1e-3), "populations": (1, JUDGED)}

CASES = (
    _dense(64, 256, 10, num_train=1408, epochs=12, batch_size=32),
    _dense(784, 128, 10, num_train=2048, epochs=8),
    _dense(784, 256, 256, 10, num_train=1024, epochs=10),
    _dense(784, 512, 512, 512, 10, num_train=512, epochs=8),
    _convolutional(4, 8, size="4k", num_train=512, epochs=10),
    _convolutional(36, 72, size="60k", num_train=256, epochs=6),
    Case(
        network="transformer (1 block, 64 tokens, width 32)",
        kind="transformer",
        make=partial(Transformer, 32, 2),
        products=transformer_products(32),
        source="fashion-mnist",
        num_train=256,
        epochs=8,
    ),
    _dense(784, 128, 10, num_train=2048, epochs=8, **_ADAMW),
    _convolutional(4, 8, size="4k", num_train=512, epochs=10, **_ADAMW),
)


def task_of(case: Case) -> Task:
    """A seeded, stratified part of the real data."""
    whole = load(case.source)
    positions = sample_positions(whole, Sample(train=case.num_train, test=NUM_TEST, draw=0))
    return whole.part(train=positions.train, test=positions.test)


def check_operations(case: Case) -> None:
    """Compare the count of `products` with what PyTorch counts when it trains on two examples.

    Raises:
        AssertionError: they differ, so that a share of the peak would be wrong.
    """
    network = case.make()
    inputs = torch.zeros(2, 1, 28, 28) if case.source == "fashion-mnist" else torch.zeros(2, 1, 8, 8)
    counter = FlopCounterMode(display=False)
    with counter:
        functional.cross_entropy(network(inputs), torch.as_tensor(np.arange(2))).backward()
    counted, expected = counter.get_total_flops(), 2 * case.products.training
    if counted != expected:
        raise AssertionError(f"{case.name}: counted {expected} operations for two examples, PyTorch {counted}.")
