"""What the study of membership says where the answer is known, and whom the report shows beside whom."""

import numpy as np
import pytest

from byrote.data import Task
from byrote.records import Curves, Gallery, Run
from byrote.studies import Membership, Memorisation, Outcome, StudyBudget
from byrote.studies.study import inclusion_mask, subset_runs
from cheap_runs import LEARNER, fake_run, summarise, task_of

BUDGET = StudyBudget(runs=1, subsets=24, seed=0)
NUM_TRAIN = 400


def runs_of(task: Task, *, leak: float, leaky: slice = slice(None)) -> list[Run]:
    """Networks that give every example the same log-odds but for noise, and `leak` more where trained on it."""
    runs = [fake_run(task, spec) for spec in subset_runs(task, LEARNER, BUDGET)]
    for place, run in enumerate(runs):
        odds = np.random.default_rng(place).standard_normal(len(task.train))
        odds[leaky] += leak * inclusion_mask(task, [run])[0][leaky]
        run.trace.train_outputs[:] = 0
        run.trace.train_outputs[np.arange(len(odds)), task.train.y] = odds
        run.trace.loss[-1] = np.log1p(np.exp(-odds))
    return runs


def said(outcome: Outcome, claim: str) -> tuple[float | None, str]:
    finding = next(finding for finding in outcome.section.findings if finding.claim == claim)
    return finding.value, finding.verdict


def test_what_does_not_leak_is_not_said_to() -> None:
    task = task_of(num_train=NUM_TRAIN, num_classes=2)
    outcome = summarise(Membership(), task, BUDGET, runs=runs_of(task, leak=0.0))
    auc, verdict = said(outcome, "members-cannot-be-told")
    assert auc == pytest.approx(0.5, abs=0.03)
    assert verdict == "holds"
    assert said(outcome, "few-members-are-caught")[1] != "does not hold"
    assert not [figure for figure in outcome.section.figures if isinstance(figure, Gallery)]


def test_what_leaks_wholly_is_said_to() -> None:
    task = task_of(num_train=NUM_TRAIN, num_classes=2)
    outcome = summarise(Membership(), task, BUDGET, runs=runs_of(task, leak=30.0))
    assert said(outcome, "members-cannot-be-told") == (1.0, "does not hold")
    caught, verdict = said(outcome, "few-members-are-caught")
    assert (caught, verdict) == (pytest.approx(1.0, abs=0.01), "does not hold")
    assert outcome.examples is not None
    assert set(outcome.examples["membership_risk"].to_pylist()) == {1.0}


def test_the_exposed_are_those_that_leak() -> None:
    task = task_of(num_train=NUM_TRAIN, num_classes=2)
    outcome = summarise(Membership(), task, BUDGET, runs=runs_of(task, leak=30.0, leaky=slice(0, 5)))
    gallery = next(figure for figure in outcome.section.figures if isinstance(figure, Gallery))
    assert {item.id for item in gallery.items[:5]} == {"0", "1", "2", "3", "4"}
    auc, _ = said(outcome, "members-cannot-be-told")
    assert auc == pytest.approx(0.5, abs=0.05)


def test_curves_start_where_one_left_out_example_is_wrongly_accused_and_end_at_all() -> None:
    task = task_of(num_train=NUM_TRAIN, num_classes=2)
    runs = runs_of(task, leak=1.0)
    curves = summarise(Membership(), task, BUDGET, runs=runs).section.figures[0]
    assert isinstance(curves, Curves)
    num_out = int((~inclusion_mask(task, runs)).sum())
    for series in curves.series:
        assert (series.x[0], series.x[-1]) == (pytest.approx(1 / num_out), pytest.approx(1.0))
        assert series.y[-1] == pytest.approx(1.0)
        known = [y for y in series.y if y is not None]
        assert known == sorted(known)


def test_networks_that_end_in_a_softmax_are_attacked_too() -> None:
    task = task_of(num_train=60, num_classes=2)
    runs = runs_of(task, leak=3.0)
    for run in runs:
        run.trace.train_outputs[:] = np.where(run.trace.train_outputs > 0, 0.9, 0.1)
    assert summarise(Membership(), task, BUDGET, runs=runs).examples is not None


def test_a_held_out_example_that_one_training_example_decides_is_shown_beside_it() -> None:
    """Training example 3 is known only when trained on, and so is held-out example 2; the rest is always right."""
    task = task_of(num_train=50, num_test=8, num_classes=2)
    runs = [fake_run(task, spec) for spec in subset_runs(task, LEARNER, BUDGET)]
    for run in runs:
        knows = bool(inclusion_mask(task, [run])[0][3])
        run.trace.margin[:] = 1.0
        run.trace.margin[:, 3] = 1.0 if knows else -1.0
        right = np.eye(2)[task.test.y]
        right[2] = right[2] if knows else 1 - right[2]
        run.trace.test_outputs[:] = 4 * right
    outcome = summarise(Memorisation(), task, BUDGET, runs=runs)
    shown = next(f for f in outcome.section.figures if isinstance(f, Gallery) and f.items[0].beside)
    assert [item.id for item in shown.items] == ["3"]
    assert [beside.id for beside in shown.items[0].beside] == [str(task.test.ids[2])]
    assert outcome.examples is not None
    table = outcome.examples
    assert table["num_influenced"].to_pylist() == [1.0 if place == 3 else 0.0 for place in range(50)]
    assert table["most_influenced"].to_pylist()[3] == task.test.ids[2]
    assert table["largest_influence"].to_pylist()[3] == 1.0
