"""Leave-one-out memorisation that is known on paper."""

import inspect
import math

import numpy as np
import pytest

from byrote.measures import leave_one_out, memorisation


def design(num_examples: int, num_seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """For each seed a full run, and one run without each example."""
    one_seed = np.concatenate([np.ones((1, num_examples), bool), ~np.eye(num_examples, dtype=bool)])
    return np.tile(one_seed, (num_seeds, 1)), np.repeat(np.arange(num_seeds), num_examples + 1)


def nearest_neighbour_answers(x: np.ndarray, y: np.ndarray, inclusion: np.ndarray) -> np.ndarray:
    order = np.abs(x[:, None] - x).argsort(1)
    nearest = order[np.arange(len(x)), inclusion[:, order].argmax(2)]
    return y[nearest] == y


def test_a_nearest_neighbour_memorises_exactly_what_its_neighbours_would_get_wrong():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=12), rng.integers(3, size=12)
    inclusion, seeds = design(12, 2)
    correct = nearest_neighbour_answers(x, y, inclusion)
    distance = np.abs(x[:, None] - x)
    np.fill_diagonal(distance, np.inf)
    expected = (y[distance.argmin(1)] != y).astype(float)
    assert leave_one_out(inclusion, correct).value.tolist() == expected.tolist()
    assert leave_one_out(inclusion, correct, seeds=seeds).value.tolist() == expected.tolist()
    assert leave_one_out(inclusion, correct).count.tolist() == [2] * 12


def test_ridge_regression_has_its_leave_one_out_residuals():
    """The residual at an example that was left out is r/(1 − h)."""
    rng = np.random.default_rng(1)
    x, y, penalty = rng.normal(size=(9, 3)), rng.normal(size=9), 0.3
    inclusion, _ = design(9, 1)
    residuals = []
    for mask in inclusion:
        weights = np.linalg.solve(x[mask].T @ x[mask] + penalty * np.eye(3), x[mask].T @ y[mask])
        residuals.append(np.abs(x @ weights - y))
    hat = x @ np.linalg.solve(x.T @ x + penalty * np.eye(3), x.T)
    inside = np.abs(hat @ y - y)
    scores = leave_one_out(inclusion, -np.array(residuals))
    assert scores.value == pytest.approx(inside / (1 - np.diag(hat)) - inside)
    assert np.isnan(scores.se).all()


@pytest.mark.parametrize("kind", ["right or wrong", "real"])
def test_without_seeds_it_is_the_difference_of_means_of_the_same_runs(kind):
    rng = np.random.default_rng(2)
    inclusion, _ = design(5, 4)
    values = rng.random(inclusion.shape) < 0.6 if kind == "right or wrong" else rng.normal(size=inclusion.shape)
    scores = leave_one_out(inclusion, values)
    for example in range(5):
        runs = inclusion.all(1) | ~inclusion[:, example]
        same = memorisation(inclusion[runs][:, [example]], values[runs][:, [example]])
        assert scores.value[example] == pytest.approx(same.value.item())
        assert scores.se[example] == pytest.approx(same.se.item())
        assert scores.count[example] == same.count.item()


def test_with_seeds_what_a_seed_decides_cancels():
    rng = np.random.default_rng(3)
    inclusion, seeds = design(4, 6)
    luck = rng.normal(size=6)[seeds][:, None]
    drop = rng.normal(size=inclusion.shape)
    values = 10 * luck - ~inclusion * (2 + drop)
    paired = leave_one_out(inclusion, values, seeds=seeds)
    differences = np.array([2 + drop[~inclusion[:, example], example] for example in range(4)])
    assert paired.value == pytest.approx(differences.mean(1))
    assert paired.se == pytest.approx(differences.std(1, ddof=1) / math.sqrt(6))
    assert paired.count.tolist() == [6] * 4
    assert (leave_one_out(inclusion, values).se > 3 * paired.se).all()


def test_pairs_of_right_and_wrong_have_agresti_and_mins_error():
    """Of 8 seeds 3 lose the example and 1 gains it: with half a seed more in each of four cells, 5 of 10 differ."""
    inclusion, seeds = design(1, 8)
    assert inclusion.tolist() == [[True], [False]] * 8
    full = np.array([1, 1, 1, 1, 1, 0, 0, 0])
    without = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    scores = leave_one_out(inclusion, np.stack([full, without], axis=1).reshape(-1, 1), seeds=seeds)
    assert scores.value.item() == 2 / 8
    adjusted = (5 / 10 - (2 / 10) ** 2) / 8
    assert scores.se.item() == pytest.approx(math.sqrt(adjusted))


def test_seeds_that_have_no_partner_are_not_compared():
    inclusion = np.array([[True, True], [False, True], [True, False], [True, True]])
    scores = leave_one_out(inclusion, np.ones((4, 2)), seeds=np.array([1, 1, 2, 3]))
    assert scores.count.tolist() == [1, 0]
    assert np.isnan(scores.value).tolist() == [False, True]


def test_an_example_that_no_run_left_out_has_no_score():
    inclusion = np.array([[True, True], [False, True]])
    scores = leave_one_out(inclusion, np.ones((2, 2)))
    assert np.isnan(scores.value).tolist() == [False, True]
    assert np.isnan(scores.se).tolist() == [False, True]
    assert scores.count.tolist() == [1, 0]


def test_other_runs_are_refused():
    exact = inspect.unwrap(leave_one_out)
    with pytest.raises(ValueError, match="run 1, which left out 2"):
        exact(np.array([[True] * 3, [False, False, True]]), np.ones((2, 3)))
    with pytest.raises(ValueError, match="trained on every example"):
        exact(np.array([[True, False]]), np.ones((1, 2)))
    with pytest.raises(ValueError, match="one seed for each of 2 runs"):
        exact(np.ones((2, 2), bool), np.ones((2, 2)), seeds=np.array([1]))
    with pytest.raises(ValueError, match="one shape"):
        exact(np.ones((2, 2), bool), np.ones((2, 3)))
    with pytest.raises(TypeError, match="boolean mask"):
        exact(np.ones((2, 2)), np.ones((2, 2)))
