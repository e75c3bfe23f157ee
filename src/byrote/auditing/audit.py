"""The only place that joins studies, engine, executor and store."""

import html
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import pyarrow as pa
import torch

from byrote.auditing.budget import check_amounts, parse_budget
from byrote.auditing.folder import claim_folder, findings_table, read_examples, read_record, write_audit
from byrote.auditing.planner import GENEROUS, USUAL, Planner
from byrote.auditing.recipes import default_learner
from byrote.auditing.table import Table
from byrote.auditing.verdict import verdict
from byrote.core import BudgetError, ByroteError, UnknownNameError, did_you_mean
from byrote.data import Task
from byrote.execution import Deadline, LocalExecutor, OnProgress, Progress, silent
from byrote.records import (
    Cost,
    Finding,
    Fit,
    Learner,
    Record,
    Run,
    RunSpec,
    TaskCard,
    provenance,
)
from byrote.report import write_report
from byrote.store import AbstractStore, FolderStore, MemoryStore
from byrote.studies import STUDIES, AbstractStudy, Plan, Results, StudyBudget

DEFAULT_BUDGET = 600.0
"""Seconds, when neither a budget nor a number of runs was given."""
FIT_SHARE = 0.45
"""Of a budget that baselines may take."""
FINISHING = 5.0
"""Seconds kept for summaries and the report, at least."""
FINISHING_SHARE = 0.05


@final
class Audit:
    """What several studies found out about one learner on one task."""

    def __init__(self, record: Record, examples: pa.Table | None, *, interrupted: bool = False) -> None:
        """Wrap a record and its per-example scores."""
        self.record = record
        self.interrupted = interrupted
        """Whether a person stopped it before it was complete."""
        self._examples = examples

    @property
    def findings(self) -> Table:
        """One row per claim."""
        return Table(findings_table(tuple(finding for section in self.record.sections for finding in section.findings)))

    @property
    def examples(self) -> Table:
        """One row per training example: every score, and the memorisation score's standard error.

        Raises:
            ByroteError: no study of this audit scored examples.
        """
        if self._examples is None:
            raise ByroteError("No study of this audit scored single examples: add 'memorisation' to its studies.")
        return Table(self._examples)

    def finding(self, claim: str) -> Finding:
        """The finding of a claim.

        Raises:
            UnknownNameError: no study of this audit made it.
        """
        made = {finding.claim: finding for section in self.record.sections for finding in section.findings}
        if claim not in made:
            raise UnknownNameError(f"No claim {claim!r} here.{did_you_mean(claim, made)} There are: {', '.join(made)}.")
        return made[claim]

    def save(self, folder: str | Path) -> Path:
        """Write findings, examples and report into a folder."""
        place = Path(folder)
        claim_folder(place, about={"task": self.record.task.name, "fingerprint": self.record.task.fingerprint})
        write_audit(place, record=self.record, examples=self._examples)
        write_report(self.record, path=place / "report.html")
        return place

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report, one HTML file."""
        return write_report(self.record, path=Path(path))

    @classmethod
    def load(cls, folder: str | Path) -> "Audit":
        """Read an audit from its folder."""
        return cls(read_record(Path(folder)), read_examples(Path(folder)))

    def __repr__(self) -> str:
        return f"{self.record.title}\n\n{self.record.verdict}\n\n{self.findings!r}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.record.verdict)}</p>{self.findings._repr_html_()}"


def audit(
    task: Task,
    *,
    learner: Learner | None = None,
    studies: Sequence[str | AbstractStudy] = ("random-data", "lookup", "memorisation"),
    budget: str | float | None = None,
    runs: int | None = None,
    seed: int = 0,
    device: str | None = None,
    out: str | Path | None = None,
    on_progress: OnProgress = silent,
    keep_partial: bool = False,
) -> Audit:
    """Find out what a learner learns of a task and what it memorises.

    The union of the runs that the studies ask for is trained, each distinct run once; runs that a folder already holds
    are read from it.

    Args:
        task: training and test examples.
        learner: model and recipe; a multilayer perceptron with 256 hidden units unless given.
        studies: names, or studies with settings of their own.
        budget: the time it may take, such as "60s", "5m" or seconds. Unless runs are given, 10 minutes.
        runs: networks per condition instead of a budget: seeds for each kind of random data, networks on subsets.
        seed: the root of every random number.
        device: "cpu", "cuda", …; a GPU if there is one.
        out: a folder that keeps every run; None keeps them in memory.
        on_progress: told how far it is.
        keep_partial: on Ctrl-C, return what the finished runs say instead of raising KeyboardInterrupt.

    Raises:
        BudgetError: the budget is too small for one run of each kind; the message says what the least is.
        ModelError: the model does not fit the task.
        StoreError: the folder cannot be used.

    >>> import byrote
    >>> result = byrote.audit(byrote.load("digits"), runs=2, studies=["memorisation"],
    ...     learner=byrote.Learner(model=byrote.models.linear(), recipe=byrote.Recipe(epochs=1)))
    >>> result.examples.columns[:3]
    ('id', 'target', 'memorisation')
    """
    began = time.monotonic()
    check_amounts(runs=runs, budget=budget, seed=seed)
    store = MemoryStore() if out is None else FolderStore(Path(out))
    executor = LocalExecutor(task, store=store, device=_device(device))
    planner = Planner(
        task=task,
        learner=learner or default_learner(task),
        studies=_studies(studies),
        seed=seed,
        cost=_cost_of_training(executor),
    )
    if out is not None:
        claim_folder(Path(out), about={"task": task.name, "fingerprint": task.fingerprint})
    on_progress(Progress("measuring the speed of this machine", 0, 1))
    deadline = None if runs is not None else _deadline(planner, budget=budget, began=began)
    budgets, interrupted = planner.fixed(runs or 1), False
    try:
        _fit(executor, planner, deadline=deadline, on_progress=on_progress)
        if deadline is not None:
            budgets = planner.within(deadline.left, USUAL if budget is None else GENEROUS)
        specs = list(_interleaved([plan.runs for plan in _plans(planner, budgets)]))
        executor.train(specs, deadline=deadline, on_progress=on_progress)
    except KeyboardInterrupt:
        if not keep_partial:
            raise
        interrupted = True
    on_progress(Progress("summarising", 0, 1))
    record, examples = _summarise(planner, budgets, executor=executor, store=store, began=began)
    on_progress(Progress("summarising", 1, 1))
    return Audit(record, examples, interrupted=interrupted and not record.complete)


def _studies(studies: Sequence[str | AbstractStudy]) -> tuple[AbstractStudy, ...]:
    """Each study once; names become studies."""
    chosen = tuple(STUDIES[study]() if isinstance(study, str) else study for study in studies)
    names = [study.name for study in chosen]
    if not chosen or len(set(names)) < len(names):
        raise ValueError(f"Expected one or more different studies, got {names}. There are: {', '.join(STUDIES)}.")
    return chosen


def _cost_of_training(executor: LocalExecutor) -> Callable[[Sequence[RunSpec]], float]:
    """Predicted seconds of what is not stored yet. Each spec is looked up once, however often a planner asks."""
    known: dict[RunSpec, float] = {}

    def cost(specs: Sequence[RunSpec]) -> float:
        new = [spec for spec in specs if spec not in known]
        missing = set(executor.missing(new))
        known.update({spec: executor.predicted_seconds(spec) if spec in missing else 0.0 for spec in new})
        return sum(known[spec] for spec in dict.fromkeys(specs))

    return cost


def _deadline(planner: Planner, *, budget: str | float | None, began: float) -> Deadline:
    """When training has to end, so that there is time for the rest.

    Raises:
        BudgetError: the smallest audit takes longer; the message says how long.
    """
    seconds = DEFAULT_BUDGET if budget is None else parse_budget(budget)
    finishing = max(FINISHING, FINISHING_SHARE * seconds)
    least = math.ceil(planner.least() + finishing)
    if least > seconds:
        raise BudgetError(
            f"A budget of {seconds:g} s is too small: with {planner.learner} the smallest audit takes about "
            f"{least} s here. Give it {least}s or more (--budget), or a smaller learner (--width, --epochs)."
        )
    return Deadline(began=began, ends=began + seconds - finishing)


def _fit(executor: LocalExecutor, planner: Planner, *, deadline: Deadline | None, on_progress: OnProgress) -> None:
    """Fit the baselines, which do not depend on the number of runs, in their share of the time."""
    fits = [fit for plan in _plans(planner, planner.fixed(1)) for fit in plan.fits]
    if deadline is not None:
        latest = min(deadline.began + FIT_SHARE * deadline.length, deadline.ends - planner.least())
        deadline = Deadline(began=deadline.began, ends=latest)
    executor.fit(list(dict.fromkeys(fits)), deadline=deadline, on_progress=on_progress)


def _plans(planner: Planner, budgets: Mapping[str, StudyBudget]) -> list[Plan]:
    return [study.plan(planner.task, planner.learner, budgets[study.name]) for study in planner.studies]


def _interleaved(plans: Iterable[Sequence[RunSpec]]) -> Iterable[RunSpec]:
    """Every distinct run once; all plans advance at the same relative pace, so that stopping early hurts none most."""
    placed = [((place + 0.5) / len(plan), spec) for plan in plans for place, spec in enumerate(plan)]
    return dict.fromkeys(spec for _, spec in sorted(placed, key=lambda pair: pair[0]))


class _Kept(NamedTuple):
    """What was asked for, and what of it is there."""

    results: Results
    runs: list[Run]
    fits: list[Fit]
    num_runs_asked: int
    num_fits_asked: int

    @property
    def complete(self) -> bool:
        return (len(self.runs), len(self.fits)) == (self.num_runs_asked, self.num_fits_asked)


def _read(planner: Planner, plans: Sequence[Plan], store: AbstractStore) -> _Kept:
    asked = list(dict.fromkeys(spec for plan in plans for spec in plan.runs))
    wanted = list(dict.fromkeys(fit for plan in plans for fit in plan.fits))
    runs = [store.read_run(spec) for spec in asked if spec in store]
    fits = [store.read_fit(spec) for spec in wanted if spec in store]
    results = Results(
        task=planner.task,
        learner=planner.learner,
        runs={run.spec: run for run in runs if run.status == "completed"},
        fits={fit.spec: fit for fit in fits},
        diverged=tuple(run for run in runs if run.status == "diverged"),
    )
    return _Kept(results, runs, fits, len(asked), len(wanted))


def _summarise(
    planner: Planner,
    budgets: Mapping[str, StudyBudget],
    *,
    executor: LocalExecutor,
    store: AbstractStore,
    began: float,
) -> tuple[Record, pa.Table | None]:
    """The record, and the scores of the study that scores examples."""
    task, learner = planner.task, planner.learner
    kept = _read(planner, _plans(planner, budgets), store)
    outcomes = [study.summarise(kept.results, budgets[study.name]) for study in planner.studies]
    sections = tuple(outcome.section for outcome in outcomes)
    record = Record(
        title=f"{task.name}: what {learner.model} learnt, and what it knows by rote",
        task=_card(task),
        learner=learner,
        verdict=verdict(sections),
        sections=sections,
        cost=_cost(kept, num_trained=executor.num_trained, seconds=time.monotonic() - began),
        provenance=provenance(
            seed=planner.seed,
            device=str(executor.device),
            dtype=learner.recipe.dtype,
            num_threads=torch.get_num_threads(),
        ),
        complete=kept.complete,
    )
    return record, next((outcome.examples for outcome in outcomes if outcome.examples is not None), None)


def _cost(kept: _Kept, *, num_trained: int, seconds: float) -> Cost:
    return Cost(
        seconds=seconds,
        num_runs=len(kept.runs),
        num_reused=len(kept.runs) - num_trained,
        training_seconds=sum(run.seconds for run in kept.runs),
        num_fits=len(kept.fits),
        fitting_seconds=sum(fit.seconds for fit in kept.fits),
        planned_runs=kept.num_runs_asked,
    )


def _card(task: Task) -> TaskCard:
    return TaskCard(
        name=task.name,
        fingerprint=task.fingerprint,
        modality=str(task.modality),
        num_train=len(task.train),
        num_test=len(task.test),
        classes=task.classes,
        chance=0.0 if task.regression else float(np.bincount(task.train.y).max() / len(task.train)),
        input_shape=task.input_shape,
        notes=task.notes,
    )


def _device(name: str | None) -> torch.device:
    """The device of a name, tried out.

    Raises:
        ValueError: there is no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = "cpu and cuda" if torch.cuda.is_available() else "cpu"
        raise ValueError(
            f"The device {name!r} cannot be used here ({str(error).splitlines()[0].rstrip('.')}). There is: {here}."
        ) from error
    return device
