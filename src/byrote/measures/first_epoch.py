"""Are some examples harder than others? What one epoch says over many seeds (Arpit et al. 2017)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from byrote.records import Scores


class FirstEpochDifficulty(NamedTuple):
    """How often each example is missed after one epoch, beside what chance alone would do."""

    error_rate: Scores
    """Share of the runs that miss the example; for losses, its mean rank in (0, 1), 1 being the hardest."""
    spread: float
    """Standard deviation of the rates over examples."""
    expected_spread: float
    """The same where all examples are equally hard."""
    p_value: float
    """Of a spread so large, or larger, where all examples are equally hard; NaN of one run, which cannot tell."""
    example_p_value: Float[np.ndarray, "example"]
    """Of a rate so far from the mean, on either side."""
    example_q_value: Float[np.ndarray, "example"]
    """Adjusted for there being many examples: those below q contain a share q of chance findings on average."""


def first_epoch_difficulty(
    correct: Bool[np.ndarray, "run example"] | None = None, *, loss: Float[np.ndarray, "run example"] | None = None
) -> FirstEpochDifficulty:
    """Compare how often examples are missed after one epoch with equally hard examples.

    Under the null, run r's errors fall on any examples with the same chance. With v_r = p_r(1 − p_r), p_r being run
    r's error rate, the variance of the rates over examples is then Σ v_r/R² on average, and

    Q = (n − 1)·Σ_i(X_i − X̄)²/(n·Σ v_r)

    has mean n − 1 exactly: Cochran's Q. Its variance is 2(n − 1)(1 − Σ v_r²/(Σ v_r)²), and the p-value is of the
    scaled χ² with these two moments. An example's number of errors X_i has exactly the Poisson-binomial distribution
    (the binomial one, were all p_r equal); its q-values are Benjamini and Hochberg's.

    On real data the spread is far larger than that; Gaussian inputs cannot be told from it. Losses, of numbers
    predicted, are ranked within each run instead (Friedman's test), and an example's p-value is of a normal sum.

    >>> always, never, half = [False] * 4, [True] * 4, [True, False, True, False]
    >>> found = first_epoch_difficulty(np.array([always, never, half, half[::-1]]).T)
    >>> found.error_rate.value, round(found.spread, 4), round(found.expected_spread, 4)
    (array([1. , 0. , 0.5, 0.5]), 0.3536, 0.25)

    Args:
        correct: whether each run, of its own seed, is right after one epoch.
        loss: instead, each run's loss.

    Returns:
        Rates, spreads, and the tests.

    Raises:
        TypeError: neither, both, or correct is not a mask.
        ValueError: no runs, fewer than two examples, or a loss that is NaN.

    Arpit et al. 2017, A Closer Look at Memorization in Deep Networks, https://arxiv.org/abs/1706.05394, figure 1;
    Cochran 1950, The Comparison of Percentages in Matched Samples
    """
    hardness = _hardness(correct, loss)
    num_runs, num_examples = int(hardness.shape[0]), int(hardness.shape[1])
    variances = hardness.var(1)
    total, observed = hardness.sum(0), float(hardness.mean(0).var())
    expected = float(variances.sum()) / num_runs**2
    p_values = _normal_tails(total, variances) if correct is None else _count_tails(total, hardness.mean(1))
    rate = total / num_runs
    return FirstEpochDifficulty(
        error_rate=Scores(
            value=rate, se=_errors(hardness, rate, counts=correct is not None), count=np.full(num_examples, num_runs)
        ),
        spread=observed**0.5,
        expected_spread=expected**0.5,
        p_value=_overdispersion(observed / expected if expected else 1.0, variances, num_examples),
        example_p_value=p_values,
        example_q_value=_adjusted(p_values),
    )


def _hardness(correct: np.ndarray | None, loss: np.ndarray | None) -> Float[np.ndarray, "run example"]:
    """1 for an error, or the loss's rank within its run."""
    if (correct is None) == (loss is None):
        raise TypeError("Expected either correct or loss.")
    given = np.asarray(loss if correct is None else correct)
    if correct is not None and given.dtype.kind != "b":
        raise TypeError(f"Expected correct as a mask of shape [run, example], got an array of {given.dtype}.")
    if given.ndim != 2 or given.shape[0] < 1 or given.shape[1] < 2:
        raise ValueError(f"Expected [run, example] with a run and two examples at least, got shape {given.shape}.")
    if correct is not None:
        return (~given).astype(np.float64)
    if np.isnan(given).any():
        raise ValueError("Expected losses that are numbers, got NaN. Leave out runs that diverged.")
    return np.stack([(_mid_ranks(run) - 0.5) / len(run) for run in given])


def _mid_ranks(values: Num[np.ndarray, "example"]) -> Float[np.ndarray, "example"]:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _overdispersion(ratio: float, variances: Float[np.ndarray, "run"], num_examples: int) -> float:
    """The p-value of Q = (n − 1)·ratio."""
    if not variances.any():
        return 1.0
    share = 1 - float((variances**2).sum()) / float(variances.sum()) ** 2
    if share <= 1e-12:
        return float("nan")
    freedom = (num_examples - 1) / share
    return float(special.gammaincc(freedom / 2, (num_examples - 1) * ratio / (2 * share)))


def _count_tails(errors: Float[np.ndarray, "example"], rates: Float[np.ndarray, "run"]) -> Float[np.ndarray, "example"]:
    """Two-sided p-values of counts of errors, each run erring with its own rate."""
    chances = np.ones(1)
    for rate in rates:
        chances = np.convolve(chances, [1 - rate, rate])
    below, above = np.cumsum(chances), np.cumsum(chances[::-1])[::-1]
    number = np.rint(errors).astype(np.int64)
    return np.minimum(1.0, 2 * np.minimum(below[number], above[number]))


def _normal_tails(
    total: Float[np.ndarray, "example"], variances: Float[np.ndarray, "run"]
) -> Float[np.ndarray, "example"]:
    spread = float(variances.sum()) ** 0.5
    if spread == 0:
        return np.ones(len(total))
    return np.minimum(1.0, 2 * np.asarray(special.ndtr(-np.abs(total - total.mean()) / spread), dtype=np.float64))


def _adjusted(p_values: Float[np.ndarray, "example"]) -> Float[np.ndarray, "example"]:
    """Benjamini and Hochberg 1995: the smallest q at which each is found."""
    num, order = len(p_values), np.argsort(p_values, kind="stable")
    ratio = p_values[order] * num / np.arange(1, num + 1)
    adjusted = np.empty(num)
    adjusted[order] = np.minimum.accumulate(ratio[::-1])[::-1]
    return np.minimum(1.0, adjusted)


def _errors(
    hardness: Float[np.ndarray, "run example"], rate: Float[np.ndarray, "example"], *, counts: bool
) -> Float[np.ndarray, "example"]:
    """Of a share, with an error and a success added; of mean ranks, the runs' own."""
    num_runs = len(hardness)
    if counts:
        adjusted = (rate * num_runs + 1) / (num_runs + 2)
        return np.sqrt(adjusted * (1 - adjusted) / num_runs)
    return hardness.std(0, ddof=1) / num_runs**0.5 if num_runs > 1 else np.full(len(rate), np.nan)
