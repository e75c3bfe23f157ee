"""Exact leave-one-out memorisation: full runs against runs that left out one example. For small tasks."""

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from byrote.records import Scores


def leave_one_out(
    inclusion: Bool[np.ndarray, "run example"],
    correct: Bool[np.ndarray, "run example"] | Num[np.ndarray, "run example"],
    *,
    seeds: Int[np.ndarray, "run"] | None = None,
) -> Scores:
    """Measure how much worse each example is answered by runs trained on everything but it.

    loo(i) = mean of correct[r, i] over the full runs − mean over the runs that left out i alone.

    Runs with different seeds are replications. Without `seeds` the two means are of independent runs, and the
    variance is that of either mean, added: for values that are all 0 or 1, p̃(1 − p̃)/n with one success and one
    failure added to each side (Agresti & Caffo 2000); else s²/n. With `seeds` each run that left out i is compared
    with the full runs of its own seed (the same initial weights and batch order, say), and the variance is that of
    the mean difference over seeds: for values that are all 0 or 1, with half a seed added to each of the four ways a
    pair can end (Agresti & Min 2005); else s²/n. What a seed decides for both then no longer blurs their difference.

    The scores of a task share its full runs, so their errors are not independent of one another.

    >>> inclusion = np.array([[True, True], [True, True], [False, True], [False, True], [True, False], [True, False]])
    >>> correct = np.array([[1, 1], [1, 1], [0, 1], [1, 1], [1, 0], [1, 0]])
    >>> leave_one_out(inclusion, correct).value
    array([0.5, 1. ])

    Args:
        inclusion: which examples each run was trained on: all of them, or all but one.
        correct: 0/1 for classes, or any number of which more is better, such as minus the loss.
        seeds: which runs had the randomness of training in common; seeds that an example or the full runs lack are
            not looked at.

    Returns:
        Scores in [−1, 1] for 0/1 values. `count` is the number of seeds compared, or without `seeds` of runs on the
        smaller side. The value is NaN for an example that no run left out (or none whose seed has a full run), the
        error also where real values come from one run or seed only.

    Raises:
        TypeError: inclusion is not a mask.
        ValueError: the shapes differ, no run was trained on everything, or a run left out more than one example.

    Feldman 2020, Does Learning Require Memorization?, https://arxiv.org/abs/1906.05271
    """
    _check(inclusion, correct, seeds)
    full = np.asarray(inclusion.all(1))
    values = correct.astype(np.float64)
    binary = bool(((values == 0) | (values == 1)).all())
    if seeds is None:
        return _independent(values, full, inclusion, binary=binary)
    return _paired(values, full, inclusion, seeds, binary=binary)


def _independent(values: np.ndarray, full: np.ndarray, inclusion: np.ndarray, *, binary: bool) -> Scores:
    sides = [np.broadcast_to(full[:, None], inclusion.shape), ~inclusion]
    counts = [side.sum(0) for side in sides]
    means = [_ratio(np.where(side, values, 0).sum(0), count) for side, count in zip(sides, counts, strict=True)]
    if binary:
        adjusted = [(mean * count + 1) / (count + 2) for mean, count in zip(means, counts, strict=True)]
        variances = [_ratio(p * (1 - p), count) for p, count in zip(adjusted, counts, strict=True)]
    else:
        squares = [(np.where(side, values - mean, 0) ** 2).sum(0) for side, mean in zip(sides, means, strict=True)]
        variances = [_ratio(_ratio(sum_, n - 1), n) for sum_, n in zip(squares, counts, strict=True)]
    return Scores(value=means[0] - means[1], se=np.sqrt(sum(variances)), count=np.minimum(*counts))


def _paired(values: np.ndarray, full: np.ndarray, inclusion: np.ndarray, seeds: np.ndarray, *, binary: bool) -> Scores:
    """A row for each seed that has a full run: its full runs' mean minus that of its runs without the example."""
    shared, row = np.unique(seeds[full], return_inverse=True)
    mine = np.searchsorted(shared, seeds)
    mine[mine == len(shared)] = 0
    compared = ~full & (shared[mine] == seeds)
    everything = np.zeros((len(shared), values.shape[1]))
    np.add.at(everything, row, values[full])
    everything /= np.bincount(row)[:, None]
    run, example = np.nonzero(~inclusion & compared[:, None])
    without, times = np.zeros(everything.shape), np.zeros(everything.shape, np.int64)
    np.add.at(without, (mine[run], example), values[run, example])
    np.add.at(times, (mine[run], example), 1)
    difference = everything - _ratio(without, times)
    known = times > 0
    count = known.sum(0)
    mean = _ratio(np.where(known, difference, 0).sum(0), count)
    squares = (np.where(known, difference, 0) ** 2).sum(0)
    if binary:
        net = mean * count / (count + 2)
        return Scores(value=mean, se=np.sqrt(_ratio((squares + 1) / (count + 2) - net**2, count)), count=count)
    centred = (np.where(known, difference - mean, 0) ** 2).sum(0)
    return Scores(value=mean, se=np.sqrt(_ratio(_ratio(centred, count - 1), count)), count=count)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _check(inclusion: np.ndarray, correct: np.ndarray, seeds: np.ndarray | None) -> None:
    if inclusion.dtype.kind != "b":
        raise TypeError(f"Expected a boolean mask of shape [run, example], got an array of {inclusion.dtype}.")
    if inclusion.ndim != 2 or inclusion.shape != correct.shape:
        raise ValueError(f"Expected a mask and values of one shape, got {inclusion.shape} and {correct.shape}.")
    if seeds is not None and seeds.shape != (len(inclusion),):
        raise ValueError(f"Expected one seed for each of {len(inclusion)} runs, got shape {seeds.shape}.")
    left_out = (~inclusion).sum(1)
    if (left_out > 1).any():
        run = int(left_out.argmax())
        raise ValueError(
            f"Expected runs that left out one example or none, got run {run}, which left out {left_out[run]}. "
            "Random subsets are what `memorisation` is for."
        )
    if not (left_out == 0).any():
        raise ValueError("Expected at least one run that was trained on every example, got none to compare with.")
