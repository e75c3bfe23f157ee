"""A study may ask some of its runs to compute something on the way."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, final

import byrote
from byrote.data import Task
from byrote.records import Learner, RunSpec
from byrote.studies import AbstractStudy, Memorisation, Outcome, Plan, Results, StudyBudget
from byrote.training import Answers, Checkpoint, Given
from small_tasks import classes

PROBES = (Checkpoint(at=Given(steps=(0, 2))), Answers(at=Given(steps=(1,)), num_examples=4))


@final
class Watching(AbstractStudy):
    """Memorisation, with an eye on its first two runs."""

    name: ClassVar[str] = "memorisation"
    question: ClassVar[str] = "What happens on the way?"
    uses_subsets: ClassVar[bool] = True

    def __init__(self) -> None:
        self.seen: dict[RunSpec, Any] = {}

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        plan = Memorisation().plan(task, learner, budget)
        return plan._replace(probes=dict.fromkeys(plan.runs[:2], PROBES))

    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        return ()

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        self.seen = {spec: run.probes for spec, run in results.runs.items()}
        return Memorisation().summarise(results, budget)


def audit_of(study: str | AbstractStudy, *, out: Path, runs: int = 4) -> byrote.Audit:
    learner = byrote.Learner(model=byrote.models.linear(), recipe=byrote.Recipe(epochs=2, batch_size=16))
    task = replace(classes(num_train=60), name="watched")
    return byrote.audit(task, learner=learner, studies=[study], runs=runs, out=out)


def test_its_results_have_what_it_asked_for(tmp_path: Path) -> None:
    study = Watching()
    made = audit_of(study, out=tmp_path / "out")
    assert made.record.complete
    keys = {probe.key for probe in PROBES}
    assert [set(probes) for probes in study.seen.values()].count(keys) == 2
    assert [set(probes) for probes in study.seen.values()].count(set()) == 2
    watched = next(probes for probes in study.seen.values() if probes)
    assert watched[PROBES[0].key].steps.tolist() == [0, 2]
    assert watched[PROBES[1].key].values["outputs"].shape == (1, 4, 3)


def test_runs_that_are_there_without_it_are_trained_once_more_and_the_others_are_not(tmp_path: Path) -> None:
    audit_of("memorisation", out=tmp_path / "out")
    for reused in (2, 4):
        made = audit_of(Watching(), out=tmp_path / "out")
        assert made.record.complete
        assert made.record.cost.num_reused == reused
    assert audit_of("memorisation", out=tmp_path / "out").record.cost.num_reused == 4
