"""Memorisation and influence by the published difference of means (Feldman 2020; Feldman & Zhang 2020).

Every function takes two arrays over the same runs: which examples each run was trained on, and how it did on them.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from byrote.records import Scores


class _Side(NamedTuple):
    """One side of a difference of means: what the included runs, or the others, say of each example."""

    mean: Float[np.ndarray, "*shape"]
    variance: Float[np.ndarray, "*shape"]
    """Estimated variance of the mean."""
    num_runs: Int[np.ndarray, "*shape"]


def memorisation(
    inclusion: Bool[np.ndarray, "run example"],
    correct: Bool[np.ndarray, "run example"] | Num[np.ndarray, "run example"],
) -> Scores:
    """Estimate how much better each training example is answered because it was trained on.

    mem(i) = mean of correct[r, i] over runs with i in training − mean over runs with i left out.

    The standard error is √(v_in/n_in + v_out/n_out). For values that are all 0 or 1, v = p̃(1 − p̃) with one success
    and one failure added to each side (Agresti & Caffo 2000), so that three runs that agree do not claim certainty;
    for other values v is the unbiased sample variance. It takes the runs for independent;
    balanced subsets leave less to chance, so with them the true error is a little smaller (at a fraction of 0.7 by a
    factor down to √(7/9)). The value itself is never adjusted.

    >>> inclusion = np.array([[True, True], [True, False], [False, True], [False, False]])
    >>> correct = np.array([[1, 1], [1, 1], [0, 1], [0, 1]])
    >>> memorisation(inclusion, correct).value
    array([1., 0.])

    Args:
        inclusion: which examples each run was trained on.
        correct: 0/1 for classes, or any number of which more is better, such as minus the loss.

    Returns:
        Scores in [−1, 1] for 0/1 values. Value and error are NaN for an example that no run, or every run, was trained
        on; the error also where a side of real values has one run only. A NaN in `correct` spoils its example alone.

    Raises:
        TypeError: inclusion is not a mask.
        ValueError: the shapes differ.

    Feldman & Zhang 2020, What Neural Networks Memorize and Why, https://arxiv.org/abs/2008.03703
    """
    _check(inclusion, correct)
    binary = _is_binary(correct)
    included = _side(inclusion, correct, binary=binary)
    heldout = _side(~inclusion, correct, binary=binary)
    return _difference(included, heldout)


def influence(
    inclusion: Bool[np.ndarray, "run example"],
    correct_test: Bool[np.ndarray, "run test_example"] | Num[np.ndarray, "run test_example"],
) -> Scores:
    """Estimate how much better each test example is answered because each training example was trained on.

    infl(i, j) = mean of correct_test[r, j] over runs with i in training − mean over runs with i left out.

    Three matrix products. Standard errors as in `memorisation`.

    >>> inclusion = np.array([[True], [True], [False], [False]])
    >>> influence(inclusion, np.array([[1, 0], [1, 1], [0, 1], [0, 0]])).value
    array([[1., 0.]])

    Args:
        inclusion: which examples each run was trained on.
        correct_test: 0/1, or any number of which more is better, for each test example.

    Returns:
        Scores of shape [example, test_example]. A NaN in `correct_test` spoils its test example.

    Raises:
        TypeError: inclusion is not a mask.
        ValueError: the numbers of runs differ.

    Feldman & Zhang 2020, What Neural Networks Memorize and Why, https://arxiv.org/abs/2008.03703
    """
    _check(inclusion, correct_test, same_examples=False)
    binary = _is_binary(correct_test)
    values = correct_test.astype(np.float64)
    if not binary:
        values = values - values.mean(0)
    included = _side_by_products(inclusion, values, binary=binary)
    heldout = _side_by_products(~inclusion, values, binary=binary)
    return _difference(included, heldout)


def heldout_mean(
    inclusion: Bool[np.ndarray, "run example"],
    values: Bool[np.ndarray, "run example"] | Num[np.ndarray, "run example"],
) -> Scores:
    """Average each example's values over the runs that were not trained on it.

    Of 0/1 correctness this is the C-score, the chance that a network that never saw the example answers it.

    >>> heldout_mean(np.array([[True], [False], [False]]), np.array([[1], [0], [1]])).value
    array([0.5])

    Args:
        inclusion: which examples each run was trained on.
        values: anything measured on every example in every run; what included runs say is not looked at.

    Returns:
        Scores, NaN where every run was trained on the example. Standard errors as in `memorisation`.

    Raises:
        TypeError: inclusion is not a mask.
        ValueError: the shapes differ.

    Jiang et al. 2021, Characterizing Structural Regularities of Labeled Data, https://arxiv.org/abs/2002.03206
    """
    _check(inclusion, values)
    return _scores(_side(~inclusion, values, binary=_is_binary(values)))


def included_mean(
    inclusion: Bool[np.ndarray, "run example"],
    values: Bool[np.ndarray, "run example"] | Num[np.ndarray, "run example"],
) -> Scores:
    """Average each example's values over the runs that were trained on it; the mirror of `heldout_mean`.

    >>> included_mean(np.array([[True], [False], [True]]), np.array([[1], [0], [1]])).value
    array([1.])
    """
    _check(inclusion, values)
    return _scores(_side(inclusion, values, binary=_is_binary(values)))


def per_run_mean(
    mask: Bool[np.ndarray, "run example"],
    values: Bool[np.ndarray, "run example"] | Num[np.ndarray, "run example"],
) -> Float[np.ndarray, "run"]:
    """Average each run's values over the examples its mask picks: one independent number per run.

    >>> per_run_mean(np.array([[True, True, False], [False, False, False]]), np.array([[1, 0, 1], [1, 1, 1]]))
    array([0.5, nan])

    Returns:
        One mean per run; NaN for a run whose mask picks nothing.

    Raises:
        TypeError: mask is not a mask.
        ValueError: the shapes differ.
    """
    _check(mask, values)
    return _ratio(np.where(mask, values, 0).sum(1, dtype=np.float64), mask.sum(1))


def error_bound(*, num_runs: int, fraction: float) -> float:
    """Bound the expected squared error of a memorisation score, whatever the example and the learner.

    E[err²] ≤ 1/(ut) + 1/((1 − u)t) + exp(−ut/16)/2, with t runs and u = min(fraction, 1 − fraction).

    It bounds the mean of the *squared* error; its square root bounds the root mean square error. It is a worst case:
    the standard errors of `memorisation` are far smaller, as correctness is seldom a coin flip.

    >>> round(error_bound(num_runs=2000, fraction=0.7), 5)
    0.00238

    Args:
        num_runs: t, at least 1.
        fraction: m/n in (0, 1), the share of examples that each run is trained on.

    Raises:
        ValueError: either is out of range.

    Feldman & Zhang 2020, What Neural Networks Memorize and Why, https://arxiv.org/abs/2008.03703
    """
    if num_runs < 1:
        raise ValueError(f"Expected num_runs at least 1, got {num_runs!r}.")
    if not 0 < fraction < 1:
        raise ValueError(f"Expected fraction in (0, 1), got {fraction!r}.")
    rarer = min(fraction, 1 - fraction)
    return 1 / (rarer * num_runs) + 1 / ((1 - rarer) * num_runs) + math.exp(-rarer * num_runs / 16) / 2


def _side(mask: np.ndarray, values: np.ndarray, *, binary: bool) -> _Side:
    count = mask.sum(0)
    mean = _ratio(np.where(mask, values, 0).sum(0, dtype=np.float64), count)
    squares = np.empty(0) if binary else (np.where(mask, values - mean, 0) ** 2).sum(0, dtype=np.float64)
    return _Side(mean, _variance_of_mean(mean, squares, count, binary=binary), count)


def _side_by_products(mask: np.ndarray, values: np.ndarray, *, binary: bool) -> _Side:
    picked = mask.T.astype(np.float64)
    count = np.broadcast_to(mask.sum(0)[:, None], (mask.shape[1], values.shape[1]))
    mean = _ratio(picked @ values, count)
    squares = np.empty(0) if binary else np.maximum(picked @ values**2 - count * mean**2, 0)
    return _Side(mean, _variance_of_mean(mean, squares, count, binary=binary), count)


def _variance_of_mean(mean: np.ndarray, squares: np.ndarray, count: np.ndarray, *, binary: bool) -> np.ndarray:
    if binary:
        adjusted = (mean * count + 1) / (count + 2)
        return _ratio(adjusted * (1 - adjusted), count)
    return _ratio(_ratio(squares, count - 1), count)


def _difference(included: _Side, heldout: _Side) -> Scores:
    return Scores(
        value=included.mean - heldout.mean,
        se=np.sqrt(included.variance + heldout.variance),
        count=np.minimum(included.num_runs, heldout.num_runs),
    )


def _scores(side: _Side) -> Scores:
    return Scores(value=side.mean, se=np.sqrt(side.variance), count=side.num_runs)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _is_binary(values: np.ndarray) -> bool:
    return values.dtype.kind == "b" or bool(((values == 0) | (values == 1)).all())


def _check(mask: np.ndarray, values: np.ndarray, *, same_examples: bool = True) -> None:
    if mask.dtype.kind != "b":
        raise TypeError(f"Expected a boolean mask of shape [run, example], got an array of {mask.dtype}.")
    if mask.ndim != 2 or values.ndim != 2 or len(mask) != len(values):
        raise ValueError(f"Expected two arrays with one row for each run, got shapes {mask.shape} and {values.shape}.")
    if same_examples and mask.shape != values.shape:
        raise ValueError(f"Expected a mask and values of one shape, got {mask.shape} and {values.shape}.")
