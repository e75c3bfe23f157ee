"""LightGBM: estimators in scikit-learn's manner, and boosters. The package is never imported: a model brings it."""

from collections.abc import Iterator
from itertools import accumulate
from operator import add
from typing import Any

from byrote.integrations.staged.stages import Stages, strange_objective

AS_THEY_ARE = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
"""Objectives whose predictions are their raw scores."""
TRANSFORMED = ("poisson", "gamma", "tweedie", "regression sqrt")


def lightgbm_stages(model: Any, x: Any) -> Stages:
    """Raw scores after each iteration: sums of its trees', in units in which their softmax is `predict_proba`.

    Raises:
        ValueError: it is a random forest, or its objective is neither of classes nor of numbers.
    """
    booster = getattr(model, "booster_", model)
    header = booster.model_to_string(num_iteration=1).split("\nTree=")[0].splitlines()
    if "average_output" in header:
        raise ValueError("Expected a boosted model, which has stages, got a random forest (boosting='rf').")
    objective = next((line.removeprefix("objective=") for line in header if line.startswith("objective=")), "custom")
    kind, rounds = objective.split(" ")[0], booster.current_iteration()
    if kind in ("binary", "multiclass"):
        unit = next((float(word[8:]) for word in objective.split(" ") if word.startswith("sigmoid:")), 1.0)
        return Stages(
            outputs=(scores * unit for scores in _sums(model, x, rounds=rounds)),
            classes=tuple(model.classes_.tolist()) if model is not booster else None,
            regression=False,
        )
    if objective.startswith(TRANSFORMED):
        prefixes = (model.predict(x, num_iteration=stage + 1) for stage in range(rounds))
        return Stages(outputs=prefixes, classes=None, regression=True)
    if kind not in AS_THEY_ARE:
        raise strange_objective(objective)
    return Stages(outputs=_sums(model, x, rounds=rounds), classes=None, regression=True)


def _sums(model: Any, x: Any, *, rounds: int) -> Iterator[Any]:
    return accumulate(
        (model.predict(x, raw_score=True, start_iteration=stage, num_iteration=1) for stage in range(rounds)), add
    )
