"""What each training example is worth to a nearest-neighbour classifier or regressor: exact Shapley values."""

import math
from collections.abc import Callable
from typing import final

import numpy as np
from jaxtyping import Float, Int, Num

from byrote.records import Scores

BLOCK_BYTES = 2 * 2**20
"""Test points are taken so many at a time that each array of a block stays below this, and in a processor's cache."""
ROWS_AT_ONCE = 1024
"""Rows are brought into float32 so many at a time."""
OFFSET_STEPS = 8
"""Features are shifted by multiples of an eighth of a power of two, so that whole numbers stay exact and ties ties."""

_Values = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the targets of a block's neighbours [test, rank], nearest first, and its own targets: values [test, rank]."""


def knn_shapley(
    features: Num[np.ndarray, "example feature"],
    *,
    targets: Int[np.ndarray, "example"],
    test_features: Num[np.ndarray, "test_example feature"] | None = None,
    test_targets: Int[np.ndarray, "test_example"] | None = None,
    num_neighbours: int = 10,
    tolerance: float = 0.0,
) -> Scores:
    """Share what a k-nearest-neighbour classifier gets right on test points among its training examples.

    The Shapley value of the game v(S) = (1/k)·#{the min(k, |S|) nearest of S with the test point's class}. With the
    training examples in order of distance and hit_j = 1 where the j-th has the test point's class,

    s_j = hit_j·min(k, j)/(j·k) − Σ_{l > max(j, k)} hit_l/(l(l − 1)),

    averaged over test points. One sort for each test point, and one running sum; test points are taken in blocks, so
    memory does not grow with their number. Distances are Euclidean, in float32 on centred features; of equal distances
    the lower position is nearer. Classes are compared for equality only, whatever their codes.

    >>> features = np.array([[0.0], [1.0], [3.0]])
    >>> test = dict(test_features=np.array([[0.2]]), test_targets=np.array([7]))
    >>> knn_shapley(features, targets=np.array([7, 4, 7]), **test, num_neighbours=1).value
    array([ 0.83333333, -0.16666667,  0.33333333])

    Args:
        features: of the training examples, on scales that make distances mean something.
        targets: their classes.
        test_features: of the test points. None: every training example in turn is the test point of all the others.
        test_targets: their classes.
        num_neighbours: k.
        tolerance: by how much a test point's values may be off. Above 0, only the max(k, 1/tolerance) nearest
            examples are sorted and the others get 0, which takes a quarter of the time; 0 is exact.

    Returns:
        Scores in [−1/k, 1/k]; for each test point they sum to v of all examples (exactly, at tolerance 0). Negative
        values hurt.
        The standard error is over test points, taken for a sample: √(s²/m), NaN for one. `count` is the number of test
        points behind each.

    Raises:
        ValueError: shapes do not fit, a feature is not finite, there are no examples or test points, or the tolerance
            is outside [0, 1).

    Jia et al. 2019, Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms (Theorem 2: the tolerance),
    https://arxiv.org/abs/1908.08619
    """
    tests = _tests(features, targets, test_features, test_targets, num_neighbours)
    if not 0 <= tolerance < 1:
        raise ValueError(f"Expected a tolerance in [0, 1), got {tolerance!r}.")
    most = max(num_neighbours, math.ceil(1 / tolerance)) if tolerance else len(features)
    truncated = most < len(features) - (test_features is None)
    rank = np.arange(1, min(most, len(features)) + 1)
    own = np.minimum(num_neighbours, rank) / (rank * num_neighbours)
    later = np.where(rank > num_neighbours, 1 / np.maximum(rank * (rank - 1), 1), 0.0)

    def values(neighbours: np.ndarray, target: np.ndarray) -> np.ndarray:
        hit = neighbours == target[:, None]
        size = hit.shape[1]
        shares = hit * own[:size] - _sum_of_later(hit * later[:size])
        return shares - shares[:, -1:] if truncated else shares

    return _over_test_points(features, targets, tests, values, exclude_self=test_features is None, most=most)


def knn_shapley_regression(
    features: Num[np.ndarray, "example feature"],
    *,
    targets: Num[np.ndarray, "example"],
    test_features: Num[np.ndarray, "test_example feature"] | None = None,
    test_targets: Num[np.ndarray, "test_example"] | None = None,
    num_neighbours: int = 10,
) -> Scores:
    """Share what a k-nearest-neighbour regressor saves in squared error among its training examples.

    The Shapley value of v(S) = −(ŷ_S − y)², ŷ_S being the mean target of the training set plus the sum over the
    min(k, |S|) nearest of S of their deviation from it, divided by k: neighbours that are missing say the mean. Sorted
    by distance, with M_j = min(k, j), targets as deviations and y the test point's,

    s_n = −(y_n/(n·k))·(M_n(M_n − 1)·ȳ_{others}/k + M_n·y_n/k − 2·M_n·y)

    s_j = s_{j+1} + ((y_{j+1} − y_j)/k)·(M_j/j)·((1/k)·Σ_l A_jl·y_l − 2y), where A_jl is (M_j − 1)/(j − 1) for l < j, 1
    for j and j + 1, and min(k, l − 1)·min(k − 1, l − 2)·j/((l − 1)(l − 2)·M_j) beyond. Averaged over test points;
    sorts, blocks, ties and errors as in `knn_shapley`.

    >>> test = dict(test_features=np.array([[0.0]]), test_targets=np.array([1.0]))
    >>> knn_shapley_regression(np.array([[0.0], [1.0]]), targets=np.array([1.0, -1.0]), **test, num_neighbours=1).value
    array([ 2.5, -1.5])

    Args:
        features: of the training examples.
        targets: their numbers.
        test_features: of the test points. None: every training example in turn is the test point of all the others;
            the mean is still that of all.
        test_targets: their numbers.
        num_neighbours: k.

    Returns:
        Scores in squared target units; for each test point they sum to the squared error of the mean target minus
        that of the k nearest neighbours (of all, when there are fewer, with the mean for the missing).

    Raises:
        ValueError: shapes do not fit, a feature or target is not finite, or there are no examples or test points.

    Jia et al. 2019, Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms, Theorem 6,
    https://arxiv.org/abs/1908.08619
    """
    tests = _tests(features, targets, test_features, test_targets, num_neighbours)
    numbers, test_numbers = targets.astype(np.float64), tests[1].astype(np.float64)
    if not (np.isfinite(numbers).all() and np.isfinite(test_numbers).all()):
        raise ValueError("Expected finite targets, got NaN or infinity. Leave out the examples without a target.")
    mean = float(numbers.mean())

    def values(neighbours: np.ndarray, target: np.ndarray) -> np.ndarray:
        return _regression_values(neighbours, target, num_neighbours)

    tests = tests[0], test_numbers - mean
    return _over_test_points(features, numbers - mean, tests, values, exclude_self=test_features is None)


def _regression_values(y: np.ndarray, target: np.ndarray, k: int) -> Float[np.ndarray, "test rank"]:
    size = int(y.shape[1])
    rank = np.arange(1, size + 1)
    reach = np.minimum(k, rank)
    others = (y[:, :-1].sum(1) / (size - 1)) if size > 1 else np.zeros(len(y))
    most, last = min(k, size), y[:, -1]
    values = np.empty(y.shape)
    values[:, -1] = -last / (size * k) * (most * (most - 1) * others / k + most * last / k - 2 * most * target)
    if size == 1:
        return values
    nearer = np.cumsum(y, axis=1)[:, :-1] - y[:, :-1]
    nearer *= (reach[:-1] - 1) / np.maximum(rank[:-1] - 1, 1)
    far = np.maximum((rank - 1) * (rank - 2), 1)
    weight = np.where(rank > 2, np.minimum(k, rank - 1) * np.minimum(k - 1, rank - 2) / far, 0.0)
    beyond = _sum_of_later(y * weight)[:, 1:] * (rank[:-1] / reach[:-1])
    together = (nearer + y[:, :-1] + y[:, 1:] + beyond) / k - 2 * target[:, None]
    steps = (y[:, 1:] - y[:, :-1]) / k * (reach[:-1] / rank[:-1]) * together
    values[:, :-1] = values[:, -1:] + np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
    return values


def _sum_of_later(values: np.ndarray) -> Float[np.ndarray, "test rank"]:
    """At each rank the sum over the ranks beyond it."""
    sums = np.zeros(values.shape)
    np.cumsum(values[:, :0:-1], axis=1, out=sums[:, -2::-1])
    return sums


def _over_test_points(
    features: np.ndarray,
    targets: np.ndarray,
    tests: tuple[np.ndarray, np.ndarray],
    values: _Values,
    *,
    exclude_self: bool,
    most: int | None = None,
) -> Scores:
    """Mean and standard error over test points, block by block; of the `most` nearest examples of each, or all."""
    num_examples, num_tests = len(features), len(tests[0])
    order_of = _Sorter(features, most=most or num_examples)
    total, squares = np.zeros(num_examples), np.zeros(num_examples)
    step = max(1, BLOCK_BYTES // (8 * num_examples))
    for start in range(0, num_tests, step):
        here = slice(start, start + step)
        order = order_of(tests[0][here], np.arange(num_tests)[here] if exclude_self else None)
        shares, owner = values(targets[order], tests[1][here]).ravel(), order.ravel()
        total += np.bincount(owner, shares, num_examples)
        squares += np.bincount(owner, shares**2, num_examples)
    count = num_tests - exclude_self
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0.0)
    se = np.sqrt(variance / (count - 1)) if count > 1 else np.full(num_examples, np.nan)
    return Scores(value=mean, se=se, count=np.full(num_examples, count))


@final
class _Sorter:
    """Sorts the training examples by their distance from each of a block of test points."""

    def __init__(self, features: np.ndarray, *, most: int) -> None:
        self.most = most
        middle = features.mean(0, dtype=np.float64)
        reach = float(np.maximum(features.max(0) - middle, middle - features.min(0)).max(initial=0))
        self.scale = 2.0 ** math.ceil(math.log2(reach)) if reach > 0 else 1.0
        self.offset = np.rint(middle / self.scale * OFFSET_STEPS) * (self.scale / OFFSET_STEPS)
        self.base = self._centred(features)
        self.norms = np.einsum("nd,nd->n", self.base, self.base)
        self.positions = np.arange(len(features), dtype=np.uint64)

    def __call__(self, tests: np.ndarray, own: np.ndarray | None) -> Int[np.ndarray, "test rank"]:
        """Distance and position in one integer each: a plain sort of these is a stable one of the distances."""
        block = self._centred(tests)
        squared = block @ self.base.T
        squared *= -2
        squared += self.norms
        squared += np.einsum("td,td->t", block, block)[:, None]
        np.maximum(squared, 0, out=squared)
        keys = squared.view(np.uint32).astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= self.positions
        if own is not None:
            keys[np.arange(len(own)), own] = np.iinfo(np.uint64).max
        wanted = min(self.most, keys.shape[1] - (own is not None))
        if wanted < keys.shape[1] // 2:
            keys.partition(wanted - 1, axis=1)
            keys = keys[:, :wanted].copy()
        keys.sort(axis=1)
        return (keys[:, :wanted] & np.uint64(0xFFFFFFFF)).astype(np.int64)

    def _centred(self, rows: np.ndarray) -> Float[np.ndarray, "row feature"]:
        centred = np.empty(rows.shape, np.float32)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            here = slice(start, start + ROWS_AT_ONCE)
            centred[here] = (rows[here] - self.offset) / self.scale
        return centred


def _tests(
    features: np.ndarray,
    targets: np.ndarray,
    test_features: np.ndarray | None,
    test_targets: np.ndarray | None,
    num_neighbours: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The test points' features and targets, checked."""
    if (test_features is None) != (test_targets is None):
        raise ValueError("Expected test_features and test_targets together, got one without the other.")
    if test_features is None or test_targets is None:
        test_features, test_targets = features, targets
    if features.ndim != 2 or test_features.ndim != 2 or features.shape[1] != test_features.shape[1]:
        raise ValueError(f"Expected two tables with the same features, got {features.shape} and {test_features.shape}.")
    if targets.shape != (len(features),) or test_targets.shape != (len(test_features),):
        raise ValueError(
            f"Expected one target for each of {len(features)} examples and {len(test_features)} test points, got "
            f"{targets.shape} and {test_targets.shape}."
        )
    least = 2 if test_features is features else 1
    if len(features) < least or len(test_features) == 0:
        raise ValueError(f"Expected at least {least} examples and a test point, got {len(features)} examples.")
    if num_neighbours < 1:
        raise ValueError(f"Expected num_neighbours at least 1, got {num_neighbours!r}.")
    if not (np.isfinite(features).all() and np.isfinite(test_features).all()):
        raise ValueError("Expected finite features, got NaN or infinity. Fill them in or leave these examples out.")
    return test_features, test_targets
