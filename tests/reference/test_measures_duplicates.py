"""The blocked search for neighbours against all distances, one by one."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from byrote.measures import duplicates, nearest


def awkward(kind: str, rng: np.random.Generator, num_rows: int) -> np.ndarray:
    x = rng.normal(size=(num_rows, 6))
    match kind:
        case "two far clusters":
            x[:, 0] += np.where(rng.random(num_rows) < 0.5, -1e6, 1e6)
        case "far away":
            x += 1e9
        case "tiny":
            x *= 1e-25
        case "single precision":
            x = x.astype(np.float32)
        case "bytes":
            x = rng.integers(0, 256, size=(num_rows, 6), dtype=np.uint8)
    return x


@pytest.mark.parametrize("kind", ["ordinary", "two far clusters", "far away", "tiny", "single precision", "bytes"])
@pytest.mark.parametrize("num_neighbours", [1, 5])
def test_neighbours_are_the_ones_of_the_full_matrix(kind, num_neighbours, monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK_BYTES", 100_000)
    rng = np.random.default_rng(0)
    reference, queries = awkward(kind, rng, 700), awkward(kind, rng, 90)
    slow = np.sort(cdist(queries.astype(float), reference.astype(float)), axis=1)[:, :num_neighbours]
    found = nearest(reference, queries, num_neighbours=num_neighbours)
    np.testing.assert_allclose(found.distance, slow, rtol=1e-9)
    again = np.linalg.norm(queries[:, None].astype(float) - reference[found.index], axis=2)
    np.testing.assert_allclose(found.distance, again, rtol=1e-9)


@pytest.mark.parametrize("num_rows", [2, 3, 31, 32, 33, 300])
def test_leaving_oneself_out_is_an_infinite_diagonal(num_rows):
    x = np.random.default_rng(num_rows).normal(size=(num_rows, 3))
    slow = cdist(x, x)
    np.fill_diagonal(slow, np.inf)
    found = nearest(x, x, exclude_self=True)
    assert found.index[:, 0].tolist() == slow.argmin(1).tolist()
    np.testing.assert_allclose(found.distance[:, 0], slow.min(1))


def test_many_equal_rows_are_no_trouble():
    x = np.repeat(np.eye(4), 100, axis=0)
    found = nearest(x, x, num_neighbours=20)
    assert (found.distance == 0).all()
    assert all(len(set(row)) == 20 for row in found.index.tolist())
