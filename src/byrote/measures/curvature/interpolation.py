"""Whether two networks are in the same basin: the straight line from one's weights to the other's."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from scipy import special  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor, nn

from byrote.measures.curvature.differentiate import Batch
from byrote.measures.curvature.matching import Matching, State, matching_state, state_of
from byrote.measures.curvature.objective import Objective
from byrote.measures.curvature.readings import Correct, Reader, Reading, Readings
from byrote.measures.curvature.surfaces import Progress
from byrote.measures.curvature.weights import Weights
from byrote.models.borrowed import borrowed

NUM_POINTS = 21
STABLE = 0.02
"""Of error, below which two networks count as linearly connected (Frankle et al. 2020)."""
LEVEL = 0.95
DRAWS = 10_000
"""Normal vectors, from which the width of a band over all points is found."""

ROUNDING = 1e-9
"""Shares of the largest, below which a variance is rounding."""

Match = Callable[[nn.Module, nn.Module | State], Matching]


class Barrier(NamedTuple):
    """How much higher the path is than its ends."""

    value: float
    """sup over α; infinite where the loss is not finite on the way."""
    low: float
    high: float
    """95 % for data never seen, that it is the largest of all points being taken into account."""
    se: float
    """Of the difference at its highest point, over examples."""
    alpha: float
    """Where it is highest."""
    residual: float
    """About how much higher the path may be between two points."""


@final
@dataclass(frozen=True, kw_only=True)
class PathHeights:
    """One quantity along the path, in one split."""

    values: Float[np.ndarray, "point"]
    se: Float[np.ndarray, "point"]
    """s/√n over examples."""
    barrier: Barrier
    """sup_α E(α) − [(1 − α)E(0) + αE(1)]."""
    barrier_to_mean: Barrier
    """sup_α E(α) − (E(0) + E(1))/2, the instability of Frankle et al. 2020."""


@final
@dataclass(frozen=True, kw_only=True)
class SplitPath:
    """Of one split."""

    loss: PathHeights
    error: PathHeights | None
    """Share of wrong answers; None where nobody asked."""
    verdict: Literal["stable", "unstable", "undecided"] | None
    """Whether the interval of the error's barrier to the mean is below 2 %, above, or neither; None without errors."""
    count: int
    """Examples."""


@final
@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """Along (1 − α)θ₀ + αθ₁."""

    alphas: Float[np.ndarray, "point"]
    train: SplitPath
    """Of the objective's batches."""
    held_out: SplitPath | None
    matching: Matching | None
    """The order of hidden units in which the second network was taken."""
    recomputed: bool
    """Whether BatchNorm's statistics were computed anew on the way."""
    cost: float
    """In full-data gradients; not part of `Objective.spent`."""
    survives_rescaling: bool = False
    """Rescaling one of the two networks moves the path."""

    @property
    def count(self) -> int:
        """Points."""
        return len(self.alphas)

    @property
    def value(self) -> float:
        """The barrier of the training loss."""
        return self.train.loss.barrier.value


def interpolate(
    objective: Objective,
    *,
    end: nn.Module | State,
    held_out: Sequence[Batch] | None = None,
    correct: Correct | None = None,
    statistics: Sequence[Batch] | None = None,
    matching: Match | None = None,
    num_points: int = NUM_POINTS,
    stable: float = STABLE,
    progress: Progress | None = None,
) -> Interpolation:
    """Walk straight from a model's weights to another's, and see how high the way goes.

    All parameters are on the way, also those that the objective does not look at, and all buffers of real numbers.
    Intervals come from the examples, each compared with itself at the ends; the band holds at all points at once.

    For ℓ = (w² − 1)² between its two minima −1 and 1 the barrier is 1, at w = 0:

    >>> def at(weight):
    ...     model = nn.Linear(1, 1, bias=False).double()
    ...     _ = nn.init.constant_(model.weight, weight)
    ...     return model
    >>> x = torch.ones(1, 1).double()
    >>> objective = Objective(at(-1.0), loss=lambda model, x: (model(x)[:, 0] ** 2 - 1) ** 2, batches=[x])
    >>> found = interpolate(objective, end=at(1.0)).train.loss.barrier
    >>> found.value, found.alpha
    (1.0, 0.5)

    Args:
        objective: of the network at α = 0, its batches being the training split.
        end: the network at α = 1, or its state.
        held_out: batches of another split.
        correct: whether answers are right, such as `right_class`; None: only losses are read.
        statistics: batches from which BatchNorm's statistics are computed anew at each point, such as the training
            batches; None: they are averaged as the weights are, which mostly suits neither network.
        matching: puts the second network's hidden units in the first one's order before, such as `match_weights`.
        num_points: evenly spaced, ends included, at least 3.
        stable: error below which a barrier counts as none.
        progress: called after each point.

    Raises:
        ValueError: too few points, or `stable` is not above 0.
        ModelError: the networks' shapes differ, the loss or the model fails, or there is no matching.

    Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis, https://arxiv.org/abs/1912.05671;
    Entezari et al. 2022, https://arxiv.org/abs/2110.06296
    """
    if num_points < 3 or not stable > 0:
        raise ValueError(
            f"Expected at least 3 points and an error above 0 as the bound of stability, got {num_points!r} and "
            f"{stable!r}."
        )
    model = objective.model
    matched = None if matching is None else matching(model, end)
    last = matching_state(model, end if matched is None else matched.state)
    alphas, before = np.linspace(0, 1, num_points), objective.spent
    reader = Reader(objective, held_out=held_out, correct=correct, statistics=statistics)
    path = _Path(model, last)
    readings: list[Readings] = []
    with objective.opened(), borrowed(model, device=objective.weights.device):
        for alpha in alphas:
            with path.at(float(alpha)):
                readings.append(reader.read())
            if progress is not None:
                progress(len(readings), num_points)
    held = [reading.held_out for reading in readings if reading.held_out is not None]
    return Interpolation(
        alphas=alphas,
        train=_split([reading.train for reading in readings], alphas, stable),
        held_out=_split(held, alphas, stable) if held else None,
        matching=matched,
        recomputed=statistics is not None,
        cost=reader.cost + objective.spent - before,
    )


@final
class _Path:
    """From the state that a model has to another."""

    def __init__(self, model: nn.Module, last: Mapping[str, Tensor]) -> None:
        self._model = model
        self._weights = Weights(model, [name for name, _ in model.named_parameters()])
        self._first = {name: part.detach().clone() for name, part in state_of(model).items()}
        self._last = last

    @contextmanager
    def at(self, alpha: float) -> Generator[None]:
        """For a while parameters are there; buffers stay there, and are for the lender to put back."""
        flat = self._weights.flat(
            [self._between(name, alpha) for name in self._weights.names], dtype=self._weights.total
        )
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                if name in self._first and buffer.is_floating_point():
                    buffer.copy_(self._between(name, alpha))
        with self._weights.at(flat):
            yield

    def _between(self, name: str, alpha: float) -> Tensor:
        """Exactly the ends at 0 and 1."""
        first = self._first[name].to(self._weights.total)
        return first * (1 - alpha) + alpha * self._last[name].detach().to(first)


def _split(readings: Sequence[Reading], alphas: Float[np.ndarray, "point"], stable: float) -> SplitPath:
    loss = _heights(np.stack([reading.losses for reading in readings]), alphas, shares=False)
    right = [reading.right for reading in readings if reading.right is not None]
    error = _heights(1 - np.stack(right), alphas, shares=True) if right else None
    return SplitPath(
        loss=loss,
        error=error,
        verdict=None if error is None else _verdict(error.barrier_to_mean, stable),
        count=len(readings[0].losses),
    )


def _verdict(barrier: Barrier, stable: float) -> Literal["stable", "unstable", "undecided"]:
    if barrier.high < stable:
        return "stable"
    return "unstable" if barrier.low >= stable else "undecided"


def _heights(
    values: Float[np.ndarray, "point example"], alphas: Float[np.ndarray, "point"], *, shares: bool
) -> PathHeights:
    count, weights = values.shape[1], alphas[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        line = values - ((1 - weights) * values[0] + weights * values[-1])
        mean = values - (values[0] + values[-1]) / 2
        spread = values.std(axis=1, ddof=1) if count > 1 else np.full(len(alphas), np.nan)
        return PathHeights(
            values=values.mean(1),
            se=spread / count**0.5,
            barrier=barrier_of(line, alphas, shares=shares),
            barrier_to_mean=barrier_of(mean, alphas, shares=shares),
        )


def barrier_of(
    differences: Float[np.ndarray, "point example"], alphas: Float[np.ndarray, "point"], *, shares: bool = False
) -> Barrier:
    """The largest mean difference of all points, with an interval.

    From the lowest to the highest that the largest can be within a band around all means, as wide as c standard errors;
    c is such that 95 % of normal vectors with the differences' correlations stay within.

    Of a single point it is the mean with the usual interval:

    >>> found = barrier_of(np.array([[0.0, 1.0, 2.0, 3.0]]), np.array([0.5]))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (1.5, 0.235, 2.765)

    Args:
        differences: of each example, at each point.
        alphas: the points.
        shares: whether they are differences of right and wrong; then one example more is taken to have changed, so that
            few examples of which none did are no proof.
    """
    heights, count = differences.mean(1), differences.shape[1]
    at = int(np.where(np.isfinite(heights), heights, np.inf).argmax())
    if not np.isfinite(heights[at]):
        return Barrier(np.inf, np.nan, np.inf, np.nan, float(alphas[at]), np.nan)
    around = heights[max(0, at - 1) : at + 2]
    residual = float(abs(around[0] - 2 * around[1] + around[2])) / 8 if len(around) == 3 else 0.0
    if count < 2:
        return Barrier(float(heights[at]), -np.inf, np.inf, np.nan, float(alphas[at]), residual)
    centred = differences - heights[:, None]
    covariance = (centred @ centred.T) / (count - 1) / count
    errors = np.sqrt(np.maximum(0.0, np.diag(covariance)))
    moved = (np.abs(differences) > 0).any(1)
    wide = np.sqrt(np.square(errors) + 1 / count**2) if shares else errors
    reach = critical_value(covariance) * np.where(moved | _inner(alphas), wide, 0.0)
    return Barrier(
        float(heights[at]),
        float((heights - reach).max()),
        float((heights + reach).max()),
        float(wide[at]),
        float(alphas[at]),
        residual,
    )


def critical_value(covariance: Float[np.ndarray, "point point"], *, level: float = LEVEL) -> float:
    """Standard errors within which normal numbers of this covariance all stay at once.

    For a single one it is the normal quantile:

    >>> round(critical_value(np.eye(1)), 2)
    1.96
    """
    own, vectors = np.linalg.eigh(covariance)
    kept = own > ROUNDING * own[-1]
    if kept.sum() < 2:
        return float(special.ndtri((1 + level) / 2))
    root = vectors[:, kept] * np.sqrt(own[kept])
    sizes = np.sqrt(np.square(root).sum(1, keepdims=True))
    root = (root / np.maximum(sizes, ROUNDING * sizes.max()))[sizes[:, 0] > ROUNDING * sizes.max()]
    drawn = np.random.default_rng(0).standard_normal((root.shape[1], DRAWS))
    return float(np.quantile(np.abs(root @ drawn).max(0), level))


def _inner(alphas: Float[np.ndarray, "point"]) -> np.ndarray:
    return (alphas > 0) & (alphas < 1)
