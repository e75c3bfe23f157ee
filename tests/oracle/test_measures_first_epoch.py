"""First-epoch difficulty beside its null."""

import itertools

import numpy as np
import pytest
from scipy import stats

from byrote.measures import first_epoch_difficulty


def test_the_statistic_is_cochrans_q_with_its_exact_mean_over_all_relabellings():
    """Over every arrangement of each run's errors, the variance of the rates averages to what is expected."""
    arrangements = [np.array(row, bool) for row in sorted(set(itertools.permutations([0, 0, 1, 1])))]
    others = [np.array(row, bool) for row in sorted(set(itertools.permutations([0, 1, 1, 1])))]
    found = [first_epoch_difficulty(np.stack(pair)) for pair in itertools.product(arrangements, others)]
    assert np.mean([each.spread**2 for each in found]) == pytest.approx(found[0].expected_spread ** 2)
    assert len({round(each.expected_spread, 12) for each in found}) == 1


def test_with_many_runs_the_p_value_is_cochrans():
    rng = np.random.default_rng(0)
    correct = rng.random((200, 12)) < 0.7
    errors = ~correct
    by_example, by_run, k = errors.sum(0), errors.sum(1), errors.shape[1]
    q = (k - 1) * (k * (by_example**2).sum() - errors.sum() ** 2) / (k * errors.sum() - (by_run**2).sum())
    found = first_epoch_difficulty(correct)
    assert found.p_value == pytest.approx(stats.chi2.sf(q, k - 1), abs=0.005)
    assert (k - 1) * found.spread**2 / found.expected_spread**2 == pytest.approx(q)


def test_losses_are_ranked_as_friedman_does():
    rng = np.random.default_rng(1)
    loss = rng.normal(size=(150, 10)) + 0.1 * np.arange(10)
    loss[:, 3] = loss[:, 4]  # ties
    statistic, p_value = stats.friedmanchisquare(*loss.T)
    found = first_epoch_difficulty(loss=loss)
    assert 9 * found.spread**2 / found.expected_spread**2 == pytest.approx(statistic)
    assert found.p_value == pytest.approx(p_value, abs=0.002)


def test_an_examples_p_value_is_the_binomial_one_where_all_runs_err_as_often():
    row = np.arange(10) < 4
    rng = np.random.default_rng(2)
    errors = np.stack([rng.permutation(row) for _ in range(25)])
    found = first_epoch_difficulty(~errors)
    number = errors.sum(0)
    exact = np.minimum(1, 2 * np.minimum(stats.binom.cdf(number, 25, 0.4), stats.binom.sf(number - 1, 25, 0.4)))
    assert found.example_p_value == pytest.approx(exact)
    assert found.example_q_value == pytest.approx(stats.false_discovery_control(exact))


def test_the_error_rate_has_the_error_of_a_share():
    found = first_epoch_difficulty(np.array([[True, False], [True, False], [False, True]]))
    assert found.error_rate.value == pytest.approx([1 / 3, 2 / 3])
    assert found.error_rate.se == pytest.approx([(0.4 * 0.6 / 3) ** 0.5, (0.6 * 0.4 / 3) ** 0.5])
    assert found.error_rate.count.tolist() == [3, 3]


def test_hard_examples_are_found_among_many():
    rng = np.random.default_rng(3)
    rates = np.where(np.arange(500) < 20, 0.95, 0.3)
    found = first_epoch_difficulty(rng.random((40, 500)) > rates)
    assert found.p_value < 1e-12
    assert (found.example_q_value[:20] < 0.01).all()
    assert (found.example_q_value[20:] < 0.05).mean() < 0.02


def test_one_run_cannot_tell_and_runs_that_all_agree_find_nothing():
    assert np.isnan(first_epoch_difficulty(np.array([[True, False, True]])).p_value)
    silent = first_epoch_difficulty(np.ones((5, 4), bool))
    assert (silent.p_value, silent.spread, silent.expected_spread) == (1.0, 0.0, 0.0)
    assert silent.example_p_value.tolist() == [1.0] * 4


def test_what_is_neither_is_refused():
    with pytest.raises(TypeError, match="either correct or loss"):
        first_epoch_difficulty()
    with pytest.raises(ValueError, match="got NaN"):
        first_epoch_difficulty(loss=np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match=r"got shape \(3, 1\)"):
        first_epoch_difficulty(np.ones((3, 1), bool))
