"""The network with 2n + d weights fits any targets, as Zhang et al. prove by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_triangular

from byrote.measures.constructive_fit import constructive_fit


def test_one_feature_is_interpolated_between_neighbours() -> None:
    fit = constructive_fit(np.array([[0.0], [1.0], [3.0]]), np.array([2.0, 4.0, 0.0]))
    np.testing.assert_allclose(fit(np.array([[0.5], [2.0]])), [3.0, 2.0], rtol=1e-12)


def test_weights_are_those_of_the_triangular_system() -> None:
    drawn = np.random.default_rng(0)
    inputs, targets = drawn.standard_normal((40, 6)), drawn.standard_normal(40)
    fit = constructive_fit(inputs, targets)
    order = np.argsort(inputs @ fit.projection)
    matrix = np.maximum((inputs @ fit.projection)[order, None] - fit.biases, 0)
    matrix = np.where(np.triu(np.ones((40, 40), dtype=bool), 1), 0.0, matrix)
    np.testing.assert_allclose(fit.weights, solve_triangular(matrix, targets[order], lower=True), rtol=1e-6)
    assert (np.diff(fit.biases) > 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 120), st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 1e3]), st.booleans()
)
def test_any_targets_are_fitted_with_two_n_plus_d_weights(
    n: int, d: int, seed: int, scale: float, single: bool
) -> None:
    drawn = np.random.default_rng(seed)
    inputs, targets = scale * drawn.standard_normal((n, d)), drawn.integers(0, 10, n).astype(np.float64)
    if single:
        inputs = inputs.astype(np.float32)
        inputs = inputs[np.sort(np.unique(inputs, axis=0, return_index=True)[1])]
        targets = targets[: len(inputs)]
    fit = constructive_fit(inputs, targets, seed=seed)
    assert fit.num_weights == 2 * len(inputs) + d
    assert np.array_equal(fit(inputs.astype(np.float64)).round(), targets)
    assert fit.residual == np.abs(fit(inputs.astype(np.float64)) - targets).max()


def test_equal_inputs_with_equal_targets_share_a_unit() -> None:
    inputs = np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0], [-0.0, 5.0]])
    fit = constructive_fit(inputs, np.array([1.0, 0.0, 1.0, 0.0]))
    assert fit.num_weights == 2 * 2 + 2
    assert fit.residual < 1e-12


def test_equal_inputs_with_different_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got 1 whose input .* example 2 has 3 where example 0 has 1"):
        constructive_fit(np.array([[1.0], [2.0], [1.0]]), np.array([1.0, 2.0, 3.0]))


def test_inputs_that_float64_cannot_tell_apart_are_refused() -> None:
    inputs = np.array([[1.0, 0.0], [1.0, 5e-324], [-1.0, 1.0]])
    with pytest.raises(ValueError, match="random directions tells apart"):
        constructive_fit(inputs, np.array([0.0, 1.0, 0.0]))


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0), "as many targets"),
        (np.zeros((2, 2)), np.zeros(3), "as many targets"),
        (np.full((1, 2), np.nan), np.zeros(1), "finite"),
    ],
    ids=["none", "lengths", "nan"],
)
def test_what_cannot_be_fitted_is_refused(inputs: np.ndarray, targets: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        constructive_fit(inputs, targets)


def test_other_features_are_refused() -> None:
    fit = constructive_fit(np.array([[0.0], [1.0]]), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="inputs of 1 features, got 2"):
        fit(np.zeros((1, 2)))
