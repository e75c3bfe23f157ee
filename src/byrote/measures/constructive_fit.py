"""How few weights fit any targets: a two-layer ReLU network that is written down instead of trained."""

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float, Int

from byrote.core import derive

BLOCK_NUMBERS = 1 << 22
"""Hidden activations held at once."""


@final
@dataclass(frozen=True, kw_only=True)
class ConstructiveFit:
    """A network c(x) = Σ_j w_j·max(⟨a, x⟩ − b_j, 0) that fits a set of examples, and how exactly."""

    projection: Float[np.ndarray, "feature"]
    """a: every hidden unit looks along the same direction."""
    biases: Float[np.ndarray, "unit"]
    """b, rising."""
    weights: Float[np.ndarray, "unit"]
    """w."""
    residual: float
    """The largest |c(x_i) − y_i| over the examples, measured by running the network in float64."""
    smallest_gap: float
    """Between neighbours on the projection, as a share of their whole range; NaN where there is one input only."""

    @property
    def num_weights(self) -> int:
        """Of a, b and w together: 2n + d, where n counts the different inputs."""
        return self.projection.size + self.biases.size + self.weights.size

    def __call__(self, inputs: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example"]:
        """Run the network, in blocks of examples.

        Args:
            inputs: as many features as the network was made for.

        Raises:
            ValueError: another number of features.
        """
        if inputs.shape[1] != self.projection.size:
            raise ValueError(f"Expected inputs of {self.projection.size:,} features, got {inputs.shape[1]:,}.")
        along, step = _along(inputs, self.projection), max(1, BLOCK_NUMBERS // self.biases.size)
        blocks = [along[start : start + step, None] - self.biases for start in range(0, len(along), step)]
        return np.concatenate([np.zeros(0), *(np.maximum(block, 0) @ self.weights for block in blocks)])


def constructive_fit(
    inputs: Float[np.ndarray, "example feature"],
    targets: Float[np.ndarray, "target"],
    *,
    seed: int = 0,
    num_draws: int = 16,
) -> ConstructiveFit:
    """Write down a two-layer ReLU network with 2n + d weights that fits n targets in d dimensions, whatever they are.

    With a direction a along which all inputs differ, sorted so that ⟨a, x_1⟩ < … < ⟨a, x_n⟩, and biases
    b_1 < ⟨a, x_1⟩ ≤ b_2 < … ≤ b_n < ⟨a, x_n⟩, the matrix A_ij = max(⟨a, x_i⟩ − b_j, 0) is lower triangular with a
    positive diagonal, so A·w = y has one solution. With b_{i+1} = ⟨a, x_i⟩, as here, no elimination can lose digits:
    w_i = s_i − s_{i−1}, where s_i = (y_i − y_{i−1})/(⟨a, x_i⟩ − ⟨a, x_{i−1}⟩). Of several random directions the one
    with the widest smallest gap is taken. Inputs that are equal, with equal targets, share a unit.

    >>> xor = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> fit = constructive_fit(xor, np.array([0.0, 1.0, 1.0, 0.0]))
    >>> fit.num_weights, fit(xor).round(9).tolist()
    (10, [0.0, 1.0, 1.0, 0.0])

    Args:
        inputs: flat, finite.
        targets: any finite numbers; for classes their index, which is read back by rounding while `residual` < 0.5.
        seed: of the directions.
        num_draws: how many directions are tried.

    Returns:
        The network, with its largest error on the examples.

    Raises:
        ValueError: no examples, lengths differ, a number is not finite, num_draws below 1, equal inputs have different
            targets, or inputs differ by too little for every direction tried.

    Zhang et al. 2017, Understanding Deep Learning Requires Rethinking Generalization, Theorem 1 and Lemma 1,
    https://arxiv.org/abs/1611.03530
    """
    _check(inputs, targets, num_draws=num_draws)
    kept = _different(inputs, targets)
    rows, values = inputs[kept].astype(np.float64), targets[kept].astype(np.float64)
    direction = _widest(rows, seed=seed, num_draws=num_draws)
    order = np.argsort(direction.along)
    along, values = direction.along[order], values[order]
    width = float(along[-1] - along[0])
    first = along[0] - (width / len(along) if width else 1.0)
    biases = np.concatenate([[first], along[:-1]])
    slopes = np.diff(values, prepend=0.0) / (along - biases)
    weights = np.diff(slopes, prepend=0.0)
    if not np.isfinite(weights).all():
        raise ValueError("Expected weights that float64 can hold, got infinite ones. Rescale the targets.")
    fit = ConstructiveFit(
        projection=direction.projection, biases=biases, weights=weights, residual=math.nan, smallest_gap=direction.gap
    )
    residual = float(np.abs(fit(inputs.astype(np.float64)) - targets).max())
    return ConstructiveFit(
        projection=fit.projection, biases=biases, weights=weights, residual=residual, smallest_gap=direction.gap
    )


class _Direction(NamedTuple):
    projection: Float[np.ndarray, "feature"]
    along: Float[np.ndarray, "example"]
    gap: float


def _along(
    inputs: Float[np.ndarray, "example feature"], projection: Float[np.ndarray, "feature"]
) -> Float[np.ndarray, "example"]:
    """Row by row in one order of summation, so that an input is put in the same place whatever stands beside it."""
    return np.einsum("ef,f->e", np.ascontiguousarray(inputs, dtype=np.float64), projection)


def _widest(rows: Float[np.ndarray, "example feature"], *, seed: int, num_draws: int) -> _Direction:
    """Of some random directions the one whose neighbours are furthest apart for their range."""
    scale = _scale(rows)
    best: _Direction | None = None
    for draw in range(num_draws):
        projection = _drawn(scale, seed=derive(seed, "direction", draw))
        along = _along(rows, projection)
        if len(rows) == 1:
            return _Direction(projection, along, math.nan)
        ordered = np.sort(along)
        width = float(ordered[-1] - ordered[0])
        gap = float(np.diff(ordered).min()) / width if math.isfinite(width) and width > 0 else 0.0
        if best is None or gap > best.gap:
            best = _Direction(projection, along, gap)
    if best is None or best.gap <= 0:
        raise ValueError(
            f"Expected inputs that one of {num_draws} random directions tells apart in float64, got some that "
            "differ by less. Round the inputs, subtract a large offset that all share, or leave near-equal ones out."
        )
    return best


def _scale(rows: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "feature"]:
    """What makes features vary alike; 0 for one that does not vary among several examples."""
    spread = rows.std(0)
    return 1 / np.where(spread > 0, spread, 1.0 if len(rows) == 1 else np.inf)


def _drawn(scale: Float[np.ndarray, "feature"], *, seed: int) -> Float[np.ndarray, "feature"]:
    return np.random.default_rng(seed).standard_normal(len(scale)) * scale


def _different(
    inputs: Float[np.ndarray, "example feature"], targets: Float[np.ndarray, "example"]
) -> Int[np.ndarray, "kept"]:
    """The first of every group of equal inputs."""
    first: dict[bytes, int] = {}
    clashes: list[tuple[int, int]] = []
    for place, row in enumerate(inputs):
        earlier = first.setdefault((row + 0.0).tobytes(), place)
        if targets[earlier] != targets[place]:
            clashes.append((earlier, place))
    if clashes:
        one, other = clashes[0]
        raise ValueError(
            f"Expected equal inputs to have equal targets, got {len(clashes):,} whose input stands earlier with "
            f"another (first: example {other:,} has {targets[other]:g} where example {one:,} has {targets[one]:g}). No "
            "function of the inputs fits both: leave one of them out."
        )
    return np.fromiter(first.values(), dtype=np.int64)


def _check(inputs: np.ndarray, targets: np.ndarray, *, num_draws: int) -> None:
    if len(inputs) != len(targets) or not inputs.size:
        raise ValueError(f"Expected inputs and as many targets, got shapes {inputs.shape} and {targets.shape}.")
    if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
        raise ValueError("Expected finite inputs and targets, got some that are not. Leave those examples out.")
    if num_draws < 1:
        raise ValueError(f"Expected num_draws at least 1, got {num_draws}.")
