"""Averages over the runs that count for an example."""

import numpy as np
from jaxtyping import Bool, Float

from byrote.records import Scores


def masked_over_runs(values: Float[np.ndarray, "run example"], mask: Bool[np.ndarray, "run example"]) -> Scores:
    """Average each example's values over the runs where its mask is true.

    The standard error is √(s²/n), s² being the unbiased sample variance over those runs.

    >>> scores = masked_over_runs(np.array([[1.0, 7.0], [3.0, np.nan]]), np.array([[True, True], [True, False]]))
    >>> scores.value, scores.se, scores.count
    (array([2., 7.]), array([ 1., nan]), array([2, 1]))

    Args:
        values: one number per run and example; what the mask leaves out is not looked at, NaN or not.
        mask: which of them count.

    Returns:
        Scores: NaN value where no run counts, NaN error where fewer than two do.

    Raises:
        TypeError: mask is not a mask.
        ValueError: the shapes differ.
    """
    if mask.dtype.kind != "b":
        raise TypeError(f"Expected a boolean mask of shape [run, example], got an array of {mask.dtype}.")
    if mask.ndim != 2 or values.shape != mask.shape:
        raise ValueError(f"Expected values and a mask of one shape, got {values.shape} and {mask.shape}.")
    count = mask.sum(0)
    mean = _ratio(np.where(mask, values, 0).sum(0, dtype=np.float64), count)
    squares = (np.where(mask, values - mean, 0) ** 2).sum(0, dtype=np.float64)
    return Scores(value=mean, se=np.sqrt(_ratio(_ratio(squares, count - 1), count)), count=count)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "example"]:
    """NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
