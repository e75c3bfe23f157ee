"""Which targets may be wrong: what networks that never saw an example say against what it is labelled."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

MAD_TO_SD = 1.4826
"""A Gaussian's standard deviation in median absolute deviations."""


class LabelSuspicion(NamedTuple):
    """How doubtful each label is, and what it might be instead."""

    suspicion: Float[np.ndarray, "example"]
    """In [0, 1]; NaN where nothing was held out."""
    suggested: Int[np.ndarray, "example"]
    """The likeliest class; the given label where nothing was held out."""


def label_suspicion(
    heldout_probability: Float[np.ndarray, "example class"], target: Int[np.ndarray, "example"]
) -> LabelSuspicion:
    """Doubt each label by what networks that were not trained on the example give it.

    suspicion(i) = 1 − p̂(y_i | x_i), p̂ being the mean held-out probability; suggested is its largest class.

    >>> label_suspicion(np.array([[0.9, 0.1], [0.75, 0.25]]), np.array([0, 1]))
    LabelSuspicion(suspicion=array([0.1 , 0.75]), suggested=array([0, 0]))

    Args:
        heldout_probability: mean over the runs that left the example out; NaN rows where there are none.
        target: the given labels.

    Returns:
        Suspicions and suggestions.

    Raises:
        ValueError: the lengths differ, a target is not a class, or a probability is outside [0, 1].

    Northcutt et al. 2021, Confident Learning, https://arxiv.org/abs/1911.00068 (self-confidence)
    """
    num_examples, num_classes = heldout_probability.shape
    if target.shape != (num_examples,):
        raise ValueError(f"Expected one target for each of {num_examples} examples, got shape {target.shape}.")
    if num_examples and not (target.min() >= 0 and target.max() < num_classes):
        raise ValueError(f"Expected targets in [0, {num_classes}), got {target.min()} to {target.max()}.")
    unknown = np.asarray(np.isnan(heldout_probability).any(1))
    known = np.where(unknown[:, None], 0.0, heldout_probability)
    if (known < -1e-6).any() or (known > 1 + 1e-6).any():
        raise ValueError(f"Expected probabilities in [0, 1], got {known.min():g} to {known.max():g}. Are they logits?")
    suspicion = np.clip(1 - known[np.arange(num_examples), target].astype(np.float64), 0, 1)
    return LabelSuspicion(
        suspicion=np.where(unknown, np.nan, suspicion),
        suggested=np.where(unknown, target, known.argmax(1)).astype(np.int64),
    )


def residual_suspicion(
    heldout_prediction: Float[np.ndarray, "example"], target: Float[np.ndarray, "example"]
) -> Float[np.ndarray, "example"]:
    """Doubt each number by how far it lies from what networks that were not trained on it predict.

    suspicion(i) = 2Φ(|z_i|) − 1, with z = (r − median r)/(1.4826·MAD r) and r = target − prediction: the share of
    ordinary residuals that are smaller.

    >>> residual_suspicion(np.zeros(5), np.array([-1.0, -1.0, 0.0, 1.0, 1.0])).round(3)
    array([0.5, 0.5, 0. , 0.5, 0.5])

    Args:
        heldout_prediction: mean over the runs that left the example out; NaN where there are none.
        target: the given numbers.

    Returns:
        Suspicions in [0, 1]; NaN where nothing was held out. When more than half of all residuals are equal, 0 for
        these and 1 for the others.

    Raises:
        ValueError: the lengths differ.
    """
    if heldout_prediction.shape != target.shape:
        raise ValueError(f"Expected one prediction for each target, got {heldout_prediction.shape} and {target.shape}.")
    residual = target.astype(np.float64) - heldout_prediction
    known = residual[~np.isnan(residual)]
    if len(known) == 0:
        return np.full(residual.shape, np.nan)
    distance = np.abs(residual - np.median(known))
    scale = MAD_TO_SD * float(np.median(distance[~np.isnan(distance)]))
    if scale == 0:
        return np.where(np.isnan(distance), np.nan, (distance > 0).astype(np.float64))
    return np.asarray(special.erf(distance / (scale * 2**0.5)))
