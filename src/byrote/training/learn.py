"""One step: answer a batch, be judged, learn."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from byrote.training.draws import narrow, normal
from byrote.training.losses import output_slopes
from byrote.training.networks import AbstractNetworks, Pass
from byrote.training.optimise import Gradient, OptimiserState, clip, fit, norms, update, whole
from byrote.training.rules import PerRun, Rules

NOISE = 1 << 30
"""The number under which input noise is drawn from a step's keys; dropout layers have lower ones."""


class Lesson(NamedTuple):
    """What a step is about."""

    x: Float[Tensor, "run batch ..."]
    """Stride 0 along the runs where they share a batch."""
    targets: Shaped[Tensor, "run batch"]
    included: Bool[Tensor, "run batch"]
    """Which examples each run is trained on."""
    shares: Float[Tensor, "run batch"]
    """What each example counts in its run's loss, from `batch_shares`."""
    keys: Int[Tensor, "run 2"]
    """What each run draws from in its whole training."""
    step: int
    """Counted from 0."""


def learn(
    networks: AbstractNetworks, lesson: Lesson, *, rules: Rules, state: OptimiserState, regression: bool
) -> Float[Tensor, "run batch output"]:
    """Take one step, each network on its own batch.

    Returns:
        What the networks said before the step, in evaluation mode.
    """
    is_noisy = isinstance(rules.input_noise, Tensor) or rules.input_noise > 0
    separate = is_noisy or networks.differ(rules.dropout)
    keys = narrow(lesson.keys, lesson.step) if separate else lesson.keys
    about = Pass(lesson.included, keys, rules.dropout, lesson.step)
    recorded = networks.outputs(lesson.x) if separate else None
    x = _noisy(lesson.x, keys=keys, deviation=rules.input_noise) if is_noisy else lesson.x

    def slopes(outputs: Tensor) -> Tensor:
        return output_slopes(
            outputs,
            lesson.targets,
            shares=lesson.shares,
            label_smoothing=rules.label_smoothing,
            regression=regression,
        )

    learnt = networks.forward(x, about)
    if recorded is None:
        recorded = learnt.clone() if _sharpens(rules) else learnt
    gradients = networks.gradients(slopes(learnt))
    with torch.no_grad():
        if _sharpens(rules):
            before = [weight.clone() for weight in networks.weights]
            _climb(networks, gradients, rules.rho)
            gradients = networks.gradients(slopes(networks.forward(x, about._replace(again=True))))
            torch._foreach_copy_(list(networks.weights), before)  # pyright: ignore[reportPrivateImportUsage]
        update(rules, weights=networks.weights, gradients=clip(gradients, rules.clip_norm), state=state)
    return recorded


def _sharpens(rules: Rules) -> bool:
    return isinstance(rules.rho, Tensor) or rules.rho > 0


def _climb(networks: AbstractNetworks, gradients: list[Gradient], rho: PerRun) -> None:
    """θ ← θ + ρ·g/‖g‖₂, for each run by its own norm."""
    reached = [(w, g) for w, g in zip(networks.weights, whole(gradients), strict=True) if g is not None]
    length = norms([gradient for _, gradient in reached])
    share = torch.as_tensor(rho, dtype=length.dtype, device=length.device) / (length + 1e-12)
    for weight, gradient in reached:
        weight.add_(gradient * fit(share.expand(len(gradient)), gradient))


def _noisy(
    x: Float[Tensor, "run batch ..."], *, keys: Int[Tensor, "run 2"], deviation: PerRun
) -> Float[Tensor, "run batch ..."]:
    """Inputs with Gaussian noise, each run's from its own keys."""
    drawn = torch.stack([normal(key, x[0]) for key in narrow(keys, NOISE)])
    amount = torch.as_tensor(deviation, dtype=x.dtype, device=x.device).expand(len(x))
    return x + fit(amount, drawn) * drawn
