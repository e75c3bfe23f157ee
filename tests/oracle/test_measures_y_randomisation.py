"""y-randomisation's figures against formulas by hand and SciPy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from byrote.measures import corrected_determination, eriksson_intercept, likeness_of


@given(seed=st.integers(0, 10_000), count=st.integers(3, 40))
def test_the_intercept_is_that_of_least_squares(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    likeness, scores, true = rng.random(count), rng.normal(size=count), rng.normal()
    found = eriksson_intercept(scores, likeness=likeness, true=true)
    line: Any = stats.linregress([*likeness, 1.0], [*scores, true])
    assert found.value == pytest.approx(line.intercept)
    assert found.slope == pytest.approx(line.slope)
    assert found.se == pytest.approx(line.intercept_stderr)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, count - 1) * line.intercept_stderr)
    assert found.count == count + 1


def test_the_intercepts_interval_covers_the_truth() -> None:
    rng, number, covered = np.random.default_rng(0), 2000, 0
    for _ in range(number):
        likeness = np.abs(rng.normal(0, 0.1, 25))
        scores = 0.2 + 0.5 * likeness + rng.normal(0, 0.05, 25)
        found = eriksson_intercept(scores, likeness=likeness, true=0.7 + rng.normal(0, 0.05))
        covered += found.low <= 0.2 <= found.high
    assert stats.binomtest(covered, number, 0.95).pvalue > 1e-3


def test_too_little_says_so() -> None:
    few = eriksson_intercept(np.array([0.1, 0.2]), likeness=np.array([0.0, 0.1]), true=0.5)
    alike = eriksson_intercept(np.zeros(4), likeness=np.ones(4), true=0.5)
    assert (few.status, alike.status) == ("too few permutations", "permutations are all as alike")
    assert np.isnan([few.value, alike.value]).all()
    assert corrected_determination(0.5, np.array([])).status == "too few permutations"
    assert corrected_determination(-0.2, np.array([0.1])).status == "no correlation"
    assert corrected_determination(-0.2, np.array([0.1])).value == 0


@given(true=st.floats(0.01, 1), permuted=st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_what_chance_reaches_is_taken_away(true: float, permuted: list[float]) -> None:
    found = corrected_determination(true, np.array(permuted))
    expected = np.sqrt(true) * np.sqrt(max(0.0, true - np.mean(permuted)))
    assert found.value == pytest.approx(expected, abs=1e-7)
    assert corrected_determination(true, np.zeros(2)).value == pytest.approx(true)


def test_the_standard_error_is_what_repetition_shows() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(0.1, 0.05, (4000, 30))
    found = [corrected_determination(0.6, own) for own in draws]
    assert np.mean([one.se for one in found]) == pytest.approx(np.std([one.value for one in found]), rel=0.05)


def test_likeness_is_pearsons() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=30)
    permuted = np.stack([rng.permutation(y) for _ in range(5)])
    expected = [abs(float(np.corrcoef(y, own)[0, 1])) for own in permuted]
    np.testing.assert_allclose(likeness_of(y, permuted), expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: corrected_determination(float("nan"), np.zeros(3)), "finite scores"),
        (lambda: eriksson_intercept(np.array([np.inf, 0, 0]), likeness=np.zeros(3), true=1.0), "finite scores"),
        (lambda: eriksson_intercept(np.zeros(3), likeness=np.zeros(2), true=1.0), "each of the 3 permutations, got 2"),
        (lambda: eriksson_intercept(np.zeros(3), likeness=np.full(3, 1.5), true=1.0), "from 0 to 1"),
        (lambda: likeness_of(np.ones(3), np.ones((1, 3))), "targets that vary"),
    ],
    ids=["nan", "infinite", "lengths", "range", "constant"],
)
def test_what_cannot_be_is_refused(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=words):
        call()
