"""Two classes that are equally sure are no answer, wherever it is asked who is right."""

import numpy as np

import byrote
from byrote.data import Examples, Task
from byrote.measures import influence_pairs
from byrote.studies.study import heldout_quality

TASK = Task(train=Examples(np.zeros((4, 1)), [0, 1, 2, 0]), test=Examples(np.zeros((3, 1)), [0, 0, 2]))


def test_a_network_that_says_the_same_of_all_classes_is_right_nowhere() -> None:
    assert heldout_quality(TASK, np.zeros((3, 3), np.float32)).tolist() == [0, 0, 0]


def test_the_audit_and_byrote_scores_agree_on_who_is_right() -> None:
    """Test example 0 is tied without training example 0, and right with it."""
    inclusion = np.random.default_rng(0).random((40, 4)).argsort(1) < 2
    tests = np.zeros((40, 3, 3), np.float32)
    tests[:, 0, 0] = inclusion[:, 0]
    tests[:, 1, 1] = tests[:, 2, 2] = 1.0
    quality = np.stack([heldout_quality(TASK, outputs) for outputs in tests])
    assert np.array_equal(quality[:, 0], inclusion[:, 0])
    margin = np.where(inclusion, 5.0, -5.0) + np.random.default_rng(1).normal(size=(40, 4))
    table = byrote.scores(inclusion, margin=margin, test_logits=tests, test_targets=TASK.test.y)
    pairs = influence_pairs(inclusion, quality > 0, memorisation=table["memorisation"], false_discovery_rate=0.1)
    assert (pairs.train.tolist(), pairs.test.tolist()) == ([0], [0])
    assert table["num_influenced"].tolist() == [1, 0, 0, 0]
