"""Tests that assume nothing but a symmetry: what would be seen if there were nothing to see."""

import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

TIE = 1e-12
"""Statistics closer than this, relative to the observed one, are ties: the order of a sum changes its last bits."""


class PermutationTest(NamedTuple):
    """An observed statistic among those that the null hypothesis makes equally likely."""

    observed: float
    p_value: float
    """One-sided: how often the null reaches the observed value or more."""
    null_mean: float
    null_low: float
    """The null's 2.5 % quantile."""
    null_high: float
    """The null's 97.5 % quantile."""
    num_permutations: int
    """Permutations compared with, the observed one apart."""


def p_value(observed: float, null: Float[np.ndarray, "m"]) -> float:
    """Say how often chance does at least as well.

    p = (C + 1)/(m + 1), C being how many of the m null statistics are at least the observed one.

    >>> p_value(3.0, np.array([1.0, 2.0, 3.0]))
    0.5

    Args:
        observed: the statistic; more is more surprising.
        null: the same statistic under the null, m times.

    Returns:
        A probability in [1/(m + 1), 1].

    Raises:
        ValueError: a statistic is NaN.

    Phipson & Smyth 2010, Permutation P-values Should Never Be Zero, https://arxiv.org/abs/1603.05766
    """
    if math.isnan(observed) or np.isnan(null).any():
        raise ValueError("Expected statistics that are numbers, got NaN. Leave out the runs that diverged.")
    reached = int((null >= observed - TIE * max(1.0, abs(observed))).sum())
    return (reached + 1) / (len(null) + 1)


def relabelling_test(
    confusion: Int[np.ndarray, "run class class"], *, num_permutations: int = 9999, seed: int
) -> PermutationTest:
    """Test whether runs trained on uniformly random labels know the true classes of held-out examples.

    The statistic is the mean over runs of the accuracy, Σ_c confusion[r, c, c]/Σ confusion[r]. If labels drawn
    uniformly carry nothing of the truth, class names are arbitrary: exchanging the predicted classes by any
    permutation, of its own in each run, is equally likely, and exactly so. Everything else stays as it is: held-out
    examples that resemble each other are still answered alike. Permuting the held-out labels instead would break
    these clusters, and call chance a leak.

    All (k!)^runs relabellings are tried when they are at most `num_permutations`, otherwise that many are drawn.

    Two runs that answer 90 of 100 right, of two classes, are the best of four relabellings:

    >>> relabelling_test(np.array([[[45, 5], [5, 45]]] * 2), seed=0).p_value
    0.25

    Args:
        confusion: how many held-out examples each run predicted as class [r, predicted, true].
        num_permutations: m, at least 1.
        seed: of the relabellings drawn.

    Returns:
        The test, one-sided: a small p-value means above chance.

    Raises:
        ValueError: no runs, a run without held-out examples, or a shape other than [run, class, class].

    Ojala & Garriga 2010, Permutation Tests for Studying Classifier Performance (permutes labels);
    Rücker et al. 2007, y-Randomization and Its Variants in QSPR/QSAR
    """
    _check_number(num_permutations)
    if confusion.ndim != 3 or confusion.shape[1] != confusion.shape[2] or 0 in confusion.shape:
        raise ValueError(f"Expected a confusion matrix for each run, [run, class, class], got {confusion.shape}.")
    totals = confusion.sum((1, 2))
    if not (totals > 0).all():
        raise ValueError("Expected held-out examples in every run, got an empty confusion matrix.")
    shares = confusion / totals[:, None, None]
    if math.factorial(confusion.shape[1]) ** len(confusion) <= num_permutations:
        return _test(_every_relabelling(shares), exact=True)
    drawn = _drawn_relabellings(shares, num_permutations, np.random.default_rng(seed))
    observed = np.trace(shares, axis1=1, axis2=2).mean(keepdims=True)
    return _test(np.concatenate([observed, drawn]), exact=False)


def sign_flip_test(
    values: Float[np.ndarray, "run"], *, null: float = 0.0, num_permutations: int = 9999, seed: int
) -> PermutationTest:
    """Test whether the mean of independent values that scatter symmetrically is above `null`.

    The statistic is the mean; under the null each value − null is as likely with the other sign. All 2^runs signs are
    tried when they are at most `num_permutations` (up to 13 runs at the default), otherwise that many are drawn.

    >>> sign_flip_test(np.array([0.3, 0.1, 0.2]), seed=0).p_value
    0.125

    Args:
        values: one per run.
        null: the value that would mean nothing is going on.
        num_permutations: m, at least 1.
        seed: of the signs drawn.

    Returns:
        The test, one-sided; the smallest p-value that n runs can give is 1/2^n.

    Raises:
        ValueError: no values, or one that is not finite.

    Fisher 1935, The Design of Experiments, §21
    """
    _check_number(num_permutations)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"Expected finite values, one for each run, got {values!r:.80}. Leave out what diverged.")
    deviations = values.astype(np.float64) - null
    exact = 2 ** len(values) <= num_permutations
    if exact:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(values))))
    else:
        signs = np.random.default_rng(seed).choice([1.0, -1.0], size=(num_permutations + 1, len(values)))
        signs[0] = 1.0
    return _test(null + signs @ deviations / len(values), exact=exact)


def mcnemar(only_first: int, only_second: int) -> float:
    """Test whether two answerers of the same questions are right equally often.

    The exact two-sided binomial probability, under p = ½, of a split of the disagreements at least as uneven.

    >>> mcnemar(9, 1)
    0.021484375

    Args:
        only_first: examples that only the first answers right.
        only_second: examples that only the second answers right.

    Returns:
        A p-value in (0, 1]; 1 when they never disagree.

    Raises:
        ValueError: a count is negative.

    McNemar 1947, Note on the Sampling Error of the Difference Between Correlated Proportions
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"Expected counts of at least 0, got {only_first} and {only_second}.")
    tail = float(special.bdtr(min(only_first, only_second), only_first + only_second, 0.5))
    return min(1.0, 2 * tail)


def _every_relabelling(shares: Float[np.ndarray, "run class class"]) -> Float[np.ndarray, "relabelling"]:
    """The mean accuracy under all (k!)^runs relabellings, the observed one first."""
    num_classes = shares.shape[1]
    orders = np.array(list(itertools.permutations(range(num_classes))))
    sums = np.zeros(1)
    for share in shares:
        sums = np.add.outer(sums, share[np.arange(num_classes), orders].sum(1)).ravel()
    return sums / len(shares)


def _drawn_relabellings(
    shares: Float[np.ndarray, "run class class"], num_permutations: int, rng: np.random.Generator
) -> Float[np.ndarray, "relabelling"]:
    classes = np.arange(int(shares.shape[1]))
    sums = np.zeros(num_permutations)
    for share in shares:
        orders = rng.permuted(np.tile(classes, (num_permutations, 1)), axis=1)
        sums += share[classes, orders].sum(1)
    return sums / len(shares)


def _test(statistics: Float[np.ndarray, "permutation"], *, exact: bool) -> PermutationTest:
    """The first statistic is the observed one; it belongs to the null where that is enumerated."""
    observed, others = float(statistics[0]), statistics[1:]
    null = statistics if exact else others
    low, high = (float(end) for end in np.quantile(null, [0.025, 0.975]))
    return PermutationTest(observed, p_value(observed, others), float(null.mean()), low, high, len(others))


def _check_number(num_permutations: int) -> None:
    if num_permutations < 1:
        raise ValueError(f"Expected num_permutations at least 1, got {num_permutations!r}.")
