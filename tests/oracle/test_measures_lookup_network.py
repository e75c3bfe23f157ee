"""The constructive bound: 2n + d weights fit any targets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from byrote.measures import lookup_network


@given(num=st.integers(1, 60), width=st.integers(1, 8), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_any_targets_are_fitted_by_two_weights_an_example_and_one_a_dimension(num: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(num, width)), rng.normal(size=num)
    found = lookup_network(x, y, seed=seed)
    assert found.num_weights == 2 * num + width
    np.testing.assert_allclose(found(x), y, atol=1e-9 * np.abs(y).max() * num)
    assert found.residual == np.abs(found(x) - y).max()


def test_it_is_the_network_that_it_says() -> None:
    """As torch would compute it, unit by unit."""
    rng = np.random.default_rng(0)
    x, y, other = rng.normal(size=(20, 3)), rng.normal(size=20), rng.normal(size=(50, 3))
    found = lookup_network(x, y)
    hidden = torch.nn.Linear(3, 20).double()
    out = torch.nn.Linear(20, 1, bias=False).double()
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor(found.direction).expand(20, 3))
        hidden.bias.copy_(-torch.tensor(found.biases))
        out.weight.copy_(torch.tensor(found.weights)[None])
        for inputs in (x, other):
            said = out(torch.relu(hidden(torch.tensor(inputs))))[:, 0].numpy()
            np.testing.assert_allclose(found(inputs), said, atol=1e-8)
    assert (np.diff(found.biases) > 0).all()


def test_all_digits_with_random_labels_are_known_by_rote() -> None:
    x = np.asarray(load_digits(return_X_y=True)[0]) / 16
    y = np.random.default_rng(1).integers(10, size=len(x))
    found = lookup_network(x, y)
    assert found.num_weights == 2 * len(x) + 64
    np.testing.assert_array_equal(found(x).round(), y)
    assert found.residual < 1e-4


def test_equal_examples_share_a_unit_and_contradictions_are_refused() -> None:
    x = np.array([[0, 1], [2, 3], [0, 1]], dtype=np.uint8)
    found = lookup_network(x, np.array([1, 0, 1]))
    assert (found.num_weights, found.count) == (2 * 2 + 2, 3)
    np.testing.assert_allclose(found(x), [1, 0, 1])
    with pytest.raises(ValueError, match="1 examples that contradict another"):
        lookup_network(x, np.array([1, 0, 2]))


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((0, 2)), np.zeros(0), "at least one input"),
        (np.array([[np.nan], [1.0]]), np.zeros(2), "NaN or infinite"),
        (np.array([[1e12, 0.0], [1e12, 1e-9]]), np.arange(2.0), "told apart"),
    ],
    ids=["empty", "nan", "too close"],
)
def test_what_cannot_be_fitted_is_refused(x: np.ndarray, y: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lookup_network(x, y)
