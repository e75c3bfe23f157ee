"""Boosting in scikit-learn."""

from typing import Any

import numpy as np
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)

from byrote.integrations.staged.stages import Stages

CLASSIFIERS = (GradientBoostingClassifier, HistGradientBoostingClassifier, AdaBoostClassifier)
REGRESSORS = (GradientBoostingRegressor, HistGradientBoostingRegressor, AdaBoostRegressor)


def scikit_learn_stages(model: Any, x: Any) -> Stages:
    """Decision functions, in units in which their softmax is `predict_proba`.

    Raises:
        TypeError: it is not boosted.
    """
    if isinstance(model, REGRESSORS):
        return Stages(outputs=model.staged_predict(x), classes=None, regression=True)
    if not isinstance(model, CLASSIFIERS):
        names = ", ".join(kind.__name__ for kind in (*CLASSIFIERS, *REGRESSORS))
        raise TypeError(
            f"Expected a model that is boosted stage by stage ({names}), got {type(model).__name__}. Of a model that "
            f"learns by partial_fit, record each pass with byrote.Recorder; of any other, byrote.fit_and_score trains "
            f"several."
        )
    classes = np.asarray(model.classes_).tolist()
    logits = (_logits(model, decision, num_classes=len(classes)) for decision in model.staged_decision_function(x))
    return Stages(outputs=logits, classes=tuple(classes), regression=False)


def _logits(model: Any, decision: Any, *, num_classes: int) -> Any:
    """The exponential loss is fitted by half the log-odds; AdaBoost of k classes votes in k − 1 times a logit."""
    if isinstance(model, AdaBoostClassifier):
        return decision / (num_classes - 1)
    return 2 * decision if isinstance(model, GradientBoostingClassifier) and model.loss == "exponential" else decision
