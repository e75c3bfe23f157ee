"""Threshold samples of AUM, and what they flag."""

import inspect

import numpy as np
import pytest

from byrote.measures import aum_flags, threshold_samples


def test_sets_are_disjoint_and_as_large_as_a_class_of_average_size():
    sets = threshold_samples(1037, num_classes=10, seed=3, num_sets=4)
    assert sets.sum(1).tolist() == [1037 // 11] * 4
    assert sets.sum(0).max() == 1
    assert (sets == threshold_samples(1037, num_classes=10, seed=3, num_sets=4)).all()
    assert (sets != threshold_samples(1037, num_classes=10, seed=4, num_sets=4)).any()


def test_examples_at_or_below_the_99th_percentile_of_threshold_samples_are_flagged():
    threshold = np.arange(101.0)  # their 99th percentile is 99
    area = np.concatenate([threshold, [98.5, 99.0, 99.5, np.nan]])
    mask = np.arange(105) < 101
    found = aum_flags(area, mask)
    assert found.threshold == 99
    assert found.num_threshold == 101
    assert found.flagged[101:].tolist() == [True, True, False, False]
    assert not found.flagged[:101].any()
    assert aum_flags(area, mask, percentile=50).threshold == 50


def test_half_of_a_distribution_is_flagged_at_its_median():
    rng = np.random.default_rng(0)
    area, mask = rng.normal(size=20_000), np.arange(20_000) < 10_000
    share = aum_flags(area, mask, percentile=50).flagged[10_000:].mean()
    assert abs(share - 0.5) < 4 * (2 * 0.25 / 10_000) ** 0.5


def test_without_an_extra_class_there_is_no_threshold_and_it_says_what_to_do():
    with pytest.raises(ValueError, match="needs a model with one output more; without it, rank by AUM"):
        aum_flags(np.zeros(3), np.zeros(3, bool))
    with pytest.raises(ValueError, match="at least one threshold sample with an area"):
        aum_flags(np.array([np.nan, 1.0]), np.array([True, False]))


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(ValueError, match="2 sets of 1/11 of them, got 10"):
        threshold_samples(10, num_classes=10, seed=0)
    with pytest.raises(ValueError, match="4 sets of 1/3 of them"):
        threshold_samples(30, num_classes=2, seed=0, num_sets=4)
    with pytest.raises(ValueError, match="at least 2 classes"):
        threshold_samples(30, num_classes=1, seed=0)
    with pytest.raises(ValueError, match="one entry for each of 3 areas"):
        inspect.unwrap(aum_flags)(np.zeros(3), np.zeros(2, bool))
    with pytest.raises(ValueError, match="percentile in"):
        aum_flags(np.zeros(3), np.ones(3, bool), percentile=101)
