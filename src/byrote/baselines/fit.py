"""One door to every baseline."""

from typing import assert_never

import numpy as np
from jaxtyping import Num, Shaped

from byrote.baselines.exact_match import exact_match
from byrote.baselines.forest import forest
from byrote.baselines.kernel import kernel_machine
from byrote.baselines.neighbours import neighbours
from byrote.baselines.outputs import BaselineOutputs
from byrote.records import Baseline, ExactMatch, Forest, KernelMachine, NearestNeighbours


def fit_baseline(
    baseline: Baseline,
    *,
    x: Num[np.ndarray, "example feature"],
    y: Shaped[np.ndarray, "example"],
    queries: Num[np.ndarray, "query feature"],
    num_classes: int,
    seed: int,
) -> BaselineOutputs:
    """Fit a baseline and let it answer.

    >>> x, y = np.array([[0.0], [1.0]]), np.array([0, 2])
    >>> fit_baseline(NearestNeighbours(), x=x, y=y, queries=np.array([[0.9]]), num_classes=4, seed=0).outputs
    array([[0., 0., 1., 0.]])

    Args:
        baseline: which one.
        x: training inputs, as the network sees them, flat.
        y: training targets: class codes in [0, num_classes), or numbers.
        queries: inputs to answer.
        num_classes: k; 0 for regression.
        seed: of everything a baseline draws.

    Returns:
        Class scores in class order 0 … k−1 that sum to 1, also for classes that do not occur in y; for regression the
        predictions, [query, 1]. The same for any number of cores, up to the rounding of matrix products.

    Raises:
        ValueError: no training examples, shapes that do not fit each other, or a target that is not a class.
    """
    _check(x, y, queries, num_classes)
    match baseline:
        case ExactMatch():
            return exact_match(x, y, queries, num_classes=num_classes)
        case NearestNeighbours():
            return neighbours(x, y, queries, num_neighbours=baseline.num_neighbours, num_classes=num_classes)
        case Forest():
            return forest(x, y, queries, num_trees=baseline.num_trees, num_classes=num_classes, seed=seed)
        case KernelMachine():
            return kernel_machine(x, y, queries, kernel=baseline.kernel, num_classes=num_classes, seed=seed)
        case _:
            assert_never(baseline)


def _check(x: np.ndarray, y: np.ndarray, queries: np.ndarray, num_classes: int) -> None:
    if x.ndim != 2 or queries.ndim != 2 or x.shape[1] != queries.shape[1]:
        raise ValueError(f"Expected two tables with the same features, got {x.shape} and {queries.shape}.")
    if len(x) == 0 or y.shape != (len(x),):
        raise ValueError(f"Expected one target for each of at least one example, got {y.shape} for {len(x)}.")
    if num_classes and not (y.dtype.kind in "iu" and y.min() >= 0 and y.max() < num_classes):
        raise ValueError(f"Expected class codes from 0 to {num_classes - 1}, got {y.min()} to {y.max()} ({y.dtype}).")
