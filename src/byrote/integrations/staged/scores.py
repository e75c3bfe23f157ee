"""Scores of a boosted model, each stage an epoch."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped
from sklearn.pipeline import Pipeline

from byrote.integrations.staged.catboost import catboost_stages
from byrote.integrations.staged.lightgbm import lightgbm_stages
from byrote.integrations.staged.scikit_learn import scikit_learn_stages
from byrote.integrations.staged.stages import Stages
from byrote.integrations.staged.xgboost import xgboost_stages
from byrote.scoring import Recorder, Table

LIBRARIES: Mapping[str, Callable[[Any, Any], Stages]] = {
    "xgboost": xgboost_stages,
    "lightgbm": lightgbm_stages,
    "catboost": catboost_stages,
    "sklearn": scikit_learn_stages,
}
"""By the package that a model's class comes from."""


def staged_scores(
    model: Any,
    x: Any,
    targets: Any,
    *,
    ids: Iterable[Hashable] | None = None,
    early_epochs: int = 5,
    fitted_below: float | None = None,
    threshold_ids: Iterable[Hashable] | None = None,
) -> Table:
    """What each stage of a boosted model says of each example, in the recorder's table: a stage is an epoch.

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import GradientBoostingClassifier
    >>> x, y = load_digits(n_class=3, return_X_y=True)
    >>> y[:20] = (y[:20] + 1) % 3  # twenty wrong labels of 537
    >>> model = GradientBoostingClassifier(n_estimators=10, max_depth=2, random_state=0).fit(x, y)
    >>> table = staged_scores(model, x, y)
    >>> int((np.argsort(table["aum"], kind="stable")[:20] < 20).sum()) >= 15
    True
    >>> sorted(set(table["num_updates"].tolist()))
    [10]

    Margins are of raw scores, which are logits. A model that stopped early is read to its last stage, also beyond its
    best. Of DART, whose earlier trees lose weight later on, stages have the weights of the end.

    Args:
        model: a fitted GradientBoosting, HistGradientBoosting or AdaBoost model of scikit-learn, a model of XGBoost,
            LightGBM or CatBoost (estimator or booster), or a pipeline that ends with one.
        x: the examples, as the model's `predict` takes them; for a scikit-learn model usually those it was fitted to.
        targets: their classes, as the model was fitted to them (codes, for a booster that knows no names), or numbers.
        ids: each example's id; 0 to n − 1 without.
        early_epochs: EL2N is the mean over so many first stages.
        fitted_below: as in `byrote.Recorder`.
        threshold_ids: as in `byrote.Recorder.scores`.

    Returns:
        The columns of `byrote.Recorder.scores`; targets are as given.

    Raises:
        TypeError: the model is of no known kind, or not boosted.
        ValueError: a target is no class of the model, lengths differ, or the model's objective is of neither classes
            nor numbers.
    """
    while isinstance(model, Pipeline):
        x, model = (model[:-1].transform(x) if len(model) > 1 else x), model[-1]
    stages = _library(model)(model, x)
    given = np.asarray(targets)
    labels = given if stages.classes is None else _codes(given, stages.classes)
    names = list(range(len(labels))) if ids is None else list(ids)
    recorder = Recorder(ids=names, regression=stages.regression, fitted_below=fitted_below, early_epochs=early_epochs)
    for outputs in stages.outputs:
        recorder.update(names, outputs, labels)
    arrow = recorder.scores(threshold_ids=threshold_ids).arrow
    column = arrow.column_names.index("target")
    return Table(arrow if stages.classes is None else arrow.set_column(column, "target", pa.array(given.tolist())))


def _library(model: Any) -> Callable[[Any, Any], Stages]:
    """The first known package among those of the class and what it inherits from."""
    for kind in type(model).__mro__:
        library = LIBRARIES.get(kind.__module__.split(".")[0])
        if library is not None:
            return library
    raise TypeError(
        f"Expected a boosted model of {', '.join(LIBRARIES)}, got {type(model).__name__} of {type(model).__module__}. "
        f"Of another library, record what each stage says: byrote.Recorder."
    )


def _codes(targets: Shaped[np.ndarray, "example"], classes: tuple[Any, ...]) -> Shaped[np.ndarray, "example"]:
    """The column of each target's class."""
    column = {name: place for place, name in enumerate(classes)}
    strange = sorted({name for name in targets.tolist() if name not in column}, key=str)
    if strange:
        raise ValueError(f"Expected targets among the model's classes {list(classes)[:10]}, got {strange[:5]}.")
    return np.array([column[name] for name in targets.tolist()], np.int64)
