"""XGBoost: estimators in scikit-learn's manner, and boosters."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from byrote.core import require
from byrote.integrations.staged.stages import Stages, strange_objective

Predict = Callable[..., Any]
"""Predictions of the rounds from `first` to before `last`, upon the margin `start` if there is one."""


def xgboost_stages(model: Any, x: Any) -> Stages:
    """Margins after each round, each continued from the one before, so that a tree is asked once.

    Raises:
        ValueError: it is linear, or its objective is neither of classes nor of numbers.
    """
    package = require("xgboost", extra="boosting", purpose="What a model of XGBoost says")
    booster = model if isinstance(model, package.Booster) else model.get_booster()
    config = json.loads(booster.save_config())["learner"]
    objective, kind = config["objective"]["name"], config["gradient_booster"]["name"]
    if kind not in ("gbtree", "dart"):
        raise ValueError(f"Expected a model of trees, which has stages, got booster={kind!r}.")
    classes = objective.startswith(("binary:", "multi:"))
    if not classes and not objective.startswith(("reg:", "count:")):
        raise strange_objective(objective)
    if model is booster:
        data = x.slice(np.arange(x.num_row())) if isinstance(x, package.DMatrix) else package.DMatrix(x)
        predict = partial(_of_booster, booster, data)
    else:
        predict = partial(_of_estimator, model, x)
    stages = _prefixes if kind == "dart" else _continued
    return Stages(
        outputs=stages(predict, rounds=booster.num_boosted_rounds(), margins=classes),
        classes=tuple(model.classes_.tolist()) if classes and model is not booster else None,
        regression=not classes,
    )


def _continued(predict: Predict, *, rounds: int, margins: bool) -> Iterator[Any]:
    start = None
    for stage in range(rounds):
        margin = predict(stage, stage + 1, start=start, margins=True)
        yield margin if margins else predict(stage, stage + 1, start=start, margins=False)
        start = margin


def _prefixes(predict: Predict, *, rounds: int, margins: bool) -> Iterator[Any]:
    """DART weighs earlier trees anew, which `_continued` would not."""
    return (predict(0, stage + 1, start=None, margins=margins) for stage in range(rounds))


def _of_estimator(model: Any, x: Any, first: int, last: int, *, start: Any, margins: bool) -> Any:
    return model.predict(x, output_margin=margins, iteration_range=(first, last), base_margin=start)


def _of_booster(booster: Any, data: Any, first: int, last: int, *, start: Any, margins: bool) -> Any:
    if start is not None:
        data.set_base_margin(start)
    return booster.predict(data, output_margin=margins, iteration_range=(first, last))
