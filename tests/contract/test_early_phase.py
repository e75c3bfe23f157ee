"""The study of the early phase, trained in earnest: whatever recipe, network and task it is given, it says what still
makes sense and what was left out.
"""

import re
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import byrote
from byrote.cli.gates import CLAIMS
from byrote.data import Task
from byrote.models import mlp
from byrote.records import SAM, SGD, Adam, AdamW, Cosine, Recipe, Section, Switch, WarmUp
from small_networks import OnceOnly
from small_tasks import classes, numbers


class Normed(nn.Module):
    """With batch statistics and dropout."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(task.input_shape[0], 6),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(6, task.num_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def recipe(**changed: Any) -> Recipe:
    return Recipe(**{"optimiser": SGD(lr=0.1), "batch_size": 6, "epochs": 2, **changed})


def section_of(task: Task, made: Recipe, *, model: Any = None, runs: int = 2) -> Section:
    learner = byrote.Learner(model=model or mlp(width=4), recipe=made)
    audit = byrote.audit(task, learner=learner, studies=["early-phase"], runs=runs, progress=False)
    assert audit.record.complete
    (section,) = audit.record.sections
    assert {finding.claim for finding in section.findings} == set(CLAIMS["early-phase"])
    for finding in section.findings:
        assert re.fullmatch(r"[A-Z0-9].*\.", finding.statement)
        assert not re.search(r"\b(nan|inf|None)\b|\.\.", finding.statement), finding.statement
    return section


CLASSES, NUMBERS, TINY = classes(num_train=24), numbers(num_train=24), classes(num_train=20, num_classes=2)
SCHEDULE = WarmUp(steps=2, then=Cosine())
SWITCHED = (Switch(step=3, optimiser=SGD(lr=0.02, weight_decay=0.01), batch_size=12),)
SLOW = pytest.mark.slow
FASTEST = "one step"
ODD = {
    "a regression": (NUMBERS, recipe(), None, ""),
    "Adam": (CLASSES, recipe(optimiser=Adam(lr=0.01)), None, "left out for Adam"),
    "AdamW with a schedule": (
        CLASSES,
        recipe(optimiser=AdamW(), schedule=WarmUp(steps=2, then=Cosine())),
        None,
        "schedule",
    ),
    "SAM": (CLASSES, recipe(optimiser=SAM()), None, "No stability limit is known for SAM"),
    "no momentum": (CLASSES, recipe(optimiser=SGD(lr=0.1, momentum=0.0)), None, ""),
    "own switches": (CLASSES, recipe(switches=SWITCHED), None, "own switches stay"),
    "a tiny task, full batches": (TINY, recipe(batch_size="all"), None, ""),
    "one step": (TINY, recipe(batch_size="all", epochs=1), None, "too few steps"),
    "batch statistics and dropout": (CLASSES, recipe(), Normed, ""),
    "no second derivatives": (CLASSES, recipe(), OnceOnly, "second derivatives"),
}


CASES = [pytest.param(*case, id=name, marks=() if name == FASTEST else SLOW) for name, case in ODD.items()]


@pytest.mark.parametrize(("task", "made", "model", "note"), CASES)
def test_whatever_it_is_given_it_says_what_makes_sense(task: Task, made: Recipe, model: Any, note: str) -> None:
    section = section_of(task, made, model=model)
    assert any(note in text for text in section.notes)
    known = {finding.claim for finding in section.findings if finding.value is not None}
    assert {"penalty-lowers-fisher", "penalty-helps-small-rate", "rate-improves-conditioning"} <= known, section.notes
    assert any(figure.title.startswith("Trace of the Fisher") for figure in section.figures)


@SLOW
def test_without_second_derivatives_the_peak_is_that_of_the_gradients() -> None:
    findings = {finding.claim: finding for finding in section_of(CLASSES, recipe(), model=OnceOnly).findings}
    assert "gradients' covariance" in findings["peak-is-early"].statement
    assert findings["peak-is-early"].value is not None
    assert "second derivatives" in findings["rate-lowers-sharpness"].statement
    assert findings["edge-of-stability"].value is None


@SLOW
def test_what_diverges_is_left_out_and_said() -> None:
    section = section_of(NUMBERS, recipe(optimiser=SGD(lr=1e12, momentum=0.0), epochs=3))
    assert any("diverged" in note for note in section.notes)
    findings = {finding.claim: finding for finding in section.findings}
    assert findings["rate-lowers-sharpness"].verdict == "inconclusive"


@SLOW
def test_one_run_gives_numbers_and_no_verdict() -> None:
    section = section_of(CLASSES, recipe(), runs=1)
    assert {finding.verdict for finding in section.findings} == {"inconclusive"}
    drawn = [figure for figure in section.figures if figure.kind == "curves" and figure.title.startswith("Largest")]
    assert all(np.isfinite(np.array(series.y, float)).all() for figure in drawn for series in figure.series)
