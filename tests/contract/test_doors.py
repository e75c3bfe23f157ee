"""The same score is the same at every door: name, type and value."""

import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

import byrote
from byrote.core import MissingExtraError
from byrote.data import Task, inclusion
from byrote.records import SCORE_COLUMNS, Kind, ModelSpec, Run, has_column, score_column
from byrote.scoring import Table
from byrote.scoring.typed import TYPES
from byrote.studies import STUDIES, StudyBudget
from cheap_runs import LEARNER, fake_run, summarise, task_of

TASKS: dict[Kind, Task] = {"classes": task_of(num_classes=2), "numbers": task_of(num_classes=0)}
SUBSETS = 20
BUDGET = StudyBudget(runs=3, subsets=SUBSETS, seed=0)
TEACHER, PUPIL = 4, 2
"""A training example that is memorised, and the test example that depends on it."""
ROOT = Path(__file__).parents[2]
each_kind = pytest.mark.parametrize("kind", TASKS)


class Made(NamedTuple):
    """Runs of one kind of targets, and what a study makes of them."""

    runs: list[Run]
    history: list[np.ndarray]
    """Of each run the logit of the second class, or the prediction, `[moment, example]`."""
    table: pa.Table


def consistent(task: Task, run: Run) -> tuple[Run, np.ndarray]:
    """A run whose trace is that of outputs which there were; one test example is answered because of one training
    example, and is tied, or far off, without it.
    """
    y, moments = task.train.y, len(run.trace.loss)
    last = run.trace.train_outputs[:, 0 if task.regression else 1].astype(np.float64)
    last = last if task.regression else last - run.trace.train_outputs[:, 0]
    knows, tests = bool(inclusion(task, run.spec.subset)[TEACHER]), np.array(run.trace.test_outputs)
    if task.regression:
        last[TEACHER] = y[TEACHER] if knows else y[TEACHER] + 3 * y.std()
        tests[PUPIL, 0] = task.test.y[PUPIL] + (0 if knows else 2) * y.std()
    else:
        last[TEACHER] = (4 if knows else -4) * (2 * y[TEACHER] - 1)
        tests[PUPIL] = 3 * np.eye(2)[task.test.y[PUPIL]] * knows
    noise = np.random.default_rng(run.spec.seed % 2**32).standard_normal((moments, len(y)))
    history = last + noise * np.linspace(1, 0, moments)[:, None]
    if task.regression:
        loss, margin = (history - y) ** 2 / y.var(), np.full(history.shape, np.nan)
        early, outputs = np.sqrt(loss[0]), history[-1][:, None]
    else:
        margin = history * (2 * y - 1)
        loss = np.logaddexp(0, -margin)
        early, outputs = math.sqrt(2) / (1 + np.exp(margin[0])), np.stack([np.zeros(len(y)), history[-1]], 1)
    trace = replace(run.trace, loss=loss, margin=margin, early_error=early, train_outputs=outputs, test_outputs=tests)
    return replace(run, trace=trace), history


def made(kind: Kind, study: str) -> Made:
    task = TASKS[kind]
    plan = STUDIES[study]().plan(task, LEARNER, BUDGET)
    pairs = [consistent(task, fake_run(task, spec)) for spec in plan.runs if spec.labels.kind == "true"]
    runs = [run for run, _ in pairs]
    outcome = summarise(STUDIES[study](), task, BUDGET, runs=runs)
    table = outcome.labels if study == "labels" else outcome.examples
    assert table is not None
    return Made(runs, [history for _, history in pairs], table)


def audited(kind: Kind) -> dict[str, Any]:
    """Every column of examples.parquet."""
    tables = [made(kind, study).table for study in ("memorisation", "membership", "difficulty")]
    return {name: table[name] for table in tables for name in table.column_names}


def from_outputs(kind: Kind, runs: list[Run]) -> Table:
    task, mask = TASKS[kind], np.stack([inclusion(TASKS[kind], run.spec.subset) for run in runs])
    names = np.array(task.classes)
    about: dict[str, Any] = {"ids": task.train.ids, "test_ids": task.test.ids}
    train, test = (np.stack([getattr(run.trace, f"{part}_outputs") for run in runs]) for part in ("train", "test"))
    if kind == "numbers":
        return byrote.scores(
            mask,
            predictions=train[..., 0],
            targets=task.train.y,
            test_predictions=test[..., 0],
            test_targets=task.test.y,
            **about,
        )
    margins = [run.trace.margin for run in runs]
    return byrote.scores(
        mask,
        logits=train,
        targets=names[task.train.y],
        classes=task.classes,
        covariates=[
            np.stack([one.mean(0) for one in margins]),
            np.stack([one[len(one) // 2 :].mean(0) for one in margins]),
        ],
        test_logits=test,
        test_targets=names[task.test.y],
        **about,
    )


def recorded(kind: Kind, history: np.ndarray, **settings: Any) -> Table:
    task = TASKS[kind]
    recorder = byrote.Recorder(ids=task.train.ids.tolist(), early_epochs=1, regression=kind == "numbers", **settings)
    for outputs in history:
        recorder.update(task.train.ids, outputs, task.train.y)
    return recorder.scores()


def check(one: Any, other: Any, *, name: str) -> None:
    """To single precision."""
    mine, theirs = one.to_pylist(), other.to_pylist()
    if score_column(name).type in ("number", "count") or isinstance(mine[0], float):
        known = [
            np.array([math.nan if value is None else value for value in values], float) for values in (mine, theirs)
        ]
        np.testing.assert_allclose(*known, rtol=1e-4, atol=1e-6, err_msg=name)
    else:
        assert mine == theirs, name


def columns_at(door: str, kind: Kind) -> set[str]:
    endings = () if door == "recorder" else None
    return {
        f"{name}{ending}"
        for name, column in SCORE_COLUMNS.items()
        if door in column.doors and has_column(column, kind)
        for ending in ("", *(column.endings if endings is None else endings))
    }


def doors(kind: Kind) -> Mapping[str, Mapping[str, Any]]:
    """Every column that each door may give, by name."""
    labels, history = made(kind, "labels").table, made(kind, "difficulty").history[0]
    outputs = from_outputs(kind, made(kind, "memorisation").runs)
    grouped = byrote.scores(np.eye(4, dtype=bool), correct=np.eye(4), groups=[0, 1, 2, 3])
    recorder = recorded(kind, history)
    flags = {} if kind == "numbers" else {"aum_flagged": threshold_flags()}
    return {
        "outputs": {name: outputs.arrow[name] for name in outputs.columns} | {"group": grouped.arrow["group"]},
        "recorder": {name: recorder.arrow[name] for name in recorder.columns} | flags,
        "audit": audited(kind),
        "labels": {name: labels[name] for name in labels.column_names},
    }


def threshold_flags() -> Any:
    recorder = byrote.Recorder(2)
    recorder.update([0, 1], np.eye(2), [0, 1])
    return recorder.scores(threshold_ids=[1]).arrow["aum_flagged"]


@each_kind
def test_every_column_of_every_door_is_registered_and_of_its_type_and_range(kind: Kind) -> None:
    for door, columns in doors(kind).items():
        without = {"aum_flagged"} if (door, kind) == ("recorder", "numbers") else set()  # they have no margins
        assert set(columns) == columns_at(door, kind) - without, door
        for name, values in columns.items():
            column = score_column(name)
            assert values.type == TYPES.get(column.type, values.type), name
            low, high = column.bounds(kind)
            if name in SCORE_COLUMNS and column.type in ("number", "count"):
                known = [value for value in values.to_pylist() if value is not None]
                assert all((low is None or value >= low - 1e-6) for value in known), name
                assert all((high is None or value <= high + 1e-6) for value in known), name


@each_kind
def test_as_given_columns_are_of_one_type_at_every_door(kind: Kind) -> None:
    found = doors(kind)
    for name in ("id", "target", "heldout_target", "suggested_target", "most_influenced"):
        types = {str(columns[name].type) for door, columns in found.items() if name in columns and door != "recorder"}
        assert len(types) == 1, (name, types)


@each_kind
def test_outputs_say_what_the_audit_says_of_the_same_runs(kind: Kind) -> None:
    subsets, audit = made(kind, "memorisation"), audited(kind)
    table = from_outputs(kind, subsets.runs)
    shared = columns_at("outputs", kind) & columns_at("audit", kind)
    assert len(shared) > 20
    lacking = {name for name in shared if kind not in score_column(name).kinds}
    for name in sorted(shared):
        check(table.arrow[name], audit[name], name=name)
        if name != "count" and name not in lacking:
            assert len(set(audit[name].to_pylist())) > 1, f"{name} says nothing"
    row = table.to_pylist()[TEACHER]
    assert row["status"] == "memorised"
    assert (row["num_influenced"], row["most_influenced"]) == (1, TASKS[kind].test.ids[PUPIL])


@each_kind
def test_what_fits_anything_says_what_the_audit_says_of_the_same_runs(kind: Kind) -> None:
    task, subsets, audit = TASKS[kind], made(kind, "memorisation"), audited(kind)
    number = count()

    def fit(indices: np.ndarray, seed: int) -> Any:
        run = subsets.runs[next(number)]
        assert np.array_equal(indices, np.flatnonzero(inclusion(task, run.spec.subset)))
        said = {len(task.train): run.trace.train_outputs, len(task.test): run.trace.test_outputs}
        return lambda inputs: said[len(inputs)]

    table = byrote.fit_and_score(task, fit, runs=SUBSETS)
    without = () if kind == "numbers" else ("memorisation", "memorisation_se", "memorisation_low", "memorisation_high")
    for name in sorted(columns_at("outputs", kind) & columns_at("audit", kind) - {*without}):
        if kind == "numbers" or not name.startswith(("status", "num_inf", "largest", "most")):
            check(table.arrow[name], audit[name], name=name)


@each_kind
def test_a_recorder_says_what_the_audit_says_of_the_same_runs(kind: Kind) -> None:
    """Mean over the networks that were trained on the example; of the data map, over those on all examples."""
    subsets, whole, audit = made(kind, "memorisation"), made(kind, "difficulty"), audited(kind)
    mask = np.stack([inclusion(TASKS[kind], run.spec.subset) for run in subsets.runs])
    shared = columns_at("recorder", kind) & columns_at("audit", kind)
    names = sorted(name for name in shared if score_column(name).type == "number")
    assert {"csl", "el2n", "variability"} <= set(names)
    for name in names:
        of_all = name in ("confidence", "mean_residual", "variability", "correctness")
        own = whole if of_all else subsets
        rows = np.stack([recorded(kind, history)[name].astype(float) for history in own.history])
        taken = np.ones(rows.shape, bool) if of_all else mask
        mean = np.where(taken, rows, 0).sum(0) / taken.sum(0)
        np.testing.assert_allclose(mean, np.array(audit[name].to_pylist(), float), rtol=1e-4, atol=1e-6, err_msg=name)


def test_notes_say_why_columns_of_numbers_are_null_at_every_door(tmp_path: Path) -> None:
    kind: Kind = "numbers"
    model = ModelSpec(name="mlp", arguments=(("depth", 1), ("width", 4)))
    audit = byrote.audit(
        TASKS[kind],
        learner=byrote.Learner(model=model, recipe=LEARNER.recipe),
        studies=["memorisation"],
        runs=1,
        progress=False,
    )
    audit.save(tmp_path / "audit")
    outputs, recorder = from_outputs(kind, made(kind, "memorisation").runs), recorded(kind, np.zeros((2, 40)))
    for table in (audit.examples, byrote.Audit.load(tmp_path / "audit").examples, outputs, recorder):
        lacking = [
            name
            for name in table.columns
            if name in SCORE_COLUMNS
            and kind not in score_column(name).kinds
            and table.arrow[name].null_count == len(table)
        ]
        assert lacking
        for name in lacking:
            assert any(name in note and "null: " in note for note in table.notes), name


def test_an_unknown_column_suggests_another() -> None:
    with pytest.raises(
        byrote.ByroteError, match=r"Unknown column 'forgetting_event'\. Did you mean: forgetting_events\?"
    ):
        score_column("forgetting_event")


def test_the_documentation_has_every_column_as_it_is() -> None:
    script = ROOT / "scripts" / "score_columns.py"
    answer = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_data_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(pa.table({"id": [1]}))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"byrote\[pandas\]"):
        table.to_pandas()
