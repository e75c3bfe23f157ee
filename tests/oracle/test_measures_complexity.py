"""The largest sample that is fitted, and the smallest size that fits, where both are known on paper."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from byrote.measures.complexity import effective_complexity, smallest_that_fits

SIZES = np.array([10.0, 100.0, 1000.0])


def test_band_is_where_student_leaves_the_threshold() -> None:
    """Only the last size varies between runs, so each end is one line's crossing."""
    last = np.array([0.3, 0.4, 0.5])
    errors = np.stack([np.zeros(3), np.zeros(3), last], axis=1)
    reach = stats.t.ppf(0.975, 2) * stats.sem(last)
    found = effective_complexity(errors, sizes=SIZES, at_most=0.2)
    assert found.value == pytest.approx(100 * 10 ** (0.2 / 0.4))
    assert found.low == pytest.approx(100 * 10 ** (0.2 / (0.4 + reach)))
    assert math.isinf(found.high) == bool(0.4 - reach <= 0.2)
    assert found.count == 3


def test_largest_sample_counts_even_after_a_bump() -> None:
    errors = np.array([[0.0, 0.4, 0.0, 0.4]] * 2)
    found = effective_complexity(errors, sizes=np.array([1.0, 10.0, 100.0, 1000.0]), at_most=0.2)
    assert found.value == pytest.approx(10**2.5)


def test_ends_of_the_sweep_are_open() -> None:
    fitted, never = np.zeros((3, 3)), np.ones((3, 3))
    beyond, below = (effective_complexity(errors, sizes=SIZES) for errors in (fitted, never))
    assert (beyond.value, beyond.low, beyond.high, beyond.status) == (None, 1000.0, math.inf, "beyond the sweep")
    assert (below.value, below.low, below.high, below.status) == (None, 0.0, 10.0, "below the sweep")
    fits, fails = (smallest_that_fits(errors, sizes=SIZES) for errors in (fitted, never))
    assert (fits.value, fits.low, fits.high, fits.status) == (None, 0.0, 10.0, "below the sweep")
    assert (fails.value, fails.low, fails.high, fails.status) == (None, 1000.0, math.inf, "beyond the sweep")


def test_one_run_bounds_nothing() -> None:
    found = smallest_that_fits(np.array([[0.5, 0.0, 0.0]]), sizes=SIZES, at_most=0.25)
    assert found.value == pytest.approx(10**1.5)
    assert (found.low, found.high, found.count) == (0.0, math.inf, 1)


@pytest.mark.parametrize(
    ("errors", "sizes", "at_most", "message"),
    [
        (np.zeros((2, 2)), SIZES, 0.1, "3 sizes"),
        (np.zeros((0, 3)), SIZES, 0.1, "at least one run"),
        (np.full((2, 3), np.nan), SIZES, 0.1, "from 0 to 1"),
        (np.zeros((2, 3)), SIZES[::-1].copy(), 0.1, "that rise"),
        (np.zeros((2, 3)), SIZES, 1.0, "below 1"),
    ],
    ids=["shape", "none", "nan", "falling", "threshold"],
)
def test_sweeps_that_say_nothing_are_refused(
    errors: np.ndarray, sizes: np.ndarray, at_most: float, message: str
) -> None:
    for measure in (effective_complexity, smallest_that_fits):
        with pytest.raises(ValueError, match=message):
            measure(errors, sizes=sizes, at_most=at_most)


@given(st.integers(2, 6), st.integers(2, 7), st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 0.5]))
def test_the_interval_holds_the_value_and_order_of_runs_is_no_matter(
    runs: int, num_sizes: int, seed: int, at_most: float
) -> None:
    drawn = np.random.default_rng(seed)
    errors, sizes = drawn.random((runs, num_sizes)) ** 3, np.cumsum(1 + 9 * drawn.random(num_sizes))
    for measure in (effective_complexity, smallest_that_fits):
        found, stricter = measure(errors, sizes=sizes, at_most=at_most), measure(errors, sizes=sizes, at_most=0.005)
        assert 0 <= found.low <= found.high
        if found.value is not None:
            assert found.low <= found.value * (1 + 1e-9)
            assert found.value <= found.high * (1 + 1e-9)
            assert sizes[0] <= found.value <= sizes[-1]
        shuffled = measure(drawn.permutation(errors), sizes=sizes, at_most=at_most)
        assert (shuffled.low, shuffled.high) == pytest.approx((found.low, found.high))
        harder = (stricter.low <= found.low) if measure is effective_complexity else (stricter.high >= found.high)
        assert harder
