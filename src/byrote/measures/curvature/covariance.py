"""How the gradients of mini-batches differ from one another: their covariance K."""

from dataclasses import dataclass
from typing import Literal, final, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from byrote.core import derive
from byrote.measures.curvature.jackknife import FEWEST, spread_without_one
from byrote.measures.curvature.objective import Objective
from byrote.measures.curvature.rows import MEMORY, Rows

Drawn = Literal["disjoint", "independent", "replaced"]
"""How batches were drawn: "disjoint", as a loader draws an epoch, no example twice in any two of them; "independent",
each without replacement, but from all examples again; "replaced", example by example with replacement."""


@final
@dataclass(frozen=True, kw_only=True)
class GradientCovariance:
    """Spectrum of the covariance of L mini-batch gradients at frozen weights.

    To be compared only with one of as many batches, of the same size, drawn in the same way.
    """

    eigenvalues: Float[np.ndarray, "pair"]
    """Of K, from the largest down: min(L − 1, p) of them, all others being 0. NaN where a gradient is not finite."""
    directions: Float[Tensor, "direction parameter"]
    """Eigenvectors of the first of them, of length 1; none unless asked for."""
    products: Float[np.ndarray, "batch batch"]
    """⟨g_i, g_j⟩ of the mini-batch gradients."""
    top_se: float
    """Of λ¹, by the jackknife over batches; NaN for fewer than three."""
    trace_se: float
    trace_over_top_se: float
    batch_size: int
    """S."""
    drawn: Drawn
    population: int | None
    """N, the examples that batches were drawn from; None: so many that it does not matter."""
    floor: float
    """What rounding makes of an eigenvalue of 0, at most about."""
    cost: float
    """In full-data gradients: 1 where the batches are the objective's, which makes L mini-batch gradients."""
    survives_rescaling: bool = False

    @property
    def num_batches(self) -> int:
        """L."""
        return len(self.products)

    @property
    def divisor(self) -> int:
        """Sums of squares are divided by L − 1 (Bessel)."""
        return self.num_batches - 1

    @property
    def value(self) -> float:
        """λ¹, the largest eigenvalue."""
        return float(self.eigenvalues[0])

    @property
    def trace(self) -> float:
        """Tr K."""
        return float(self.eigenvalues.sum())

    @property
    def trace_over_top(self) -> float:
        """Tr K/λ¹, at least 1; NaN when K is 0."""
        return self.trace / self.value if self.value > self.floor else float("nan")

    @property
    def rank(self) -> int:
        """Eigenvalues above what rounding makes of 0."""
        return int((self.eigenvalues > self.floor).sum())

    @property
    def smallest_over_largest(self) -> float:
        """λ*/λ¹, λ* being the smallest eigenvalue that is not 0; NaN when K is 0."""
        return float(self.eigenvalues[self.rank - 1] / self.value) if self.rank else float("nan")

    @property
    def effective_rank(self) -> float:
        """exp(−Σ p_i log p_i) with p_i = λ_i/Tr K (Roy & Vetterli 2007), between 1 and L − 1; NaN when K is 0."""
        if not self.rank:
            return float("nan")
        share = self.eigenvalues[: self.rank] / self.eigenvalues[: self.rank].sum()
        return float(np.exp(-(share * np.log(share)).sum()))

    @property
    def per_example_factor(self) -> float:
        """What K is multiplied with to estimate the covariance Σ of single examples' gradients without bias; see
        `per_example_factor`.
        """
        return per_example_factor(self.batch_size, drawn=self.drawn, population=self.population)


def per_example_factor(batch_size: int, *, drawn: Drawn = "disjoint", population: int | None = None) -> float:
    """Say by how much the covariance of single examples' gradients exceeds that of batches' means.

    E[K]·f = Σ, with Σ = (1/(N − 1)) Σ_i (g_i − g)(g_i − g)ᵀ over all N examples. f is S for disjoint batches,
    SN/(N − S) for independent ones without replacement (K is then 0 at S = N), SN/(N − 1) with replacement. With a sum
    divided by N instead of N − 1 it is (N − S)/(S(N − 1)) of that which independent batches have.

    >>> per_example_factor(10, drawn="disjoint"), per_example_factor(10, drawn="independent", population=20)
    (10.0, 20.0)

    Args:
        batch_size: S.
        drawn: how.
        population: N; None: infinite, so that it is S however batches were drawn.

    Raises:
        ValueError: the batch is larger than the population, or as large and drawn anew each time, so that every batch
            is the same.
    """
    if drawn not in get_args(Drawn):
        raise ValueError(f"Expected drawn to be one of {', '.join(get_args(Drawn))}, got {drawn!r}.")
    if batch_size < 1 or (population is not None and (batch_size > population or population < 2)):
        raise ValueError(
            f"Expected a batch size from 1 to the number of examples, at least 2, got {batch_size!r}, {population=}."
        )
    if population is None or drawn == "disjoint":
        return float(batch_size)
    if drawn == "replaced":
        return batch_size * population / (population - 1)
    if batch_size == population:
        raise ValueError("Every batch of all examples is the same: draw smaller ones, which differ.")
    return batch_size * population / (population - batch_size)


def draw_batches(
    num_examples: int, *, num_batches: int = 25, batch_size: int = 128, drawn: Drawn = "independent", seed: int
) -> Int[np.ndarray, "batch example"]:
    """Draw which examples make up each of some batches of one size.

    >>> sorted(draw_batches(6, num_batches=3, batch_size=2, drawn="disjoint", seed=0).ravel().tolist())
    [0, 1, 2, 3, 4, 5]

    Args:
        num_examples: N.
        num_batches: L; 25 as published.
        batch_size: S; 128 as published.
        drawn: how.
        seed: decides which.

    Raises:
        ValueError: there are too few examples.

    Jastrzębski et al. 2020, https://arxiv.org/abs/2002.09572
    """
    needed = {"disjoint": num_batches * batch_size, "independent": batch_size, "replaced": 1}
    if drawn not in needed:
        raise ValueError(f"Expected drawn to be one of {', '.join(needed)}, got {drawn!r}.")
    if num_batches < 1 or batch_size < 1 or num_examples < needed[drawn]:
        raise ValueError(
            f"Expected at least one batch of at least one example, and {needed[drawn]:,} examples for {num_batches} "
            f"{drawn} batches of {batch_size}, got {num_examples:,}. Take fewer or smaller batches, or "
            "drawn='replaced'."
        )
    generator = np.random.default_rng(derive(seed, "gradient batches"))
    if drawn == "disjoint":
        return generator.permutation(num_examples)[: needed[drawn]].reshape(num_batches, batch_size)
    if drawn == "replaced":
        return generator.integers(num_examples, size=(num_batches, batch_size))
    return np.stack([generator.permutation(num_examples)[:batch_size] for _ in range(num_batches)])


def gradient_covariance(
    objective: Objective,
    *,
    drawn: Drawn = "disjoint",
    population: int | None = None,
    num_directions: int = 0,
    memory: int = MEMORY,
) -> GradientCovariance:
    """Find the spectrum of the covariance K of mini-batch gradients, from exactly one gradient of each batch.

    K = (1/(L − 1)) Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ has the same eigenvalues, but for zeros, as the small matrix
    G_ij = ⟨g_i − ḡ, g_j − ḡ⟩/(L − 1), which is L×L.

    For ℓ = wx the gradients are x: of 1 and of 5 the variance is 8.

    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> batches = [torch.tensor([[1.0]]).double(), torch.tensor([[5.0]]).double()]
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0], batches=batches)
    >>> found = gradient_covariance(objective)
    >>> found.eigenvalues.round(9).tolist(), found.num_batches, found.batch_size
    ([8.0], 2, 1)

    Args:
        objective: its batches are the mini-batches, all of one size; `draw_batches` draws them as published.
        drawn: how they were drawn; recorded, and needed for `per_example_factor`.
        population: N, from how many examples; None: infinitely many.
        num_directions: eigenvectors that are asked for.
        memory: bytes that the gradients may take; if they need more they are kept in a temporary file meanwhile.

    Raises:
        ValueError: there are fewer than two batches or they differ in size, or there are not so many directions.
        ModelError: the loss or the model fails.

    Jastrzębski et al. 2020, The Break-Even Point on Optimization Trajectories of Deep Neural Networks,
    https://arxiv.org/abs/2002.09572
    """
    _check(objective, num_directions=num_directions)
    before = objective.spent
    gradients = stored_gradients(objective, memory=memory)
    cost, sizes = objective.spent - before, set(objective.counts)
    if len(sizes) > 1:
        raise ValueError(
            f"Expected batches of one size, whose gradients vary alike, got {sorted(sizes)}. Leave the odd one out "
            "(drop_last=True)."
        )
    size = sizes.pop()
    per_example_factor(size, drawn=drawn, population=population)
    centred, products = gradients.gram_around_mean()
    values, coordinates = _spectrum(centred, num_parameters=objective.num_parameters)
    scale = len(centred) - 1
    errors = _errors(centred)
    return GradientCovariance(
        eigenvalues=values,
        directions=gradients.combined(_centred_weights(coordinates[:, :num_directions], values * scale)),
        products=products,
        top_se=float(errors[0]),
        trace_se=float(errors[1]),
        trace_over_top_se=float(errors[2]),
        batch_size=size,
        drawn=drawn,
        population=population,
        floor=_floor(values, products, epsilon=gradients.epsilon),
        cost=cost,
    )


def stored_gradients(objective: Objective, *, memory: int = MEMORY) -> Rows:
    """The gradient of each batch's own mean, one row each."""
    weights = objective.weights
    like = torch.empty(0, dtype=weights.dtype, device=weights.device)
    rows = Rows(len(objective.batches), width=objective.num_parameters, like=like, memory=memory)
    with objective.opened():
        rows.extend(objective.batch_gradients())
    return rows


def _check(objective: Objective, *, num_directions: int) -> None:
    most = min(len(objective.batches) - 1, objective.num_parameters)
    if most < 1:
        raise ValueError(f"Expected at least two batches, whose gradients differ, got {len(objective.batches)}.")
    if not 0 <= num_directions <= most:
        raise ValueError(f"Expected from 0 to {most} directions of variance, got {num_directions!r}.")


def _spectrum(
    centred: Float[np.ndarray, "batch batch"], *, num_parameters: int
) -> tuple[Float[np.ndarray, "pair"], Float[np.ndarray, "batch pair"]]:
    """Eigenvalues of K and eigenvectors of the Gram matrix, from the largest down."""
    most = min(len(centred) - 1, num_parameters)
    if not np.isfinite(centred).all():
        return np.full(most, np.nan), np.full((len(centred), most), np.nan)
    values, vectors = np.linalg.eigh(centred / (len(centred) - 1))
    return np.maximum(values[::-1][:most], 0.0), vectors[:, ::-1][:, :most]


def _centred_weights(
    coordinates: Float[np.ndarray, "batch direction"], values: Float[np.ndarray, "pair"]
) -> Float[np.ndarray, "direction batch"]:
    """Weights of gradients in Σ_i u_i(g_i − ḡ)/√λ; NaN for a direction in which they do not vary."""
    lengths = np.sqrt(values[: coordinates.shape[1]])
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = (coordinates - coordinates.mean(0)) / np.where(lengths > 0, lengths, np.nan)
    return np.ascontiguousarray(weights.T)


def _floor(values: np.ndarray, products: np.ndarray, *, epsilon: float) -> float:
    """Rounding of the Gram matrix, and of the gradients themselves."""
    own = np.finfo(np.float64).eps * values[0] + epsilon**2 * np.diag(products).max()
    return float(len(products) * own)


def _errors(centred: Float[np.ndarray, "batch batch"]) -> Float[np.ndarray, "3"]:
    """Of λ¹, the trace and their ratio, by leaving out one gradient after another."""
    count = len(centred)
    if count < FEWEST or not np.isfinite(centred).all():
        return np.full(3, np.nan)
    kept = np.array([[place for place in range(count) if place != one] for one in range(count)])
    parts = centred[kept[:, :, None], kept[:, None, :]]
    beside = parts.mean(1)
    parts = parts - beside[:, None, :] - beside[:, :, None] + beside.mean(1)[:, None, None]
    parts /= count - 2
    top, trace = np.linalg.eigvalsh(parts)[:, -1], np.trace(parts, axis1=1, axis2=2)
    ratio = np.divide(trace, top, out=np.full(count, np.nan), where=top > 0)
    return spread_without_one(np.stack([top, trace, ratio], axis=1))
