"""A tenth of the labels flipped, and a recipe that fits them: the flipped ones are found."""

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import byrote
from byrote import Audit, Examples, Task

FLIPPED = 0.1
NUM_RUNS = 20
EPOCHS = 100


class Case(NamedTuple):
    task: Task
    true: np.ndarray
    """Class names before the flips."""
    is_flipped: np.ndarray
    audit: Audit


@pytest.fixture(scope="module")
def case() -> Case:
    clean = byrote.load("digits")
    rng = np.random.default_rng(20260101)
    y = clean.train.y.copy()
    chosen = rng.choice(len(y), size=round(FLIPPED * len(y)), replace=False)
    y[chosen] = (y[chosen] + rng.integers(1, 10, size=len(chosen))) % 10
    task = Task(train=Examples(clean.train.x, y), test=clean.test, normalise=clean.normalise)
    recipe = byrote.Recipe(optimiser=byrote.SGD(lr=0.05), batch_size=32, epochs=EPOCHS)
    learner = byrote.Learner(model=byrote.models.mlp(width=256), recipe=recipe)
    audit = byrote.audit(task, learner=learner, studies=["memorisation"], runs=NUM_RUNS)
    true = np.array([task.classes[code] for code in clean.train.y])
    return Case(task, true, y != clean.train.y, audit)


@pytest.mark.parametrize("score", ["memorisation", "label_suspicion", "csl"])
def test_flipped_labels_are_found(case: Case, score: str) -> None:
    assert case.is_flipped.sum() == 144
    assert roc_auc_score(case.is_flipped, case.audit.examples[score]) > 0.97


def test_the_margin_finds_them_too(case: Case) -> None:
    assert roc_auc_score(case.is_flipped, -case.audit.examples["aum"]) > 0.97


def test_the_true_class_is_suggested_for_most(case: Case) -> None:
    suggested = np.array(case.audit.examples["heldout_target"], dtype=str)
    assert (suggested == case.true)[case.is_flipped].mean() > 0.9
    assert (suggested == case.true)[~case.is_flipped].mean() > 0.95


def test_what_no_network_fits_is_told_apart(case: Case) -> None:
    status = np.array(case.audit.examples["status"], dtype=str)
    memorised, never = (status[case.is_flipped] == name for name in ("memorised", "never fitted"))
    assert memorised.mean() > 0.8
    assert (memorised | never).mean() > 0.95
    finding = case.audit.finding("training-examples-are-fitted")
    assert finding.value == pytest.approx((status != "never fitted").mean())


def test_every_score_has_its_error(case: Case) -> None:
    """z-scores of clean, easy examples against a memorisation of 0 do not claim more than the runs know."""
    score, error = (case.audit.examples[name] for name in ("memorisation", "memorisation_se"))
    assert np.isfinite(score).all()
    assert (error > 0).all()
    settled = ~case.is_flipped & (case.audit.examples["heldout_correct"] == 1)
    assert np.abs(score[settled] / error[settled]).max() < 3


def test_the_report_shows_them_with_their_true_class(case: Case) -> None:
    section = case.audit.record.sections[0]
    listed = next(f for f in section.figures if f.title == "Suspected label errors, listed")
    assert listed.kind == "table"
    top = [int(str(row[0])) for row in listed.rows[:50]]
    assert case.is_flipped[top].mean() > 0.95
    assert [row[2] for row in listed.rows[:50]] == [case.audit.examples["heldout_target"][position] for position in top]
