"""Intervals against scipy's and against their own coverage, enumerated exactly."""

import math

import numpy as np
import pytest
from scipy import stats

from byrote.measures import (
    combined_interval,
    log_ratio_interval,
    mean_interval,
    proportion_interval,
    slope_interval,
)


def ends(interval):
    return interval.low, interval.high


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_a_mean_has_students_interval(level):
    values = np.array([0.1, 0.5, 0.2, 0.9])
    interval = mean_interval(values, level=level)
    expected = stats.t.interval(level, 3, loc=values.mean(), scale=stats.sem(values))
    assert ends(interval) == pytest.approx(expected)
    assert (interval.value, interval.se, interval.count) == pytest.approx((0.425, stats.sem(values), 4))


def test_one_value_says_nothing_of_its_spread():
    interval = mean_interval(np.array([0.3]))
    assert (interval.value, *ends(interval)) == (0.3, -math.inf, math.inf)
    assert math.isnan(interval.se)


@pytest.mark.parametrize(("values", "message"), [([], "not empty"), ([1.0, math.nan], "finite values, got nan")])
def test_a_mean_of_nothing_or_of_nan_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(np.array(values, float))


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 7), (7, 7), (88, 1000)])
def test_a_proportion_has_clopper_and_pearsons_interval(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(method="exact")
    assert ends(proportion_interval(successes, trials)) == pytest.approx((expected.low, expected.high))


def test_a_proportions_interval_covers_at_least_its_level_everywhere():
    trials = 12
    intervals = [proportion_interval(successes, trials) for successes in range(trials + 1)]
    for share in np.linspace(0.01, 0.99, 99):
        covered = sum(
            stats.binom.pmf(successes, trials, share)
            for successes, interval in enumerate(intervals)
            if interval.low <= share <= interval.high
        )
        assert covered >= 0.95


def test_no_trials_leave_everything_possible():
    interval = proportion_interval(0, 0)
    assert math.isnan(interval.value)
    assert ends(interval) == (0, 1)
    with pytest.raises(ValueError, match="got 3 of 2"):
        proportion_interval(3, 2)


def test_a_difference_of_means_has_welchs_interval():
    first, second = np.array([1.0, 2.0, 4.0, 4.5]), np.array([0.0, 0.1, 0.3])
    variances = tuple((float(each.var(ddof=1) / len(each)), len(each) - 1) for each in (first, second))
    interval = combined_interval(float(first.mean() - second.mean()), variances=variances)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert ends(interval) == pytest.approx((expected.low, expected.high))
    assert interval.count == 3


def test_known_variances_give_the_normal_interval():
    interval = combined_interval(1.0, variances=((0.09, math.inf), (0.16, math.inf)))
    assert ends(interval) == pytest.approx(stats.norm.interval(0.95, 1.0, 0.5))
    assert ends(combined_interval(1.0, variances=((0.0, 3),))) == (1, 1)


@pytest.mark.parametrize("unknown", [(math.nan, 3), (0.1, 0)])
def test_an_unknown_variance_leaves_everything_possible(unknown):
    assert ends(combined_interval(1.0, variances=((0.1, 3), unknown))) == (-math.inf, math.inf)


def test_a_log_ratio_is_a_mean_of_logarithms():
    slow, fast = np.array([20.0, 33.0, 41.0]), np.array([5.0, 6.0, 12.0])
    logs = mean_interval(np.log(slow / fast))
    interval = log_ratio_interval(slow, fast)
    assert (interval.value, *ends(interval)) == pytest.approx(tuple(np.exp([logs.value, logs.low, logs.high])))
    back = log_ratio_interval(fast, slow)
    assert ends(back) == pytest.approx((1 / interval.high, 1 / interval.low))


def test_log_ratios_that_say_little_are_infinitely_wide():
    assert ends(log_ratio_interval(np.array([2.0]), np.array([1.0]))) == (0, math.inf)
    assert ends(log_ratio_interval(np.array([1e-300, 1e300]), np.array([1.0, 1.0]))) == (0, math.inf)
    with pytest.raises(ValueError, match=r"positive denominators, got 0\.0"):
        log_ratio_interval(np.array([1.0]), np.array([0.0]))


def test_slopes_are_least_squares_row_by_row():
    x, rng = np.array([0.0, 0.2, 0.5, 1.0]), np.random.default_rng(0)
    y = 2 * x + rng.normal(size=(5, 4))
    expected = mean_interval(np.array([np.polyfit(x, row, 1)[0] for row in y]))
    interval = slope_interval(x, y)
    assert (interval.value, *ends(interval)) == pytest.approx((expected.value, *ends(expected)))
    with pytest.raises(ValueError, match="at least two different x"):
        slope_interval(np.ones(4), y)
