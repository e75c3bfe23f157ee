"""What every study promises, whatever was finished in time."""

import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byrote.data import Task
from byrote.measures import Nearest
from byrote.records import Sample, Section, dumps, encode, loads
from byrote.report import write_report
from byrote.studies import (
    STUDIES,
    AbstractStudy,
    Background,
    Lookup,
    Memorisation,
    Outcome,
    RandomData,
    StudyBudget,
    background,
)
from cheap_runs import LEARNER, fake_fit, fake_run, results_of, summarise, task_of
from example_columns import IDENTITY, MEMBERSHIP, MEMORISATION
from sample_record import every_kind_record

CLAIMS = {
    "random-data": {
        "random-labels-are-fitted",
        "random-labels-test-at-chance",
        "true-labels-fit-faster",
        "random-inputs-start-faster",
        "test-error-rises-with-corruption",
        "no-leak",
    },
    "lookup": {"beats-lookup-table", "beats-forest", "beats-kernel", "learnt-share", "memorised-share"},
    "memorisation": {"training-examples-are-fitted"},
    "membership": {"members-cannot-be-told", "few-members-are-caught"},
    "labels": {"labels-are-right"},
    "difficulty": {"examples-differ-in-difficulty", "sensitivity-is-uneven", "random-labels-make-inputs-critical"},
    "early-phase": {
        "rate-lowers-gradient-variance",
        "rate-lowers-sharpness",
        "rate-improves-conditioning",
        "small-rate-raises-fisher",
        "small-batch-lowers-gradient-variance",
        "small-batch-lowers-sharpness",
        "small-batch-improves-conditioning",
        "peak-is-early",
        "barrier-falls",
        "early-decay-counts",
        "penalty-lowers-fisher",
        "penalty-helps-small-rate",
        "penalty-resists-flipped-labels",
        "edge-of-stability",
    },
    "minima": {
        "sharpness-ranks-accuracy",
        "random-labels-end-sharper",
        "sam-ends-flatter",
        "sam-tests-better",
        "seeds-share-a-basin",
        "matched-seeds-share-a-basin",
    },
    "representation": {
        "forest-gains-from-features",
        "kernel-gains-from-features",
        "training-improves-features",
        "kernel-velocity-falls",
        "baselines-fit-random-labels",
        "laplacian-fits-random-labels-faster",
        "pretraining-changes-speed",
        "rescaled-pretraining-changes-speed",
    },
    "worth": {"memorised-examples-matter", "dropping-suspects-helps", "correcting-suspects-helps"},
}
DIFFICULTY = (
    "grand",
    "csg",
    "input_curvature",
    "prediction_depth",
    "loss_sensitivity",
    "first_epoch_error",
    "confidence",
    "variability",
    "correctness",
)
OTHER_OF_NUMBERS = {
    "heldout_correct": ("heldout_error",),
    "heldout_probability": (),
    "self_confidence": ("self_error",),
    "confidence": ("mean_residual",),
}
"""What stands in a column's place where targets are numbers."""
COLUMNS = {
    "memorisation": [*IDENTITY, *MEMORISATION],
    "membership": [*IDENTITY, *MEMBERSHIP],
    "difficulty": [*IDENTITY, *(f"{name}{ending}" for name in DIFFICULTY for ending in ("", "_se"))],
}
TASKS = {
    "classes": task_of(),
    "two classes": task_of(num_classes=2),
    "many classes": task_of(num_classes=12, num_train=60),
    "numbers": task_of(num_classes=0),
    "groups": task_of(groups=True),
    "numbers in groups": task_of(num_classes=0, groups=True),
    "coarse": task_of(coarse=True, num_features=3),
    "one feature": task_of(num_features=1),
    "imbalanced": task_of(num_classes=2, shares=(0.97, 0.03)),
    "one test example": task_of(num_test=1),
    "two test examples": task_of(num_test=2, num_classes=2),
    "five test examples": task_of(num_test=5),
    "one number to test": task_of(num_test=1, num_classes=0),
    "two numbers to test": task_of(num_test=2, num_classes=0),
    "few training examples": task_of(num_train=6, num_classes=2),
}
each_study = pytest.mark.parametrize("study", [STUDIES[name]() for name in STUDIES], ids=list(STUDIES))
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
OPEN = "inconclusive"


def budget_of(*, runs: int = 3, subsets: int = 10, sample: Sample | None = None) -> StudyBudget:
    return StudyBudget(runs=runs, subsets=subsets, seed=0, sample=sample)


def answer(study: AbstractStudy, task: Task, budget: StudyBudget, **how: bool) -> Outcome:
    plan = study.plan(task, LEARNER, budget)
    runs = [fake_run(task, spec, **how) for spec in plan.runs]
    runs += [fake_run(task, spec, **how) for spec in study.follow_up(results_of(task, runs), budget)]
    return summarise(study, task, budget, runs=runs, fits=[fake_fit(task, spec) for spec in plan.fits])


def check(outcome: Outcome, study: AbstractStudy, task: Task) -> None:
    section = outcome.section
    assert section.study == study.name
    assert {finding.claim for finding in section.findings} == CLAIMS[study.name]
    assert all(finding.study == study.name for finding in section.findings)
    assert section.summary
    json.dumps(encode(section), allow_nan=False)
    assert loads(Section, dumps(section), source="test") == section
    for finding in section.findings:
        numbers = (finding.value, finding.low, finding.high, finding.null, finding.p_value)
        assert all(number is None or math.isfinite(number) for number in numbers)
        assert finding.verdict in ("holds", "does not hold", OPEN)
        assert re.search(r"https?://", finding.paper)
        check_sentence(finding.statement)
        if finding.low is not None and finding.high is not None and finding.value is not None:
            assert finding.low <= finding.value <= finding.high
        if finding.value is None:
            assert finding.verdict == OPEN
    check_sentence(section.summary)
    for note in section.notes:
        assert note[0].isupper() or note[0].isdigit() or note.endswith("noted.")
    if outcome.examples is not None:
        check_examples(outcome, task, study=study.name)


def check_sentence(text: str) -> None:
    """As a person would have written it."""
    assert re.match(r"[A-Z0-9]", text), text
    assert text.endswith("."), text
    assert not re.search(r"\b(nan|inf|None)\b|  |\d%|[^\w]-\d|\b1 (runs|groups|examples|networks|epochs)\b", text), text
    assert not re.search(r"\b(\d*[02-9]|\d+1) (run|network|epoch|group)\b", text), text


def columns_of(study: str, task: Task) -> list[str]:
    """Of tables of such targets."""
    if not task.regression:
        return COLUMNS[study]
    stems = [(name.removesuffix("_se"), "_se" * name.endswith("_se")) for name in COLUMNS[study]]
    return [other + ending for stem, ending in stems for other in OTHER_OF_NUMBERS.get(stem, (stem,))]


def check_examples(outcome: Outcome, task: Task, *, study: str) -> None:
    table = outcome.examples
    assert table is not None
    assert table.column_names == columns_of(study, task)
    assert table["id"].to_pylist() == task.train.ids.tolist()
    for name in set(table.column_names[2:]) - {"heldout_target", "status", "most_influenced"}:
        values = np.array([value for value in table[name].to_pylist() if value is not None], dtype=float)
        assert np.isfinite(values).all(), name
    if "status" not in table.column_names:
        return
    known = {"learnt", "memorised", "never fitted", "too few runs", "not in the sample"}
    assert set(table["status"].to_pylist()) <= known


@each_study
@each_task
@pytest.mark.parametrize("how", [{}, {"constant": True}], ids=["learning", "constant predictions"])
def test_all_runs_finished(study: AbstractStudy, task: Task, how: dict[str, bool]) -> None:
    check(answer(study, task, budget_of(), **how), study, task)


@each_study
@each_task
def test_nothing_finished(study: AbstractStudy, task: Task) -> None:
    outcome = summarise(study, task, budget_of())
    check(outcome, study, task)
    assert {finding.verdict for finding in outcome.section.findings} <= {OPEN, "does not hold"}
    assert all(f.verdict == OPEN or f.claim == "no-leak" for f in outcome.section.findings)
    assert outcome.examples is None


@each_study
@each_task
def test_everything_diverged(study: AbstractStudy, task: Task) -> None:
    outcome = answer(study, task, budget_of(), diverged=True)
    check(outcome, study, task)
    assert all(f.verdict == OPEN or f.claim == "no-leak" for f in outcome.section.findings)
    assert any("diverged" in note for note in outcome.section.notes)


@each_study
@each_task
def test_one_run_of_each_kind_decides_nothing(study: AbstractStudy, task: Task) -> None:
    budget = budget_of(runs=1, subsets=1)
    plan = study.plan(task, LEARNER, budget)
    firsts = [next(group) for _, group in itertools.groupby(plan.runs, key=lambda s: (encode(s.inputs), _labels(s)))]
    seeds = {spec.seed for spec in firsts[:1]}
    runs = [fake_run(task, spec) for spec in plan.runs if spec.seed in seeds]
    outcome = summarise(study, task, budget, runs=runs, fits=[fake_fit(task, spec) for spec in plan.fits])
    check(outcome, study, task)
    for finding in outcome.section.findings:
        assert finding.verdict == OPEN or finding.claim == "no-leak", finding
        assert finding.low is None or finding.claim == "no-leak", finding


def _labels(spec: object) -> str:
    return str(getattr(getattr(spec, "labels", None), "fraction", 0))


@each_study
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_subset_of_what_was_planned_can_be_summarised(study: AbstractStudy, data: st.DataObject) -> None:
    task = TASKS[data.draw(st.sampled_from(sorted(TASKS)))]
    sample = data.draw(st.sampled_from([None, Sample(train=max(4, len(task.train) // 2), test=2, draw=0)]))
    budget = budget_of(runs=data.draw(st.integers(1, 3)), subsets=data.draw(st.integers(1, 12)), sample=sample)
    plan = study.plan(task, LEARNER, budget)
    fates = data.draw(st.lists(st.sampled_from("xxxcd."), min_size=len(plan.runs), max_size=len(plan.runs)))
    runs = [
        fake_run(task, spec, constant=fate == "c", diverged=fate == "d")
        for spec, fate in zip(plan.runs, fates, strict=True)
        if fate != "."
    ]
    kept = data.draw(st.lists(st.booleans(), min_size=len(plan.fits), max_size=len(plan.fits)))
    fits = [fake_fit(task, spec) for spec, keep in zip(plan.fits, kept, strict=True) if keep]
    check(summarise(study, task, budget, runs=runs, fits=fits), study, task)


@each_study
@each_task
def test_a_plan_is_pure_and_a_longer_one_contains_it(study: AbstractStudy, task: Task) -> None:
    small = study.plan(task, LEARNER, budget_of(runs=2, subsets=5))
    assert small == study.plan(task, LEARNER, budget_of(runs=2, subsets=5))
    large = study.plan(task, LEARNER, budget_of(runs=12, subsets=25))
    assert set(small.runs) <= set(large.runs)
    assert set(small.fits) <= set(large.fits)
    for plan in (small, large):
        assert len(set(plan.runs)) == len(plan.runs)
        assert len(set(plan.fits)) == len(plan.fits)
        assert {spec.task for spec in (*plan.runs, *plan.fits)} <= {task.fingerprint}


@each_study
def test_a_summary_is_pure(study: AbstractStudy) -> None:
    first, second = (answer(study, TASKS["classes"], budget_of()).section for _ in range(2))
    assert first == second


@each_study
def test_the_seed_changes_every_run(study: AbstractStudy) -> None:
    one, other = (set(study.plan(TASKS["classes"], LEARNER, replace(budget_of(), seed=seed)).runs) for seed in (0, 1))
    assert not one & other


def test_studies_share_runs() -> None:
    task, budget = TASKS["classes"], budget_of(runs=3, subsets=7)
    lookup, memorisation = (set(s.plan(task, LEARNER, budget).runs) for s in (Lookup(), Memorisation()))
    assert len(memorisation) == 7
    assert memorisation < lookup
    unstretched = set(RandomData(stretch=1).plan(task, LEARNER, budget).runs)
    assert len(unstretched & lookup) == 3


@each_task
def test_figures_can_be_drawn(task: Task, tmp_path: Path) -> None:
    """The report refuses shares that do not add up, and numbers that are none."""
    sections = tuple(answer(STUDIES[name](), task, budget_of()).section for name in STUDIES)
    record = replace(every_kind_record(), sections=sections)
    assert write_report(record, path=tmp_path / "report.html").exists()


def test_how_long_looking_takes_is_foreseen_and_nothing_is_looked_at_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a search takes 0.3 s, and 1 ms for every query."""
    clock, searches, search = [0.0], list[int](), background.nearest

    def slow(reference: np.ndarray, queries: np.ndarray) -> Nearest:
        clock[0] += 0.3 + 0.001 * len(queries)
        searches.append(len(queries))
        return search(reference, queries)

    monkeypatch.setattr(background, "nearest", slow)
    monkeypatch.setattr(background.time, "perf_counter", lambda: clock[0])
    looked = Background(task_of(num_train=40, num_test=1000))
    assert looked.forecast(neighbours=False, leaks=False, values=False) == 0
    assert looked.forecast(neighbours=True, leaks=False, values=False) == pytest.approx(1.3)
    assert looked.forecast(neighbours=False, leaks=True, values=False) == pytest.approx(2.6)
    assert max(searches) < 100
    for _ in range(2):
        looked.look(neighbours=True, leaks=True, values=False)
    assert searches.count(1000) == 1
    assert looked.leaks.num_exact == 0
