"""What `byrote.audit` promises from Python: tables, files, the union of runs, budgets, every kind of task."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from torch import Tensor, nn

import byrote
from byrote.auditing import Table, num_workers, parse_budget
from byrote.auditing.planner import Planner
from byrote.core import BudgetError, ByroteError, UnknownNameError
from byrote.data import Examples, Task
from byrote.records import Recipe
from byrote.studies import AUDITED, STUDIES, Memorisation, RandomData, StudyBudget
from byrote.studies.alarm import PROVING

LEARNER = byrote.Learner(model=byrote.models.mlp(width=16), recipe=Recipe(epochs=4, batch_size=32))


class Net(nn.Module):
    """A user's own, which takes the task."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.hidden = nn.Linear(task.input_shape[0], 16)
        self.out = nn.Linear(16, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x).relu())


def task_of(*, num_classes: int = 3, num_train: int = 160, num_test: int = 60, groups: bool = False) -> Task:
    """Clusters around corners, two features a class; 0 classes: a noisy line."""
    rng = np.random.default_rng(num_classes)
    x = rng.normal(size=(num_train + num_test, 6)).astype(np.float32)
    y = rng.integers(0, max(num_classes, 1), len(x))
    if num_classes:
        x += 2 * np.eye(num_classes, 6, dtype=np.float32)[y]
    member = np.arange(len(x)) // 4
    parts = [
        Examples(x[part], y[part] if num_classes else x[part] @ np.arange(6.0), groups=member[part] if groups else None)
        for part in (slice(num_train), slice(num_train, None))
    ]
    return Task(train=parts[0], test=parts[1], name="clusters")


@pytest.fixture(scope="module")
def task() -> Task:
    return task_of()


@pytest.fixture(scope="module")
def whole(task: Task, tmp_path_factory: pytest.TempPathFactory) -> byrote.Audit:
    """All studies, on disk."""
    return byrote.audit(task, learner=LEARNER, runs=2, out=tmp_path_factory.mktemp("whole") / "audit")


def test_findings_and_examples_are_tables_of_arrow(whole: byrote.Audit, task: Task) -> None:
    assert isinstance(whole.findings.arrow, pa.Table)
    assert len(whole.findings) == sum(len(section.findings) for section in whole.record.sections)
    frame = whole.examples.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["id"].tolist() == task.train.ids.tolist()
    assert frame["target"].tolist() == [task.classes[code] for code in task.train.y]
    assert whole.finding("no-leak").study == "random-data"
    assert whole.record.complete
    assert not whole.interrupted


def test_an_unknown_claim_suggests(whole: byrote.Audit) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean: no-leak"):
        whole.finding("no-leaks")


def test_an_audit_reads_back_as_it_was_saved(whole: byrote.Audit, tmp_path: Path) -> None:
    folder = whole.save(tmp_path / "saved")
    again = byrote.Audit.load(folder)
    assert again.record == whole.record
    assert again.examples.arrow.equals(whole.examples.arrow)
    assert again.findings.arrow.equals(whole.findings.arrow)
    assert again.report(tmp_path / "again.html").read_bytes() == (folder / "report.html").read_bytes()


def test_a_notebook_shows_hostile_text_as_text(whole: byrote.Audit) -> None:
    evil = "<script>alert(1)</script>"
    shown = byrote.Audit(replace(whole.record, verdict=evil), None)._repr_html_()
    table = Table(pa.table({evil: [evil]}))._repr_html_()
    for html in (shown, table):
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_tables_print_their_first_rows() -> None:
    table = Table(pa.table({"id": list(range(25)), "score": [0.123456] * 25}))
    assert repr(table).splitlines()[1].split() == ["0", "0.1235"]
    assert repr(table).splitlines()[-1] == "… 5 more rows"
    assert table["id"].tolist() == list(range(25))


def test_an_audit_trains_the_union_of_what_its_studies_ask_for(whole: byrote.Audit, task: Task) -> None:
    """Lookup, memorisation and membership look at the same networks; each is trained once."""
    budget = StudyBudget(runs=2, subsets=2, seed=0)
    plans = {name: STUDIES[name]().plan(task, LEARNER, budget).runs for name in AUDITED}
    distinct = {spec for specs in plans.values() for spec in specs}
    assert len(distinct) < sum(map(len, plans.values()))
    assert (whole.record.cost.num_runs, whole.record.cost.num_reused) == (len(distinct), 0)


def test_a_second_audit_trains_only_what_is_new(task: Task, tmp_path: Path) -> None:
    def ask(runs: int) -> Any:
        audit = byrote.audit(task, learner=LEARNER, studies=["memorisation"], runs=runs, out=tmp_path / "runs")
        return audit.record.cost

    first, second, third = ask(3), ask(5), ask(5)
    assert [(cost.num_runs, cost.num_reused) for cost in (first, second, third)] == [(3, 0), (5, 3), (5, 5)]


def test_the_same_seed_gives_the_same_findings_on_disk_and_in_memory(whole: byrote.Audit, task: Task) -> None:
    """Exactly in every word and verdict; numbers to float32, since the engine may stack what it trained alone."""
    again = byrote.audit(task, learner=LEARNER, runs=2)
    for one, other in ((again.findings, whole.findings), (again.examples, whole.examples)):
        pd.testing.assert_frame_equal(one.to_pandas(), other.to_pandas(), rtol=1e-4, atol=1e-5)


def test_another_seed_trains_other_networks(whole: byrote.Audit, task: Task) -> None:
    other = byrote.audit(task, learner=LEARNER, studies=["memorisation"], runs=2, seed=1)
    assert not np.allclose(other.examples["csl"], whole.examples["csl"], equal_nan=True)


def test_a_class_of_ones_own_is_a_learner_s_model(task: Task) -> None:
    audit = byrote.audit(task, learner=byrote.Learner(model=Net, recipe=LEARNER.recipe), runs=2, studies=["lookup"])
    assert audit.finding("beats-forest").num_runs == 2
    assert "Net" in audit.record.title
    with pytest.raises(ByroteError, match="add 'memorisation' to its studies"):
        _ = audit.examples


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("numbers", task_of(num_classes=0)),
        ("two classes", task_of(num_classes=2)),
        ("groups", task_of(groups=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_of_task_is_audited_whole(kind: str, made: Task) -> None:
    audit = byrote.audit(made, learner=LEARNER, runs=2)
    assert audit.record.complete
    assert {section.study for section in audit.record.sections} == set(AUDITED)
    assert len(audit.examples) == len(made.train)
    assert np.isfinite(audit.examples["csl"].astype(float)).any()
    assert audit.finding("no-leak").verdict != "does not hold", kind


def test_groups_across_the_split_are_a_leak() -> None:
    apart = task_of(groups=True)
    assert apart.train.groups is not None
    test = Examples(apart.test.x, apart.test.y, groups=apart.train.groups[: len(apart.test)])
    leaky = Task(train=apart.train, test=test, classes=apart.classes)
    leak = byrote.audit(leaky, learner=LEARNER, runs=1, studies=["random-data"]).finding("no-leak")
    assert (leak.verdict, "group" in leak.statement) == ("does not hold", True)


class Told(nn.Module):
    """Has been told the answer to two exclusive ors, whatever labels it is trained on."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.out = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x[:, 0] * x[:, 1] > 0, x[:, 2] * x[:, 3] > 0
        return 0.01 * self.out(x) + 9 * nn.functional.one_hot(2 * first + second, 4)


def two_exclusive_ors() -> Task:
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    y = 2 * (x[:, 0] * x[:, 1] > 0) + (x[:, 2] * x[:, 3] > 0)
    return Task(train=Examples(x[:200], y[:200]), test=Examples(x[200:], y[200:]))


def test_an_alarm_that_rings_on_few_runs_is_made_sure_of(tmp_path: Path) -> None:
    """Four classes need three runs on random labels for the alarm to be able to ring; five prove the leak."""
    learner = byrote.Learner(model=Told, recipe=Recipe(epochs=1, batch_size=50))
    leaky = two_exclusive_ors()
    study = RandomData(fractions=(0.5,), stretch=1)
    planned = study.plan(leaky, learner, StudyBudget(runs=1, subsets=0, seed=0)).runs
    audit = byrote.audit(leaky, learner=learner, studies=[study], runs=1, out=tmp_path)
    leak = audit.finding("no-leak")
    assert (leak.verdict, leak.num_runs) == ("does not hold", PROVING)
    assert audit.record.complete
    assert audit.record.cost.num_runs == audit.record.cost.planned_runs == len(planned) + PROVING - 3
    assert any("2 networks were trained on random labels beyond the plan" in n for n in audit.record.sections[0].notes)
    again = byrote.audit(leaky, learner=learner, studies=[study], runs=1, out=tmp_path).record
    assert (again.cost.num_reused, again.sections) == (again.cost.num_runs, audit.record.sections)


def test_what_has_been_found_so_far_is_told_after_every_shard_when_that_costs_nothing(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[byrote.Audit] = []
    byrote.audit(task, learner=LEARNER, studies=["random-data"], runs=2, on_interim=told.append)
    assert told == []
    monkeypatch.setattr("byrote.auditing.interim.EVERY", 0.0)
    monkeypatch.setattr("byrote.auditing.interim.SHARE", float("inf"))
    whole = byrote.audit(task, learner=LEARNER, studies=["random-data"], runs=2, on_interim=told.append)
    numbers = [audit.record.cost.num_runs for audit in told]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 1
    assert numbers[-1] == whole.record.cost.num_runs
    assert not any(audit.record.complete for audit in told)
    assert {audit.record.cost.num_reused for audit in told} == {0}
    assert {audit.record.cost.planned_runs for audit in told} == {whole.record.cost.planned_runs}
    assert told[-1].record.sections == whole.record.sections


def test_workers_and_weights_that_cannot_be_meant_are_refused(task: Task) -> None:
    with pytest.raises(ValueError, match='workers to be a whole number of at least 1, or "auto", got 0'):
        byrote.audit(task, learner=LEARNER, runs=1, workers=0)
    with pytest.raises(ValueError, match="Weights are kept in a folder"):
        byrote.plan(task, learner=LEARNER, runs=1, keep_weights=True)


def test_as_many_workers_as_processors_find_the_same(whole: byrote.Audit, task: Task) -> None:
    several = byrote.audit(task, learner=LEARNER, runs=2, workers="auto")
    pd.testing.assert_frame_equal(several.findings.to_pandas(), whole.findings.to_pandas(), rtol=1e-4, atol=1e-5)
    assert several.record.cost.num_workers == num_workers("auto")


def test_a_budget_is_a_time_that_people_write(task: Task) -> None:
    assert [parse_budget(text) for text in ("90", "1.5m", "1H 30 min", "20 seconds", 7)] == [90, 90, 5400, 20, 7]
    for text in ("", "m", "5 parsecs", "5m!", "-5m", "nan", "1h30", "0s", float("inf")):
        with pytest.raises(BudgetError, match="above 0"):
            parse_budget(text)
    with pytest.raises(BudgetError, match=r"the smallest audit takes about \d+ s here"):
        byrote.audit(task, learner=LEARNER, budget="1s")


def test_a_budget_is_kept(task: Task) -> None:
    longer = byrote.Learner(model=LEARNER.model, recipe=replace(LEARNER.recipe, epochs=200))
    audit = byrote.audit(task, learner=longer, studies=["memorisation"], budget="20s")
    assert audit.record.cost.seconds < 22
    assert audit.record.cost.num_runs >= Memorisation.fewest_subsets


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"runs": 0}, "runs at least 1"),
        ({"runs": 2, "budget": "1m"}, "got both"),
        ({"seed": -1}, "seed at least 0"),
        ({"studies": []}, "one or more different studies"),
        ({"studies": ["lookup", "lookup"]}, "one or more different studies"),
        ({"studies": ["lokup"]}, "Did you mean: lookup"),
        ({"device": "nonsense"}, "There is: cpu"),
    ],
)
def test_what_cannot_be_meant_is_refused(task: Task, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        byrote.audit(task, learner=LEARNER, **wrong)


def test_progress_never_falls_within_a_stage_and_ends_whole(task: Task) -> None:
    told: list[tuple[str, float, float]] = []
    byrote.audit(task, learner=LEARNER, runs=2, on_progress=told.append)
    stages = list(dict.fromkeys(stage.split()[0] for stage, _, _ in told))
    assert stages == ["measuring", "looking", "fitting", "training", "summarising"]
    for name in stages[2:]:
        done = [made / total for stage, made, total in told if stage.split()[0] == name]
        assert done == sorted(done)
        assert done[-1] == pytest.approx(1)


def stopping_after(number: int) -> Any:
    """Ctrl-C, at so many reports of training."""
    reports = count()

    def told(progress: Any) -> None:
        if progress.stage == "training" and next(reports) == number:
            raise KeyboardInterrupt

    return told


def test_a_stop_is_raised_unless_what_is_there_is_wanted(task: Task, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        byrote.audit(task, learner=LEARNER, runs=2, out=tmp_path, on_progress=stopping_after(10))
    part = byrote.audit(task, learner=LEARNER, runs=2, out=tmp_path, on_progress=stopping_after(5), keep_partial=True)
    assert part.interrupted
    assert not part.record.complete
    assert 0 < part.record.cost.num_runs < part.record.cost.planned_runs
    assert byrote.audit(task, learner=LEARNER, runs=2, out=tmp_path).record.complete


def test_a_task_too_large_for_the_usual_time_is_refused_too(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planner, "least", lambda self: 3600.0)
    with pytest.raises(BudgetError, match=r"the smallest audit takes about 36\d\d s here"):
        byrote.audit(task, learner=LEARNER)
