"""Optimiser steps on stacked weights, in place, element by element; the same arithmetic as torch.optim."""

# torch.optim steps through these functions too; only its stubs call them private.
# pyright: reportPrivateImportUsage=false

import math
from collections.abc import Sequence
from typing import NamedTuple, assert_never, final

import torch
from jaxtyping import Float
from torch import Tensor

from byrote.records import SGD, Adam, AdamW
from byrote.training.rules import PerRun, Rules


class Product(NamedTuple):
    """A gradient that is the matrix product of each run's `left` and `right`, not yet multiplied out."""

    left: Float[Tensor, "run fan_in batch"]
    right: Float[Tensor, "run batch fan_out"]

    def whole(self) -> Float[Tensor, "run fan_in fan_out"]:
        """Multiplied out."""
        return torch.bmm(self.left, self.right)


Gradient = Tensor | Product | None
"""[run, ...] as its weight; None for a weight that did not take part."""


@final
class OptimiserState:
    """What an optimiser remembers; it begins at zero when the kind of optimiser changes."""

    def __init__(self) -> None:
        """Before the first step."""
        self.kind: type[SGD | Adam | AdamW] | None = None
        self.steps = 0
        """Taken with this kind."""
        self.first: list[Float[Tensor, "run ..."]] = []
        """Momentum v of SGD, mean of the gradients of Adam; one per weight."""
        self.second: list[Float[Tensor, "run ..."]] = []
        """Mean of the squared gradients of Adam; one per weight."""
        self.momentum: PerRun = 0.0
        """μ of the last step; a run for which it is 0 remembers nothing of it."""

    def begin(self, rules: Rules, weights: Sequence[Tensor]) -> None:
        """Make room for what these rules need; keep what was remembered by the same kind."""
        kind = type(rules.optimiser)
        if kind is not self.kind:
            self.kind, self.steps, self.first, self.second = kind, 0, [], []
        if kind is SGD and rules.momentum is not self.momentum:
            if isinstance(self.momentum, Tensor):
                scale(self.first, (self.momentum > 0).to(self.momentum.dtype))
            elif self.momentum == 0:
                self.first = []
        self.momentum = rules.momentum
        remembers = kind is not SGD or isinstance(rules.momentum, Tensor) or rules.momentum > 0
        if remembers and not self.first:
            self.first = [torch.zeros_like(weight) for weight in weights]
        if kind is not SGD and not self.second:
            self.second = [torch.zeros_like(weight) for weight in weights]


def update(
    rules: Rules,
    *,
    weights: Sequence[Float[Tensor, "run ..."]],
    gradients: Sequence[Gradient],
    state: OptimiserState,
) -> None:
    """Take one step.

    SGD: v ← μv + g + λθ, θ ← θ − ηv; with Nesterov's momentum θ ← θ − η(g + λθ + μv). Adam: g ← g + λθ, then
    θ ← θ − η m̂/(√v̂ + ε) with bias-corrected moments. AdamW: θ ← θ − ηλθ, then as Adam without λ.

    Args:
        rules: of the step.
        weights: θ, changed in place.
        gradients: g, one per weight; one that is None leaves its weight as it is, without weight decay too.
        state: changed in place.
    """
    state.begin(rules, weights)
    state.steps += 1
    reached = [index for index, gradient in enumerate(gradients) if gradient is not None]
    slopes = [gradient for gradient in gradients if gradient is not None]
    theta, first, second = ([part[i] for i in reached if part] for part in (weights, state.first, state.second))
    match rules.optimiser:
        case SGD():
            _sgd(rules, theta, slopes, first)
        case Adam():
            _adam(rules, theta, decayed(slopes, theta, rules.weight_decay), first, second, steps=state.steps)
        case AdamW():
            if not _is(rules.weight_decay, 0):
                scale(theta, 1 - rules.lr * rules.weight_decay)
            _adam(rules, theta, [_whole(slope) for slope in slopes], first, second, steps=state.steps)
        case _:
            assert_never(rules.optimiser)


def adam_scales(rules: Rules, state: OptimiserState) -> list[Float[Tensor, "run ..."]]:
    """By what Adam divided its last step, √v̂ + ε, one per weight; empty for SGD, and before the first step."""
    if not state.steps or not state.second:
        return []
    return _roots(rules, state.second, steps=state.steps)


def _roots(rules: Rules, second: list[Tensor], *, steps: int) -> list[Float[Tensor, "run ..."]]:
    """√v̂ + ε."""
    roots = list(torch._foreach_sqrt(second))
    scale(roots, (1 - rules.beta2**steps) ** -0.5)
    shift(roots, rules.eps)
    return roots


def _sgd(rules: Rules, weights: list[Tensor], gradients: Sequence[Tensor | Product], momenta: list[Tensor]) -> None:
    if not momenta:
        if not isinstance(rules.lr, Tensor) and _is(rules.weight_decay, 0):
            accumulate(weights, gradients, keep=1.0, factor=-rules.lr)
        else:
            add(weights, decayed(gradients, weights, rules.weight_decay), factor=-rules.lr)
        return
    if isinstance(rules.optimiser, SGD) and rules.optimiser.nesterov:
        slopes = decayed(gradients, weights, rules.weight_decay)
        scale(momenta, rules.momentum)
        add(momenta, slopes, factor=1.0)
        add(weights, slopes, factor=-rules.lr)
        add(weights, momenta, factor=-(rules.lr * rules.momentum))
        return
    keep = rules.momentum
    if not (_is(rules.weight_decay, 0) and isinstance(keep, float)):
        scale(momenta, keep)
        add(momenta, weights, factor=rules.weight_decay)
        keep = 1.0
    accumulate(momenta, gradients, keep=keep, factor=1.0)
    add(weights, momenta, factor=-rules.lr)


def _adam(
    rules: Rules,
    weights: list[Tensor],
    slopes: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    *,
    steps: int,
) -> None:
    lerp(first, slopes, 1 - rules.beta1)
    scale(second, rules.beta2)
    if not isinstance(rules.beta2, Tensor):
        torch._foreach_addcmul_(second, slopes, slopes, value=1 - rules.beta2)
    else:
        add(second, list(torch._foreach_mul(slopes, slopes)), factor=1 - rules.beta2)
    roots = _roots(rules, second, steps=steps)
    size = -(rules.lr / (1 - rules.beta1**steps))
    if not isinstance(size, Tensor):
        torch._foreach_addcdiv_(weights, first, roots, value=size)
    else:
        add(weights, list(torch._foreach_div(first, roots)), factor=size)


# ---- arithmetic on lists of [run, ...], with one number for all runs or one for each -------------------------------


def fit(value: Float[Tensor, "run"], like: Float[Tensor, "run ..."]) -> Float[Tensor, "run ..."]:
    """A number per run, to be multiplied with `like`."""
    return value.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


def scale(tensors: list[Tensor], factor: PerRun) -> None:
    """t ← factor·t."""
    if not isinstance(factor, Tensor):
        if factor != 1:
            torch._foreach_mul_(tensors, factor)
    else:
        torch._foreach_mul_(tensors, [fit(factor, tensor) for tensor in tensors])


def shift(tensors: list[Tensor], amount: PerRun) -> None:
    """t ← t + amount."""
    if not isinstance(amount, Tensor):
        torch._foreach_add_(tensors, amount)
    else:
        torch._foreach_add_(tensors, [fit(amount, tensor) for tensor in tensors])


def add(tensors: list[Tensor], others: list[Tensor], *, factor: PerRun) -> None:
    """t ← t + factor·other."""
    if not isinstance(factor, Tensor):
        if factor != 0:
            torch._foreach_add_(tensors, others, alpha=factor)
    else:
        torch._foreach_addcmul_(tensors, others, [fit(factor, tensor) for tensor in tensors])


def lerp(tensors: list[Tensor], others: list[Tensor], weight: PerRun) -> None:
    """t ← t + weight·(other − t)."""
    if not isinstance(weight, Tensor):
        torch._foreach_lerp_(tensors, others, weight)
    else:
        for tensor, other in zip(tensors, others, strict=True):
            tensor.lerp_(other, fit(weight, tensor))


def accumulate(tensors: list[Tensor], gradients: Sequence[Tensor | Product], *, keep: float, factor: float) -> None:
    """t ← keep·t + factor·gradient, products in one pass over t."""
    plain = [(t, g) for t, g in zip(tensors, gradients, strict=True) if isinstance(g, Tensor)]
    if plain:
        held = [t for t, _ in plain]
        scale(held, keep)
        add(held, [g for _, g in plain], factor=factor)
    for tensor, gradient in zip(tensors, gradients, strict=True):
        if isinstance(gradient, Product):
            tensor.baddbmm_(gradient.left, gradient.right, beta=keep, alpha=factor)


def decayed(
    gradients: Sequence[Tensor | Product], weights: list[Tensor], weight_decay: PerRun
) -> list[Float[Tensor, "run ..."]]:
    """g + λθ. Not to be changed in place: autograd may hand out one gradient for two weights."""
    slopes = [_whole(gradient) for gradient in gradients]
    if _is(weight_decay, 0):
        return slopes
    if not isinstance(weight_decay, Tensor):
        return list(torch._foreach_add(slopes, weights, alpha=weight_decay))
    return [slope + fit(weight_decay, theta) * theta for slope, theta in zip(slopes, weights, strict=True)]


def norms(tensors: Sequence[Float[Tensor, "run ..."]]) -> Float[Tensor, "run"]:
    """‖t‖₂ over all tensors of each run."""
    return torch.stack([tensor.flatten(1).square().sum(1) for tensor in tensors]).sum(0).sqrt()


def whole(gradients: Sequence[Gradient]) -> list[Float[Tensor, "run ..."] | None]:
    """Gradients with every product multiplied out."""
    return [gradient if gradient is None else _whole(gradient) for gradient in gradients]


def clip(gradients: Sequence[Gradient], clip_norm: PerRun) -> Sequence[Gradient]:
    """g·min(1, c/(‖g‖₂ + 1e-6)) for each run's whole gradient, as `torch.nn.utils.clip_grad_norm_`."""
    if not isinstance(clip_norm, Tensor) and math.isinf(clip_norm):
        return gradients
    slopes = whole(gradients)
    length = norms([slope for slope in slopes if slope is not None])
    limit = clip_norm.to(length.dtype) if isinstance(clip_norm, Tensor) else clip_norm
    factor = (limit / (length + 1e-6)).clamp(max=1)
    return [slope if slope is None else slope * fit(factor, slope) for slope in slopes]


def _whole(gradient: Tensor | Product) -> Float[Tensor, "run ..."]:
    return gradient.whole() if isinstance(gradient, Product) else gradient


def _is(value: PerRun, number: float) -> bool:
    return not isinstance(value, Tensor) and value == number
