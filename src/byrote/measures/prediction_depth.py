"""How deep in the network each prediction is made."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from byrote.records import Scores

BLOCK_BYTES = 16 * 2**20
"""Queries are taken so many at a time that the distances of a block stay below about this."""


class PredictionDepth(NamedTuple):
    """What nearest neighbours in every layer say."""

    scores: Scores
    """The depth of each query, in layers. Of one network, so no standard error and a count of 1."""
    status: Shaped[np.ndarray, "query"]
    """`measured`, or `never agrees` where even the last layer's probe says something else: the depth is then the number
    of layers."""
    probes: Int[np.ndarray, "layer query"]
    """The class that each layer's nearest neighbours vote for."""


def prediction_depth(
    layers: Sequence[Num[np.ndarray, "example ..."]],
    *,
    targets: Int[np.ndarray, "example"],
    predictions: Int[np.ndarray, "query"],
    query_layers: Sequence[Num[np.ndarray, "query ..."]] | None = None,
    num_neighbours: int = 30,
) -> PredictionDepth:
    """Find the first layer from which on nearest neighbours agree with what the network says in the end.

    depth(i) = min{l : probe_m(i) = prediction(i) for all m ≥ l}. probe_m is the vote of the k nearest training examples
    in the features of layer m, by Euclidean distance; among classes with as many votes, that of the nearest neighbour.
    Layers are counted from 0, which by custom is the input. Distances are taken in blocks, never n×n.

    >>> first, second = np.array([[0.0], [1.0], [2.0], [9.0]]), np.array([[0.0], [1.0], [9.0], [8.0]])
    >>> found = prediction_depth([first, second], targets=np.array([0, 0, 1, 1]), predictions=np.array([0, 0, 1, 1]),
    ...     num_neighbours=1)
    >>> found.scores.value, found.probes.tolist()
    (array([0., 0., 1., 0.]), [[0, 0, 0, 1], [0, 0, 1, 1]])

    Args:
        layers: features of the training examples in each layer, in order, for instance from the probe `Features`, with
            the input before and the output after them.
        targets: classes of the training examples, as trained on.
        predictions: what the network says in the end of each query.
        query_layers: features of the queries. None: the training examples themselves, each of which is left out of its
            own neighbours.
        num_neighbours: k.

    Returns:
        Depths from 0 to the number of layers.

    Raises:
        TypeError: targets or predictions are not whole numbers: a regression's predictions agree or not only by a
            tolerance, so it has no prediction depth.
        ValueError: shapes do not fit, a feature is not finite, or there are fewer than k neighbours.

    Baldock et al. 2021, Deep Learning Through the Lens of Example Difficulty, https://arxiv.org/abs/2106.09647
    """
    theirs = layers if query_layers is None else query_layers
    _check(layers, theirs, targets, predictions, num_neighbours, leaves_out_self=query_layers is None)
    classes, codes = np.unique(targets, return_inverse=True)
    probes = np.stack(
        [
            classes[_votes(_rows(own), _rows(other), codes, num_neighbours, leaves_out_self=query_layers is None)]
            for own, other in zip(layers, theirs, strict=True)
        ]
    )
    agrees = probes == predictions
    depth = np.flip(np.logical_and.accumulate(np.flip(agrees, 0)), 0)
    value = (len(layers) - depth.sum(0)).astype(np.float64)
    status = np.where(value < len(layers), "measured", "never agrees")
    nothing = np.full(len(value), np.nan)
    return PredictionDepth(Scores(value=value, se=nothing, count=np.ones(len(value), np.int64)), status, probes)


def _votes(
    features: Float[np.ndarray, "example feature"],
    queries: Float[np.ndarray, "query feature"],
    codes: Int[np.ndarray, "example"],
    num_neighbours: int,
    *,
    leaves_out_self: bool,
) -> Int[np.ndarray, "query"]:
    middle = features.mean(0)
    features, queries = features - middle, queries - middle
    lengths = (features**2).sum(1)
    size = max(1, BLOCK_BYTES // (len(features) * features.itemsize))
    votes: list[np.ndarray] = []
    for begin in range(0, len(queries), size):
        here = queries[begin : begin + size]
        distance = lengths - 2 * (here @ features.T)  # but for ‖query‖², which is the same for all neighbours
        if leaves_out_self:
            distance[np.arange(len(here)), np.arange(begin, begin + len(here))] = np.inf
        votes.append(_vote(codes[_nearest(distance, num_neighbours)]))
    return np.concatenate([np.zeros(0, np.int64), *votes])


def _nearest(distance: Float[np.ndarray, "query example"], number: int) -> Int[np.ndarray, "query rank"]:
    """Positions of the nearest, nearest first."""
    some = np.argpartition(distance, number - 1, axis=1)[:, :number]
    some.sort(axis=1)  # so that of neighbours at one distance the lower position is nearer
    order = np.take_along_axis(distance, some, 1).argsort(axis=1, kind="stable")
    return np.take_along_axis(some, order, 1)


def _vote(neighbours: Int[np.ndarray, "query rank"]) -> Int[np.ndarray, "query"]:
    """The commonest code; of those equally common, the one that comes first."""
    rows = np.arange(len(neighbours))
    counts = np.zeros((len(neighbours), int(neighbours.max(initial=0)) + 1), np.int64)
    for rank in range(neighbours.shape[1]):
        np.add.at(counts, (rows, neighbours[:, rank]), 1)
    return neighbours[rows, np.take_along_axis(counts, neighbours, 1).argmax(1)]


def _rows(features: Num[np.ndarray, "example ..."]) -> Float[np.ndarray, "example feature"]:
    wide = np.float64 if features.dtype.kind in "iu" or features.dtype.itemsize > 4 else np.float32
    return features.reshape(len(features), -1).astype(wide)


def _check(
    layers: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    targets: np.ndarray,
    predictions: np.ndarray,
    num_neighbours: int,
    *,
    leaves_out_self: bool,
) -> None:
    for name, codes in (("targets", targets), ("predictions", predictions)):
        if codes.dtype.kind not in "iu":
            raise TypeError(
                f"Expected {name} as class codes, got {codes.dtype}. Prediction depth asks whether two answers are the "
                "same class; a regression has none."
            )
    if not layers or len(layers) != len(theirs):
        raise ValueError(f"Expected features of the same layers, at least one, got {len(layers)} and {len(theirs)}.")
    for own, other in zip(layers, theirs, strict=True):
        if own.ndim < 2 or own.shape[1:] != other.shape[1:]:
            raise ValueError(f"Expected features [example, ...] of one shape, got {own.shape} and {other.shape}.")
        if len(own) != len(targets) or len(other) != len(predictions):
            raise ValueError(
                f"Expected features of {len(targets)} training examples and {len(predictions)} queries, got "
                f"{len(own)} and {len(other)}."
            )
        if not (np.isfinite(own).all() and np.isfinite(other).all()):
            raise ValueError("Expected finite features. Leave out a network that diverged.")
    most = len(targets) - leaves_out_self
    if not 1 <= num_neighbours <= most:
        raise ValueError(f"Expected from 1 to {most} neighbours, as many as there are, got {num_neighbours}.")
