"""Optimiser steps as functions: out of place, so that they can be differentiated."""

from collections.abc import Sequence
from typing import NamedTuple, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from byrote.records import SGD, Adam, AdamW

Base = SGD | Adam | AdamW


class Trained(NamedTuple):
    """Weights, and what the optimiser remembers of each."""

    weights: tuple[Float[Tensor, "..."], ...]
    first: tuple[Float[Tensor, "..."], ...]
    """Momentum of SGD, mean of the gradients of Adam; empty where nothing is remembered."""
    second: tuple[Float[Tensor, "..."], ...]
    """Mean of the squared gradients of Adam."""

    def flat(self) -> tuple[Tensor, ...]:
        """All of it, one after another."""
        return (*self.weights, *self.first, *self.second)

    def like(self, parts: Sequence[Tensor]) -> "Trained":
        """The same structure with other tensors."""
        one, two = len(self.weights), len(self.weights) + len(self.first)
        return Trained(tuple(parts[:one]), tuple(parts[one:two]), tuple(parts[two:]))


def kept_of_each(optimiser: Base) -> int:
    """Tensors that are kept of each weight, itself among them."""
    if isinstance(optimiser, SGD):
        return 2 if optimiser.momentum else 1
    return 3


def untrained(weights: Sequence[Tensor], optimiser: Base) -> Trained:
    """Before the first step."""
    zeros = tuple(torch.zeros_like(weight) for weight in weights)
    remembered = kept_of_each(optimiser) - 1
    return Trained(tuple(weights), zeros if remembered else (), zeros if remembered > 1 else ())


def stepped(state: Trained, gradients: Sequence[Tensor | None], *, optimiser: Base, lr: float, number: int) -> Trained:
    """One step, as `torch.optim` takes it.

    SGD: v ← μv + g + λθ, θ ← θ − ηv; with Nesterov's momentum θ ← θ − η(g + λθ + μv). Adam: g ← g + λθ, then
    θ ← θ − η m̂/(√v̂ + ε) with bias-corrected moments. AdamW: θ ← θ − ηλθ, then as Adam without λ.

    Args:
        state: before.
        gradients: one per weight; one that is None leaves its weight as it is.
        optimiser: its numbers, but for the learning rate.
        lr: η.
        number: of the step, from 1.
    """
    done = list(state.flat())
    size = len(state.weights)
    for place, gradient in enumerate(gradients):
        if gradient is None:
            continue
        own = [done[place + offset * size] for offset in range(len(done) // size)]
        done[place::size] = _one(own, gradient, optimiser=optimiser, lr=lr, number=number)
    return state.like(done)


def _one(own: list[Tensor], gradient: Tensor, *, optimiser: Base, lr: float, number: int) -> list[Tensor]:
    """Of one weight: the weight, and what is remembered of it."""
    theta, decay = own[0], optimiser.weight_decay
    match optimiser:
        case SGD():
            slope = gradient + decay * theta
            if len(own) == 1:
                return [theta - lr * slope]
            moving = optimiser.momentum * own[1] + slope
            ahead = slope + optimiser.momentum * moving if optimiser.nesterov else moving
            return [theta - lr * ahead, moving]
        case Adam():
            return _adam(own, gradient + decay * theta, optimiser, lr=lr, number=number)
        case AdamW():
            return _adam([theta - lr * decay * theta, *own[1:]], gradient, optimiser, lr=lr, number=number)
        case _:
            assert_never(optimiser)


def _adam(own: list[Tensor], slope: Tensor, optimiser: Adam | AdamW, *, lr: float, number: int) -> list[Tensor]:
    theta, first, second = own
    first = optimiser.beta1 * first + (1 - optimiser.beta1) * slope
    second = optimiser.beta2 * second + (1 - optimiser.beta2) * slope.square()
    # Where no gradient has come yet the root has no derivative, and none is needed: the first moment is 0 there.
    reached = second > 0
    root = torch.where(reached, second, 1.0).sqrt() * reached / (1 - optimiser.beta2**number) ** 0.5
    rate = lr / (1 - optimiser.beta1**number)
    return [theta - rate * first / (root + optimiser.eps), first, second]
