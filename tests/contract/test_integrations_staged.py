"""A boosted model's stages in the recorder's table: the same as asking for each stage anew, and feeding a recorder."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from byrote import Recorder
from byrote.integrations import staged_scores
from byrote.integrations.staged.scores import LIBRARIES
from byrote.scoring import Table

STAGES = 6


class Problem(NamedTuple):
    """Examples and targets under names that are not codes."""

    x: Any
    y: Any


def _many() -> Problem:
    x, y = load_digits(n_class=4, return_X_y=True)
    return Problem(np.asarray(x)[:120], np.array(["zero", "one", "two", "three"])[np.asarray(y)[:120]])


def _two() -> Problem:
    x, y = load_breast_cancer(return_X_y=True)
    return Problem(np.asarray(x)[:120], np.array(["malignant", "benign"])[np.asarray(y)[:120]])


def _numbers() -> Problem:
    x, y = load_diabetes(return_X_y=True)
    return Problem(np.asarray(x)[:120], np.asarray(y)[:120])


def _installed(*names: str) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name) is not None]


def _codes(y: Any) -> Any:
    return np.unique(y, return_inverse=True)[1] if y.dtype.kind == "U" else y


def _by_hand(stages: Iterator[Any], targets: Any, *, regression: bool = False) -> Table:
    recorder = Recorder(len(targets), regression=regression)
    for outputs in stages:
        recorder.update(range(len(targets)), np.asarray(outputs), targets)
    return recorder.scores()


def _check_same(table: Table, expected: Table, targets: Any) -> None:
    assert table["target"].tolist() == targets.tolist()
    assert table["num_updates"].tolist() == [STAGES] * len(targets)
    assert table.arrow.drop_columns("target").equals(expected.arrow.drop_columns("target"))


def _last_probabilities(logits: Any) -> Any:
    binary = np.ndim(logits) == 1 or np.shape(logits)[1] == 1
    return expit(np.ravel(logits)) if binary else softmax(logits, axis=1)


class Case(NamedTuple):
    """A model, and its logits after so many stages as its library gives them to anybody."""

    model: Any
    logits: Callable[[Any, Any, int], Any]


def _nth(generator: Iterator[Any], stage: int) -> Any:
    return list(generator)[stage - 1]


CLASSIFIERS: dict[str, Case] = {
    "sklearn-gradient": Case(
        GradientBoostingClassifier(n_estimators=STAGES, random_state=0),
        lambda model, x, stage: _nth(model.staged_decision_function(x), stage),
    ),
    "sklearn-histogram": Case(
        HistGradientBoostingClassifier(max_iter=STAGES, random_state=0),
        lambda model, x, stage: _nth(model.staged_decision_function(x), stage),
    ),
    "sklearn-adaboost": Case(
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=STAGES, random_state=0),
        lambda model, x, stage: _nth(model.staged_decision_function(x), stage) / (len(model.classes_) - 1),
    ),
}


@pytest.mark.parametrize("problem", [_many, _two], ids=["many-classes", "two-classes"])
@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_scikit_learns_classifiers(name: str, problem: Callable[[], Problem]) -> None:
    case, (x, y) = CLASSIFIERS[name], problem()
    model = case.model.fit(x, y)
    logits = [case.logits(model, x, stage) for stage in range(1, STAGES + 1)]
    _check_same(staged_scores(model, x, y), _by_hand(iter(logits), _codes(y)), y)
    probabilities = _last_probabilities(logits[-1])
    given = model.predict_proba(x)
    assert np.allclose(probabilities, given[:, 1] if probabilities.ndim == 1 else given)


def test_logits_of_the_exponential_loss_are_twice_its_scores() -> None:
    x, y = _two()
    model = GradientBoostingClassifier(loss="exponential", n_estimators=STAGES, random_state=0).fit(x, y)
    table = staged_scores(model, x, y)
    given = [probability[np.arange(len(y)), _codes(y)] for probability in model.staged_predict_proba(x)]
    assert np.allclose(table["confidence"], np.mean(given, axis=0), rtol=1e-6)
    assert np.allclose(table["csl"], -np.log(given).sum(0), rtol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingRegressor(n_estimators=STAGES, random_state=0),
        HistGradientBoostingRegressor(max_iter=STAGES, loss="poisson", random_state=0),
        AdaBoostRegressor(n_estimators=STAGES, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_scikit_learns_regressors(model: Any) -> None:
    x, y = _numbers()
    model.fit(x, y)
    _check_same(staged_scores(model, x, y), _by_hand(model.staged_predict(x), y, regression=True), y)


needs_xgboost = pytest.mark.skipif(not _installed("xgboost"), reason="needs xgboost, which byrote[boosting] brings")
needs_lightgbm = pytest.mark.skipif(not _installed("lightgbm"), reason="needs byrote[boosting]")
needs_catboost = pytest.mark.skipif(not _installed("catboost"), reason="needs catboost, too large for byrote[test]")


@needs_xgboost
@pytest.mark.parametrize("booster", ["gbtree", "dart"])
@pytest.mark.parametrize("problem", [_many, _two], ids=["many-classes", "two-classes"])
def test_xgboosts_classifiers(problem: Callable[[], Problem], booster: str) -> None:
    xgboost = importlib.import_module("xgboost")
    x, codes = problem().x, _codes(problem().y)
    drops = {"rate_drop": 0.5} if booster == "dart" else {}
    model = xgboost.XGBClassifier(n_estimators=STAGES, n_jobs=1, booster=booster, **drops).fit(x, codes)
    logits = [model.predict(x, output_margin=True, iteration_range=(0, stage + 1)) for stage in range(STAGES)]
    _check_same(staged_scores(model, x, codes), _by_hand(iter(logits), codes), codes)
    given = model.predict_proba(x)
    probabilities = _last_probabilities(logits[-1])
    assert np.allclose(probabilities, given[:, 1] if probabilities.ndim == 1 else given, atol=1e-6)
    raw, data = model.get_booster(), xgboost.DMatrix(x)
    logits = [raw.predict(data, output_margin=True, iteration_range=(0, stage + 1)) for stage in range(STAGES)]
    for form in (x, data):
        _check_same(staged_scores(raw, form, codes), _by_hand(iter(logits), codes), codes)
    assert data.get_base_margin().size == 0


@needs_xgboost
@pytest.mark.parametrize("objective", ["reg:squarederror", "count:poisson", "reg:gamma"])
def test_xgboosts_regressors(objective: str) -> None:
    xgboost = importlib.import_module("xgboost")
    x, y = _numbers()
    model = xgboost.XGBRegressor(n_estimators=STAGES, n_jobs=1, objective=objective).fit(x, y)
    stages = (model.predict(x, iteration_range=(0, stage + 1)) for stage in range(STAGES))
    _check_same(staged_scores(model, x, y), _by_hand(stages, y, regression=True), y)


@needs_xgboost
def test_xgboost_begins_where_the_users_own_margin_is() -> None:
    xgboost = importlib.import_module("xgboost")
    x, y = _numbers()
    start = y - y.mean()
    data = xgboost.DMatrix(x, y, base_margin=start)
    booster = xgboost.train({"nthread": 1}, data, STAGES)
    stages = (booster.predict(data, iteration_range=(0, stage + 1)) for stage in range(STAGES))
    expected = _by_hand(stages, y, regression=True)
    _check_same(staged_scores(booster, data, y), expected, y)
    assert np.array_equal(data.get_base_margin(), start.astype(np.float32))


@needs_xgboost
def test_xgboosts_models_without_stages_or_classes_are_refused() -> None:
    xgboost = importlib.import_module("xgboost")
    x, y = _numbers()
    with pytest.raises(ValueError, match="a model of trees, which has stages, got booster='gblinear'"):
        staged_scores(xgboost.XGBRegressor(booster="gblinear", n_estimators=2, n_jobs=1).fit(x, y), x, y)
    ranker = xgboost.XGBRanker(n_estimators=2, n_jobs=1).fit(x, _codes(_two().y), qid=np.zeros(len(x), int))
    with pytest.raises(ValueError, match="with the objective 'rank:ndcg'"):
        staged_scores(ranker, x, y)


@needs_lightgbm
@pytest.mark.parametrize("problem", [_many, _two], ids=["many-classes", "two-classes"])
def test_lightgbms_classifiers(problem: Callable[[], Problem]) -> None:
    lightgbm = importlib.import_module("lightgbm")
    x, y = problem()
    settings = {"n_estimators": STAGES, "n_jobs": 1, "verbose": -1, "sigmoid": 0.5}
    model = lightgbm.LGBMClassifier(**settings).fit(x, y)
    unit = 0.5 if problem is _two else 1.0
    logits = [model.predict(x, raw_score=True, num_iteration=stage + 1) * unit for stage in range(STAGES)]
    expected = _by_hand(iter(logits), _codes(y))
    _check_same(staged_scores(model, x, y), expected, y)
    _check_same(staged_scores(model.booster_, x, _codes(y)), expected, _codes(y))
    probabilities, given = _last_probabilities(logits[-1]), model.predict_proba(x)
    assert np.allclose(probabilities, given[:, 1] if probabilities.ndim == 1 else given)


@needs_lightgbm
@pytest.mark.parametrize("objective", ["regression", "poisson", "huber"])
def test_lightgbms_regressors(objective: str) -> None:
    lightgbm = importlib.import_module("lightgbm")
    x, y = _numbers()
    model = lightgbm.LGBMRegressor(n_estimators=STAGES, n_jobs=1, verbose=-1, objective=objective).fit(x, y)
    stages = (model.predict(x, num_iteration=stage + 1) for stage in range(STAGES))
    _check_same(staged_scores(model, x, y), _by_hand(stages, y, regression=True), y)


@needs_lightgbm
def test_lightgbms_models_without_stages_or_classes_are_refused() -> None:
    lightgbm = importlib.import_module("lightgbm")
    x, y = _two()
    quiet = {"n_estimators": 2, "n_jobs": 1, "verbose": -1}
    forest = lightgbm.LGBMClassifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, **quiet).fit(x, y)
    with pytest.raises(ValueError, match="which has stages, got a random forest"):
        staged_scores(forest, x, y)
    ranker = lightgbm.LGBMRanker(**quiet).fit(x, _codes(y), group=[len(x)])
    with pytest.raises(ValueError, match="with the objective 'lambdarank'"):
        staged_scores(ranker, x, _codes(y))


@needs_catboost
@pytest.mark.parametrize("problem", [_many, _two], ids=["many-classes", "two-classes"])
def test_catboosts_classifiers(problem: Callable[[], Problem]) -> None:
    catboost = importlib.import_module("catboost")
    x, y = problem()
    quiet = {"iterations": STAGES, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    model = catboost.CatBoostClassifier(**quiet).fit(x, y)
    logits = [model.predict(x, prediction_type="RawFormulaVal", ntree_end=stage + 1) for stage in range(STAGES)]
    table, expected = staged_scores(model, x, y), _by_hand(iter(logits), _codes(y))
    assert table["target"].tolist() == y.tolist()
    for column in ("aum", "csl", "el2n", "confidence", "variability", "correctness", "forgetting_events"):
        assert np.allclose(table[column], expected[column], rtol=1e-9, atol=1e-12), column
    probabilities, given = _last_probabilities(logits[-1]), model.predict_proba(x)
    assert np.allclose(probabilities, given[:, 1] if probabilities.ndim == 1 else given)


@needs_catboost
@pytest.mark.parametrize("loss", ["RMSE", "Poisson"])
def test_catboosts_regressors(loss: str) -> None:
    catboost = importlib.import_module("catboost")
    x, y = _numbers()
    quiet = {"iterations": STAGES, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    model = catboost.CatBoostRegressor(loss_function=loss, **quiet).fit(x, y)
    stages = (model.predict(x, ntree_end=stage + 1) for stage in range(STAGES))
    table, expected = staged_scores(model, x, y), _by_hand(stages, y, regression=True)
    assert np.allclose(table["csl"], expected["csl"], rtol=1e-9)


def test_a_pipeline_and_a_class_of_ones_own_are_what_they_end_in() -> None:
    class Mine(GradientBoostingClassifier):
        pass

    x, y = _two()
    model = make_pipeline(StandardScaler(), Mine(n_estimators=STAGES, random_state=0)).fit(x, y)
    expected = staged_scores(model[-1], model[:-1].transform(x), y)
    assert staged_scores(model, x, y).arrow.equals(expected.arrow)
    alone = make_pipeline(model[-1])
    assert staged_scores(alone, model[:-1].transform(x), y).arrow.equals(expected.arrow)


def test_ids_thresholds_and_early_stages_are_the_recorders() -> None:
    x, y = _many()
    model = GradientBoostingClassifier(n_estimators=STAGES, random_state=0).fit(x, y)
    names = [f"scan-{row}" for row in range(len(y))]
    table = staged_scores(model, x, y, ids=names, early_epochs=1, threshold_ids=names[:5])
    recorder = Recorder(ids=names, early_epochs=1)
    for logits in model.staged_decision_function(x):
        recorder.update(names, logits, _codes(y))
    expected = recorder.scores(threshold_ids=names[:5])
    assert table.arrow.drop_columns("target").equals(expected.arrow.drop_columns("target"))
    assert table["id"].tolist() == names


def test_what_does_not_fit_is_said() -> None:
    x, y = _two()
    model = GradientBoostingClassifier(n_estimators=2).fit(x, y)
    with pytest.raises(ValueError, match=r"among the model's classes \['benign', 'malignant'\], got \['other'\]"):
        staged_scores(model, x, np.where(np.arange(len(y)) == 3, "other", y))
    with pytest.raises(ValueError, match="for a batch of 7 ids"):
        staged_scores(model, x, y[:7])
    with pytest.raises(ValueError, match="unique ids, got 119 repeated"):
        staged_scores(model, x, y, ids=["same"] * len(y))
    with pytest.raises(TypeError, match=r"boosted stage by stage .*got RandomForestClassifier.*byrote.fit_and_score"):
        staged_scores(RandomForestClassifier(), x, y)
    with pytest.raises(TypeError, match=f"a boosted model of {', '.join(LIBRARIES)}, got dict of builtins"):
        staged_scores({}, x, y)


@pytest.mark.parametrize(
    ("learner", "logits"),
    [
        (SGDClassifier(loss="log_loss", random_state=0), lambda model, x: model.decision_function(x)),
        (
            MLPClassifier((32,), learning_rate_init=0.01, random_state=0),
            lambda model, x: np.log(model.predict_proba(x)),
        ),
    ],
    ids=["decision-function", "probabilities"],
)
def test_the_recipe_for_what_learns_by_partial_fit(learner: Any, logits: Callable[[Any, Any], Any]) -> None:
    """As docs/scores.md has it: a pass, then what the model says of all. Margins find wrong labels."""
    x, y = load_digits(return_X_y=True)
    x, y = np.asarray(x)[:300] / 16, np.asarray(y)[:300].copy()
    y[:15] = (y[:15] + 1) % 10
    recorder = Recorder(len(y))
    for _ in range(20):
        for rows in np.array_split(np.random.default_rng(0).permutation(len(y)), 10):
            learner.partial_fit(x[rows], y[rows], classes=np.arange(10))
        recorder.update(range(len(y)), logits(learner, x), y)
    table = recorder.scores()
    assert table["num_updates"].tolist() == [20] * len(y)
    assert roc_auc_score(np.arange(len(y)) < 15, -table["aum"]) > 0.95
