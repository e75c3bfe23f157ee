"""A network that fits any targets, by construction: how few weights suffice to know a training set by rote."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Num

NUM_DIRECTIONS = 32
"""Directions that are drawn; the one that keeps examples furthest apart is taken."""


@final
@dataclass(frozen=True, kw_only=True)
class LookupNetwork:
    """f(x) = Σ_j w_j·max(⟨a, x⟩ − b_j, 0): two layers, one direction, as many ReLU units as there are inputs."""

    direction: Float[np.ndarray, "feature"]
    """a."""
    biases: Float[np.ndarray, "unit"]
    """b, ascending."""
    weights: Float[np.ndarray, "unit"]
    """w."""
    residual: float
    """The largest |f(x) − y| over the examples, in units of the targets: what rounding leaves."""
    count: int
    """Examples; those that are the same, targets and all, share a unit."""

    @property
    def num_weights(self) -> int:
        """d + 2·units; units are the examples that differ, so at most 2n + d."""
        return len(self.direction) + len(self.biases) + len(self.weights)

    def __call__(self, x: Num[np.ndarray, "example feature"]) -> Float[np.ndarray, "example"]:
        """What the network says."""
        along = x.astype(np.float64) @ self.direction
        return _outputs(along, self.biases, self.weights)


def lookup_network(
    x: Num[np.ndarray, "example feature"], targets: Num[np.ndarray, "example"], *, seed: int = 0
) -> LookupNetwork:
    """Build a two-layer ReLU network of at most 2n + d weights that gives n examples in d dimensions any targets.

    Inputs are projected to z = ⟨a, x⟩, all different, and sorted; with b_1 < z_1 and b_j = z_{j−1} the matrix
    max(z_i − b_j, 0) is triangular without a zero on its diagonal, so that some w gives every target. It draws straight
    lines from each example to the next, so weights grow no faster than these lines are steep.

    Four examples of any labels, in two dimensions, by 10 weights:

    >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> network = lookup_network(x, np.array([1, 2, 2, 1]))
    >>> network(x).round(9).tolist(), network.num_weights
    ([1.0, 2.0, 2.0, 1.0], 10)

    Args:
        x: inputs; at least one, all finite.
        targets: numbers, or class codes, which the nearest whole number of an output then is.
        seed: of the directions drawn.

    Raises:
        ValueError: equal inputs have different targets, so that no function fits them; or nothing is there, lengths
            differ, something is not finite, or inputs lie too close together to be told apart along a line.

    Zhang et al. 2017, Understanding Deep Learning Requires Rethinking Generalization, theorem 1 and lemma 1,
    https://arxiv.org/abs/1611.03530
    """
    inputs, wanted = _checked(x, targets)
    middle = inputs.mean(0)
    direction = _best_direction(inputs - middle, seed=seed)
    along = inputs @ direction
    order = np.argsort(along, kind="stable")
    z, y = along[order], wanted[order]
    gaps = np.diff(z)
    if len(z) > 1 and not (gaps > 0).all():
        raise ValueError(
            f"Expected inputs that can be told apart along a line, got {int((gaps <= 0).sum()) + 1} of {len(z):,} that "
            "rounding makes equal. Standardise them, or leave near-duplicates out."
        )
    before = z[0] - (float(np.median(gaps)) if len(gaps) else 1.0)
    slopes = np.diff(y, prepend=0.0) / np.diff(z, prepend=before)
    biases, weights = np.append(before, z[:-1]), np.diff(slopes, prepend=0.0)
    said = _outputs(x.astype(np.float64) @ direction, biases, weights)
    return LookupNetwork(
        direction=direction,
        biases=biases,
        weights=weights,
        residual=float(np.abs(said - targets).max()),
        count=len(x),
    )


def _outputs(
    along: Float[np.ndarray, "example"], biases: Float[np.ndarray, "unit"], weights: Float[np.ndarray, "unit"]
) -> Float[np.ndarray, "example"]:
    """By units that are at work, summed once for all examples: Σ_{j: b_j < z} w_j(z − b_j)."""
    at_work = np.searchsorted(biases, along, side="left")
    slopes = np.append(0.0, np.cumsum(weights))
    heights = np.append(0.0, np.cumsum(slopes[1:-1] * np.diff(biases))) if len(biases) > 1 else np.zeros(1)
    unit = np.maximum(at_work - 1, 0)
    return np.where(at_work > 0, heights[unit] + slopes[at_work] * (along - biases[unit]), 0.0)


def _best_direction(centred: Float[np.ndarray, "example feature"], *, seed: int) -> Float[np.ndarray, "feature"]:
    """The one along which the nearest two are furthest apart, against the whole spread."""
    drawn = np.random.default_rng(seed).standard_normal((NUM_DIRECTIONS, centred.shape[1]))
    along = np.sort(centred @ drawn.T, axis=0)
    if len(centred) < 2:
        return drawn[0]
    gaps = np.diff(along, axis=0).min(0) / np.maximum(along[-1] - along[0], np.finfo(float).tiny)
    return drawn[int(gaps.argmax())]


def _checked(
    x: Num[np.ndarray, "example feature"], targets: Num[np.ndarray, "_"]
) -> tuple[Float[np.ndarray, "different feature"], Float[np.ndarray, "different"]]:
    """Different inputs, each once, with their targets."""
    if not len(x) or len(x) != len(targets):
        raise ValueError(f"Expected one target for each of at least one input, got {len(targets)} for {len(x)}.")
    if not (np.isfinite(x).all() and np.isfinite(targets).all()):
        raise ValueError("Expected finite inputs and targets, got NaN or infinite ones. Leave those examples out.")
    inputs, first, member = np.unique(x.astype(np.float64), axis=0, return_index=True, return_inverse=True)
    wanted = targets.astype(np.float64)
    torn = wanted != wanted[first][member.reshape(-1)]
    if torn.any():
        raise ValueError(
            f"Expected equal inputs to have equal targets, got {int(torn.sum()):,} examples that contradict another "
            "one. No function fits them; leave them out."
        )
    return inputs, wanted[first]
