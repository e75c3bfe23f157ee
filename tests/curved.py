"""Losses of which the curvature is known, or can be had densely."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from byrote.measures.curvature import Objective


class Problem(NamedTuple):
    """A small network on uneven batches."""

    model: nn.Module
    batches: list[tuple[Tensor, Tensor]]
    loss: Any

    def objective(self, **options: Any) -> Objective:
        """Of it."""
        return Objective(self.model, loss=self.loss, batches=self.batches, **options)

    def whole(self) -> tuple[Tensor, Tensor]:
        """All batches as one."""
        return torch.cat([x for x, _ in self.batches]), torch.cat([y for _, y in self.batches])

    def outputs(self, flat: Tensor) -> Tensor:
        """On all examples, of a vector of all weights."""
        return functional_call(self.model, self.named(flat), (self.whole()[0],))

    def mean(self, flat: Tensor) -> Tensor:
        """Loss on all examples, of a vector of all weights."""
        return self.loss(lambda x: functional_call(self.model, self.named(flat), (x,)), self.whole()).mean()

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """A vector of all weights, cut into them."""
        parts = dict(self.model.named_parameters())
        cut = flat.split([part.numel() for part in parts.values()])
        return {name: piece.reshape(part.shape) for (name, part), piece in zip(parts.items(), cut, strict=True)}

    def flat(self) -> Tensor:
        """All weights."""
        return torch.cat([part.detach().reshape(-1) for part in self.model.parameters()])

    def hessian(self, flat: Tensor | None = None) -> Tensor:
        """Dense, here or at other weights."""
        return jacrev(jacrev(self.mean))(self.flat() if flat is None else flat)

    def jacobian(self) -> Tensor:
        """Of the outputs, [example, output, parameter]."""
        return jacrev(self.outputs)(self.flat())


def cross_entropy(model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    """Of each example."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def squares(model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    """Of each example with one number to predict."""
    return (model(batch[0])[:, 0] - batch[1]).square()


def normal(*shape: int, generator: torch.Generator) -> Tensor:
    """Normally distributed, in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def drawn(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """In float64, with weights of the size that a linear layer has at first."""
    model = model.double()
    with torch.no_grad():
        for part in model.parameters():
            part.copy_(normal(*part.shape, generator=generator) / part.shape[-1] ** 0.5)
    return model


def classes(*, sizes: tuple[int, ...] = (7, 3, 1), num_inputs: int = 4, num_classes: int = 3, seed: int = 0) -> Problem:
    """A smooth network on made-up classes."""
    generator = torch.Generator().manual_seed(seed)
    model = drawn(nn.Sequential(nn.Linear(num_inputs, 5), nn.Tanh(), nn.Linear(5, num_classes)), generator)
    batches = [
        (normal(size, num_inputs, generator=generator), torch.randint(0, num_classes, (size,), generator=generator))
        for size in sizes
    ]
    return Problem(model, batches, cross_entropy)


def least_squares(*, sizes: tuple[int, ...] = (7, 3, 1), num_inputs: int = 6, seed: int = 0) -> Problem:
    """A linear model: its Hessian is (2/n) XᵀX."""
    generator = torch.Generator().manual_seed(seed)
    model = drawn(nn.Linear(num_inputs, 1, bias=False), generator)
    batches = [(normal(size, num_inputs, generator=generator), normal(size, generator=generator)) for size in sizes]
    return Problem(model, batches, squares)


class Diagonal(nn.Module):
    """L = ½ Σ_j d_j w_j²: its Hessian is diag(d)."""

    def __init__(self, diagonal: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones_like(diagonal))
        self.diagonal = diagonal

    def forward(self, x: Tensor) -> Tensor:
        return (self.diagonal * self.weight.square()).sum() / 2 * x


def quadratic(diagonal: Tensor) -> Objective:
    """Of known eigenvalues."""
    return Objective(Diagonal(diagonal), loss=lambda model, x: model(x), batches=[torch.ones(1, dtype=diagonal.dtype)])
