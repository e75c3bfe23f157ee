"""Permutation tests whose p-values can be counted by hand."""

import numpy as np
import pytest
from scipy import stats

from byrote.measures import mcnemar, p_value, relabelling_test, sign_flip_test


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (5, 5), (2, 9), (9, 2), (0, 20), (300, 240)])
def test_mcnemar_is_the_exact_binomial_test(first, second):
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ValueError, match="got -1 and 2"):
        mcnemar(-1, 2)


def test_a_p_value_is_never_0_and_counts_ties():
    assert p_value(1.0, np.zeros(99)) == 0.01
    assert p_value(0.1 + 0.2, np.full(99, 0.3)) == 1.0
    assert p_value(0.5, np.array([])) == 1.0
    with pytest.raises(ValueError, match="diverged"):
        p_value(0.5, np.array([np.nan]))


def test_one_perfect_run_of_three_classes_is_one_of_six_relabellings():
    test = relabelling_test(np.diag([4, 5, 6])[None], seed=0)
    assert test.observed == 1
    assert test.p_value == pytest.approx(1 / 6)
    assert test.null_mean == pytest.approx(1 / 3)
    assert test.num_permutations == 5


def test_the_null_mean_is_chance_whatever_is_predicted():
    """Averaged over all relabellings each cell counts 1/k: exactly chance, for skewed predictions too."""
    confusion = np.random.default_rng(0).integers(0, 50, size=(2, 4, 4))
    assert relabelling_test(confusion, seed=0).null_mean == pytest.approx(1 / 4)


def test_a_run_that_predicts_one_class_only_proves_nothing():
    confusion = np.zeros((1, 2, 2), int)
    confusion[0, 0] = [50, 50]
    assert relabelling_test(confusion, seed=0).p_value == 1.0


def test_runs_weigh_the_same_however_many_examples_they_answer():
    confusion = np.array([[[1, 0], [0, 1]], [[0, 500], [500, 0]]])
    assert relabelling_test(confusion, seed=0).observed == 0.5


def test_drawn_relabellings_agree_with_all_of_them():
    """Of 20,000 drawn, the share that reaches the observed is within four binomial errors of the exact one."""
    confusion = np.random.default_rng(1).integers(0, 20, size=(2, 4, 4)) + 3 * np.eye(4, dtype=int)
    exact = relabelling_test(confusion, seed=0)
    drawn = relabelling_test(confusion, num_permutations=500, seed=0)
    assert (exact.num_permutations, drawn.num_permutations) == (575, 500)
    assert abs(exact.p_value - drawn.p_value) < 4 * (exact.p_value * (1 - exact.p_value) / 500) ** 0.5
    assert relabelling_test(confusion, num_permutations=500, seed=0) == drawn


@pytest.mark.parametrize("shape", [(0, 2, 2), (2, 0, 0)])
def test_no_runs_or_no_classes_are_refused(shape):
    with pytest.raises(ValueError, match="confusion matrix"):
        relabelling_test(np.zeros(shape, int), seed=0)


def test_a_run_without_heldout_examples_is_refused():
    with pytest.raises(ValueError, match="empty confusion matrix"):
        relabelling_test(np.array([[[1, 0], [0, 1]], [[0, 0], [0, 0]]]), seed=0)


@pytest.mark.parametrize("num_runs", [1, 2, 5, 13])
def test_the_best_of_all_sign_flips_is_one_in_two_to_the_runs(num_runs):
    test = sign_flip_test(np.linspace(1, 2, num_runs), seed=0)
    assert test.p_value == 2.0**-num_runs
    assert test.null_mean == pytest.approx(0, abs=1e-12)


def test_sign_flips_are_drawn_when_there_are_too_many():
    test = sign_flip_test(np.linspace(1, 2, 14) + 5, null=5.0, seed=0)
    assert test.num_permutations == 9999
    assert test.p_value <= 3 / 10_000
    assert test.null_low < 5 < test.null_high < test.observed


def test_values_equal_to_the_null_prove_nothing():
    assert sign_flip_test(np.full(4, 0.1), null=0.1, seed=0).p_value == 1.0
    with pytest.raises(ValueError, match="diverged"):
        sign_flip_test(np.array([np.nan]), seed=0)
