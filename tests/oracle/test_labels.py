"""The study of labels on runs whose answers are known beforehand."""

from dataclasses import replace

import numpy as np
import pytest

from byrote import Audit, ByroteError, Examples, Task
from byrote.data import inclusion
from byrote.records import Gallery, Run, RunSpec
from byrote.studies import Labels, Outcome, StudyBudget
from cheap_runs import LEARNER, fake_run, summarise, task_of
from sample_record import sample_record

BUDGET = StudyBudget(runs=1, subsets=20, seed=0)
WRONG = np.arange(0, 400, 10)


def spoilt(task: Task) -> Task:
    """Every tenth label is another one."""
    y = task.train.y.copy()
    y[WRONG] = y[WRONG] + 50 if task.regression else (y[WRONG] + 1) % task.num_classes
    return replace(task, train=Examples(task.train.x, y, ids=task.train.ids))


def honest(task: Task, truth: np.ndarray, spec: RunSpec) -> Run:
    """Of what it is not trained on it says nearly the truth; of the rest, too, and at last what it was told."""
    run, rng = fake_run(task, spec), np.random.default_rng(spec.seed)
    seen = inclusion(task, spec.subset)
    said = np.where(seen, task.train.y, truth)
    if task.regression:
        run.trace.train_outputs[:, 0] = said + 0.1 * rng.standard_normal(len(said))
        return run
    classes, noise = np.eye(task.num_classes), rng.standard_normal((len(said), task.num_classes))
    moments = len(run.trace.loss)
    for moment, late in enumerate(np.linspace(0, 1, moments)):
        outputs = 3 * ((1 - late) * classes[truth] + late * classes[said]) + noise
        own = outputs[np.arange(len(said)), task.train.y]
        others = np.where(classes[task.train.y] == 1, -np.inf, outputs).max(1)
        run.trace.margin[moment] = own - others
        run.trace.loss[moment] = np.logaddexp.reduce(outputs, axis=1) - own
        run.trace.train_outputs[:] = outputs
    return run


def judged(num_classes: int) -> tuple[Task, Outcome]:
    clean = task_of(num_train=400, num_classes=num_classes)
    task = spoilt(clean)
    runs = [honest(task, clean.train.y, spec) for spec in Labels().plan(task, LEARNER, BUDGET).runs]
    return clean, summarise(Labels(), task, BUDGET, runs=runs)


@pytest.mark.parametrize("num_classes", [3, 0])
def test_wrong_labels_are_found_and_the_true_ones_suggested(num_classes: int) -> None:
    clean, outcome = judged(num_classes)
    table = outcome.labels
    assert table is not None
    assert table.column_names[:6] == ["id", "target", "suggested_target", "probability", "probability_se", "rank"]
    flagged = np.flatnonzero(table["flagged"].to_numpy())
    assert len(set(flagged) & set(WRONG)) >= 36
    assert len(set(flagged) - set(WRONG)) <= 6
    assert sorted(table["rank"].to_pylist()) == list(range(1, 401))
    suggested = np.array(table["suggested_target"].to_pylist())[WRONG]
    if num_classes:
        assert (suggested == np.array([clean.classes[code] for code in clean.train.y[WRONG]])).mean() >= 0.9
    else:
        np.testing.assert_allclose(suggested.astype(float), clean.train.y[WRONG], atol=0.5)
    finding = outcome.section.findings[0]
    assert finding.value == pytest.approx(0.9, abs=0.03)
    assert finding.verdict == "does not hold"


def test_flagged_examples_are_shown_beside_well_behaved_ones_of_both_classes() -> None:
    _, outcome = judged(3)
    galleries = [figure for figure in outcome.section.figures if isinstance(figure, Gallery)]
    assert len(galleries) == 1
    for item in galleries[0].items:
        assert [other.target for other in item.beside] == [item.target, item.suggested]
        assert {other.name for other in item.beside} == {f"nearest {item.target}", f"nearest {item.suggested}"}
        assert item.id not in {other.id for other in item.beside}
        assert not {int(other.id) for other in item.beside} & set(WRONG.tolist())


def test_with_few_networks_it_is_said_what_is_missing() -> None:
    clean, _ = judged(3)
    runs = [fake_run(clean, spec) for spec in Labels().plan(clean, LEARNER, BUDGET).runs[:3]]
    outcome = summarise(Labels(), clean, BUDGET, runs=runs)
    assert outcome.labels is None
    assert "With 3 networks on random subsets it cannot be said" in outcome.section.summary


def test_a_rate_is_between_none_and_all() -> None:
    for rate in (0.0, 1.0):
        with pytest.raises(ValueError, match="false_discovery_rate between 0 and 1"):
            Labels(false_discovery_rate=rate)


def test_an_audit_without_the_study_has_no_labels() -> None:
    with pytest.raises(ByroteError, match="add 'labels' to its studies"):
        _ = Audit(sample_record(), None).labels
