"""What a pass says of each example, and whether it could."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from byrote.records import Scores

Status = Literal["measured", "not finite", "not visited", "never agrees"]
"""Measured; a loss or gradient overflowed, or is not a number (is the input, or has the network diverged?); training
never came to the example, so nothing depends on it; no layer's probe says what the network says."""


class PassScores(NamedTuple):
    """Scores, and for each example why it has one or has none."""

    scores: Scores
    """NaN with a count of 0 where the status is not `measured`."""
    status: Shaped[np.ndarray, "example"]
    """A `Status` for each example."""


def over_draws(values: Float[np.ndarray, "draw example"]) -> PassScores:
    """Average each example's finite values over independent draws: runs, or directions.

    The standard error is √(s²/n), NaN for one draw.

    >>> over_draws(np.array([[1.0, np.inf], [3.0, np.nan]])).status.tolist()
    ['measured', 'not finite']
    """
    finite = np.isfinite(values)
    count = finite.sum(0)
    mean = _ratio(np.where(finite, values, 0).sum(0, dtype=np.float64), count)
    squares = (np.where(finite, values - mean, 0) ** 2).sum(0, dtype=np.float64)
    scores = Scores(value=mean, se=np.sqrt(_ratio(_ratio(squares, count - 1), count)), count=count)
    return PassScores(scores, np.where(count > 0, "measured", "not finite"))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "example"]:
    """NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
