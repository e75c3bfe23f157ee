"""The study of representation, from training to its page, on tasks, models and recipes that are not made for it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import byrote
from byrote.data import Task
from byrote.models import mlp
from byrote.records import SGD, Heatmap, Learner, Recipe, Section, dumps, loads
from byrote.report import render
from byrote.studies.representation_runs import looked_at
from small_tasks import classes, numbers

pytestmark = pytest.mark.slow  # Forests and kernel machines on the features of a few small networks each.
SMALL = Recipe(optimiser=SGD(lr=0.1), batch_size=8, epochs=4)


def found(task: Task, *, model: Any = None, recipe: Recipe = SMALL, runs: int = 3) -> Section:
    learner = Learner(model=model or mlp(width=16), recipe=recipe)
    named = replace(task, name="small")
    made = byrote.audit(named, learner=learner, studies=["representation"], runs=runs, progress=False)
    [section] = made.record.sections
    assert loads(type(made.record), dumps(made.record)) == made.record
    assert "What do kernels and forests lack?" in render(made.record)
    return section


def verdicts(section: Section) -> dict[str, str]:
    return {finding.claim: finding.verdict for finding in section.findings}


def titles(section: Section) -> set[str]:
    return {figure.title for figure in section.figures}


def test_an_ordinary_network_is_shown_from_all_sides() -> None:
    section = found(classes(num_train=80))
    assert [finding.claim for finding in section.findings if finding.num_runs not in (3, 6)] == []
    assert verdicts(section)["laplacian-fits-random-labels-faster"] == "holds"
    assert titles(section) == {
        "The same machine on inputs, on random and on learnt features",
        "How fast the tangent kernel moves",
        "How far the tangent kernel has moved",
        "How much features are still those of the start",
        "How alike layers of different networks are",
        "What a linear map makes of each layer",
        "In how many directions features spread",
        "How well features fit the true targets",
        "Whether classes collapse",
        "Neural collapse after training",
        "What fits random labels",
        "True labels after random ones",
    }
    [heatmap] = [figure for figure in section.figures if isinstance(figure, Heatmap)]
    assert heatmap.x == heatmap.y
    assert all(value is not None and value <= 1 for row in heatmap.values for value in row)


def test_numbers_have_no_classes_and_the_report_says_so() -> None:
    section = found(numbers(num_train=60))
    assert [finding.claim for finding in section.findings if not finding.num_runs] == []
    assert "Neural collapse after training" not in titles(section)
    assert "What fits random targets" in titles(section)
    assert any("no classes that could collapse" in note for note in section.notes)
    assert "R²" in section.findings[0].statement


def test_without_hidden_layers_the_rest_is_measured_and_the_report_says_so() -> None:
    section = found(classes(), model=lambda: nn.Linear(5, 3))
    told = {finding.claim: finding.statement for finding in section.findings if not finding.num_runs}
    assert set(told) == {
        "forest-gains-from-features",
        "kernel-gains-from-features",
        "training-improves-features",
        "kernel-velocity-falls",
    }
    assert all(verdicts(section)[name] == "inconclusive" for name in told)
    assert told["kernel-velocity-falls"] == "The tangent kernel does not move: the network is linear in its weights."
    assert any("no hidden layer" in note for note in section.notes)
    assert "How fast the tangent kernel moves" in titles(section)


def test_one_seed_is_shown_and_decides_nothing() -> None:
    section = found(classes(), runs=1)
    assert set(verdicts(section).values()) == {"inconclusive"}
    assert "How far the tangent kernel has moved" in titles(section)
    assert "How alike layers of different networks are" not in titles(section)


def test_runs_that_diverge_are_left_out_and_counted() -> None:
    section = found(classes(), recipe=replace(SMALL, optimiser=SGD(lr=1e30)), runs=2)
    assert any("diverged" in note for note in section.notes)
    assert set(verdicts(section).values()) == {"inconclusive"}
    assert section.summary


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 40, 1000])
def test_the_first_and_the_last_epoch_are_each_looked_at_whole(epochs: int) -> None:
    found = looked_at(epochs)
    assert list(found) == sorted(set(found))
    assert {0, 1, epochs - 1, epochs} <= set(found)
    assert len(found) <= 8


def test_a_part_of_it_can_be_asked_for_again_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    learner, task = Learner(model=mlp(width=4), recipe=SMALL), replace(classes(), name="small")
    first, again = (
        byrote.audit(task, learner=learner, studies=["representation"], runs=runs, out=tmp_path, progress=False).record
        for runs in (2, 2)
    )
    assert first.sections == again.sections
    assert again.cost.num_reused == again.cost.num_runs == 8
