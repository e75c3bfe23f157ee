"""The study of minima, from training to its page, on tasks, models and recipes that are not made for it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import byrote
from byrote.data import Task
from byrote.models import mlp
from byrote.records import SAM, SGD, Adam, Cosine, Heatmap, Learner, Recipe, Section, Switch, dumps, loads
from byrote.report import render
from small_tasks import classes, numbers

pytestmark = pytest.mark.slow  # A score of small networks each, measured from all sides.
SMALL = Recipe(optimiser=SGD(lr=0.05), batch_size=8, epochs=2)


class Once(torch.autograd.Function):
    """A kernel that goes back, but not twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return slope * ctx.saved_tensors[0].cos()


class Fused(nn.Module):
    """A network with it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(Once.apply(self.first(x)))  # pyright: ignore


def normed_and_dropped() -> nn.Module:
    """Batch statistics and dropout."""
    hidden = (nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2))
    return nn.Sequential(*hidden, nn.Linear(6, 3))


def found(task: Task, *, model: Any = None, recipe: Recipe = SMALL, runs: int = 3) -> Section:
    learner = Learner(model=model or mlp(width=4), recipe=recipe)
    made = byrote.audit(replace(task, name="small"), learner=learner, studies=["minima"], runs=runs, progress=False)
    [section] = made.record.sections
    assert loads(type(made.record), dumps(made.record)) == made.record
    assert "What does the bottom look like?" in render(made.record)
    return section


def verdicts(section: Section) -> dict[str, str]:
    return {finding.claim: finding.verdict for finding in section.findings}


def titles(section: Section) -> list[str]:
    return [figure.title for figure in section.figures]


def test_an_ordinary_network_is_shown_from_all_sides() -> None:
    section = found(classes(num_train=80))
    assert [finding.claim for finding in section.findings if finding.value is None] == []
    assert {
        "Where training ends",
        "Held-out accuracy beside adaptive sharpness",
        "Does sharpness rank held-out accuracy over recipes?",
        "Sharpness along training",
        "How the Hessian's eigenvalues are spread",
        "Curvature of each layer",
        "Training loss around the ends on true labels",
        "Held-out loss around the ends on random labels",
        "Around the end of own recipe on true labels",
        "Around the end of SAM on random labels",
        "The way to the end",
        "From one seed's end to another's",
    } <= set(titles(section))
    maps = [figure for figure in section.figures if isinstance(figure, Heatmap)]
    assert len(maps) == 11
    assert len(maps[-1].paths[0].x) > 8


@pytest.mark.parametrize(
    ("task", "model", "recipe"),
    [
        (numbers(), None, SMALL),
        (classes(num_train=20), None, replace(SMALL, batch_size="all")),
        (classes(), None, replace(SMALL, optimiser=SAM(base=Adam()), schedule=Cosine())),
        (classes(), None, replace(SMALL, switches=(Switch(step=5, optimiser=SGD(lr=0.01), batch_size=4),))),
    ],
    ids=["numbers", "20 examples", "SAM of Adam", "a switch"],
)
def test_what_makes_sense_is_measured(task: Task, model: Any, recipe: Recipe) -> None:
    section = found(task, model=model, recipe=recipe, runs=2)
    assert section.findings[0].num_runs > 0
    assert section.findings[1].value is not None
    assert "The way to the end" in titles(section)


def test_batch_statistics_are_recomputed_and_dropout_does_not_matter() -> None:
    section = found(classes(num_train=80), model=normed_and_dropped)
    heights = next(figure for figure in section.figures if figure.title == "From one seed's end to another's")
    assert [series.name for series in heights.series] == [  # pyright: ignore
        "as they are",
        "BatchNorm statistics recomputed",
        "units in one order and BatchNorm statistics recomputed",
    ]
    statement = next(each.statement for each in section.findings if each.claim == "seeds-share-a-basin")
    assert "BatchNorm statistics recomputed" in statement


def test_without_second_derivatives_the_rest_is_said_and_why() -> None:
    section = found(classes(), model=Fused)
    assert any("Curvature needs second derivatives" in note for note in section.notes)
    assert section.findings[0].num_runs > 0
    assert "Training loss around the ends on true labels" in titles(section)
    assert "How the Hessian's eigenvalues are spread" not in titles(section)
    assert "Held-out accuracy beside λ_max" not in titles(section)
    assert "λ_max" not in section.findings[1].statement


def test_one_seed_is_shown_and_decides_nothing() -> None:
    section = found(classes(), runs=1)
    assert set(verdicts(section).values()) == {"inconclusive"}
    assert "The way to the end" in titles(section)
    assert "From one seed's end to another's" not in titles(section)


def test_runs_that_diverge_are_left_out_and_counted() -> None:
    """At this rate all do but those with a tenth of it, and Adam's."""
    section = found(classes(), recipe=replace(SMALL, optimiser=SGD(lr=1e30), epochs=3), runs=2)
    assert any("diverged" in note for note in section.notes)
    assert set(verdicts(section).values()) == {"inconclusive"}
    assert "flatter is not shown to be better" in section.summary


def test_a_part_of_it_can_be_asked_for_again_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    learner = Learner(model=mlp(width=4), recipe=SMALL)
    task = replace(classes(), name="small")
    first, second, more = (
        byrote.audit(task, learner=learner, studies=["minima"], runs=runs, out=tmp_path, progress=False).record
        for runs in (1, 1, 2)
    )
    assert (second.cost.num_reused, more.cost.num_reused, more.cost.num_runs) == (10, 10, 20)
    assert first.sections[0] == second.sections[0]
