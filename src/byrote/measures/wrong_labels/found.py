"""What is found of each label, and which to flag."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from byrote.measures.wrong_labels.mixture import Shares
from byrote.records import Interval, Scores

REASONS = ("", "memorised", "never fitted", "contradicts neighbours", "conflicting duplicate")
"""What can be held against a label; the first is nothing."""
JUDGED = "judged"
AT_CHANCE = "no better than chance"
UNSETTLED = "not settled"
LIKE_NOISE = "not told from noise"
LEAD = 3.0
"""Standard deviations by which held-out networks must be better than chance. Chance is that of given predictions; that
two examples train the networks which the other's label is held against up to doubles its variance.
"""
OVERLOOKED = 0.1
"""Where no wrong label is found, but more than such a share may have been overlooked, none is called right."""
MISFIT = 0.3
"""Wrong labels are not quite like invented ones: on networks, tasks and noise of several kinds, 5 % to 40 % of it, the
share that was found was within this part of itself of the truth 95 times in 100, its other uncertainty apart.
"""
CAUTION = 1.5
"""Flagged labels are taken to be right so many times as often as their probabilities say: these are estimates, and on
networks and noise of several kinds, where they were off, they were off by about as much.
"""
MORE_LIKELY = 0.5
"""A label of this probability is as likely right as wrong."""
Z = 1.959963984540054
"""A Gaussian is within so many standard deviations in 95 % of cases."""
TINY = 1e-12
"""Of a mean square: less is rounding."""
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
    status: str
    """`judged`; `no better than chance` when networks that never saw an example do not know its label better than
    another's; `not settled`, when they do but cannot tell many wrong labels from none; or `not told from noise`, of
    numbers that lie far from predictions and yet go with them. Unless it is `judged` every probability is NaN, and
    ranks only follow the doubt.
    """
    wrong: Interval
    """The share of these labels that is wrong, the mean of the probabilities; NaN and [0, 1] unless `judged`."""


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


def status_of(found: Shares, wrong: Interval, *, lead: float) -> str:
    """Whether probabilities can be said.

    Args:
        found: the shares of wrong labels that fit.
        wrong: from `wrong_share`.
        lead: by how many standard deviations held-out networks are better than chance.
    """
    if not lead > LEAD:
        return AT_CHANCE
    overlooked = found.best.at_lower_bound and wrong.high > OVERLOOKED
    anything = found.low.at_lower_bound and found.high.at_upper_bound
    return UNSETTLED if found.best.at_upper_bound or overlooked or anything else JUDGED


def wrong_share(
    value: Float[np.ndarray, "known"], doubt: Float[np.ndarray, "known"], found: Shares, *, most: float
) -> Interval:
    """Bound the share of the labels that are wrong, which is not that of all that might have been drawn.

    p̄ ± √(d² + z²·Σ p(1 − p)/n² + (m·p̄)²), d being how far p̄ moves when the share of the mixture moves to the end of
    its likelihood set, and m the `MISFIT`. Where that set reaches the smallest share that is looked for, the interval
    reaches 0, and wrong labels may have been taken for hard ones: then it reaches `most`, too. Where it reaches the
    largest, the interval reaches 1.

    Args:
        value: probabilities.
        doubt: of the same labels.
        found: the shares of wrong labels that fit.
        most: what else is known of the largest share.
    """
    mean = float(value.mean())
    low, best, high = (float(odds.of(doubt).mean()) for odds in (found.low, found.best, found.high))
    own = np.hypot(Z * float(np.sqrt(np.sum(value * (1 - value)))) / len(value), MISFIT * mean)
    least = mean - float(np.hypot(max(best - low, 0.0), own))
    largest = mean + float(np.hypot(max(high - best, 0.0), own))
    if found.low.at_lower_bound:
        least, largest = 0.0, max(largest, most)
    if found.high.at_upper_bound:
        largest = 1.0
    least, largest = max(least, 0.0), min(largest, 1.0)
    return Interval(value=mean, low=least, high=largest, se=(largest - least) / (2 * Z), count=len(value))


def unsaid(count: int) -> Interval:
    """Anything from none to all."""
    return Interval(value=np.nan, low=0.0, high=1.0, se=np.nan, count=count)


def lead_of(
    own: Float[np.ndarray, "example"],
    *,
    by_prediction: Float[np.ndarray, "example"],
    by_target: Float[np.ndarray, "example"],
    mean: float,
    mean_square: float,
) -> float:
    """By how many standard deviations each prediction agrees better with its own target than with exchanged ones.

    With a_ij how prediction i agrees with target j, over all exchanges Σ_i a_iπ(i) has the mean n·ā and the variance
    Σ_ij (a_ij − ā_i − ā_j + ā)²/(n − 1).

    Args:
        own: a_ii.
        by_prediction: ā_i, each prediction's mean over targets.
        by_target: ā_j, each target's mean over predictions.
        mean: ā.
        mean_square: the mean of a_ij².

    Returns:
        In standard deviations; 0 when all predictions or all targets are the same.

    Hoeffding 1951, A Combinatorial Central Limit Theorem, Annals of Mathematical Statistics 22
    """
    number = len(own)
    among = mean_square - float(np.mean(by_prediction**2)) - float(np.mean(by_target**2)) + mean**2
    if number < 2 or among <= TINY * mean_square:
        return 0.0
    return (float(own.sum()) - number * mean) / float(np.sqrt(among * number**2 / (number - 1)))


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
