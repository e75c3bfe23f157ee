"""What is said of labels that no network can know, by real networks and by simulated ones."""

import numpy as np
import pytest

from byrote import Audit, Examples, Task, audit
from byrote.data import uniform_flips
from byrote.measures import flag_label_errors, label_errors, residual_errors
from byrote.studies import Labels

TRAINED, HELD_OUT, RUNS = 500, 60, 10
SEEDS = range(12)


def task_of(x: np.ndarray, y: np.ndarray) -> Task:
    parts = [Examples(x[part], y[part]) for part in (slice(TRAINED), slice(TRAINED, None))]
    return Task(train=parts[0], test=parts[1])


def answered(task: Task) -> Audit:
    return audit(task, studies=[Labels()], runs=RUNS)


def assert_unsaid(result: Audit) -> None:
    (finding,) = result.record.sections[0].findings
    assert finding.verdict == "inconclusive"
    assert (finding.value, finding.low, finding.high, finding.num_runs) == (None, None, None, RUNS)
    assert "cannot be said" in finding.statement
    assert "Of the labels" not in result.record.sections[0].summary
    table = result.labels.to_pandas()
    assert len(table) == TRAINED
    assert table["probability"].isna().all()
    assert table["probability_se"].isna().all()
    assert not table["flagged"].any()


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_labels_drawn_at_random_are_not_said_to_be_right(num_classes: int):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(TRAINED + HELD_OUT, 8))
    assert_unsaid(answered(task_of(x, rng.integers(num_classes, size=len(x)))))


def test_numbers_drawn_at_random_are_not_said_to_be_right():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(TRAINED + HELD_OUT, 8))
    assert_unsaid(answered(task_of(x, rng.normal(size=len(x)))))


def halves(seed: int, *, fraction: float) -> tuple[Task, np.ndarray]:
    """Two classes, told by the sign of one input, of which a fraction is flipped."""
    x = np.random.default_rng(seed).normal(size=(TRAINED + HELD_OUT, 8))
    flipped = uniform_flips((x[:, 0] > 0).astype(int), num_classes=2, fraction=fraction, seed=seed)
    return task_of(x, flipped.targets), flipped.changed[:TRAINED]


def test_of_two_classes_two_fifths_wrong_nothing_is_said_or_what_is_so():
    task, wrong = halves(0, fraction=0.4)
    result = answered(task)
    (finding,) = result.record.sections[0].findings
    assert finding.verdict != "holds"
    probability = result.labels.to_pandas()["probability"]
    assert probability.isna().all() or probability.mean() == pytest.approx(wrong.mean(), abs=0.1)


def test_labels_that_are_right_are_still_said_to_be():
    task, _ = halves(0, fraction=0.0)
    (finding,) = answered(task).record.sections[0].findings
    assert (finding.verdict, finding.num_runs) == ("holds", RUNS)
    assert finding.low is not None
    assert finding.high is not None
    assert 0.99 < finding.low <= finding.high <= 1


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_wrong_labels_of_four_classes_are_still_found(fraction: float):
    rng = np.random.default_rng(0)
    true = rng.integers(4, size=TRAINED + HELD_OUT)
    x = 2.0 * rng.normal(size=(4, 8))[true] + rng.normal(size=(len(true), 8))
    flipped = uniform_flips(true, num_classes=4, fraction=fraction, seed=0)
    result = answered(task_of(x, flipped.targets))
    (finding,) = result.record.sections[0].findings
    right = 1 - flipped.changed[:TRAINED].mean()
    assert finding.verdict == "does not hold"
    assert finding.low is not None
    assert finding.high is not None
    assert finding.low < right < finding.high < 0.99
    assert result.labels.to_pandas()["flagged"].sum() >= 10


def neighbourly(seed: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regressions on random features of each of eight subsets: which examples they saw, and what they say."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(y), 6))
    features = np.tanh(x @ rng.normal(size=(6, 60)))
    inclusion = rng.permuted(np.arange(8)[:, None] % 4 != np.arange(len(y)) % 4, axis=0)
    said = [
        features @ np.linalg.solve(features[seen].T @ features[seen] + np.eye(60), features[seen].T @ y[seen])
        for seen in inclusion
    ]
    return inclusion, np.stack(said)


@pytest.mark.parametrize("num_classes", [0, 2])
def test_chance_is_hardly_ever_taken_for_knowledge_and_never_for_right_labels(num_classes: int):
    statuses: list[str] = []
    for seed in SEEDS:
        rng = np.random.default_rng(1000 + seed)
        if num_classes:
            y = rng.integers(num_classes, size=150)
            inclusion, said = neighbourly(seed, np.eye(num_classes)[y])
            found = label_errors(inclusion, 4 * said, y)
        else:
            y = rng.standard_t(3, size=150)
            found = residual_errors(*neighbourly(seed, y), y)
        statuses.append(found.status)
        assert np.isnan(found.probability.value).all() == (found.status != "judged")
        assert not flag_label_errors(found.probability.value).any()
        assert found.wrong.high > 0.01
    assert statuses.count("no better than chance") >= 0.75 * len(SEEDS)
    assert statuses.count("judged") <= 0.1 * len(SEEDS)
