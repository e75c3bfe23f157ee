"""How far the loss rises within a small distance of the weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from byrote.measures.curvature.lanczos import dot, random_direction
from byrote.measures.curvature.objective import Objective

RADIUS = 0.05
"""ρ of the first paper on SAM."""
RELATIVE_RADIUS = 0.5
"""ρ in units of the weights themselves, of the first paper on ASAM."""
BOX = 1e-3
"""ε of Keskar et al."""
NUM_STEPS = 10
SHORTENED = 6
"""Times that a step that does not raise the loss is halved before the ascent ends."""


@final
@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """How far the loss rises nearby."""

    value: float
    """Largest rise that was found, a lower bound of the largest there is; at least 0. NaN where L is no number."""
    one_step: float
    """Rise at the end of the first step alone, as far as the region goes; may be below 0."""
    residual: float
    """What one more step would add if the loss were linear; 0 at a maximum. Unit of the loss, as `value`'s but for
    Keskar's percents, which apply to both."""
    start: float
    """L, from which it rises."""
    count: int
    """Steps."""
    cost: float
    """In full-data gradients."""
    survives_rescaling: bool
    """Whether Dinh's rescaling (θ₁a, θ₂/a) of a ReLU network leaves it as it is."""


def sam_sharpness(
    objective: Objective, *, radius: float = RADIUS, num_steps: int = NUM_STEPS, seed: int = 0
) -> Sharpness:
    """Measure how far the loss rises within a ball around the weights.

    max_{‖ε‖≤ρ} L(θ + ε) − L(θ). The first step is SAM's, ε = ρ·g/‖g‖; each further one goes where the gradient at θ + ε
    leads, ρ·∇L(θ + ε)/‖∇L(θ + ε)‖, halved until the loss rises. Near a minimum with Hessian H it is λ_max·ρ²/2.

    For ℓ = (w₁x₁ + w₂x₂)² on x = (2, 0) and (0, 1), H = diag(4, 1), at w = 0:

    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> x = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double()
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0] ** 2, batches=[x])
    >>> round(sam_sharpness(objective, radius=0.1).value, 6)
    0.02

    Args:
        objective: whose loss.
        radius: ρ, above 0.
        num_steps: at least 1, each of a gradient and one or more losses; fewer are taken where nothing rises any more.
        seed: of the first step, where the gradient is 0.

    Raises:
        ValueError: a number is out of its range.
        ModelError: the loss or the model fails.

    Foret et al. 2021, Sharpness-Aware Minimization for Efficiently Improving Generalization,
    https://arxiv.org/abs/2010.01412
    """
    _check(radius, num_steps)
    ones = torch.ones(objective.num_parameters, dtype=objective.weights.total, device=objective.weights.device)
    return _measured(objective, Ball(radius, ones), num_steps=num_steps, seed=seed, survives_rescaling=False)


def adaptive_sharpness(
    objective: Objective, *, radius: float = RELATIVE_RADIUS, num_steps: int = NUM_STEPS, seed: int = 0
) -> Sharpness:
    """Measure how far the loss rises when each weight moves in proportion to its own size.

    max L(θ + ε) − L(θ) over ‖ε/|θ|‖ ≤ ρ. First step ε = ρ·θ²g/‖θg‖. No rescaling of a layer, or of a single unit,
    changes it; a weight of 0 stays.

    For ℓ = (uvx)² at u = v = 1, and at u = 2, v = 1/2, the same function:

    >>> def measured(u, v):
    ...     model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)).double()
    ...     _ = torch.nn.init.constant_(model[0].weight, u), torch.nn.init.constant_(model[1].weight, v)
    ...     x = torch.ones(1, 1).double()
    ...     objective = Objective(model, loss=lambda model, x: model(x)[:, 0] ** 2, batches=[x])
    ...     return round(adaptive_sharpness(objective).value, 6), round(sam_sharpness(objective).value, 6)
    >>> (one, sam), (same, another) = measured(1.0, 1.0), measured(2.0, 0.5)
    >>> one == same, sam == another
    (True, False)

    Args:
        objective: whose loss.
        radius: ρ, above 0, as a share of the weights.
        num_steps: at least 1.
        seed: of the first step, where the gradient is 0.

    Raises:
        ValueError: a number is out of its range.
        ModelError: the loss or the model fails.

    Kwon et al. 2021, ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural Networks,
    https://arxiv.org/abs/2102.11600
    """
    _check(radius, num_steps)
    sizes = objective.flat_weights().abs().to(objective.weights.total)
    return _measured(objective, Ball(radius, sizes), num_steps=num_steps, seed=seed, survives_rescaling=True)


def keskar_sharpness(
    objective: Objective,
    *,
    epsilon: float = BOX,
    num_dimensions: int | None = None,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
) -> Sharpness:
    """Measure how far the loss rises within a box around the weights, in percent of 1 + L.

    100·(max_{y ∈ C} L(θ + Ay) − L(θ))/(1 + L(θ)), C = {|y_i| ≤ ε(|(A⁺θ)_i| + 1)}: A is the identity, or random columns
    of length 1, that span a subspace. For a small box the rise is Σ_i ε(|θ_i| + 1)|g_i|:

    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> _ = torch.nn.init.ones_(model.weight)
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0], batches=[torch.ones(1, 1).double()])
    >>> round(keskar_sharpness(objective, epsilon=0.5).value, 6)
    50.0

    Args:
        objective: whose loss.
        epsilon: ε, above 0.
        num_dimensions: of the subspace, at most the number of parameters; None: the whole space.
        num_steps: at least 1.
        seed: of the subspace, and of the first step where the gradient is 0.

    Raises:
        ValueError: a number is out of its range.
        ModelError: the loss or the model fails.

    Keskar et al. 2017, On Large-Batch Training for Deep Learning: Generalization Gap and Sharp Minima,
    https://arxiv.org/abs/1609.04836
    """
    _check(epsilon, num_steps)
    if num_dimensions is not None and not 1 <= num_dimensions <= objective.num_parameters:
        raise ValueError(
            f"Expected a subspace of between 1 and {objective.num_parameters:,} dimensions, got {num_dimensions!r}."
        )
    here = objective.flat_weights().to(objective.weights.total)
    basis = None if num_dimensions is None else _subspace(here, num_dimensions, seed)
    inside = here if basis is None else _coordinates(basis, here)
    region = Box(epsilon * (inside.abs() + 1), basis)
    found = _measured(objective, region, num_steps=num_steps, seed=seed, survives_rescaling=False)
    percent = 100 / (1 + found.start)
    return replace(
        found, value=percent * found.value, one_step=percent * found.one_step, residual=percent * found.residual
    )


class AbstractRegion(ABC):
    """Where the maximum is looked for: convex, with 0 in its middle."""

    @abstractmethod
    def furthest(self, gradient: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
        """The ε in the region with the largest ⟨gradient, ε⟩."""


@final
class Ball(AbstractRegion):
    """‖ε/t‖ ≤ ρ."""

    def __init__(self, radius: float, scale: Float[Tensor, "parameter"]) -> None:
        self._radius, self._scale = radius, scale

    def furthest(self, gradient: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
        """ρ·t²g/‖tg‖."""
        scaled = self._scale * gradient
        length = dot(scaled, scaled) ** 0.5
        return torch.zeros_like(gradient) if length == 0 else self._radius / length * self._scale * scaled


@final
class Box(AbstractRegion):
    """ε = Ay with |y_i| ≤ h_i."""

    def __init__(self, halves: Float[Tensor, "dimension"], basis: Float[Tensor, "dimension parameter"] | None) -> None:
        self._halves, self._basis = halves, basis

    def furthest(self, gradient: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
        """A corner."""
        if self._basis is None:
            return self._halves * gradient.sign()
        return (self._halves * (self._basis @ gradient).sign()) @ self._basis


def _measured(
    objective: Objective, region: AbstractRegion, *, num_steps: int, seed: int, survives_rescaling: bool
) -> Sharpness:
    before = objective.spent
    with objective.opened():
        start, here = objective.value(), objective.flat_weights()
        wide = here.to(objective.weights.total)

        def moved(step: Tensor) -> Tensor:
            return (wide + step).to(here.dtype)

        def rise(step: Tensor) -> float:
            with objective.at(moved(step)):
                return objective.value() - start

        def slope(step: Tensor) -> Tensor:
            with objective.at(moved(step)):
                return objective.gradient().to(wide)

        nan = float("nan")
        known = isfinite(start)
        found = _ascent(rise, slope, region, like=wide, num_steps=num_steps, seed=seed) if known else (nan, nan, nan, 0)
    best, first, residual, count = found
    return Sharpness(
        value=best,
        one_step=first,
        residual=residual,
        start=start,
        count=count,
        cost=objective.spent - before,
        survives_rescaling=survives_rescaling,
    )


def _ascent(
    rise: Callable[[Tensor], float],
    slope: Callable[[Tensor], Tensor],
    region: AbstractRegion,
    *,
    like: Float[Tensor, "parameter"],
    num_steps: int,
    seed: int,
) -> tuple[float, float, float, int]:
    """Towards the furthest point that the gradient leads to, again and again: the largest rise, the first step's, what
    is left to gain, and the number of steps."""
    here = torch.zeros_like(like)
    gradient = slope(here)
    goal = region.furthest(gradient)
    if not goal.any():
        goal = region.furthest(random_direction(seed, "ascent", like=like))
    best, first, count = 0.0, rise(goal), 0
    ahead = first
    for count in range(1, num_steps + 1):
        length = 1.0
        while not ahead > best and length > 0.5**SHORTENED:
            length /= 2
            ahead = rise(here + length * (goal - here))
        if not ahead > best:
            break
        here, best = here + length * (goal - here), ahead
        gradient = slope(here)
        goal = region.furthest(gradient)
        if count < num_steps:
            ahead = rise(goal)
    left = dot(gradient, goal - here)
    return best, first, left if left != left else max(0.0, left), count


def _subspace(here: Float[Tensor, "parameter"], num: int, seed: int) -> Float[Tensor, "dimension parameter"]:
    drawn = torch.stack([random_direction(seed, "subspace", row, like=here) for row in range(num)])
    return drawn / drawn.square().sum(1, keepdim=True).sqrt()


def _coordinates(
    basis: Float[Tensor, "dimension parameter"], vector: Float[Tensor, "parameter"]
) -> Float[Tensor, "dimension"]:
    """A⁺θ, for independent columns."""
    return torch.linalg.solve(basis @ basis.T, basis @ vector)  # pyright: ignore


def _check(radius: float, num_steps: int) -> None:
    if not 0 < radius < float("inf") or num_steps < 1:
        raise ValueError(
            f"Expected a finite distance above 0 and at least 1 step, got {radius!r} and num_steps={num_steps!r}."
        )
