"""How unequally something is shared out."""

import math

import numpy as np
from jaxtyping import Float

from byrote.records import Interval

NORMAL = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


def gini(values: Float[np.ndarray, "example"]) -> Interval:
    """Measure inequality by the Gini coefficient: 0 if all have the same, near 1 if one has everything.

    G = Σ_i (2i − n − 1)·x_(i) / (n·Σ_i x_i), x_(1) ≤ … ≤ x_(n); half the mean difference of two examples over the mean.
    The standard error is the jackknife's, from all n coefficients with one example left out.

    >>> round(gini(np.array([0.0, 0.0, 0.0, 1.0])).value, 6)
    0.75

    Args:
        values: not negative, finite; leave out what could not be measured.

    Returns:
        The interval, within [0, 1]; NaN, from 0 to 1, where all values are 0. From fewer than three values, or where
        one alone is above 0, nothing is known of the error: from 0 to 1.

    Raises:
        ValueError: no values, or one that is negative or not finite.

    Gini 1912; Karagiannis & Kovačević 2000, A Method to Calculate the Jackknife Variance Estimator for the Gini
    Coefficient; of loss-sensitivities: Arpit et al. 2017, §3.2, https://arxiv.org/abs/1706.05394
    """
    if values.ndim != 1 or not len(values):
        raise ValueError(f"Expected a one-dimensional array, not empty, got shape {values.shape}.")
    if not (np.isfinite(values) & (values >= 0)).all():
        wrong = values[~(np.isfinite(values) & (values >= 0))][0]
        raise ValueError(f"Expected finite numbers of at least 0, got {wrong}. Leave out what could not be measured.")
    ordered = np.sort(values.astype(np.float64) / max(float(values.max()), np.finfo(np.float64).tiny))
    count, total = len(ordered), float(ordered.sum())
    if total == 0:
        return Interval(value=math.nan, low=0.0, high=1.0, se=math.nan, count=count)
    rank = np.arange(1, count + 1)
    ranked = float(rank @ ordered)
    share = 2 * ranked / (count * total) - (count + 1) / count
    if count < 3 or ordered[-2] == 0:
        return Interval(value=share, low=0.0, high=1.0, se=math.nan, count=count)
    above = total - np.cumsum(ordered)
    left_out = 2 * (ranked - rank * ordered - above) / ((count - 1) * (total - ordered)) - count / (count - 1)
    se = math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))
    low, high = max(0.0, share - NORMAL * se), min(1.0, share + NORMAL * se)
    return Interval(value=share, low=low, high=high, se=se, count=count)
