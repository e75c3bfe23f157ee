"""Memorisation scores that are known on paper."""

import inspect
import itertools
import math

import numpy as np
import pytest

from byrote.measures import error_bound, heldout_mean, included_mean, influence, memorisation, per_run_mean


def test_over_all_subsets_a_nearest_neighbour_has_its_exact_scores():
    """P(the nearest included point is the rank-k one) = C(n−k−1, m−1)/C(n−1, m), for a point that is left out."""
    rng = np.random.default_rng(0)
    num_examples, size = 9, 5
    x, y = rng.normal(size=num_examples), rng.integers(2, size=num_examples)
    order = np.abs(x[:, None] - x).argsort(1)
    subsets = list(itertools.combinations(range(num_examples), size))
    inclusion = np.zeros((len(subsets), num_examples), bool)
    for run, subset in enumerate(subsets):
        inclusion[run, list(subset)] = True
    nearest = order[np.arange(num_examples), inclusion[:, order].argmax(2)]

    ways = [math.comb(num_examples - rank - 1, size - 1) for rank in range(1, num_examples)]
    probability = np.array(ways) / math.comb(num_examples - 1, size)
    heldout = (y[order[:, 1:]] == y[:, None]) @ probability

    assert memorisation(inclusion, y[nearest] == y).value == pytest.approx(1 - heldout)
    assert heldout_mean(inclusion, y[nearest] == y).value == pytest.approx(heldout)
    assert included_mean(inclusion, y[nearest] == y).value == pytest.approx(np.ones(num_examples))


def test_the_standard_error_adds_a_success_and_a_failure_to_each_side():
    inclusion = np.array([[True]] * 3 + [[False]] * 2)
    scores = memorisation(inclusion, np.array([[1], [1], [1], [0], [0]]))
    assert scores.value.item() == 1
    assert scores.se.item() == pytest.approx(math.sqrt((4 / 5) * (1 / 5) / 3 + (1 / 4) * (3 / 4) / 2))
    assert scores.count.item() == 2


def test_the_standard_error_of_real_values_is_welchs():
    inclusion = np.array([[True], [True], [False], [False], [False]])
    loss = np.array([[1.0], [3.0], [-2.0], [0.0], [2.0]])
    scores = memorisation(inclusion, -loss)
    assert scores.value.item() == pytest.approx(-2.0)
    assert scores.se.item() == pytest.approx(math.sqrt(2 / 2 + 4 / 3))


def test_an_example_on_one_side_only_has_no_score():
    inclusion = np.array([[True, True], [True, False], [True, False]])
    scores = memorisation(inclusion, np.array([[0.5, 1.5], [0.0, 2.0], [1.0, 4.0]]))
    assert np.isnan(scores.value).tolist() == [True, False]
    assert np.isnan(scores.se).tolist() == [True, True]  # one included run of real values has no variance
    assert scores.count.tolist() == [0, 1]


def test_a_nan_spoils_its_own_example_and_side_alone():
    inclusion = np.array([[True, True], [True, False], [False, True], [False, False]])
    values = np.array([[np.nan, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 8.0]])
    assert np.isnan(memorisation(inclusion, values).value).tolist() == [True, False]
    assert heldout_mean(inclusion, values).value.tolist() == [5.0, 5.5]
    assert np.isnan(included_mean(inclusion, values).value).tolist() == [True, False]


def test_influence_of_an_example_on_itself_is_its_memorisation():
    rng = np.random.default_rng(1)
    inclusion, correct = rng.random((30, 6)) < 0.6, rng.random((30, 6)) < 0.5
    both = influence(inclusion, correct)
    assert np.diag(both.value) == pytest.approx(memorisation(inclusion, correct).value)
    assert np.diag(both.se) == pytest.approx(memorisation(inclusion, correct).se)


def test_the_error_bound_is_the_published_formula():
    bound = 1 / (0.3 * 50) + 1 / (0.7 * 50) + math.exp(-0.3 * 50 / 16) / 2
    assert error_bound(num_runs=50, fraction=0.7) == pytest.approx(bound)
    assert error_bound(num_runs=50, fraction=0.3) == pytest.approx(bound)


def test_runs_are_averaged_over_what_their_mask_picks():
    mask = np.array([[True, False, True], [False, False, False]])
    assert per_run_mean(mask, np.array([[1.0, np.nan, 4.0], [0.0, 0.0, 0.0]])).tolist() == pytest.approx(
        [2.5, math.nan], nan_ok=True
    )


def test_what_is_no_mask_or_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(4, 3\) and \(4, 2\)"):
        inspect.unwrap(memorisation)(np.ones((4, 3), bool), np.ones((4, 2)))
    with pytest.raises(TypeError, match="boolean mask"):
        inspect.unwrap(influence)(np.ones((4, 3), int), np.ones((4, 2)))
    with pytest.raises(ValueError, match="num_runs at least 1"):
        error_bound(num_runs=0, fraction=0.5)
    with pytest.raises(ValueError, match=r"fraction in \(0, 1\)"):
        error_bound(num_runs=5, fraction=1.0)
