"""The sharpest and the most negative directions of the loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from byrote.measures.curvature.lanczos import Lanczos, RitzPairs, random_direction
from byrote.measures.curvature.matrices import AbstractMatrix, Hessian, Product
from byrote.measures.curvature.objective import Objective

WARM = 8
"""Products for one eigenvalue from an earlier vector."""
SURE, LONGEST = 5, 16
"""Beyond twice the number of eigenvalues the fewest products that are trusted to have met the largest, and beyond four
times that number the most, where how many is left to us."""
CLOSE, SMALL = 0.01, 0.1
"""Error that may be left, as a share of an eigenvalue; of one below that share of the largest, as if it were that."""
FEWEST = 5
"""Products beyond the number of pairs that a tolerance never goes below: with fewer, a residual may be small because
the second eigenvalue was found rather than the first."""
LEANING = 0.3
"""The gradient's length in a start whose other part has length 1."""
MOST = 100
"""Products that a tolerance may lead to."""
HESSIAN = Hessian()


class EigenPairs(NamedTuple):
    """Eigenvalues with their vectors and residuals."""

    values: Float[np.ndarray, "pair"]
    residuals: Float[np.ndarray, "pair"]
    """‖Hv − λv‖: an eigenvalue of the matrix lies no further away than this."""
    vectors: Float[Tensor, "pair parameter"]
    """Of length 1 and orthogonal."""


@final
@dataclass(frozen=True, kw_only=True)
class Eigenvalues:
    """The ends of a spectrum."""

    top: EigenPairs
    """From the largest down."""
    lowest: EigenPairs
    """From the lowest up."""
    num_products: int
    cost: float
    """In full-data gradients."""
    converged: bool
    """Whether all residuals are within the tolerance that was asked for; True where none was."""
    survives_rescaling: bool = False
    """Dinh's rescaling (θ₁a, θ₂/a) leaves a ReLU network as it is and changes these."""

    @property
    def value(self) -> float:
        """The largest."""
        return float(self.top.values[0])

    @property
    def residual(self) -> float:
        """Of the largest."""
        return float(self.top.residuals[0])


def top_eigenvalues(
    objective: Objective,
    *,
    num: int = 1,
    num_lowest: int = 0,
    matrix: AbstractMatrix = HESSIAN,
    num_products: int | None = None,
    tolerance: float | None = None,
    warm: Eigenvalues | None = None,
    seed: int = 0,
) -> Eigenvalues:
    """Find the largest eigenvalues of the Hessian, or of another matrix of curvature, and its lowest.

    Lanczos' method with full reorthogonalisation. It goes on until what is left of the error of each, at most
    min(r, r²/d) by its residual r and its distance d to the next (Parlett 1980), is below 1 % of it, but never stops
    before 2k + 5 products: what stops sooner because its estimate seems to stand still often stops at the second
    eigenvalue, and so does a short search from what a part of the data finds. The start is the earlier vectors, or
    random, with a little of the gradient.

    Eigenvalues that stand close together, as those of networks that have not been trained yet do, take longer, and one
    may be missed: the sixth stands where the fifth should be, and its residual, however small, does not tell. Of the
    five largest of a digits MLP (51k weights) at initialisation the worst was 5 % too low from one start of
    eighteen, after 36 products. After 30 steps of training all five were within 0.4 %, after 17.

    A product costs least on few large batches: on this MLP, batches of 32 take 2.5 times as long as batches of 256.
    Networks stacked into one, 8 or 32 of them, are no faster than one after another on batches of 256 (0.98 to 0.99
    times), and on batches of 32, where they are 2.3 to 2.5 times as fast, larger batches gain more. So each is measured
    by itself.

    For ℓ = (w₁x₁ + w₂x₂)² on x = (3, 0) and (0, 1) the Hessian is diag(9, 1):

    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[3.0, 0.0], [0.0, 1.0]]).double()
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0] ** 2, batches=[x])
    >>> found = top_eigenvalues(objective, num_lowest=1)
    >>> found.top.values.round(6).tolist(), found.lowest.values.round(6).tolist()
    ([9.0], [1.0])

    Args:
        objective: whose curvature.
        num: of the largest, at least 1.
        num_lowest: of the lowest, the most negative if there are such.
        matrix: which.
        num_products: the budget, no more and no less. None: as many as are needed, between 2k + 5 and 4k + 16 for k
            eigenvalues; 8 for one alone from an earlier result.
        tolerance: go on, to 100 products at most, until every residual is below this share of the largest eigenvalue in
            size, or stop earlier if it is, but never before k + 5 products; None: the budget, no more and no less.
        warm: an earlier result of the same model, to start from.
        seed: of the random start.

    Returns:
        Eigenvalues with their residuals, in the unit of the loss; NaN where the loss is not finite.

    Raises:
        ValueError: there are not so many eigenvalues, or the budget is too small for them.
        ModelError: there are no second derivatives.

    Ghorbani et al. 2019, An Investigation into Neural Net Optimization via Hessian Eigenvalue Density,
    https://arxiv.org/abs/1901.10159
    """
    plan = Plan(num, num_lowest, num_products, tolerance, seed)

    def product(vector: Tensor) -> Tensor:
        return objective.product(vector, matrix=matrix)

    with objective.opened():
        return searched(
            objective,
            product=product,
            plan=plan,
            warm=warm,
            size=objective.num_parameters,
            hessian=isinstance(matrix, Hessian),
        )


class Plan(NamedTuple):
    """What is looked for, and how long."""

    num: int
    num_lowest: int
    num_products: int | None
    tolerance: float | None
    seed: int

    def check(self, size: int) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: it cannot.
        """
        if self.num < 1 or self.num_lowest < 0 or self.num_pairs > size:
            raise ValueError(
                f"Expected at least 1 largest, at least 0 lowest and at most {size:,} eigenvalues, one for each "
                f"parameter, got {self.num!r} and {self.num_lowest!r}."
            )
        if self.num_products is not None and self.num_products < self.num_pairs:
            raise ValueError(
                f"Expected at least {self.num_pairs} products for as many eigenvalues, got {self.num_products!r}."
            )
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"Expected a tolerance above 0, got {self.tolerance!r}.")

    @property
    def num_pairs(self) -> int:
        """At both ends."""
        return self.num + self.num_lowest

    def length(self, *, warm: bool = False) -> "Length":
        """Of the search.

        Args:
            warm: whether it goes on from an earlier result.
        """
        if self.num_products is not None:
            fewest = most = self.num_products
        elif warm and self.num_pairs == 1:
            fewest = most = WARM
        else:
            fewest, most = 2 * self.num_pairs + SURE, 4 * self.num_pairs + LONGEST
        return Length(fewest, most if self.tolerance is None else max(most, MOST))


class Length(NamedTuple):
    """Of a search, in products."""

    fewest: int
    most: int


def searched(
    objective: Objective,
    *,
    product: Product,
    plan: Plan,
    warm: Eigenvalues | None,
    size: int,
    onto: Callable[[Tensor], Tensor] = torch.clone,
    hessian: bool = True,
) -> Eigenvalues:
    """The ends of the spectrum of a symmetric matrix.

    Args:
        objective: what is open, and pays.
        product: with the matrix.
        plan: what is looked for.
        warm: an earlier result.
        size: of the matrix.
        onto: takes the gradient to where the matrix acts.
        hessian: whether products are with the Hessian, so that the gradient comes from their graph.
    """
    plan.check(size)
    before = objective.spent
    gradient = onto(objective.gradient(products_follow=hessian))
    earlier = None if warm is None else _leaning(_earlier(warm, like=gradient), gradient)
    if earlier is None or not earlier.isfinite().all():
        start, length = _leaning(random_direction(plan.seed, "start", like=gradient), gradient), plan.length()
    else:
        start, length = earlier, plan.length(warm=True)
    run = Lanczos(product, start=start, most=length.most, seed=plan.seed)
    while not run.finished:
        run.step()
        if not run.finite or _is_enough(run, plan, length):
            break
    return _result(run, plan, cost=objective.spent - before)


def _earlier(warm: Eigenvalues, *, like: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
    if warm.top.vectors.shape[1] != len(like):
        raise ValueError(
            f"Expected an earlier result with vectors of {len(like):,} numbers, got {warm.top.vectors.shape[1]:,}: it "
            "is of another model, or of other parameters."
        )
    return torch.cat([warm.top.vectors, warm.lowest.vectors]).to(like).sum(0)


def _leaning(vector: Float[Tensor, "parameter"], gradient: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
    """Towards the gradient, which lies in the sharpest directions more than a random vector does."""
    length = gradient.square().sum().sqrt()
    return vector / vector.square().sum().sqrt() + LEANING * gradient / torch.where(length > 0, length, 1.0)


def _is_enough(run: Lanczos, plan: Plan, length: Length) -> bool:
    if plan.tolerance is not None:
        return _is_close(run, plan, plan.tolerance)
    if run.num_products < length.fewest:
        return False
    every = run.ritz()
    own, size = _wanted(every, plan), np.abs(every.values)
    return bool((_left(own, every) <= CLOSE * np.maximum(np.abs(own.values), SMALL * size.max())).all())


def _left(own: RitzPairs, every: RitzPairs) -> Float[np.ndarray, "pair"]:
    """What may be left of the errors of eigenvalues: min(r, r²/d)."""
    apart = np.abs(own.values[:, None] - every.values)
    apart = np.sort(apart, axis=1)[:, 1:2].min(axis=1, initial=np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(own.residuals < apart, own.residuals**2 / apart, own.residuals)


def _is_close(run: Lanczos, plan: Plan, tolerance: float) -> bool:
    if run.num_products < plan.num_pairs + FEWEST:
        return False
    return bool((_wanted(run.ritz(), plan).residuals <= tolerance * np.abs(run.ritz().values).max()).all())


def _wanted(pairs: RitzPairs, plan: Plan) -> RitzPairs:
    """The largest from above, then the lowest from below."""
    size = len(pairs.values)
    places = [*range(min(plan.num, size)), *range(size - 1, max(size - 1 - plan.num_lowest, -1), -1)]
    return RitzPairs(pairs.values[places], pairs.residuals[places], pairs.coordinates[:, places])


def _result(run: Lanczos, plan: Plan, *, cost: float) -> Eigenvalues:
    if not run.finite:
        return _nothing(run, plan, cost=cost)
    wanted = _wanted(run.ritz(), plan)
    vectors = run.vectors(wanted.coordinates)
    ends = [
        EigenPairs(wanted.values[part], wanted.residuals[part], vectors[part])
        for part in (slice(plan.num), slice(plan.num, None))
    ]
    converged = plan.tolerance is None or _is_close(run, plan, plan.tolerance) or run.num_products == vectors.shape[1]
    return Eigenvalues(top=ends[0], lowest=ends[1], num_products=run.num_products, cost=cost, converged=converged)


def _nothing(run: Lanczos, plan: Plan, *, cost: float) -> Eigenvalues:
    """Where the loss is not finite."""
    ends = [
        EigenPairs(np.full(num, np.nan), np.full(num, np.nan), run.basis.new_full((num, run.basis.shape[1]), np.nan))
        for num in (plan.num, plan.num_lowest)
    ]
    return Eigenvalues(top=ends[0], lowest=ends[1], num_products=run.num_products, cost=cost, converged=False)
