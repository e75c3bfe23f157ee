"""Optimiser steps on stacked or single weights, in place, element by element; the same arithmetic as torch.optim."""

import math
from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from byrote.records import SGD, AdamW, Constant, Cosine, Linear, Optimiser, Schedule, Step


class OptimiserState(NamedTuple):
    """One tensor per weight for each moment kept."""

    first: list[Tensor]
    second: list[Tensor]


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
    gradients: list[Tensor],
    state: OptimiserState,
    lr: float,
    step: int,
) -> None:
    """Take one step, counted from 1. `gradients` may be overwritten."""
    match optimiser:
        case SGD():
            if optimiser.weight_decay:
                torch._foreach_add_(gradients, parameters, alpha=optimiser.weight_decay)
            if optimiser.momentum:
                torch._foreach_mul_(state.first, optimiser.momentum)
                torch._foreach_add_(state.first, gradients)
                gradients = state.first
            torch._foreach_add_(parameters, gradients, alpha=-lr)
        case AdamW():
            torch._foreach_mul_(parameters, 1 - lr * optimiser.weight_decay)
            torch._foreach_lerp_(state.first, gradients, 1 - optimiser.beta1)
            torch._foreach_mul_(state.second, optimiser.beta2)
            torch._foreach_addcmul_(state.second, gradients, gradients, value=1 - optimiser.beta2)
            denominator = torch._foreach_sqrt(state.second)
            torch._foreach_div_(denominator, math.sqrt(1 - optimiser.beta2**step))
            torch._foreach_add_(denominator, optimiser.eps)
            torch._foreach_addcdiv_(parameters, state.first, denominator, value=-lr / (1 - optimiser.beta1**step))
        case _:
            assert_never(optimiser)


def learning_rate(lr: float, schedule: Schedule, *, step: int, num_steps: int, steps_per_epoch: int) -> float:
    """η at a step, counted from 0.

    >>> learning_rate(0.1, Cosine(), step=50, num_steps=100, steps_per_epoch=10)
    0.05
    """
    match schedule:
        case Constant():
            return lr
        case Step():
            return lr * schedule.factor ** (step // steps_per_epoch // schedule.every)
        case Cosine():
            return lr * (1 + math.cos(math.pi * step / num_steps)) / 2
        case Linear():
            return lr * (1 - step / num_steps)
        case _:
            assert_never(schedule)
