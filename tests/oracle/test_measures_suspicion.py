"""Label suspicion on numbers that are known."""

import numpy as np
import pytest
from scipy import stats

from byrote.measures import label_suspicion, residual_suspicion


def test_suspicion_is_what_the_given_label_lacks():
    probability = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [np.nan] * 3], np.float32)
    found = label_suspicion(probability, np.array([0, 2, 1]))
    assert found.suspicion == pytest.approx([0.3, 0.9, np.nan], nan_ok=True)
    assert found.suggested.tolist() == [0, 1, 1]


def test_logits_and_targets_that_are_no_classes_are_refused():
    with pytest.raises(ValueError, match="Are they logits"):
        label_suspicion(np.array([[3.0, -1.0]]), np.array([0]))
    with pytest.raises(ValueError, match=r"targets in \[0, 2\)"):
        label_suspicion(np.array([[0.5, 0.5]]), np.array([2]))


def test_residuals_of_a_gaussian_have_uniform_suspicion():
    """2Φ(|z|) − 1 of Gaussian residuals is uniform, here up to the error of median and MAD."""
    residual = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    prediction = np.random.default_rng(0).permutation(20_000) / 100
    suspicion = residual_suspicion(prediction, prediction + 5 * residual + 3)
    assert np.sort(suspicion) == pytest.approx((np.arange(20_000) + 0.5) / 20_000, abs=1e-3)


def test_an_outlier_is_suspicious_and_does_not_hide_itself():
    target = np.random.default_rng(0).normal(size=100)
    target[17] = 1e6
    prediction = np.zeros(100)
    prediction[3] = np.nan
    suspicion = residual_suspicion(prediction, target)
    assert np.nanargmax(suspicion) == 17
    assert suspicion[17] == 1
    assert np.isnan(suspicion).nonzero()[0].tolist() == [3]


def test_mostly_equal_residuals_single_out_the_others():
    assert residual_suspicion(np.zeros(5), np.array([2.0, 2.0, 2.0, 2.1, 2.0])).tolist() == [0, 0, 0, 1, 0]
    assert np.isnan(residual_suspicion(np.full(2, np.nan), np.ones(2))).all()
