"""Duplicates that were planted."""

import inspect

import numpy as np
import pytest

from byrote.measures import (
    coincidence_rate,
    exact_duplicates,
    near_duplicates,
    nearest,
    repeated,
    typical_distance,
)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_planted_twins_are_found_at_their_place(dtype):
    rng = np.random.default_rng(0)
    train = rng.permutation(np.arange(600)).reshape(50, 3, 4).astype(dtype) % 251
    test = np.concatenate([train[[7, 41]], train[:1] + 1])
    assert exact_duplicates(train, test).tolist() == [7, 41, -1]
    assert not repeated(train).any()
    assert np.flatnonzero(repeated(np.concatenate([train, train[[3]]]))).tolist() == [3, 50]


def test_equal_numbers_are_equal_whatever_their_type_or_sign_of_zero():
    assert exact_duplicates(np.array([[0.0, 1.0]]), np.array([[-0.0, 1.0]])).tolist() == [0]
    assert exact_duplicates(np.array([[3, 1]], np.uint8), np.array([[3.0, 1.0]])).tolist() == [0]
    assert repeated(np.array([[0.0], [-0.0]])).all()


def test_inputs_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(3,\)"):
        inspect.unwrap(exact_duplicates)(np.zeros((1, 2)), np.zeros((1, 3)))


def test_identical_rows_are_at_distance_0_far_from_the_origin():
    """Where ‖q‖² − 2q·r + ‖r‖² alone would cancel into noise."""
    rng = np.random.default_rng(0)
    x = 1e6 + rng.normal(size=(300, 20))
    found = nearest(x, x)
    assert (found.distance == 0).all()
    assert (found.index[:, 0] == np.arange(300)).all()


def test_an_example_is_no_neighbour_of_its_own_but_its_twin_is():
    x = np.array([[0.0], [1.0], [1.0], [5.0]])
    found = nearest(x, x, exclude_self=True)
    assert found.index[:, 0].tolist() == [1, 2, 1, 1]
    assert found.distance[:, 0].tolist() == [1, 0, 0, 4]


@pytest.mark.parametrize(
    ("queries", "settings", "message"),
    [
        (np.zeros((2, 3)), {}, "same features"),
        (np.zeros((2, 2)), {"num_neighbours": 4}, "from 1 to 3, got 4"),
        (np.zeros((3, 2)), {"num_neighbours": 3, "exclude_self": True}, "from 1 to 2, got 3"),
        (np.zeros((2, 2)), {"exclude_self": True}, "reference itself"),
    ],
)
def test_neighbours_that_cannot_be_are_refused(queries, settings, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(nearest)(np.zeros((3, 2)), queries, **settings)


def test_a_grid_has_a_typical_distance_of_its_pitch():
    grid = np.stack(np.meshgrid(np.arange(60.0), np.arange(60.0)), axis=-1).reshape(-1, 2)
    assert typical_distance(3 * grid, seed=0) == 3.0


def test_near_twins_are_within_a_tenth_of_the_typical_distance():
    reference = np.arange(10.0)[:, None]
    queries = np.array([[3.05], [3.3], [8.0], [8.85]])
    assert near_duplicates(reference, queries, typical=1.0).tolist() == [3, -1, 8, -1]
    assert near_duplicates(reference, queries, typical=1.0, ratio=0.2).tolist() == [3, -1, 8, 9]
    assert near_duplicates(reference, queries, typical=0.0).tolist() == [-1, -1, 8, -1]


def test_the_coincidence_rate_is_what_independent_columns_give():
    """Three fair coins and 4,000 rows: each row has its pattern in common with an eighth of them."""
    rng = np.random.default_rng(0)
    train = rng.integers(2, size=(4000, 3))
    _, counts = np.unique(train, axis=0, return_counts=True)
    observed = (counts**2).sum() / 4000
    assert coincidence_rate(train) == pytest.approx(500, rel=0.01)
    assert observed == pytest.approx(500, rel=0.01)
    assert coincidence_rate(rng.normal(size=(4000, 3))) == pytest.approx(4000 / 4000**3)
