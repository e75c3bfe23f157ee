"""Intervals over runs and over examples, both taken as drawn at random."""

import math

import numpy as np
from jaxtyping import Float, Shaped

from byrote.measures import combined_interval
from byrote.records import Interval


def crossed_interval(
    values: Float[np.ndarray, "run example"],
    *,
    groups: Shaped[np.ndarray, "example"] | None,
    binary: bool,
    level: float = 0.95,
) -> Interval:
    """Bound the mean of values that every run has on every example.

    mean ± t_ν·√(v_runs + v_examples), as in `over_runs_and_examples`.

    >>> crossed_interval(np.array([[1.0, 0.0, 1.0]]), groups=None, binary=True).low
    -inf

    Args:
        values: one number for each run and example.
        groups: examples of one group are not independent.
        binary: as in `example_variance`.
        level: the interval's coverage.

    Returns:
        The interval; the whole line from one run, or one example or group.
    """
    return over_runs_and_examples(values.mean(1), values.mean(0), groups=groups, binary=binary, level=level)


def over_runs_and_examples(
    by_run: Float[np.ndarray, "run"],
    by_example: Float[np.ndarray, "example"],
    *,
    groups: Shaped[np.ndarray, "example"] | None,
    binary: bool,
    level: float = 0.95,
) -> Interval:
    """Bound a mean that varies with the runs drawn and with the examples drawn.

    v_runs = s²(run means)/R and v_examples from `example_variance`; degrees of freedom by Welch and Satterthwaite. What
    runs and examples have in common is counted twice, so the interval is a little too wide, never too narrow.

    Args:
        by_run: each run's mean over its examples; NaN for a run that has none.
        by_example: each example's mean over its runs; NaN for an example that has none.
        groups: examples of one group are not independent.
        binary: as in `example_variance`.
        level: the interval's coverage.

    Returns:
        The interval around the mean of `by_run`; the whole line from one run, or one example or group; value and ends
        NaN and infinite when nothing is known.
    """
    runs, known = by_run[np.isfinite(by_run)], np.isfinite(by_example)
    value = float(runs.mean(dtype=np.float64)) if len(runs) else math.nan
    if len(runs) < 2 or known.sum() < 2:
        return Interval(value=value, low=-math.inf, high=math.inf, se=math.nan, count=len(runs))
    among = example_variance(by_example[known], groups=None if groups is None else groups[known], binary=binary)
    own = (float(runs.var(ddof=1, dtype=np.float64)) / len(runs), len(runs) - 1)
    return combined_interval(value, variances=(own, among), level=level)


def example_variance(
    values: Float[np.ndarray, "example"], *, groups: Shaped[np.ndarray, "example"] | None, binary: bool
) -> tuple[float, int]:
    """Estimate the variance of a mean over examples, and the estimate's degrees of freedom.

    v = G/(G − 1)·Σ_g (Σ_{i∈g} (x_i − x̄))²/n², with G groups, or n groups of one example. For right and wrong answers
    one more disagreement is added to the sum, so that examples which all agree do not claim certainty.

    >>> example_variance(np.array([1.0, 2.0, 3.0]), groups=None, binary=False) == (1 / 3, 2)
    True

    Args:
        values: one number for each example.
        groups: equal values are one cluster.
        binary: the numbers are, or are differences of, shares of right answers.

    Returns:
        Variance and degrees of freedom; NaN and 0 when there is one group only.
    """
    deviations = values.astype(np.float64) - values.mean(dtype=np.float64)
    if groups is not None:
        deviations = np.bincount(np.unique(groups, return_inverse=True)[1], weights=deviations)
    number = len(deviations)
    if number < 2:
        return math.nan, 0
    one_more = (len(values) / number) ** 2 if binary else 0.0
    squares = float((deviations**2).sum()) + one_more
    return squares * number / ((number - 1) * len(values) ** 2), number - 1
