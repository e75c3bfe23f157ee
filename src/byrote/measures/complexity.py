"""How much a learner can fit: the largest sample that it does, and the smallest size that fits a sample."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

CrossingStatus = Literal["measured", "below the sweep", "beyond the sweep"]


@final
@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where the expected training error crosses a threshold on a sweep, with a 95 % interval that may be open."""

    value: float | None
    """Interpolated; None where the sweep does not reach it."""
    low: float
    """0 where the sweep does not bound it from below; the largest size where all of it lies beyond the sweep."""
    high: float
    """Infinite where the sweep does not bound it from above; the smallest size where all of it lies below the sweep."""
    status: CrossingStatus
    count: int
    """Runs at each size."""


def effective_complexity(
    errors: Float[np.ndarray, "run size"], *, sizes: Float[np.ndarray, "place"], at_most: float = 0.1
) -> Crossing:
    """Find the largest sample that a training procedure fits.

    EMC = max{n : E[training error on n examples] ≤ ε}. The expectation is the mean over runs, read between the sizes of
    the sweep linearly in log n. The interval holds the n at which the band of Student's t around the mean, size by
    size, contains ε; it has no end where the band does not leave ε within the sweep.

    >>> errors = np.array([[0.0, 0.0, 0.2], [0.0, 0.0, 0.2]])
    >>> round(effective_complexity(errors, sizes=np.array([25.0, 100.0, 400.0])).value, 9)
    200.0

    Args:
        errors: of each run after training on so many examples, in [0, 1]; runs are independent.
        sizes: n, rising.
        at_most: ε.

    Returns:
        The crossing; "beyond the sweep" where the largest sample is fitted, "below the sweep" where none is.

    Raises:
        ValueError: shapes do not match, no runs, an error outside [0, 1], sizes that do not rise, or ε outside [0, 1).

    Nakkiran et al. 2020, Deep Double Descent, definition 1, https://arxiv.org/abs/1912.02292
    """
    _check(errors, sizes, at_most=at_most)
    band = _band(errors)
    ends = (_last_below(curve, sizes, at_most) for curve in (band.mean, band.high, band.low))
    return _crossing(*ends, sizes=sizes, count=len(errors))


def smallest_that_fits(
    errors: Float[np.ndarray, "run size"], *, sizes: Float[np.ndarray, "place"], at_most: float = 0.01
) -> Crossing:
    """Find the smallest size of a network, such as its width, at which it fits.

    min{s : E[training error at size s] ≤ ε}, interpolated and bounded as `effective_complexity` is.

    >>> errors = np.array([[0.2, 0.0, 0.0], [0.2, 0.0, 0.0]])
    >>> round(smallest_that_fits(errors, sizes=np.array([4.0, 16.0, 64.0]), at_most=0.1).value, 9)
    8.0

    Args:
        errors: of each run after training at each size, in [0, 1]; runs are independent.
        sizes: rising.
        at_most: ε.

    Returns:
        The crossing; "below the sweep" where the smallest fits already, "beyond the sweep" where none does.

    Raises:
        ValueError: shapes do not match, no runs, an error outside [0, 1], sizes that do not rise, or ε outside [0, 1).

    Zhang et al. 2017, https://arxiv.org/abs/1611.03530; Arpit et al. 2017, https://arxiv.org/abs/1706.05394
    """
    _check(errors, sizes, at_most=at_most)
    band = _band(errors)
    ends = (_first_below(curve, sizes, at_most) for curve in (band.mean, band.low, band.high))
    return _crossing(*ends, sizes=sizes, count=len(errors))


class _Band(NamedTuple):
    low: Float[np.ndarray, "size"]
    mean: Float[np.ndarray, "size"]
    high: Float[np.ndarray, "size"]


def _band(errors: Float[np.ndarray, "run size"]) -> _Band:
    count, mean = len(errors), errors.mean(0, dtype=np.float64)
    if count == 1:
        return _Band(np.full_like(mean, -math.inf), mean, np.full_like(mean, math.inf))
    reach = float(special.stdtrit(count - 1, 0.975)) * errors.std(0, ddof=1, dtype=np.float64) / math.sqrt(count)
    return _Band(mean - reach, mean, mean + reach)


def _last_below(curve: Float[np.ndarray, "size"], sizes: Float[np.ndarray, "size"], at_most: float) -> float:
    """Where it rises above for good: 0 where it is nowhere below, infinite where it is at the end."""
    below = np.flatnonzero(curve <= at_most)
    if not below.size:
        return 0.0
    last = int(below[-1])
    return math.inf if last == len(curve) - 1 else _between(curve, sizes, last, at_most)


def _first_below(curve: Float[np.ndarray, "size"], sizes: Float[np.ndarray, "size"], at_most: float) -> float:
    """Where it first falls below: 0 where it starts there, infinite where it never is."""
    below = np.flatnonzero(curve <= at_most)
    if not below.size:
        return math.inf
    first = int(below[0])
    return 0.0 if first == 0 else _between(curve, sizes, first - 1, at_most)


def _between(curve: Float[np.ndarray, "size"], sizes: Float[np.ndarray, "size"], left: int, at_most: float) -> float:
    share = (at_most - float(curve[left])) / float(curve[left + 1] - curve[left])
    return float(sizes[left] * (sizes[left + 1] / sizes[left]) ** share)


def _crossing(value: float, low: float, high: float, *, sizes: Float[np.ndarray, "size"], count: int) -> Crossing:
    status: CrossingStatus = "measured"
    if value == 0:
        status = "below the sweep"
    elif math.isinf(value):
        status = "beyond the sweep"
    return Crossing(
        value=value if status == "measured" else None,
        low=min(low, float(sizes[-1])),
        high=max(high, float(sizes[0])),
        status=status,
        count=count,
    )


def _check(errors: np.ndarray, sizes: np.ndarray, *, at_most: float) -> None:
    if not errors.size or errors.shape[1] != len(sizes):
        raise ValueError(
            f"Expected errors [run, size] of at least one run at {len(sizes)} sizes, got shape {errors.shape}."
        )
    if not ((errors >= 0) & (errors <= 1)).all():
        raise ValueError("Expected errors from 0 to 1, got some outside. Leave out runs that diverged.")
    if not (np.isfinite(sizes).all() and sizes[0] > 0 and (np.diff(sizes) > 0).all()):
        raise ValueError(f"Expected sizes above 0 that rise, got {sizes.tolist()}.")
    if not 0 <= at_most < 1:
        raise ValueError(f"Expected a threshold at least 0 and below 1, got {at_most}.")
