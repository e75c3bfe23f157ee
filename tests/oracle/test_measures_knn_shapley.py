"""Shapley values of nearest neighbours against their definition: all orders in which examples can arrive."""

import inspect
import itertools
import math
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from byrote.measures import knn_shapley, knn_shapley_regression


def by_definition(num_examples: int, value: Callable[[tuple[int, ...]], float]) -> np.ndarray:
    """Σ_S |S|!(n − |S| − 1)!/n!·(v(S ∪ i) − v(S))."""
    everybody = range(num_examples)
    shares = np.zeros(num_examples)
    for size in range(num_examples):
        weight = 1 / (num_examples * math.comb(num_examples - 1, size))
        for coalition in itertools.combinations(everybody, size):
            for one in set(everybody) - set(coalition):
                shares[one] += weight * (value((*coalition, one)) - value(coalition))
    return shares


def nearest(x: np.ndarray, query: np.ndarray, members: tuple[int, ...], k: int) -> list[int]:
    return sorted(members, key=lambda one: (((x[one] - query) ** 2).sum(), one))[:k]


class Points:
    """Small whole features, so that equal distances are equal in any precision."""

    def __init__(self, seed: int, *, num_examples: int = 7, num_tests: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.integers(-2, 3, size=(num_examples, 2)).astype(float)
        self.test_x = rng.integers(-2, 3, size=(num_tests, 2)).astype(float)
        self.codes, self.test_codes = rng.integers(3, size=num_examples), rng.integers(3, size=num_tests)
        self.numbers, self.test_numbers = rng.normal(5, 2, size=num_examples), rng.normal(5, 2, size=num_tests)


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_classification_by_all_coalitions(seed, k):
    p = Points(seed)

    def shares(query: np.ndarray, code: int) -> np.ndarray:
        return by_definition(7, lambda s: sum(p.codes[one] == code for one in nearest(p.x, query, s, k)) / k)

    each = np.array([shares(query, code) for query, code in zip(p.test_x, p.test_codes, strict=True)])
    scores = knn_shapley(p.x, targets=p.codes, test_features=p.test_x, test_targets=p.test_codes, num_neighbours=k)
    assert scores.value == pytest.approx(each.mean(0), abs=1e-12)
    assert scores.se == pytest.approx(each.std(0, ddof=1) / math.sqrt(3), abs=1e-12)
    assert scores.count.tolist() == [3] * 7
    assert (np.abs(scores.value) <= 1 / k).all()


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_regression_by_all_coalitions(seed, k):
    p = Points(seed)
    mean = p.numbers.mean()

    def shares(query: np.ndarray, number: float) -> np.ndarray:
        def value(coalition: tuple[int, ...]) -> float:
            return -((mean + sum(p.numbers[one] - mean for one in nearest(p.x, query, coalition, k)) / k - number) ** 2)

        return by_definition(7, value)

    each = np.array([shares(query, number) for query, number in zip(p.test_x, p.test_numbers, strict=True)])
    scores = knn_shapley_regression(
        p.x, targets=p.numbers, test_features=p.test_x, test_targets=p.test_numbers, num_neighbours=k
    )
    assert scores.value == pytest.approx(each.mean(0), abs=1e-10)
    assert scores.se == pytest.approx(each.std(0, ddof=1) / math.sqrt(3), abs=1e-10)


@pytest.mark.parametrize("measure", [knn_shapley, knn_shapley_regression], ids=["classes", "numbers"])
def test_every_example_can_be_the_test_point_of_the_others(measure):
    p = Points(3, num_examples=6)
    targets = p.codes[:6] if measure is knn_shapley else p.numbers[:6] - p.numbers[:6].mean()
    together = measure(p.x, targets=targets, num_neighbours=2)
    each = np.full((6, 6), np.nan)
    for one in range(6):
        others = np.delete(np.arange(6), one)
        if measure is knn_shapley:
            value = by_definition(
                5,
                lambda s, o=others, i=one: sum(targets[o[n]] == targets[i] for n in nearest(p.x[o], p.x[i], s, 2)) / 2,
            )
        else:
            value = by_definition(
                5,
                lambda s, o=others, i=one: (
                    -((sum(targets[o[n]] for n in nearest(p.x[o], p.x[i], s, 2)) / 2 - targets[i]) ** 2)
                ),
            )
        each[one, others] = value
    assert together.value == pytest.approx(np.nanmean(each, 0), abs=1e-12)
    assert together.se == pytest.approx(np.nanstd(each, 0, ddof=1) / math.sqrt(5), abs=1e-12)
    assert together.count.tolist() == [5] * 6


def test_the_shares_add_up_to_what_all_examples_are_worth():
    rng = np.random.default_rng(4)
    x, y, test_x, test_y = (
        rng.normal(size=(300, 5)),
        rng.integers(4, size=300),
        rng.normal(size=(40, 5)),
        np.arange(40) % 4,
    )
    scores = knn_shapley(x, targets=y, test_features=test_x, test_targets=test_y, num_neighbours=7)
    order = ((test_x[:, None] - x) ** 2).sum(2).argsort(1)[:, :7]
    assert scores.value.sum() == pytest.approx((y[order] == test_y[:, None]).mean())


def test_numbers_share_what_the_mean_alone_misses():
    rng = np.random.default_rng(5)
    x, y, test_x, test_y = (
        rng.normal(size=(300, 2)),
        rng.normal(9, 1, size=300),
        rng.normal(size=(40, 2)),
        rng.normal(size=40),
    )
    scores = knn_shapley_regression(x, targets=y, test_features=test_x, test_targets=test_y, num_neighbours=7)
    order = ((test_x[:, None] - x) ** 2).sum(2).argsort(1)[:, :7]
    gain = (y.mean() - test_y) ** 2 - (y[order].mean(1) - test_y) ** 2
    assert scores.value.sum() == pytest.approx(gain.mean())


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(6)
    x, y, test_x = rng.normal(size=(50, 3)), rng.integers(3, size=50), rng.normal(size=(23, 3))

    def scores() -> tuple[np.ndarray, np.ndarray]:
        both = knn_shapley(x, targets=y, test_features=test_x, test_targets=np.arange(23) % 3)
        return both.value, both.se

    whole = scores()
    monkeypatch.setattr(sys.modules[knn_shapley.__module__], "BLOCK_BYTES", 8 * 50 * 4)
    np.testing.assert_allclose(scores(), whole, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("itself", [False, True], ids=["test points", "each other"])
def test_a_tolerance_is_kept_test_point_by_test_point(itself):
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(400, 3)), rng.integers(2, size=400)
    for tolerance in (0.5, 0.05, 0.01, 0.004):
        for point in range(1 if itself else 5):
            test = {} if itself else {"test_features": rng.normal(size=(1, 3)), "test_targets": np.array([point % 2])}
            exact, near = (knn_shapley(x, targets=y, **test, tolerance=each).value for each in (0.0, tolerance))
            off = np.abs(near - exact)
            assert off.max() <= tolerance
            assert off.max() > 0
            if not itself:
                assert (near != 0).sum() < max(10, 1 / tolerance)


def test_a_tolerance_that_every_neighbour_matters_to_changes_nothing():
    p = Points(11)
    one, other = (
        knn_shapley(p.x, targets=p.codes, test_features=p.test_x, test_targets=p.test_codes, tolerance=each)
        for each in (0.0, 0.1)
    )
    assert one.value.tolist() == other.value.tolist()


def test_of_equal_distances_the_lower_position_is_nearer():
    x, y = np.zeros((4, 2)), np.array([1, 0, 1, 0])
    test = {"test_features": np.zeros((1, 2)), "test_targets": np.array([0])}
    scores = knn_shapley(x, targets=y, **test, num_neighbours=1)
    far_to_near = [1 / 4, 1 / 4 - 1 / 3, 1 / 4 - 1 / 3 + 1 / 2, 1 / 4 - 1 / 3 + 1 / 2 - 1]
    assert scores.value == pytest.approx(far_to_near[::-1])


def test_features_far_from_zero_lose_no_neighbour():
    """In float32, squared distances of numbers near 1e6 would be nothing but rounding."""
    p = Points(7)
    near, far = (
        knn_shapley(p.x + shift, targets=p.codes, test_features=p.test_x + shift, test_targets=p.test_codes)
        for shift in (0.0, 1e6)
    )
    assert near.value.tolist() == far.value.tolist()


def test_the_names_of_classes_and_their_order_mean_nothing():
    p = Points(8)
    names = np.array([90, -3, 17])
    one, other = (
        knn_shapley(p.x, targets=name[p.codes], test_features=p.test_x, test_targets=name[p.test_codes])
        for name in (np.arange(3), names)
    )
    assert one.value.tolist() == other.value.tolist()


@pytest.mark.parametrize("measure", [knn_shapley, knn_shapley_regression], ids=["classes", "numbers"])
def test_memory_does_not_grow_with_the_number_of_test_points(measure):
    """All distances together would take 32 MB in float32, and twice that once they are sorted."""
    rng = np.random.default_rng(9)
    x, test_x = rng.normal(size=(8000, 4)).astype(np.float32), rng.normal(size=(100, 4)).astype(np.float32)
    if measure is knn_shapley:
        y, test_y = rng.integers(5, size=8000), rng.integers(5, size=100)
    else:
        y, test_y = rng.normal(size=8000), rng.normal(size=100)
    peaks = []
    for repeats in (1, 10):
        repeated = {"test_features": np.tile(test_x, (repeats, 1)), "test_targets": np.tile(test_y, repeats)}
        tracemalloc.start()
        inspect.unwrap(measure)(x, targets=y, **repeated)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 4 * 8000 * 1000


def test_what_does_not_fit_is_refused():
    shapley = inspect.unwrap(knn_shapley)
    x, y = np.zeros((3, 2)), np.zeros(3, int)
    with pytest.raises(ValueError, match="test_features and test_targets together"):
        shapley(x, targets=y, test_features=x)
    with pytest.raises(ValueError, match=r"same features, got \(3, 2\) and \(3, 1\)"):
        shapley(x, targets=y, test_features=x[:, :1], test_targets=y)
    with pytest.raises(ValueError, match="one target for each of 3 examples"):
        shapley(x, targets=y[:2])
    with pytest.raises(ValueError, match="at least 2 examples"):
        shapley(x[:1], targets=y[:1])
    with pytest.raises(ValueError, match="num_neighbours at least 1, got 0"):
        shapley(x, targets=y, num_neighbours=0)
    with pytest.raises(ValueError, match=r"tolerance in \[0, 1\), got 1"):
        shapley(x, targets=y, tolerance=1.0)
    with pytest.raises(ValueError, match="finite features"):
        shapley(np.full((3, 2), np.nan), targets=y)
    with pytest.raises(ValueError, match="finite targets"):
        inspect.unwrap(knn_shapley_regression)(x, targets=np.array([1.0, np.nan, 2.0]))
