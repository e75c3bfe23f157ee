"""What is found of each label, and which to flag."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from byrote.records import Scores

REASONS = ("", "memorised", "never fitted", "contradicts neighbours", "conflicting duplicate")
"""What can be held against a label; the first is nothing."""
CAUTION = 1.5
"""Flagged labels are taken to be right so many times as often as their probabilities say: these are estimates, and on
networks and noise of several kinds, where they were off, they were off by about as much.
"""
MORE_LIKELY = 0.5
"""A label of this probability is as likely right as wrong."""
CERTAIN = 1e-3
"""Among duplicates no label is taken to be wrong, or right, more surely than this."""


class LabelErrors(NamedTuple):
    """How likely each label is wrong, what it might be instead, and why."""

    probability: Scores
    """In [0, 1]. The error is what other runs would change; NaN where nothing was held out."""
    suggested: Num[np.ndarray, "example"]
    """The likeliest class, the given label where nothing was held out; for numbers the prediction, or NaN."""
    rank: Int[np.ndarray, "example"]
    """1 is the most doubtful; examples without a probability come last."""
    doubt: Float[np.ndarray, "example"]
    """What is held against each label, in standard deviations; ranks follow it, duplicates apart."""
    reason: Shaped[np.ndarray, "example"]
    """One of `REASONS`."""


def flag_label_errors(
    probability: Float[np.ndarray, "example"], *, false_discovery_rate: float = 0.1
) -> Bool[np.ndarray, "example"]:
    """Flag as many labels as can be without more than a given share of them being right.

    The most probable ones while the mean of 1 − probability over the flagged, which is the expected share of right
    labels among them, stays at or below the rate when multiplied by `CAUTION`; and none that is more likely right than
    wrong, however low the mean.

    >>> flag_label_errors(np.array([0.99, 0.2, 0.9, np.nan]), false_discovery_rate=0.1)
    array([ True, False,  True, False])

    Args:
        probability: that the label is wrong; NaN is not flagged.
        false_discovery_rate: in [0, 1].

    Returns:
        Whether each label is flagged; the rate is kept as far as the probabilities are calibrated.

    Raises:
        ValueError: the rate is out of range.

    Efron 2008, Microarrays, Empirical Bayes and the Two-Groups Model, Statistical Science 23
    """
    if not 0 <= false_discovery_rate <= 1:
        raise ValueError(f"Expected a false-discovery rate in [0, 1], got {false_discovery_rate!r}.")
    order = np.argsort(-np.nan_to_num(probability, nan=-1.0), kind="stable")
    order = order[np.isfinite(probability[order])]
    expected = CAUTION * np.cumsum(1 - probability[order]) / np.arange(1, len(order) + 1)
    flagged = np.zeros(len(probability), bool)
    flagged[order[: int(np.sum(expected <= false_discovery_rate))]] = True
    return flagged & (np.nan_to_num(probability) > MORE_LIKELY)


def ranked(value: np.ndarray, doubt: np.ndarray) -> Int[np.ndarray, "example"]:
    """By probability; where that is the same, by doubt."""
    order = np.lexsort([-np.nan_to_num(doubt, nan=-np.inf), -np.nan_to_num(value, nan=-1.0)])
    rank = np.empty(len(value), np.int64)
    rank[order] = np.arange(1, len(value) + 1)
    return rank


def reconciled(value: np.ndarray, targets: np.ndarray, duplicates: np.ndarray) -> Float[np.ndarray, "example"]:
    """Of the different labels of one input at most one is right: each label's probability, given that.

    P(c is right) ∝ Π_{labelled c} (1 − p)·Π_{others} p, P(none is) ∝ Π p.
    """
    agreed = value.copy()
    for members in conflicts(targets, duplicates):
        inside = members[np.isfinite(value[members])]
        wrong = np.clip(value[inside], CERTAIN, 1 - CERTAIN)
        labels = np.unique(targets[inside])
        none = np.log(wrong).sum()
        logits = np.array([none + np.log(1 / wrong[targets[inside] == label] - 1).sum() for label in labels])
        every = np.append(logits, none)
        shares = np.exp(every - np.logaddexp.reduce(every))
        for label, share in zip(labels, shares[:-1], strict=True):
            agreed[inside[targets[inside] == label]] = 1 - share
    return agreed


def conflicts(targets: np.ndarray, duplicates: np.ndarray) -> list[Int[np.ndarray, "member"]]:
    """The examples of each group of identical inputs that were not all given the same label."""
    order = np.argsort(duplicates, kind="stable")
    begins = np.flatnonzero(np.diff(duplicates[order])) + 1
    return [group for group in np.split(order, begins) if len(np.unique(targets[group])) > 1]


def conflicting(targets: np.ndarray, duplicates: np.ndarray | None) -> Bool[np.ndarray, "example"]:
    """Whether an example's input was given another label elsewhere."""
    found = np.zeros(len(targets), bool)
    for members in [] if duplicates is None else conflicts(targets, duplicates):
        found[members] = True
    return found


def check_mask(inclusion: np.ndarray) -> None:
    """Refuse what is not a mask, or leaves nothing out.

    Raises:
        TypeError: not boolean.
        ValueError: not two-dimensional, or true everywhere.
    """
    if inclusion.dtype.kind != "b":
        raise TypeError(f"Expected a boolean mask of shape [run, example], got an array of {inclusion.dtype}.")
    if inclusion.ndim != 2:
        raise ValueError(f"Expected a mask of shape [run, example], got {inclusion.shape}.")
    if inclusion.all():
        raise ValueError("Expected examples that some run left out, got none. Train on subsets.")


def mean_over(values: np.ndarray, mask: np.ndarray) -> Float[np.ndarray, "example"]:
    """Over the runs that count; the mean of all examples' where none does."""
    count = mask.sum(0)
    mean = np.where(mask, values, 0).sum(0, dtype=np.float64) / np.maximum(count, 1)
    return np.where(count > 0, mean, mean[count > 0].mean() if (count > 0).any() else 0.0)


def variance_of_mean(values: np.ndarray, mask: np.ndarray) -> Float[np.ndarray, "example"]:
    """NaN from fewer than two runs."""
    count = mask.sum(0)
    squares = (np.where(mask, values - mean_over(values, mask), 0) ** 2).sum(0, dtype=np.float64)
    return np.divide(squares, (count - 1) * count, out=np.full(len(count), np.nan), where=count > 1)


def deviation(values: np.ndarray) -> float:
    """The standard deviation; 1 where nothing differs."""
    return float(values.std()) or 1.0
