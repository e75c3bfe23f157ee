"""Learners that are no PyTorch modules: anything that fits and predicts."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import byrote
from byrote import Task
from byrote.core import ModelError, StoreError, derive
from byrote.data import balanced_subset
from byrote.measures import influence_pairs
from cheap_runs import task_of

CLASSES, NUMBERS = task_of(num_train=60, num_test=20), task_of(num_train=60, num_classes=0)


def tree(task: Task) -> Callable[[np.ndarray, int], Any]:
    def fit(indices: np.ndarray, seed: int) -> Any:
        x, y, state = task.train.x[indices], task.train.y[indices], seed % 2**32
        if task.regression:
            return DecisionTreeRegressor(random_state=state).fit(x, y).predict
        return DecisionTreeClassifier(random_state=state).fit(x, y).predict_proba

    return fit


def test_a_tree_s_scores_are_those_of_its_answers_on_the_same_subsets() -> None:
    """The published score, worked out anew; a fully grown tree is always right on what it was fitted to."""
    table = byrote.fit_and_score(CLASSES, tree(CLASSES), runs=10, seed=3)
    mask = np.stack([balanced_subset(num_units=60, fraction=0.7, draw=3, index=index) for index in range(10)])
    right = np.zeros((10, 60))
    for index, chosen in enumerate(mask):
        seed = derive(3, "run", index)
        model = DecisionTreeClassifier(random_state=seed % 2**32)
        model.fit(CLASSES.train.x[chosen], CLASSES.train.y[chosen])
        right[index] = model.predict(CLASSES.train.x) == CLASSES.train.y
    heldout = np.where(mask, 0, right).sum(0) / (~mask).sum(0)
    np.testing.assert_allclose(table["heldout_correct"], heldout)
    np.testing.assert_allclose(table["memorisation_raw"], 1 - heldout)
    assert table["id"].tolist() == CLASSES.train.ids.tolist()


def test_class_codes_are_enough_and_numbers_are_for_regressions() -> None:
    def fit(indices: np.ndarray, seed: int) -> Any:
        return KNeighborsClassifier(1).fit(CLASSES.train.x[indices], CLASSES.train.y[indices]).predict

    named = byrote.fit_and_score(CLASSES, fit, runs=10)
    assert set(named["heldout_correct"]) > {0.0, 1.0}
    numbers = byrote.fit_and_score(NUMBERS, tree(NUMBERS), runs=10)
    assert (numbers["memorisation_raw"] > 0).mean() > 0.9


def test_stopping_loses_nothing_that_was_fitted(tmp_path: Path) -> None:
    fit, fitted = tree(CLASSES), list[int]()

    def stopped(indices: np.ndarray, seed: int) -> Any:
        if len(fitted) == 5:
            raise KeyboardInterrupt
        fitted.append(seed)
        return fit(indices, seed)

    with pytest.raises(KeyboardInterrupt):
        byrote.fit_and_score(CLASSES, stopped, runs=8, out=tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.safetensors"))) == 5


def test_runs_in_a_folder_are_not_fitted_again(tmp_path: Path) -> None:
    done: list[int] = []
    fit = tree(CLASSES)
    first = byrote.fit_and_score(CLASSES, fit, runs=6, out=tmp_path / "out", on_run=done.append)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    again = byrote.fit_and_score(CLASSES, fit, runs=8, out=tmp_path / "out", on_run=done.append)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert before.items() <= after.items()
    assert (len(before), len(after), done) == (6, 8, [*range(1, 7), *range(1, 9)])
    whole = byrote.fit_and_score(CLASSES, fit, runs=8)
    np.testing.assert_array_equal(again["memorisation_raw"], whole["memorisation_raw"])
    assert len(first) == 60


def test_the_folder_of_another_task_is_refused(tmp_path: Path) -> None:
    byrote.fit_and_score(CLASSES, tree(CLASSES), runs=4, out=tmp_path / "out")
    other = byrote.load("digits")
    with pytest.raises(StoreError, match="holds an audit of"):
        byrote.fit_and_score(other, tree(other), runs=4, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            lambda x: np.zeros((len(x), 7)),
            r"Expected predict to give \[60, 3\], or class codes \[60\], got float64 of shape",
        ),
        (lambda x: ["cat"] * len(x), "class codes"),
        (lambda x: np.full((len(x), 3), np.nan), "NaN or infinite"),
        (lambda x: 1 / 0, "failed: .*division by zero"),
        (None, "fit to return a function of inputs, got NoneType.*return model.predict_proba"),
        (lambda x: np.full(len(x), 0.3), r"class codes 0 to 2, got 0\.3\. For probabilities .* \[1 − p, p\]"),
        (lambda x: np.full(len(x), 3), "class codes 0 to 2, got 3"),
        (lambda x: np.full(len(x), -1.0), "class codes 0 to 2, got -1"),
    ],
    ids=["wrong shape", "names", "nan", "error", "nothing", "scores", "a class too many", "a class too few"],
)
def test_what_a_predictor_should_give_is_said(given: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        byrote.fit_and_score(CLASSES, lambda indices, seed: given, runs=4)


def of_kind(kind: str, x: np.ndarray) -> Any:
    right = np.eye(3)[np.zeros(len(x), int)]
    return {"codes": right.argmax(1), "probabilities": 0.7 * right + 0.1, "logits": 5 * right - 2}[kind]


@pytest.mark.parametrize(
    ("first", "then"), [("codes", "probabilities"), ("probabilities", "codes"), ("logits", "probabilities")]
)
def test_outputs_of_two_kinds_are_refused_with_the_run_and_the_part(first: str, then: str, tmp_path: Path) -> None:
    runs: list[int] = []

    def changing(indices: np.ndarray, seed: int) -> Any:
        runs.append(seed)
        return lambda x: of_kind(first if len(runs) < 3 else then, x)

    with pytest.raises(ModelError, match=r"as run 0 gave of the training examples, got .* of the training .* in run 2"):
        byrote.fit_and_score(CLASSES, changing, runs=4, out=tmp_path)
    with pytest.raises(ModelError, match=r"got .* of the test examples in run 0"):
        byrote.fit_and_score(
            CLASSES, lambda indices, seed: lambda x: of_kind(first if len(x) == 60 else then, x), runs=4
        )


def test_names_of_classes_are_as_good_as_codes() -> None:
    names = np.array(CLASSES.classes)

    def fit(indices: np.ndarray, seed: int, *, as_names: bool) -> Any:
        model = KNeighborsClassifier(1).fit(CLASSES.train.x[indices], CLASSES.train.y[indices])
        return lambda x: names[model.predict(x)] if as_names else model.predict(x)

    tables = [byrote.fit_and_score(CLASSES, partial(fit, as_names=each), runs=10) for each in (True, False)]
    assert tables[0].arrow.equals(tables[1].arrow)


def test_codes_and_numbers_tell_whom_test_examples_depend_on() -> None:
    """Of codes exactly as of the probabilities that they are the largest of."""

    def codes(indices: np.ndarray, seed: int) -> Any:
        return KNeighborsClassifier(1).fit(CLASSES.train.x[indices], CLASSES.train.y[indices]).predict

    table = byrote.fit_and_score(CLASSES, codes, runs=40)
    mask = np.stack([balanced_subset(num_units=60, fraction=0.7, draw=0, index=index) for index in range(40)])
    right = np.stack([codes(np.flatnonzero(one), 0)(CLASSES.test.x) == CLASSES.test.y for one in mask])
    pairs = influence_pairs(mask, right, memorisation=table["memorisation_raw"], false_discovery_rate=0.1)
    assert table["num_influenced"].tolist() == np.bincount(pairs.train, minlength=60).tolist()
    assert table["num_influenced"].sum() > 0
    named = [place for place in table.arrow["most_influenced"].to_pylist() if place is not None]
    assert set(named) <= set(CLASSES.test.ids.tolist())
    with_tests = task_of(num_train=60, num_test=20, num_classes=0)
    assert byrote.fit_and_score(with_tests, tree(with_tests), runs=80)["num_influenced"].sum() > 0


RATE = 3


def neighbours(indices: np.ndarray, seed: int) -> Any:
    return KNeighborsClassifier(RATE).fit(CLASSES.train.x[indices], CLASSES.train.y[indices]).predict


def test_fits_are_made_anew_when_a_value_of_the_module_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = byrote.fit_and_score(CLASSES, neighbours, runs=4, out=tmp_path)
    monkeypatch.setitem(globals(), "RATE", 1)
    second = byrote.fit_and_score(CLASSES, neighbours, runs=4, out=tmp_path)
    assert second.arrow.equals(byrote.fit_and_score(CLASSES, neighbours, runs=4).arrow)
    assert not first.arrow.equals(second.arrow)


@pytest.mark.parametrize("runs", ["8", 4.5, None])
def test_runs_are_a_whole_number(runs: Any) -> None:
    with pytest.raises(TypeError, match="runs as a whole number, got"):
        inspect.unwrap(byrote.fit_and_score)(CLASSES, tree(CLASSES), runs=runs)


def test_a_few_runs_are_too_few() -> None:
    with pytest.raises(ValueError, match="at least 4 runs, got 3"):
        byrote.fit_and_score(CLASSES, tree(CLASSES), runs=3)


def test_a_stop_says_what_is_kept_and_how_to_go_on(tmp_path: Path) -> None:
    fit = tree(CLASSES)

    def stopped_at(number: int) -> Callable[[int], None]:
        def on_run(done: int) -> None:
            if done == number:
                raise KeyboardInterrupt

        return on_run

    with pytest.raises(KeyboardInterrupt) as lost:
        byrote.fit_and_score(CLASSES, fit, runs=8, on_run=stopped_at(3))
    assert lost.value.__notes__ == [
        "Nothing was kept of 3 fits. Give out=…, a folder, and a stop loses none that is finished."
    ]
    with pytest.raises(KeyboardInterrupt) as first:
        byrote.fit_and_score(CLASSES, fit, runs=8, out=tmp_path, on_run=stopped_at(3))
    assert first.value.__notes__ == [f"3 fits are new in {tmp_path}. The same call again goes on from there."]
    with pytest.raises(KeyboardInterrupt) as second:
        byrote.fit_and_score(CLASSES, fit, runs=8, out=tmp_path, on_run=stopped_at(4))
    assert second.value.__notes__ == [f"1 fit is new in {tmp_path}. The same call again goes on from there."]
    again = byrote.fit_and_score(CLASSES, fit, runs=8, out=tmp_path)
    np.testing.assert_array_equal(
        again["memorisation_raw"], byrote.fit_and_score(CLASSES, fit, runs=8)["memorisation_raw"]
    )
