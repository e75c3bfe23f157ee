"""What a step along the sharpest direction alone does to the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from byrote.measures.curvature.lanczos import random_direction
from byrote.measures.curvature.objective import Objective

MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""γ, of the learning rate."""
CONTROLS = 5
"""Random directions."""


@final
@dataclass(frozen=True, kw_only=True)
class SharpestStep:
    """Changes of the loss after steps of several lengths; below 0 the loss falls."""

    multiples: Float[np.ndarray, "multiple"]
    """γ."""
    sharpest: Float[np.ndarray, "multiple"]
    """After −ηγ⟨g, e₁⟩e₁."""
    random: Float[np.ndarray, "multiple"]
    """After a step as long along a random direction, downhill; mean over directions."""
    random_se: Float[np.ndarray, "multiple"]
    """NaN for fewer than two directions."""
    full: Float[np.ndarray, "multiple"]
    """After −ηγg."""
    start: float
    """L before the step."""
    residual: float
    """What rounding makes of a change, at most about."""
    slope: float
    """⟨g, e₁⟩."""
    count: int
    """Random directions."""
    cost: float
    """In full-data gradients."""
    survives_rescaling: bool = False

    @property
    def value(self) -> float:
        """The change after the step along the sharpest direction whose γ is nearest to 1."""
        return float(self.sharpest[np.abs(np.log(self.multiples)).argmin()])

    @property
    def longest_downhill(self) -> float:
        """The largest γ up to which every step along the sharpest direction that was tried lowers the loss; 0 when the
        shortest does not."""
        order = np.argsort(self.multiples)
        rises = np.flatnonzero(~(self.sharpest[order] < 0))
        kept = order if not len(rises) else order[: rises[0]]
        return float(self.multiples[kept[-1]]) if len(kept) else 0.0


def sharpest_step(
    objective: Objective,
    *,
    direction: Float[Tensor, "parameter"],
    learning_rate: float,
    multiples: Sequence[float] = MULTIPLES,
    num_random: int = CONTROLS,
    seed: int = 0,
) -> SharpestStep:
    """Measure what the gradient step does to the loss along the sharpest direction, against others.

    L(θ − ηγ⟨g, e₁⟩e₁) − L(θ), beside a step as long along random directions r, downhill (against the sign of ⟨g, r⟩),
    and beside the whole step −ηγg. On a quadratic the first is −ηγ⟨g, e₁⟩²(1 − ηγλ₁/2): it rises from γ = 2/(ηλ₁) on.

    For ℓ = w², with g = 2w and λ = 2, at w = 1 and η = 1/2 the step ends in the minimum, and twice the step where it
    began:

    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> _ = torch.nn.init.ones_(model.weight)
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0] ** 2, batches=[torch.ones(1, 1).double()])
    >>> found = sharpest_step(objective, direction=torch.ones(1).double(), learning_rate=0.5, multiples=(1.0, 2.0))
    >>> found.sharpest.tolist()
    [-1.0, 0.0]

    Args:
        objective: whose loss.
        direction: e₁, of any length but 0, such as `top_eigenvalues(...).top.vectors[0]`.
        learning_rate: η.
        multiples: γ, above 0.
        num_random: directions to compare with.
        seed: decides which.

    Returns:
        Changes; they cost one gradient and a third of one for each loss, 13 in all at the defaults.

    Raises:
        ValueError: the direction does not fit, or a number is out of its range.
        ModelError: the loss or the model fails.

    Jastrzębski et al. 2019, On the Relation Between the Sharpest Directions of DNN Loss and the SGD Step Length,
    https://arxiv.org/abs/1807.05031
    """
    _check(objective, direction, learning_rate=learning_rate, multiples=multiples, num_random=num_random)
    before = objective.spent
    with objective.opened():
        here, start = objective.flat_weights(), objective.value()
        gradient = objective.gradient().to(objective.weights.total)
        unit = _unit(direction.detach().to(gradient))
        slope = float(gradient @ unit)
        random = [random_direction(seed, "control", number, like=gradient) for number in range(num_random)]
        steps = [slope * unit, gradient, *(abs(slope) * _downhill(each, gradient) for each in random)]

        def change(step: Tensor, multiple: float) -> float:
            with objective.at((here - learning_rate * multiple * step).to(here.dtype)):
                return objective.value() - start

        found = np.array([[change(step, multiple) for multiple in multiples] for step in steps])
    controls = found[2:]
    return SharpestStep(
        multiples=np.array(multiples, np.float64),
        sharpest=found[0],
        full=found[1],
        random=controls.mean(0) if num_random else np.full(len(multiples), np.nan),
        random_se=controls.std(0, ddof=1) / num_random**0.5 if num_random > 1 else np.full(len(multiples), np.nan),
        start=start,
        residual=2 * torch.finfo(here.dtype).eps * abs(start),
        slope=slope,
        count=num_random,
        cost=objective.spent - before,
    )


def _downhill(
    direction: Float[Tensor, "parameter"], gradient: Float[Tensor, "parameter"]
) -> Float[Tensor, "parameter"]:
    """Of length 1, with the gradient's sign along it."""
    return _unit(direction) * (1 if float(direction @ gradient) >= 0 else -1)


def _unit(vector: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
    return vector / vector.square().sum().sqrt()


def _check(
    objective: Objective,
    direction: Float[Tensor, "parameter"],
    *,
    learning_rate: float,
    multiples: Sequence[float],
    num_random: int,
) -> None:
    length = float(direction.detach().double().square().sum()) ** 0.5
    if direction.shape != (objective.num_parameters,) or not 0 < length < float("inf"):
        raise ValueError(
            f"Expected a finite direction of {objective.num_parameters:,} numbers, not all 0, got shape "
            f"{tuple(direction.shape)} and length {length!r}."
        )
    if not 0 < learning_rate < float("inf") or num_random < 0:
        raise ValueError(
            "Expected a finite learning rate above 0 and at least 0 random directions, got "
            f"{learning_rate!r} and {num_random!r}."
        )
    if not len(multiples) or not all(0 < multiple < float("inf") for multiple in multiples):
        raise ValueError(f"Expected at least one multiple of the learning rate, all above 0, got {tuple(multiples)!r}.")
