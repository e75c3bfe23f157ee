"""A recipe as it is typed is the recipe that is trained."""

import inspect
from pathlib import Path

import pytest

from byrote import Audit
from byrote.cli import app
from byrote.cli.recipe import TypedRecipe, sort_options
from byrote.records import (
    SAM,
    SGD,
    Adam,
    AdamW,
    Cosine,
    Linear,
    Recipe,
    Regularisers,
    Step,
    WarmUp,
)
from careless import TINY, Command, write_table

BASE = Recipe(optimiser=SGD(lr=0.05), batch_size=32, epochs=40)
UNSAID = dict.fromkeys(TypedRecipe.__dataclass_fields__) | {
    "optimiser": "sgd",
    "schedule": "constant",
    "autocast": False,
}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {}),
        ({"lr": 0.3, "momentum": 0.5, "weight_decay": 0.1}, {"optimiser": SGD(lr=0.3, momentum=0.5, weight_decay=0.1)}),
        ({"optimiser": "adam", "lr": 0.01}, {"optimiser": Adam(lr=0.01)}),
        ({"optimiser": "adamw"}, {"optimiser": AdamW()}),
        ({"optimiser": "sam", "lr": 0.2, "momentum": 0.0}, {"optimiser": SAM(base=SGD(lr=0.2, momentum=0.0))}),
        ({"optimiser": "sam"}, {"optimiser": SAM(base=SGD(lr=0.05))}),
        ({"batch_size": "all", "epochs": 7}, {"batch_size": "all", "epochs": 7}),
        ({"schedule": "step"}, {"schedule": Step(every=14)}),
        ({"schedule": "step", "epochs": 2}, {"schedule": Step(every=1), "epochs": 2}),
        ({"schedule": "linear", "warm_up": 9}, {"schedule": WarmUp(steps=9, then=Linear())}),
        ({"fisher_penalty": 0.01}, {"regularisers": Regularisers(fisher_penalty=0.01)}),
        (
            {"dropout": 0.0, "label_smoothing": 0.1, "input_noise": 0.2, "clip_norm": 1.0, "autocast": True},
            {
                "regularisers": Regularisers(dropout=0.0, label_smoothing=0.1, input_noise=0.2, clip_norm=1.0),
                "autocast": True,
            },
        ),
    ],
    ids=lambda part: "-".join(part),
)
def test_what_is_said_takes_the_place_of_the_default(said: dict[str, object], expected: dict[str, object]) -> None:
    typed = sort_options(UNSAID | said | {"target": "label"})
    assert typed.recipe.on(BASE) == Recipe(**{**vars(BASE), **expected})
    assert typed.others == {"target": "label"}


def test_audit_and_study_take_the_same_options() -> None:
    audit, study = (inspect.signature(command).parameters for command in (app.audit, app.study))
    assert dict(study.items() - audit.items()).keys() == {"study"}
    assert audit.items() <= study.items()
    assert set(TypedRecipe.__dataclass_fields__) < set(audit)


def test_an_audit_takes_a_recipe_as_typed(byrote: Command) -> None:
    write_table(Path("animals.csv"))
    recipe = ("--optimiser", "adamw", "--lr", "0.01", "--schedule", "cosine", "--warm-up", "3", "--batch-size", "all")
    answer = byrote("study", "memorisation", "animals.csv", *TINY, *recipe, "--label-smoothing", "0.1")
    assert answer.status == 0, answer.stderr
    trained = Audit.load("runs/animals.csv/memorisation").record.learner.recipe
    assert trained.optimiser == AdamW(lr=0.01)
    assert trained.schedule == WarmUp(steps=3, then=Cosine())
    assert (trained.batch_size, trained.regularisers) == ("all", Regularisers(label_smoothing=0.1))
