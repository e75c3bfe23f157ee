"""The lookup table in the strict sense: it knows what it has seen and nothing else."""

import hashlib

import numpy as np
from jaxtyping import Num, Shaped

from byrote.baselines.outputs import BaselineOutputs, as_outputs


def exact_match(
    x: Num[np.ndarray, "example feature"],
    y: Shaped[np.ndarray, "example"],
    queries: Num[np.ndarray, "query feature"],
    *,
    num_classes: int,
) -> BaselineOutputs:
    """Answer with the mean target of identical training inputs, and with that of all training examples elsewhere.

    >>> x = np.array([[1.0], [1.0], [2.0]])
    >>> exact_match(x, np.array([0, 0, 1]), np.array([[2.0], [1.0]]), num_classes=2).outputs
    array([[0., 1.],
           [1., 0.]])
    """
    targets = as_outputs(y, num_classes=num_classes)
    dtype = np.result_type(x, queries)
    places: dict[bytes, int] = {}
    member = np.array([places.setdefault(row, len(places)) for row in _digests(x, dtype)])
    sums = np.zeros((len(places), targets.shape[1]))
    np.add.at(sums, member, targets)
    table = np.vstack([sums / np.bincount(member)[:, None], targets.mean(0)])
    found = np.array([places.get(row, -1) for row in _digests(queries, dtype)])
    share = float((found >= 0).mean())
    return BaselineOutputs(table[found], f"{100 * share:.1f} % of what it was asked is in the table")


def _digests(rows: Num[np.ndarray, "row feature"], dtype: np.dtype) -> list[bytes]:
    """16 bytes for each row; equal numbers give equal bytes, so −0.0 becomes 0.0."""
    digests: list[bytes] = []
    for start in range(0, len(rows), 4096):
        block = np.ascontiguousarray(rows[start : start + 4096], dtype=dtype)
        block = block + np.zeros(1, dtype)
        digests.extend(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in block)
    return digests
