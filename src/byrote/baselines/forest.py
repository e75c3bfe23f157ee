"""A random forest of fully grown trees."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float, Num, Shaped
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from byrote.baselines.outputs import BaselineOutputs


def forest(
    x: Num[np.ndarray, "example feature"],
    y: Shaped[np.ndarray, "example"],
    queries: Num[np.ndarray, "query feature"],
    *,
    num_trees: int,
    num_classes: int,
    seed: int,
) -> BaselineOutputs:
    """Answer with the mean of fully grown trees, each on a bootstrap sample (Breiman 2001).

    Classes: √d features tried at each split; numbers: a third of them. All usable cores are used, and the result is
    the same, to the last bit, for any number of them.

    >>> x, y = np.array([[0.0], [1.0]] * 20), np.array([0, 2] * 20)
    >>> forest(x, y, np.array([[0.0]]), num_trees=10, num_classes=3, seed=0).outputs
    array([[1., 0., 0.]])
    """
    settings: dict[str, Any] = {"n_estimators": num_trees, "random_state": seed % 2**32, "n_jobs": -1}
    inputs, rows = x.astype(np.float32), queries.astype(np.float32)
    if num_classes == 0:
        fitted: Any = RandomForestRegressor(max_features=1 / 3, **settings).fit(inputs, y)
        return BaselineOutputs(_mean(fitted, "predict", rows)[:, None], "")
    fitted = RandomForestClassifier(**settings).fit(inputs, y)
    outputs = np.zeros((len(rows), num_classes))
    outputs[:, fitted.classes_] = _mean(fitted, "predict_proba", rows)
    return BaselineOutputs(outputs, "")


def _mean(fitted: Any, method: str, rows: Float[np.ndarray, "query feature"]) -> Float[np.ndarray, "query ..."]:
    """Sum the trees' answers in their order: sums in whatever order threads finish differ in the last bits."""
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda tree: getattr(tree, method)(rows, check_input=False), fitted.estimators_)
        total = next(answers).copy()
        for answer in answers:
            total += answer
    return total / len(fitted.estimators_)
