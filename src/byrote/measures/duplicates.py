"""Examples that occur twice, exactly or nearly: what a test set must not share with its training set."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

BLOCK_BYTES = 128 * 2**20
"""No block of distances takes more memory than this."""
SPARE = 8
"""Candidates per query beyond those asked for, so that rounding in float32 cannot hide the nearest one."""
STRIDE = 32
"""Distances are first reduced to the least of each group of this many: a pass at memory speed."""
MOST_TYPICAL = 2000
"""Examples whose nearest neighbour `typical_distance` looks up."""


class Nearest(NamedTuple):
    """The nearest reference examples of each query, nearest first."""

    distance: Float[np.ndarray, "query neighbour"]
    """Euclidean, exact to float64: identical rows are at distance 0."""
    index: Int[np.ndarray, "query neighbour"]  # pyright: ignore[reportIncompatibleMethodOverride]
    """Positions in the reference."""


def exact_duplicates(
    train: Num[np.ndarray, "example *feature"], test: Num[np.ndarray, "test_example *feature"]
) -> Int[np.ndarray, "test_example"]:
    """Find each test example's identical twin among the training examples.

    By hashing rows, in time n + m.

    >>> exact_duplicates(np.array([[1, 2], [3, 4], [3, 4]]), np.array([[3, 4], [5, 6]]))
    array([ 1, -1])

    Args:
        train: training inputs.
        test: test inputs of the same shape.

    Returns:
        The position of the first identical training example, or −1.

    Raises:
        ValueError: the shapes of the inputs differ.
    """
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(f"Expected inputs of one shape, got {train.shape[1:]} and {test.shape[1:]}.")
    dtype = np.result_type(train, test)
    known: dict[bytes, int] = {}
    for position, digest in enumerate(_digests(train, dtype)):
        known.setdefault(digest, position)
    return np.array([known.get(digest, -1) for digest in _digests(test, dtype)], np.int64)


def repeated(train: Num[np.ndarray, "example *feature"]) -> Bool[np.ndarray, "example"]:
    """Say which examples have an identical twin among the others.

    >>> repeated(np.array([[1, 2], [3, 4], [1, 2]]))
    array([ True, False,  True])
    """
    _, member, counts = np.unique(_digests(train, train.dtype), return_inverse=True, return_counts=True)
    return counts[member] > 1


def nearest(
    reference: Num[np.ndarray, "example feature"],
    queries: Num[np.ndarray, "query feature"],
    *,
    num_neighbours: int = 1,
    exclude_self: bool = False,
) -> Nearest:
    """Find each query's nearest reference examples in Euclidean distance.

    Candidates come from matrix products in float32, ‖q − r‖² = ‖q‖² − 2q·r + ‖r‖², block by block; the distances to the
    candidates are then computed exactly. Where rounding could have hidden a nearer one, the search is repeated in
    float64. Ties go to the lower position, as far as candidates go.

    >>> nearest(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [3.0, 3.0]]), num_neighbours=2).distance
    array([[0.        , 5.        ],
           [1.        , 4.24264069]])

    Args:
        reference: n examples.
        queries: m examples with the same features.
        num_neighbours: k neighbours for each.
        exclude_self: the queries are the reference, and an example is no neighbour of its own.

    Returns:
        Distances and positions, each [m, k].

    Raises:
        ValueError: the features differ, there are fewer than k neighbours to find, or `exclude_self` is asked for with
            other queries than the reference.
    """
    if reference.ndim != 2 or queries.ndim != 2 or reference.shape[1] != queries.shape[1]:
        raise ValueError(f"Expected two tables with the same features, got {reference.shape} and {queries.shape}.")
    if exclude_self and len(queries) != len(reference):
        raise ValueError(f"Expected the reference itself as queries, got {len(queries)} for {len(reference)} examples.")
    if not 1 <= num_neighbours <= len(reference) - exclude_self:
        raise ValueError(f"Expected num_neighbours from 1 to {len(reference) - exclude_self}, got {num_neighbours!r}.")
    own = np.arange(len(queries)) if exclude_self else None
    distance, index, sure = _search(reference, queries, own, num_neighbours, np.float32)
    unsure = np.flatnonzero(~sure)
    if len(unsure):
        part = None if own is None else own[unsure]
        distance[unsure], index[unsure], _ = _search(reference, queries[unsure], part, num_neighbours, np.float64)
    return Nearest(distance, index)


def typical_distance(reference: Num[np.ndarray, "example feature"], *, seed: int) -> float:
    """Say how far an example's nearest neighbour usually is.

    The median leave-one-out nearest-neighbour distance, over all examples or 2,000 seeded ones.

    >>> typical_distance(np.array([[0.0], [1.0], [3.0], [4.0]]), seed=0)
    1.0

    Args:
        reference: at least two examples.
        seed: of the examples looked at.

    Raises:
        ValueError: fewer than two examples.
    """
    if len(reference) < 2:
        raise ValueError(f"Expected at least two examples, got {len(reference)}.")
    order = np.random.default_rng(seed).permutation(len(reference))
    chosen = np.sort(order[:MOST_TYPICAL])
    found = nearest(reference, reference[chosen], num_neighbours=2)
    is_itself = found.index[:, 0] == chosen
    return float(np.median(np.where(is_itself, found.distance[:, 1], found.distance[:, 0])))


def near_duplicates(
    reference: Num[np.ndarray, "example feature"],
    queries: Num[np.ndarray, "query feature"],
    *,
    typical: float,
    ratio: float = 0.1,
) -> Int[np.ndarray, "query"]:
    """Find each query's near twin: a reference example far closer than neighbours usually are.

    >>> near_duplicates(np.array([[0.0], [1.0]]), np.array([[0.01], [0.5]]), typical=1.0)
    array([ 0, -1])

    Args:
        reference: training examples.
        queries: test examples with the same features.
        typical: what `typical_distance` says of the reference.
        ratio: the share of the typical distance that still counts as the same.

    Returns:
        The position of the nearest reference example where it is at most ratio·typical away, identical ones included;
        −1 elsewhere.
    """
    found = nearest(reference, queries)
    return np.where(found.distance[:, 0] <= ratio * typical, found.index[:, 0], -1)


def coincidence_rate(train: Num[np.ndarray, "example *feature"]) -> float:
    """Say how many identical training rows a new row would have by coincidence alone, columns being independent.

    n·Π_j Σ_v p_j(v)². A coarse table with a rate near or above 1 repeats rows without any leak.

    Two fair binary columns and 8 rows: a quarter of the rows equal any given one.

    >>> coincidence_rate(np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 2))
    2.0

    Args:
        train: n examples.

    Returns:
        The expected count, from 0 to n.
    """
    columns = np.ascontiguousarray(train.reshape(len(train), -1).T)
    rate = float(len(train))
    for column in columns:
        _, counts = np.unique(column, return_counts=True)
        rate *= float(np.square(counts / len(train)).sum())
    return rate


def _digests(rows: np.ndarray, dtype: np.dtype[Any]) -> list[bytes]:
    """16 bytes for each row; equal numbers give equal bytes, so −0.0 becomes 0.0."""
    digests: list[bytes] = []
    for start in range(0, len(rows), 4096):
        block = np.ascontiguousarray(rows[start : start + 4096].reshape(-1, _width(rows)), dtype=dtype)
        if dtype.kind == "f":
            block = block + 0.0
        digests.extend(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in block)
    return digests


def _width(rows: np.ndarray) -> int:
    return int(np.prod(rows.shape[1:]))


def _search(
    reference: np.ndarray,
    queries: np.ndarray,
    own: Int[np.ndarray, "query"] | None,
    num_neighbours: int,
    dtype: type[np.float32] | type[np.float64],
) -> tuple[Float[np.ndarray, "query neighbour"], Int[np.ndarray, "query neighbour"], Bool[np.ndarray, "query"]]:
    """Distances, positions, and whether rounding to `dtype` cannot have hidden a nearer neighbour."""
    num_examples, num_features = reference.shape
    offset, scale = _frame(reference)
    padded = -(-num_examples // STRIDE) * STRIDE
    base = np.zeros((padded, num_features), dtype)
    _centre(reference, offset, scale, out=base)
    norms = np.full(padded, np.inf, dtype)
    norms[:num_examples] = np.einsum("nd,nd->n", base[:num_examples], base[:num_examples])
    farthest = float(np.sqrt(norms[:num_examples].max()))

    wanted = min(num_neighbours + SPARE, num_examples)
    distance = np.empty((len(queries), num_neighbours))
    index = np.empty((len(queries), num_neighbours), np.int64)
    sure = np.empty(len(queries), bool)
    step = max(1, BLOCK_BYTES // max(padded * base.itemsize, 8 * wanted * num_features))
    for start in range(0, len(queries), step):
        here = slice(start, start + step)
        block = np.empty((len(queries[here]), num_features), dtype)
        _centre(queries[here], offset, scale, out=block)
        squared = block @ base.T
        squared *= -2
        squared += norms
        if own is not None:
            squared[np.arange(len(block)), own[here]] = np.inf
        candidates = np.sort(_least(squared, wanted), axis=1)
        rounded = np.take_along_axis(squared, candidates, axis=1)
        exact = _exact_squares(reference, queries[here], candidates)
        exact[np.isinf(rounded)] = np.inf
        order = np.argsort(exact, axis=1, kind="stable")[:, :num_neighbours]
        nearest_squares = np.take_along_axis(exact, order, axis=1)
        distance[here] = np.sqrt(nearest_squares)
        index[here] = np.take_along_axis(candidates, order, axis=1)
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        slack = num_features**0.5 * np.finfo(dtype).eps * (lengths + farthest) ** 2
        hidden_from = rounded.max(1) + lengths**2 - slack
        sure[here] = nearest_squares[:, -1] / scale**2 <= hidden_from
    return distance, index, sure | (wanted == num_examples)


def _frame(reference: np.ndarray) -> tuple[Float[np.ndarray, "feature"], float]:
    """A shift and a scale that bring the reference into [−1, 1], where float32 is at its best."""
    offset = reference.mean(0, dtype=np.float64)
    reach = float(np.maximum(reference.max(0) - offset, offset - reference.min(0)).max())
    return offset, reach if reach > 0 else 1.0


def _centre(rows: np.ndarray, offset: np.ndarray, scale: float, *, out: np.ndarray) -> None:
    for start in range(0, len(rows), 4096):
        block = rows[start : start + 4096]
        out[start : start + len(block)] = (block - offset) / scale


def _least(values: np.ndarray, count: int) -> Int[np.ndarray, "query candidate"]:
    """Positions of the `count` least values of each row, in any order.

    They lie in the `count` groups with the least minima, so only these groups are looked into.
    """
    width = values.shape[1] // STRIDE
    minima = values.reshape(len(values), STRIDE, width).min(1)
    groups = np.argpartition(minima, min(count, width) - 1, axis=1)[:, : min(count, width)]
    members = (groups[:, None, :] + width * np.arange(STRIDE)[None, :, None]).reshape(len(values), -1)
    chosen = np.argpartition(np.take_along_axis(values, members, axis=1), count - 1, axis=1)[:, :count]
    return np.take_along_axis(members, chosen, axis=1)


def _exact_squares(
    reference: np.ndarray, queries: np.ndarray, candidates: Int[np.ndarray, "query candidate"]
) -> Float[np.ndarray, "query candidate"]:
    difference = reference[candidates].astype(np.float64)
    difference -= queries[:, None, :]
    return np.einsum("qcd,qcd->qc", difference, difference)
