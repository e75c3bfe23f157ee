"""Optimiser steps on stacked or single weights, in place, element by element; the same arithmetic as torch.optim."""

# torch.optim steps through these functions too; only its stubs call them private.
# pyright: reportPrivateImportUsage=false

import math
from collections.abc import Sequence
from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from byrote.records import SGD, AdamW, Constant, Cosine, Linear, Optimiser, Recipe, Step


class OptimiserState(NamedTuple):
    """One tensor per weight for each moment kept."""

    first: list[Tensor]
    """Momentum v of SGD, mean of the gradients of AdamW."""
    second: list[Tensor]
    """Mean of the squared gradients of AdamW."""


def start(optimiser: Optimiser, parameters: list[Tensor]) -> OptimiserState:
    """The state before the first step."""
    match optimiser:
        case SGD():
            return OptimiserState([torch.zeros_like(p) for p in parameters] if optimiser.momentum else [], [])
        case AdamW():
            return OptimiserState([torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters])
        case _:
            assert_never(optimiser)


@torch.no_grad()
def update(
    optimiser: Optimiser,
    *,
    parameters: list[Tensor],
    gradients: Sequence[Tensor | None],
    state: OptimiserState,
    lr: float,
    step: int,
) -> None:
    """Take one step.

    SGD: v ← μv + g + λθ, θ ← θ − ηv. AdamW: θ ← θ − ηλθ, then θ ← θ − η m̂/(√v̂ + ε), with bias-corrected moments.

    >>> weights = [torch.tensor([1.0])]
    >>> sgd = SGD(lr=0.5, momentum=0.0)
    >>> update(sgd, parameters=weights, gradients=[torch.ones(1)], state=start(sgd, weights), lr=0.5, step=1)
    >>> weights
    [tensor([0.5000])]

    Args:
        optimiser: which rule; its own `lr` is not read.
        parameters: θ, changed in place.
        gradients: g, one per parameter; one that is None leaves its parameter as it is, without weight decay too.
        state: from `start`, changed in place.
        lr: η of this step.
        step: counted from 1.
    """
    reached = [index for index, gradient in enumerate(gradients) if gradient is not None]
    weights, first, second = ([part[index] for index in reached if part] for part in (parameters, *state))
    slopes = [gradient for gradient in gradients if gradient is not None]
    match optimiser:
        case SGD():
            if optimiser.weight_decay:  # Not in place: autograd may hand out one gradient for two weights.
                slopes = list(torch._foreach_add(slopes, weights, alpha=optimiser.weight_decay))
            if optimiser.momentum:
                torch._foreach_mul_(first, optimiser.momentum)
                torch._foreach_add_(first, slopes)
                slopes = first
            torch._foreach_add_(weights, slopes, alpha=-lr)
        case AdamW():
            torch._foreach_mul_(weights, 1 - lr * optimiser.weight_decay)
            torch._foreach_lerp_(first, slopes, 1 - optimiser.beta1)
            torch._foreach_mul_(second, optimiser.beta2)
            torch._foreach_addcmul_(second, slopes, slopes, value=1 - optimiser.beta2)
            denominator = torch._foreach_sqrt(second)
            torch._foreach_div_(denominator, math.sqrt(1 - optimiser.beta2**step))
            torch._foreach_add_(denominator, optimiser.eps)
            torch._foreach_addcdiv_(weights, first, denominator, value=-lr / (1 - optimiser.beta1**step))
        case _:
            assert_never(optimiser)


def learning_rate(recipe: Recipe, *, step: int, steps_per_epoch: int) -> float:
    """η at a step, counted from 0.

    >>> learning_rate(Recipe(optimiser=SGD(lr=0.1), schedule=Cosine(), epochs=10), step=50, steps_per_epoch=10)
    0.05
    """
    lr, schedule = recipe.optimiser.lr, recipe.schedule
    progress = step / (recipe.epochs * steps_per_epoch)
    match schedule:
        case Constant():
            return lr
        case Step():
            return lr * schedule.factor ** (step // steps_per_epoch // schedule.every)
        case Cosine():
            return lr * (1 + math.cos(math.pi * progress)) / 2
        case Linear():
            return lr * (1 - progress)
        case _:
            assert_never(schedule)
