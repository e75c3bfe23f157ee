"""Prediction depth by hand, and against nearest neighbours one query at a time."""

import inspect
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from byrote.measures import prediction_depth


def slow_probe(features: np.ndarray, targets: np.ndarray, query: np.ndarray, k: int, *, leave_out: int | None) -> int:
    """The vote of the nearest; of classes with as many votes that of the nearest neighbour among them."""
    distance = [(float(((one - query) ** 2).sum()), row) for row, one in enumerate(features) if row != leave_out]
    nearest = [int(targets[row]) for _, row in sorted(distance)[:k]]
    most = max(nearest.count(code) for code in nearest)
    return next(code for code in nearest if nearest.count(code) == most)


def slow_depth(probes: list[int], prediction: int) -> int:
    depth = len(probes)
    while depth and probes[depth - 1] == prediction:
        depth -= 1
    return depth


@pytest.fixture
def layers() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((50, *shape)) for shape in ((3,), (2, 4), (6,), (1,))]


@pytest.fixture
def targets() -> np.ndarray:
    return np.array([7, -3, 11])[np.random.default_rng(1).integers(0, 3, 50)]


@pytest.mark.parametrize("block_bytes", [1, 1 << 12, 1 << 24])
@pytest.mark.parametrize("k", [1, 4, 30, 49])
def test_training_examples_are_probed_without_themselves(layers, targets, k, block_bytes, monkeypatch):
    monkeypatch.setattr(sys.modules["byrote.measures.prediction_depth"], "BLOCK_BYTES", block_bytes)
    predictions = np.where(np.arange(50) % 5, targets, 11)
    found = prediction_depth(layers, targets=targets, predictions=predictions, num_neighbours=k)
    for row in range(50):
        probes = [slow_probe(each, targets, each[row], k, leave_out=row) for each in layers]
        assert found.probes[:, row].tolist() == probes
        assert found.scores.value[row] == slow_depth(probes, int(predictions[row]))


@pytest.mark.parametrize("k", [1, 5, 50])
def test_other_queries_are_probed_against_all_training_examples(layers, targets, k):
    rng = np.random.default_rng(2)
    queries = [rng.standard_normal((20, *each.shape[1:])) for each in layers]
    predictions = rng.choice([7, -3, 11], 20)
    found = prediction_depth(layers, targets=targets, predictions=predictions, query_layers=queries, num_neighbours=k)
    for row in range(20):
        probes = [slow_probe(e, targets, q[row], k, leave_out=None) for e, q in zip(layers, queries, strict=True)]
        assert found.probes[:, row].tolist() == probes
        assert found.scores.value[row] == slow_depth(probes, int(predictions[row]))
    if k == 1:
        for own, query, probe in zip(layers, queries, found.probes, strict=True):
            peer = KNeighborsClassifier(1).fit(own.reshape(50, -1), targets)
            np.testing.assert_array_equal(probe, peer.predict(query.reshape(20, -1)))


def agreeing(pattern: str) -> list[np.ndarray]:
    """Layers in which the nearest neighbours of one query, which sits at 0, say what it says (1) or not (0)."""
    return [
        np.array([[0.1], [0.2], [9.0], [9.1]]) if agrees == "1" else np.array([[9.0], [9.1], [0.1], [0.2]])
        for agrees in pattern
    ]


@pytest.mark.parametrize(
    ("pattern", "depth"),
    [("1111", 0), ("0111", 1), ("1011", 2), ("0001", 3), ("1110", 4), ("0000", 4), ("1", 0), ("0", 1)],
)
def test_the_depth_is_that_of_the_first_layer_from_which_all_agree(pattern, depth):
    layers = agreeing(pattern)
    found = prediction_depth(
        layers,
        targets=np.array([1, 1, 0, 0]),
        predictions=np.array([1]),
        query_layers=[np.zeros((1, 1))] * len(layers),
        num_neighbours=2,
    )
    assert found.scores.value.tolist() == [depth]
    assert found.status.tolist() == ["never agrees" if depth == len(pattern) else "measured"]
    assert found.scores.count.tolist() == [1]
    assert np.isnan(found.scores.se).all()


def test_features_far_from_zero_are_told_apart():
    """Squared distances as differences of squares would cancel; features are centred first."""
    rng = np.random.default_rng(3)
    near = rng.standard_normal((60, 3)).astype(np.float32)
    targets = (near[:, 0] > 0).astype(np.int64)
    far = (near.astype(np.float64) + 2.0**12).astype(np.float32)
    one, two = (
        prediction_depth([each], targets=targets, predictions=targets, num_neighbours=5)
        for each in (far - 2.0**12, far)
    )
    np.testing.assert_array_equal(one.probes, two.probes)


def test_bytes_are_features_too():
    layer = np.array([[0], [10], [245], [255]], np.uint8)
    found = prediction_depth(
        [layer], targets=np.array([0, 0, 1, 1]), predictions=np.array([0, 0, 1, 1]), num_neighbours=1
    )
    assert found.scores.value.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"targets": np.ones(4)}, TypeError, "Expected targets as class codes, got float64.*a regression has none"),
        ({"predictions": np.ones(4)}, TypeError, "Expected predictions as class codes"),
        ({"num_neighbours": 4}, ValueError, "Expected from 1 to 3 neighbours, as many as there are, got 4"),
        ({"num_neighbours": 0}, ValueError, "Expected from 1 to 3 neighbours"),
        ({"predictions": np.ones(3, int)}, ValueError, "Expected features of 4 training examples and 3 queries"),
        (
            {"query_layers": [np.zeros((4, 1)), np.zeros((4, 1))]},
            ValueError,
            "the same layers, at least one, got 1 and 2",
        ),
        ({"query_layers": [np.zeros((4, 2))]}, ValueError, r"of one shape, got \(4, 1\) and \(4, 2\)"),
        ({"layers": []}, ValueError, "the same layers, at least one, got 0 and 0"),
        ({"layers": [np.full((4, 1), np.nan)]}, ValueError, "Expected finite features"),
    ],
    ids=["regression", "numbers", "many", "none", "queries", "layers", "shapes", "no layer", "nan"],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], error: type[Exception], words: str):
    options: dict[str, Any] = {
        "layers": [np.arange(4.0)[:, None]],
        "targets": np.array([0, 0, 1, 1]),
        "predictions": np.array([0, 0, 1, 1]),
        "num_neighbours": 2,
        **changed,
    }
    with pytest.raises(error, match=words):
        inspect.unwrap(prediction_depth)(options.pop("layers"), **options)
