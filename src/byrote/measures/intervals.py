"""Intervals: what a handful of runs, or a count of examples, can honestly say."""

import math

import numpy as np
from jaxtyping import Float
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from byrote.records import Interval


def mean_interval(values: Float[np.ndarray, "n"], *, level: float = 0.95) -> Interval:
    """Bound the mean of independent values by Student's t.

    mean ± t_{n−1}·s/√n.

    >>> print(mean_interval(np.array([1.0, 2.0, 3.0])))
    2.000 (-0.484 to 4.484)

    Args:
        values: n independent, finite numbers, such as one per run.
        level: the interval's coverage.

    Returns:
        The interval; from one value alone it is the whole line and the standard error is NaN.

    Raises:
        ValueError: no values, one that is not finite, or a level outside (0, 1).

    Student 1908, The Probable Error of a Mean
    """
    _check_values(values, name="values")
    _check_level(level)
    count, mean = len(values), float(values.mean(dtype=np.float64))
    if count == 1:
        return Interval(value=mean, low=-math.inf, high=math.inf, se=math.nan, count=1)
    se = float(values.std(ddof=1, dtype=np.float64)) / math.sqrt(count)
    reach = _student_quantile(count - 1, level) * se
    return Interval(value=mean, low=mean - reach, high=mean + reach, se=se, count=count)


def proportion_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Bound a probability by the exact binomial test's inversion.

    The ends are the quantiles α/2 of Beta(x, n − x + 1) and 1 − α/2 of Beta(x + 1, n − x).

    >>> print(proportion_interval(0, 10))
    0.000 (0.000 to 0.308)

    Args:
        successes: x, from 0 to n.
        trials: n independent trials; of none, nothing is known: NaN, from 0 to 1.
        level: the interval's coverage, at least.

    Returns:
        The interval, within [0, 1].

    Raises:
        ValueError: successes out of range, or a level outside (0, 1).

    Clopper & Pearson 1934, The Use of Confidence or Fiducial Limits
    """
    _check_level(level)
    if not 0 <= successes <= trials:
        raise ValueError(f"Expected successes from 0 to the number of trials, got {successes} of {trials}.")
    if trials == 0:
        return Interval(value=math.nan, low=0.0, high=1.0, se=math.nan, count=0)
    share, tail = successes / trials, (1 - level) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(special.betaincinv(successes + 1, trials - successes, 1 - tail))
    return Interval(value=share, low=low, high=high, se=math.sqrt(share * (1 - share) / trials), count=trials)


def combined_interval(value: float, *, variances: tuple[tuple[float, float], ...], level: float = 0.95) -> Interval:
    """Bound a sum or difference of independent means.

    value ± t_ν·√(Σ v_i), with ν = (Σ v_i)²/Σ(v_i²/ν_i).

    Two means of ten with variance 1/10 each have 18 degrees of freedom together:

    >>> print(combined_interval(0.0, variances=((0.1, 9), (0.1, 9))))
    0.000 (-0.940 to 0.940)

    Args:
        value: the estimate.
        variances: for each mean its estimated variance and that estimate's degrees of freedom; infinitely many for a
            variance that is known.
        level: the interval's coverage, about.

    Returns:
        The interval; the whole line when a variance is unknown (NaN, or no degrees of freedom). Its count is that of
        the mean with the fewest degrees of freedom, plus one; 0 when all variances are known.

    Raises:
        ValueError: no variances, a negative one, or a level outside (0, 1).

    Welch 1947, The Generalization of 'Student's' Problem; Satterthwaite 1946
    """
    _check_level(level)
    if not variances or any(variance < 0 for variance, _ in variances):
        raise ValueError(f"Expected at least one variance and none below 0, got {variances!r}.")
    finite = [freedom for _, freedom in variances if math.isfinite(freedom)]
    count = int(min(finite)) + 1 if finite else 0
    if any(not math.isfinite(variance) or not freedom > 0 for variance, freedom in variances):
        return Interval(value=value, low=-math.inf, high=math.inf, se=math.nan, count=count)
    total = math.fsum(variance for variance, _ in variances)
    spread = math.fsum(variance**2 / freedom for variance, freedom in variances)
    reach = _student_quantile(total**2 / spread if spread > 0 else math.inf, level) * math.sqrt(total)
    return Interval(value=value, low=value - reach, high=value + reach, se=math.sqrt(total), count=count)


def log_ratio_interval(
    numerator: Float[np.ndarray, "n"], denominator: Float[np.ndarray, "n"], *, level: float = 0.95
) -> Interval:
    """Bound how many times larger one quantity is than its partner, pair by pair.

    exp of the t-interval of mean(log(a/b)): the geometric mean of the ratios.

    >>> print(log_ratio_interval(np.array([2.0, 8.0]), np.array([1.0, 2.0]), level=0.5))
    2.828 (2.000 to 4.000)

    Args:
        numerator: n positive numbers.
        denominator: their partners, positive.
        level: the interval's coverage.

    Returns:
        The interval, above 0; from one pair alone it is 0 to infinity. The standard error is the ratio's own, by the
        delta method.

    Raises:
        ValueError: lengths differ, or a number is not positive and finite.
    """
    if numerator.shape != denominator.shape:
        raise ValueError(f"Expected pairs, got {numerator.shape} numerators and {denominator.shape} denominators.")
    for name, values in (("numerators", numerator), ("denominators", denominator)):
        _check_values(values, name=name)
        if not (values > 0).all():
            raise ValueError(f"Expected positive {name}, got {values.min()}.")
    logs = mean_interval(np.log(numerator.astype(np.float64)) - np.log(denominator.astype(np.float64)), level=level)
    ratio = _exp(logs.value)
    return Interval(value=ratio, low=_exp(logs.low), high=_exp(logs.high), se=ratio * logs.se, count=logs.count)


def slope_interval(x: Float[np.ndarray, "m"], y: Float[np.ndarray, "n m"], *, level: float = 0.95) -> Interval:
    """Bound how steeply y rises with x, from n independent repetitions of the same sweep.

    Each row's least-squares slope Σ(x − x̄)y/Σ(x − x̄)², then the t-interval over rows.

    >>> print(slope_interval(np.array([0.0, 1.0]), np.array([[0.0, 1.0], [0.0, 3.0]]), level=0.5))
    2.000 (1.000 to 3.000)

    Args:
        x: where the sweep was made, at least two different values.
        y: one row per repetition.
        level: the interval's coverage.

    Returns:
        The interval of the slope, in y per x; from one row alone it is the whole line.

    Raises:
        ValueError: lengths differ, x does not vary, or a number is not finite.
    """
    _check_values(x, name="x")
    if y.ndim != 2 or y.shape[1] != len(x):
        raise ValueError(f"Expected rows of {len(x)} values, one for each x, got an array of shape {y.shape}.")
    centred = x.astype(np.float64) - x.mean(dtype=np.float64)
    if not centred.any():
        raise ValueError(f"Expected at least two different x, got only {x[0]}.")
    return mean_interval(y @ centred / (centred @ centred), level=level)


def _student_quantile(freedom: float, level: float) -> float:
    upper = (1 + level) / 2
    return float(special.ndtri(upper) if math.isinf(freedom) else special.stdtrit(freedom, upper))


def _exp(logarithm: float) -> float:
    """As the limit says where a float cannot hold it: a wide interval is infinite, not an error."""
    return math.exp(logarithm) if logarithm < 709 else math.inf


def _check_values(values: np.ndarray, *, name: str) -> None:
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"Expected {name} as a one-dimensional array, not empty, got shape {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(f"Expected finite {name}, got {values[~np.isfinite(values)][0]}. Leave out what diverged.")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"Expected a level in (0, 1), got {level!r}.")
