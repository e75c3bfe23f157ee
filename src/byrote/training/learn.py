"""One step: answer a batch, be judged, learn."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from byrote.training.draws import narrow, normal, uniform
from byrote.training.losses import output_slopes
from byrote.training.networks import AbstractNetworks, Pass
from byrote.training.optimise import Gradient, OptimiserState, clip, fit, norms, update, whole
from byrote.training.rules import PerRun, Rules

NOISE = 1 << 30
"""The number under which input noise is drawn from a step's keys; dropout layers have lower ones."""
DRAWN_LABELS = NOISE + 1
"""The number under which labels for the Fisher penalty are drawn."""
DISTANCE = 0.01
"""Along its gradient, by which the Fisher penalty's own gradient is a difference."""


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
        recorded = learnt.clone() if _is_on(rules.rho) or _is_on(rules.fisher_penalty) else learnt
    gradients = networks.gradients(slopes(learnt))
    with torch.no_grad():
        if _is_on(rules.rho):
            gradients = _higher(networks, gradients, rules.rho, x=x, about=about, slopes=slopes)
        if _is_on(rules.fisher_penalty):
            # Further passes write over what these are made of.
            gradients = [None if slope is None else slope.clone() for slope in whole(gradients)]
            drawing = narrow(narrow(lesson.keys, lesson.step), DRAWN_LABELS)
            penalty = _fisher_slopes(networks, lesson, x=x, about=about, drawing=drawing, regression=regression)
            gradients = _sum(gradients, penalty, rules.fisher_penalty)
        update(rules, weights=networks.weights, gradients=clip(gradients, rules.clip_norm), state=state)
    return recorded


def _is_on(amount: PerRun) -> bool:
    return isinstance(amount, Tensor) or amount > 0


def _higher(
    networks: AbstractNetworks,
    gradients: Sequence[Gradient],
    distance: PerRun,
    *,
    x: Float[Tensor, "run batch ..."],
    about: Pass,
    slopes: Callable[[Tensor], Tensor],
) -> list[Gradient]:
    """The gradient at θ + ρ·g/‖g‖₂, for each run by its own norm; the weights are as before afterwards."""
    before = [weight.clone() for weight in networks.weights]
    reached = [(w, g) for w, g in zip(networks.weights, whole(gradients), strict=True) if g is not None]
    length = norms([gradient for _, gradient in reached])
    share = torch.as_tensor(distance, dtype=length.dtype, device=length.device) / (length + 1e-12)
    for weight, gradient in reached:
        weight.add_(gradient * fit(share.expand(len(gradient)), gradient))
    found = networks.gradients(slopes(networks.forward(x, about._replace(again=True))))
    torch._foreach_copy_(list(networks.weights), before)  # pyright: ignore[reportPrivateImportUsage]
    return found


def _fisher_slopes(
    networks: AbstractNetworks,
    lesson: Lesson,
    *,
    x: Float[Tensor, "run batch ..."],
    about: Pass,
    drawing: Int[Tensor, "run 2"],
    regression: bool,
) -> list[Float[Tensor, "run ..."] | None]:
    """∇‖g̃‖² = 2·H̃·g̃ ≈ 2·‖g̃‖·(g̃(θ + r·g̃/‖g̃‖) − g̃(θ))/r with the labels that were drawn at θ."""
    outputs = networks.forward(x, about._replace(again=True))
    drawn = _draw(outputs, drawing, regression=regression)

    def slopes(outputs: Tensor) -> Tensor:
        return output_slopes(outputs, drawn, shares=lesson.shares, label_smoothing=0.0, regression=regression)

    here = [None if slope is None else slope.clone() for slope in whole(networks.gradients(slopes(outputs)))]
    there = whole(_higher(networks, here, DISTANCE, x=x, about=about, slopes=slopes))
    length = norms([slope for slope in here if slope is not None])
    return [
        None if one is None or other is None else (other - one) * fit(2 * length / DISTANCE, one)
        for one, other in zip(here, there, strict=True)
    ]


def _draw(
    outputs: Float[Tensor, "run batch output"], keys: Int[Tensor, "run 2"], *, regression: bool
) -> Shaped[Tensor, "run batch"]:
    """Labels as the networks would give them: classes by their probabilities, numbers z + N(0, ½), whose negative
    log-likelihood is (z − y)² but for a constant.
    """
    if regression:
        return torch.stack(
            [own[:, 0] + normal(key, own[:, 0]) / 2**0.5 for key, own in zip(keys, outputs, strict=True)]
        )
    below = outputs.softmax(-1).cumsum(-1)
    level = torch.stack([uniform(key, own[:, 0]) for key, own in zip(keys, outputs, strict=True)])
    return (below < level[..., None]).sum(-1).clamp(max=outputs.shape[-1] - 1)


def _sum(
    gradients: Sequence[Gradient], others: Sequence[Float[Tensor, "run ..."] | None], factor: PerRun
) -> list[Gradient]:
    """g + α·h, weight by weight."""
    added: list[Gradient] = []
    for one, other in zip(whole(gradients), others, strict=True):
        if one is None or other is None:
            added.append(one)
        else:
            amount = torch.as_tensor(factor, dtype=one.dtype, device=one.device).expand(len(one))
            added.append(one + fit(amount, other) * other)
    return added


def _noisy(
    x: Float[Tensor, "run batch ..."], *, keys: Int[Tensor, "run 2"], deviation: PerRun
) -> Float[Tensor, "run batch ..."]:
    """Inputs with Gaussian noise, each run's from its own keys."""
    drawn = torch.stack([normal(key, x[0]) for key in narrow(keys, NOISE)])
    amount = torch.as_tensor(deviation, dtype=x.dtype, device=x.device).expand(len(x))
    return x + fit(amount, drawn) * drawn
