"""CatBoost. The package is never imported: a model brings it."""

from typing import Any

from byrote.integrations.staged.stages import Stages, strange_objective

CLASSES = ("Logloss", "MultiClass")
AS_THEY_ARE = ("RMSE", "MAE", "Quantile", "MAPE", "Huber", "Expectile", "Lq")
"""Losses whose predictions are their raw scores."""
EXPONENTIAL = ("Poisson", "Tweedie", "LogLinQuantile")


def catboost_stages(model: Any, x: Any) -> Stages:
    """Raw formula values after each tree.

    Raises:
        ValueError: its loss is neither of classes nor of numbers.
    """
    loss = str(model.get_all_params()["loss_function"]).split(":")[0]
    if loss not in (*CLASSES, *AS_THEY_ARE, *EXPONENTIAL):
        raise strange_objective(loss)
    outputs = model.staged_predict(x, prediction_type="Exponent" if loss in EXPONENTIAL else "RawFormulaVal")
    classes = tuple(model.classes_.tolist()) if loss in CLASSES else None
    return Stages(outputs=outputs, classes=classes, regression=classes is None)
