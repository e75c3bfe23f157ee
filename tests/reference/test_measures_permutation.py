"""Relabellings by array arithmetic against predictions renamed one by one."""

import itertools

import numpy as np
import pytest

from byrote.measures import relabelling_test


def test_all_relabellings_are_predictions_renamed_in_every_way():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=40)
    answers = np.where(rng.random((2, 40)) < 0.2, labels, rng.integers(3, size=(2, 40)))
    confusion = np.zeros((2, 3, 3), int)
    for run, answer in enumerate(answers):
        for predicted, true in zip(answer, labels, strict=True):
            confusion[run, predicted, true] += 1

    names = list(itertools.permutations(range(3)))
    null = [
        np.mean([(np.array(first)[answers[0]] == labels).mean(), (np.array(second)[answers[1]] == labels).mean()])
        for first in names
        for second in names
    ]
    test = relabelling_test(confusion, seed=0)
    assert test.observed == pytest.approx((answers == labels).mean())
    assert test.p_value == pytest.approx(np.mean(np.array(null) >= test.observed - 1e-12))
    assert (test.null_mean, test.null_low, test.null_high) == pytest.approx(
        (np.mean(null), *np.quantile(null, [0.025, 0.975]))
    )
