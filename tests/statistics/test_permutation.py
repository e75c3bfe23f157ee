"""Permutation tests keep their level where held-out examples resemble each other, and see what is there."""

import numpy as np
import pytest
from scipy import stats

from byrote.measures import p_value, relabelling_test, sign_flip_test

NUM_SIMULATIONS, LEVEL, NUM_RUNS, NUM_CLASSES = 400, 0.05, 4, 10


def clustered_predictions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Held-out examples in 15 clusters of one class each; a run answers alike within a cluster, and at random."""
    sizes = rng.integers(10, 60, size=15)
    labels = np.repeat(rng.integers(NUM_CLASSES, size=15), sizes)
    answers = np.repeat(rng.integers(NUM_CLASSES, size=(NUM_RUNS, 15)), sizes, axis=1)
    return answers, labels


def confusion_of(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    confusion = np.zeros((len(answers), NUM_CLASSES, NUM_CLASSES), np.int64)
    for run, answer in enumerate(answers):
        np.add.at(confusion[run], (answer, labels), 1)
    return confusion


def label_permutation_p_value(answers: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> float:
    """What is usually done: exchange the held-out labels among the examples."""
    null = [(answers == rng.permutation(labels)).mean() for _ in range(199)]
    return p_value(float((answers == labels).mean()), np.array(null))


@pytest.fixture(scope="module")
def rejections() -> dict[str, int]:
    counts = {"relabelling": 0, "permuted labels": 0}
    for simulation in range(NUM_SIMULATIONS):
        rng = np.random.default_rng(simulation)
        answers, labels = clustered_predictions(rng)
        test = relabelling_test(confusion_of(answers, labels), num_permutations=199, seed=simulation)
        counts["relabelling"] += test.p_value <= LEVEL
        counts["permuted labels"] += label_permutation_p_value(answers, labels, rng) <= LEVEL
    return counts


def test_relabelling_keeps_its_level_under_clusters(rejections):
    """Between the 0.1 % and 99.9 % quantiles of what a test of exactly this level would reject."""
    low, high = stats.binom.ppf([0.001, 0.999], NUM_SIMULATIONS, LEVEL)
    assert low <= rejections["relabelling"] <= high


def test_permuting_heldout_labels_is_anti_conservative_under_clusters(rejections):
    assert rejections["permuted labels"] > 3 * LEVEL * NUM_SIMULATIONS


def test_relabelling_sees_a_leak():
    rng = np.random.default_rng(0)
    labels = rng.integers(NUM_CLASSES, size=500)
    leaked = rng.random((NUM_RUNS, 500)) < 0.1
    answers = np.where(leaked, labels, rng.integers(NUM_CLASSES, size=(NUM_RUNS, 500)))
    test = relabelling_test(confusion_of(answers, labels), seed=0)
    assert test.p_value == 1 / 10_000
    assert test.null_high < test.observed


def test_sign_flips_keep_their_level():
    """All signs of eight runs are tried, so p takes 256 values and p ≤ 0.05 has probability 12/256."""
    rng = np.random.default_rng(5)
    level = 12 / 256
    rejected = sum(sign_flip_test(rng.normal(size=8), seed=0).p_value <= LEVEL for _ in range(1000))
    low, high = stats.binom.ppf([0.001, 0.999], 1000, level)
    assert low <= rejected <= high
