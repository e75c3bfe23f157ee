"""The soft lookup table: it answers as the most similar training examples do."""

import numpy as np
from jaxtyping import Num, Shaped
from sklearn.neighbors import NearestNeighbors as NeighbourSearch

from byrote.baselines.outputs import BaselineOutputs, as_outputs


def neighbours(
    x: Num[np.ndarray, "example feature"],
    y: Shaped[np.ndarray, "example"],
    queries: Num[np.ndarray, "query feature"],
    *,
    num_neighbours: int,
    num_classes: int,
) -> BaselineOutputs:
    """Answer with the vote (or mean) of the k nearest training examples in Euclidean distance, found by brute force.

    >>> x = np.array([[0.0], [1.0], [5.0]])
    >>> neighbours(x, np.array([0, 1, 1]), np.array([[0.4]]), num_neighbours=2, num_classes=3).outputs
    array([[0.5, 0.5, 0. ]])
    """
    used = min(num_neighbours, len(x))
    search = NeighbourSearch(n_neighbors=used, algorithm="brute").fit(x)
    index = search.kneighbors(queries, return_distance=False)
    note = "" if used == num_neighbours else f"{used} neighbours, as there are no more training examples"
    return BaselineOutputs(as_outputs(y, num_classes=num_classes)[index].mean(1), note)
