"""The sum of all eigenvalues, from a few products."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from byrote.core import derive
from byrote.measures.curvature.differentiate import widest
from byrote.measures.curvature.lanczos import Lanczos, dot, random_direction
from byrote.measures.curvature.matrices import AbstractMatrix, EmpiricalFisher, Fisher, Hessian, Product
from byrote.measures.curvature.objective import Objective

HESSIAN = Hessian()
FISHER = Fisher()
DEFLATED = 30
"""Products up to which a few exact directions and random ones for the rest do best; beyond, all directions serve both
purposes in turn.
"""
SHARE = 1 / 3
"""Of the products that find directions to be counted exactly."""


@final
@dataclass(frozen=True, kw_only=True)
class TraceEstimate:
    """A sum of eigenvalues, with its error."""

    value: float
    se: float
    """Standard error; 0 where every direction was counted, NaN from a single draw."""
    count: int
    """Draws behind the error."""
    num_products: int
    cost: float
    """In full-data gradients."""
    survives_rescaling: bool = False
    """Dinh's rescaling (θ₁a, θ₂/a) leaves a ReLU network as it is and changes this."""


def curvature_trace(
    objective: Objective, *, matrix: AbstractMatrix = HESSIAN, num_products: int = DEFLATED, seed: int = 0
) -> TraceEstimate:
    """Estimate the trace of the Hessian, or of another matrix of curvature.

    Up to 30 products by Hutchinson's estimate on what an orthonormal basis Q of a third as many Lanczos vectors leaves:
    Tr H = Tr(QᵀHQ) + E[zᵀPHPz], P = 1 − QQᵀ, each coordinate of z being ±1. With more by XTrace, which makes every
    direction but one the basis, in turn. Exact where there are products enough for all parameters.

    For ℓ = (w₁x₁ + w₂x₂)² on x = (3, 0) and (0, 1) the Hessian is diag(9, 1):

    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[3.0, 0.0], [0.0, 1.0]]).double()
    >>> found = curvature_trace(Objective(model, loss=lambda model, x: model(x)[:, 0] ** 2, batches=[x]))
    >>> round(found.value, 9), found.se
    (10.0, 0.0)

    Args:
        objective: whose curvature.
        matrix: which.
        num_products: the budget, at least 3.
        seed: of the random directions.

    Returns:
        The trace, in the unit of the loss; NaN where the loss is not finite.

    Raises:
        ValueError: fewer than 3 products.

    Meyer et al. 2021, Hutch++: Optimal Stochastic Trace Estimation, https://arxiv.org/abs/2010.09649; Epperly, Tropp &
    Webber 2024, XTrace: Making the most of every sample in stochastic trace estimation,
    https://arxiv.org/abs/2301.07825
    """
    if num_products < 3:
        raise ValueError(f"Expected at least 3 products, got {num_products!r}.")

    def product(vector: Tensor) -> Tensor:
        return objective.product(vector, matrix=matrix)

    like = objective.weights.tensors[0].new_empty(objective.num_parameters, dtype=objective.weights.dtype)
    with objective.opened():
        before = objective.spent
        if num_products >= objective.num_parameters or num_products <= DEFLATED:
            found = deflated_trace(product, like=like, num_products=num_products, seed=seed)
        else:
            found = xtrace(product, like=like, num_products=num_products, seed=seed)
        return replace(found, cost=objective.spent - before)


def deflated_trace(
    product: Product, *, like: Float[Tensor, "parameter"], num_products: int, seed: int
) -> TraceEstimate:
    """By a basis of Lanczos vectors and random signs for the rest; see `curvature_trace`."""
    every = num_products >= len(like)
    run = Lanczos(
        product,
        start=random_direction(seed, "start", like=like),
        most=len(like) if every else max(1, round(SHARE * num_products)),
        seed=seed,
    )
    while not run.finished:
        run.step()
    draws = np.zeros(0 if every else num_products - run.num_products)
    for number in range(len(draws)):
        signs = random_signs(seed, number, like=like)
        for _ in range(2):
            signs = signs - (run.basis @ signs) @ run.basis
        draws[number] = dot(signs, product(signs))
    value = run.sum + (draws.mean() if len(draws) else 0.0)
    return _summed_up(value, draws, exact=every, num_products=run.num_products + len(draws))


def xtrace(product: Product, *, like: Float[Tensor, "parameter"], num_products: int, seed: int) -> TraceEstimate:
    """By directions that are all but one the basis, and one at a time the test; see `curvature_trace`.

    With k directions Ω of length √p, AΩ = QR and s_i the normalised columns of R^{−ᵀ}, the basis without direction i
    spans Q(1 − s_i s_iᵀ). Twice k products, and 2k vectors as long as the parameters are kept.
    """
    k = min(num_products // 2, len(like) - 1)
    wide = widest(like.device)
    tests = torch.stack([random_direction(seed, "test", number, like=like) for number in range(k)]).to(wide)
    tests = tests * (len(like) / tests.square().sum(1, keepdim=True)).sqrt()
    images = torch.stack([product(row.to(like.dtype)) for row in tests]).to(wide)
    if not images.isfinite().all():
        return _summed_up(np.nan, np.zeros(0), exact=False, num_products=k)
    basis, inverse = _orthonormal(images.T)
    basis_images = torch.stack([product(row.to(like.dtype)) for row in basis.T]).to(wide)
    left_out = inverse.T / inverse.square().sum(1).sqrt()
    draws = _one_left_out(tests, images, basis=basis, basis_images=basis_images, left_out=left_out).cpu().numpy()
    return _summed_up(float(draws.mean()), draws, exact=False, num_products=2 * k)


def _orthonormal(
    columns: Float[Tensor, "parameter test"],
) -> tuple[Float[Tensor, "parameter test"], Float[Tensor, "test test"]]:
    """Q and the inverse of R."""
    basis, triangle = torch.linalg.qr(columns)  # pyright: ignore
    return basis, torch.linalg.pinv(triangle)  # pyright: ignore


def _one_left_out(
    tests: Float[Tensor, "test parameter"],
    images: Float[Tensor, "test parameter"],
    *,
    basis: Float[Tensor, "parameter test"],
    basis_images: Float[Tensor, "test parameter"],
    left_out: Float[Tensor, "test test"],
) -> Float[Tensor, "test"]:
    """An estimate from each test, the basis being all but its own direction."""
    num_tests, size = tests.shape
    inner = basis.T @ basis_images.T
    inner = (inner + inner.T) / 2
    shadows = basis.T @ tests.T
    shadows = shadows - left_out * (left_out * shadows).sum(0)
    crossed = (shadows * (basis_images @ tests.T)).sum(0)
    rest = (tests * images).sum(1) - 2 * crossed + (shadows * (inner @ shadows)).sum(0)
    scale = (size - num_tests + 1) / (size - shadows.square().sum(0))
    return inner.trace() - (left_out * (inner @ left_out)).sum(0) + scale * rest


def fisher_trace(
    objective: Objective,
    *,
    matrix: Fisher | EmpiricalFisher = FISHER,
    num_draws: int = 10,
    seed: int = 0,
) -> TraceEstimate:
    """Estimate the trace of the Fisher: how long the gradients of single examples are, squared, on average.

    Tr F = (1/n) Σ_i E_y‖g_i(y)‖², with answers y drawn from the model. Each draw goes back once: ‖Σ_i ε_i g_i‖²,
    with ε_i = ±1 at random and summed over batches, has the expectation Σ_i ‖g_i‖², since products of the gradients of
    different examples cancel. So smaller batches give smaller errors.

    Args:
        objective: of the loss; the answers in its batches do not matter, but for `EmpiricalFisher()`.
        matrix: `Fisher(...)`, with its likelihood, or `EmpiricalFisher()`.
        num_draws: gradients that are spent, at least 2.
        seed: of answers and signs.

    Returns:
        The trace, at least 0; early in training it is large where the learning rate is small.

    Raises:
        ValueError: fewer than 2 draws.
        ModelError: the outputs are not what the likelihood draws answers from.

    Jastrzębski et al. 2021, Catastrophic Fisher Explosion, https://arxiv.org/abs/2012.14193
    """
    if num_draws < 2:
        raise ValueError(f"Expected at least 2 draws, since the error comes from their spread, got {num_draws!r}.")
    with objective.opened():
        before = objective.spent
        draws = np.array(
            [objective.squared_gradients(matrix=matrix, seed=derive(seed, "trace", row)) for row in range(num_draws)]
        )
        found = _summed_up(float(draws.mean()), draws, exact=False, num_products=0)
        return replace(found, cost=objective.spent - before)


def random_signs(seed: int, *purpose: int | str, like: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
    """±1 with equal chances; the same on every machine and device."""
    generator = torch.Generator().manual_seed(derive(seed, "signs", *purpose))
    drawn = torch.randint(0, 2, (len(like),), dtype=torch.int8, generator=generator)
    return (2 * drawn - 1).to(like.device, like.dtype)


def _summed_up(value: float, draws: Float[np.ndarray, "draw"], *, exact: bool, num_products: int) -> TraceEstimate:
    se = 0.0 if exact else float(draws.std(ddof=1) / len(draws) ** 0.5) if len(draws) > 1 else float("nan")
    return TraceEstimate(value=float(value), se=se, count=len(draws), num_products=num_products, cost=0.0)
