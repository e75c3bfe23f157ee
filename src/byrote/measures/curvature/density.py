"""How the eigenvalues are spread."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from byrote.measures.curvature.lanczos import Lanczos, random_direction
from byrote.measures.curvature.matrices import AbstractMatrix, Hessian
from byrote.measures.curvature.objective import Objective
from byrote.records import Interval

HESSIAN = Hessian()


@final
@dataclass(frozen=True, kw_only=True)
class SpectralDensity:
    """Where the eigenvalues are, as seen from a few random directions."""

    nodes: Float[np.ndarray, "probe step"]
    """Ritz values."""
    weights: Float[np.ndarray, "probe step"]
    """Share of the spectrum that each stands for; 1 for each probe together."""
    num_parameters: int
    num_products: int
    cost: float
    """In full-data gradients."""
    survives_rescaling: bool = False
    """Dinh's rescaling (θ₁a, θ₂/a) leaves a ReLU network as it is and changes this."""

    def average(self, function: Callable[[np.ndarray], np.ndarray]) -> Interval:
        """(1/p) Tr f(H), the mean of a function of an eigenvalue, with its standard error over probes.

        Args:
            function: f, of an array of eigenvalues.
        """
        each = (self.weights * function(self.nodes)).sum(1)
        se = float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else float("nan")
        value = float(each.mean())
        return Interval(value=value, low=value - 1.96 * se, high=value + 1.96 * se, se=se, count=len(each))

    def share_below(self, threshold: float) -> Interval:
        """Share of the eigenvalues below a threshold."""
        return self.average(lambda nodes: (nodes < threshold).astype(np.float64))

    def density(self, at: Float[np.ndarray, "point"], *, width: float) -> Float[np.ndarray, "point"]:
        """The density, every eigenvalue being spread as a normal distribution.

        Args:
            at: where.
            width: standard deviation of the spread, above 0.

        Raises:
            ValueError: the width is not above 0.
        """
        if not width > 0:
            raise ValueError(f"Expected a width above 0, got {width!r}.")
        away = (at[:, None] - self.nodes.reshape(1, -1)) / width
        spread = np.exp(-(away**2) / 2) / (width * np.sqrt(2 * np.pi))
        return spread @ (self.weights / len(self.weights)).reshape(-1)


def spectral_density(
    objective: Objective,
    *,
    matrix: AbstractMatrix = HESSIAN,
    num_probes: int = 4,
    num_steps: int = 30,
    seed: int = 0,
) -> SpectralDensity:
    """Estimate how the eigenvalues of the Hessian, or of another matrix of curvature, are spread.

    Stochastic Lanczos quadrature: from a random direction, the eigenvalues θ_k of Lanczos' tridiagonal matrix are
    Gaussian nodes, with the squared first coordinates of its eigenvectors as weights, so that
    (1/p) Tr f(H) ≈ mean over directions of Σ_k w_k f(θ_k), exactly for polynomials up to degree 2m − 1 but for the
    choice of directions.

    Args:
        objective: whose curvature.
        matrix: which.
        num_probes: random directions.
        num_steps: m, products for each.
        seed: of the directions.

    Returns:
        Nodes and weights; NaN where the loss is not finite. A probe whose vectors end early has weights of 0.

    Raises:
        ValueError: no probes or steps.

    Ghorbani et al. 2019, An Investigation into Neural Net Optimization via Hessian Eigenvalue Density,
    https://arxiv.org/abs/1901.10159; Ubaru, Chen & Saad 2017, Fast Estimation of tr(f(A)) via Stochastic Lanczos
    Quadrature
    """
    if num_probes < 1 or num_steps < 1:
        raise ValueError(f"Expected at least one probe and one step, got {num_probes!r} and {num_steps!r}.")

    def product(vector: Tensor) -> Tensor:
        return objective.product(vector, matrix=matrix)

    like = objective.weights.tensors[0].new_empty(objective.num_parameters, dtype=objective.weights.dtype)
    with objective.opened():
        before = objective.spent
        runs = [
            Lanczos(product, start=random_direction(seed, "probe", number, like=like), most=num_steps, seed=seed)
            for number in range(num_probes)
        ]
        for run in runs:
            while not run.finished:
                run.step()
        spent = objective.spent - before
    found = [run.ritz() for run in runs]
    return SpectralDensity(
        nodes=np.stack([pairs.values for pairs in found]),
        weights=np.stack([pairs.coordinates[0] ** 2 for pairs in found]),
        num_parameters=objective.num_parameters,
        num_products=sum(run.num_products for run in runs),
        cost=spent,
    )
