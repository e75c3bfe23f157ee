"""What a baseline hands back, and how targets become what it fits."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped


class BaselineOutputs(NamedTuple):
    """Predictions on the queries."""

    outputs: Float[np.ndarray, "query output"]
    """Class scores in class order 0 … k−1 that sum to 1; for regression, the prediction."""
    note: str
    """What was approximated or chosen, in plain words; empty when nothing was."""


def as_outputs(y: Shaped[np.ndarray, "example"], *, num_classes: int) -> Float[np.ndarray, "example output"]:
    """Write targets as the outputs a perfect predictor would give: one-hot rows, or the number itself.

    The columns are the classes 0 … k−1, whether or not each occurs.

    >>> as_outputs(np.array([2, 0]), num_classes=3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    if num_classes == 0:
        return y.astype(np.float64)[:, None]
    outputs = np.zeros((len(y), num_classes))
    outputs[np.arange(len(y)), y] = 1.0
    return outputs
