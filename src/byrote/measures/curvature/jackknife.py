"""Standard errors of functions of means, by leaving out one observation at a time."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float


def jackknife_error(
    function: Callable[[Sequence[int]], Float[np.ndarray, "number"]], *, count: int
) -> Float[np.ndarray, "number"]:
    """Standard error of numbers that are computed from some observations, each of about the same weight.

    √((n − 1)/n Σ_i (f₍₋ᵢ₎ − f̄)²), f₍₋ᵢ₎ being computed without the i-th. Of a mean it is s/√n:

    >>> values = np.array([1.0, 2.0, 6.0])
    >>> error = jackknife_error(lambda kept: values[kept].mean(keepdims=True), count=3)
    >>> np.isclose(error, values.std(ddof=1) / 3**0.5).all()
    np.True_

    Args:
        function: from which observations are kept.
        count: n.

    Returns:
        NaN for fewer than three observations, since two single ones say little of a spread, and where one of the
        numbers is not finite.

    Efron & Stein 1981, The Jackknife Estimate of Variance, https://doi.org/10.1214/aos/1176345462
    """
    everything = list(range(count))
    if count < FEWEST:
        return np.full(function(everything).shape, np.nan)
    return spread_without_one(np.stack([function(everything[:one] + everything[one + 1 :]) for one in everything]))


def spread_without_one(found: Float[np.ndarray, "observation number"]) -> Float[np.ndarray, "number"]:
    """The jackknife's standard error, from what is found without each observation.

    Args:
        found: f₍₋ᵢ₎.
    """
    count = len(found)
    with np.errstate(invalid="ignore"):
        squares = np.square(found - found.mean(0)).sum(0)
    return np.sqrt((count - 1) / count * squares)


FEWEST = 3
"""Observations, below which there is no standard error."""
