"""How gradients and single examples' curvatures lie with respect to the sharpest directions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from byrote.measures.curvature.covariance import stored_gradients
from byrote.measures.curvature.differentiate import check_differentiable, example_losses, pulled_back
from byrote.measures.curvature.jackknife import jackknife_error
from byrote.measures.curvature.objective import Objective
from byrote.measures.curvature.rows import MEMORY

WAYS = 4
"""Ways there and back for curvatures along a direction: two derivatives by the weights, and each of them by weights of
examples, which tells the examples apart."""


@final
@dataclass(frozen=True, kw_only=True)
class GradientAlignment:
    """How much of the gradient lies in some directions."""

    value: float
    """Share of ‖g‖² in the span of the directions, in [0, 1]; NaN where the gradient is 0."""
    se: float
    """By the jackknife over batches; NaN for fewer than three."""
    by_chance: float
    """Share of a random vector: number of dimensions over p."""
    cosines: Float[np.ndarray, "direction"]
    """⟨g, e⟩/‖g‖."""
    batch_cosines: Float[np.ndarray, "batch direction"]
    """The same of each batch's own gradient."""
    batch_shares: Float[np.ndarray, "batch"]
    """Share of ‖g_i‖² in the span."""
    count: int
    """Batches."""
    cost: float
    """In full-data gradients."""
    survives_rescaling: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class CurvatureVariance:
    """How much the examples differ in their curvature along a direction."""

    value: float
    """s² = (1/n) Σ_i (eᵀH_ie − eᵀHe)²."""
    se: float
    """√((m₄ − s⁴)/n), m₄ being the fourth central moment; NaN for fewer than two examples."""
    mean: float
    """eᵀHe: the eigenvalue, where e is an eigenvector."""
    mean_se: float
    """s/√(n − 1)."""
    curvatures: Float[np.ndarray, "example"]
    """eᵀH_ie, batch by batch; of several processes those of this one."""
    count: int
    """Examples, of all processes."""
    cost: float
    """In full-data gradients: 4, as products whose graph is built anew are 2; not part of `Objective.spent`."""
    survives_rescaling: bool = False


def gradient_alignment(
    objective: Objective, *, directions: Float[Tensor, "direction parameter"], memory: int = MEMORY
) -> GradientAlignment:
    """Measure which share of the gradient lies in some directions, such as the sharpest.

    Σ_k ⟨g, q_k⟩²/‖g‖² for an orthonormal basis q of the directions; of the whole gradient and of each batch's.

    For ℓ = (w·x)² at w = (1, 1) on x = (2, 1) the gradient is (12, 6):

    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> _ = torch.nn.init.ones_(model.weight)
    >>> batches = [torch.tensor([[2.0, 1.0]]).double()]
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0] ** 2, batches=batches)
    >>> found = gradient_alignment(objective, directions=torch.tensor([[1.0, 0.0]]).double())
    >>> round(found.value, 9), found.by_chance
    (0.8, 0.5)

    Args:
        objective: whose gradient.
        directions: of any length but 0, such as `top_eigenvalues(...).top.vectors`.
        memory: bytes that the batches' gradients may take before they are written to a temporary file.

    Raises:
        ValueError: there are no directions, they do not fit, or one depends on the others.
        ModelError: the loss or the model fails.

    Gur-Ari et al. 2018, Gradient Descent Happens in a Tiny Subspace, https://arxiv.org/abs/1812.04754
    """
    basis = _basis(directions, objective)
    before = objective.spent
    gradients = stored_gradients(objective, memory=memory)
    cost = objective.spent - before
    sizes = np.array(objective.batch_sizes, np.float64)
    products = gradients.gram()
    along = gradients.times(torch.cat([basis, _unit(directions.to(basis))]).T)
    inside, cosines = along[:, : len(basis)], along[:, len(basis) :]

    def share(kept: Sequence[int]) -> Float[np.ndarray, "1"]:
        own = sizes[kept] / sizes[kept].sum()
        return _ratio(np.square(own @ inside[kept]).sum(keepdims=True), own @ products[np.ix_(kept, kept)] @ own)

    weights = sizes / sizes.sum()
    squares = np.diag(products)
    return GradientAlignment(
        value=float(share(range(len(sizes)))[0]),
        se=float(jackknife_error(share, count=len(sizes))[0]),
        by_chance=len(basis) / objective.num_parameters,
        cosines=_ratio(weights @ cosines, np.sqrt(max(0.0, float(weights @ products @ weights)))),
        batch_cosines=_ratio(cosines, np.sqrt(squares)[:, None]),
        batch_shares=_ratio(np.square(inside).sum(1), squares),
        count=len(sizes),
        cost=cost,
    )


def curvature_variance(objective: Objective, *, direction: Float[Tensor, "parameter"]) -> CurvatureVariance:
    """Measure how much the examples differ in their curvature along a direction: s² of the break-even point.

    eᵀH_ie for every example at once, by differentiating Σ_i u_i·ℓ_i along e twice, each time with respect to the
    weights u of the examples too, in which it is linear.

    For ℓ = (wx)² the curvatures are 2x², here 2 and 18, with s² = 64:

    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> batches = [torch.tensor([[1.0], [3.0]]).double()]
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0] ** 2, batches=batches)
    >>> found = curvature_variance(objective, direction=torch.ones(1).double())
    >>> found.curvatures.tolist(), found.value, found.mean
    ([2.0, 18.0], 64.0, 10.0)

    Args:
        objective: its examples are those that are compared, best all of the training set.
        direction: of any length but 0.

    Raises:
        ValueError: the direction does not fit.
        ModelError: the loss or the model fails, or has no second derivatives.

    Jastrzębski et al. 2020, https://arxiv.org/abs/2002.09572
    """
    (unit,) = _basis(direction[None], objective)
    parts = objective.weights.parts(unit)
    found: list[Tensor] = []
    with objective.opened():
        for place, batch in enumerate(objective.batches):
            losses = example_losses(objective.model, loss=objective.loss, batch=batch)
            found.append(_curvatures(losses, objective.weights.tensors, parts, check=not place))
    values = torch.cat(found)
    count, mean, variance, fourth = _moments(values.to(objective.weights.total), objective)
    nan = float("nan")
    return CurvatureVariance(
        value=variance,
        se=float(np.sqrt(max(0.0, fourth - variance**2) / count)) if count > 1 else nan,
        mean=mean,
        mean_se=float(np.sqrt(variance / (count - 1))) if count > 1 else nan,
        curvatures=values.cpu().double().numpy(),
        count=count,
        cost=float(WAYS),
    )


def _moments(values: Float[Tensor, "example"], objective: Objective) -> tuple[int, float, float, float]:
    """Number, mean, and mean second and fourth powers around it, over all processes."""
    sums = objective.summed(torch.stack([torch.full_like(values[0], len(values)), values.sum()]))
    count, total = round(float(sums[0])), float(sums[1])
    squares = torch.square(values - total / count)
    powers = objective.summed(torch.stack([squares.sum(), torch.square(squares).sum()]))
    return count, total / count, float(powers[0]) / count, float(powers[1]) / count


def _curvatures(
    losses: Float[Tensor, "example"], leaves: Sequence[Tensor], parts: Sequence[Tensor], *, check: bool
) -> Float[Tensor, "example"]:
    slopes = _each_along(losses, leaves, parts, check=check)
    return _each_along(slopes, leaves, parts, check=False).detach()


def _each_along(
    values: Float[Tensor, "example"], leaves: Sequence[Tensor], parts: Sequence[Tensor], *, check: bool
) -> Float[Tensor, "example"]:
    """The derivative of each value along a direction: of Σ_i u_i ⟨∂v_i/∂θ, e⟩ with respect to u."""
    dummies = torch.zeros_like(values).requires_grad_()
    linear = pulled_back([values], leaves, slopes=[dummies], differentiable=True)
    if check:
        check_differentiable(linear)
    pairs = [(g, part) for g, part in zip(linear, parts, strict=True) if g is not None]
    (found,) = pulled_back([g for g, _ in pairs], [dummies], slopes=[part for _, part in pairs], differentiable=True)
    return torch.zeros_like(values) if found is None else found


def _basis(
    directions: Float[Tensor, "direction parameter"], objective: Objective
) -> Float[Tensor, "direction parameter"]:
    """Orthonormal, in the highest precision there is."""
    if directions.ndim != 2 or not len(directions) or directions.shape[1] != objective.num_parameters:
        raise ValueError(
            f"Expected at least one direction of {objective.num_parameters:,} numbers, one for each parameter, got "
            f"shape {tuple(directions.shape)}."
        )
    own = _unit(directions.detach().to(objective.weights.device, objective.weights.total))
    basis, triangle = _factors(own.T)
    coarse = torch.finfo(directions.dtype).eps * len(own)
    if not own.isfinite().all() or len(own) > own.shape[1] or float(triangle.diagonal().abs().min()) <= coarse:
        raise ValueError(
            "Expected finite directions that are not 0 and do not depend on one another. Leave out what repeats."
        )
    return basis.T.contiguous()


def _factors(columns: Tensor) -> tuple[Tensor, Tensor]:
    return torch.linalg.qr(columns)  # pyright: ignore


def _unit(rows: Float[Tensor, "row parameter"]) -> Float[Tensor, "row parameter"]:
    return rows / rows.square().sum(1, keepdim=True).sqrt()


def _ratio(
    above: Float[np.ndarray, "*shape"], below: Float[np.ndarray, "..."] | np.float64
) -> Float[np.ndarray, "*shape"]:
    """NaN for nothing over nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return above / below
