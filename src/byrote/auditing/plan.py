"""What an audit would do, without doing it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from byrote.auditing.budget import check_amounts, seconds_of
from byrote.auditing.conditions import condition, size
from byrote.auditing.folder import refuse_folder
from byrote.auditing.limits import Limits, limits
from byrote.auditing.planner import GENEROUS, USUAL
from byrote.auditing.progress_line import progress_line
from byrote.auditing.rounds import PLANNED
from byrote.auditing.setting import Setting, Workers, set_up
from byrote.data import Task
from byrote.execution import OnProgress, Progress, describe
from byrote.records import FitSpec, Learner, RunSpec
from byrote.studies import AUDITED, AbstractStudy, Plan, StudyBudget


@final
@dataclass(frozen=True, kw_only=True)
class PlannedRuns:
    """Networks of one kind that one study asks for."""

    study: str
    condition: str
    """What they are trained on: `random labels`."""
    num_runs: int
    num_shared: int
    """Of these, asked for by a study above, too: trained once, and their time is counted there."""
    num_stored: int
    """Of these, in the folder already."""
    num_train: int
    """Examples that each is trained on."""
    num_test: int
    epochs: int
    seconds: float
    """Predicted, of those that are neither shared nor stored, with what they compute on the way."""


@final
@dataclass(frozen=True, kw_only=True)
class PlannedFits:
    """Fits of one baseline that one study asks for."""

    study: str
    baseline: str
    num_fits: int
    num_stored: int
    num_train: int
    """Examples that each is fitted to."""


@final
@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """What an audit would train and fit, and how long that would take. As good as a few timed steps can say."""

    task: str
    learner: Learner
    workers: int
    budget: float | None
    """Seconds; None when the number of runs was given."""
    runs: tuple[PlannedRuns, ...]
    fits: tuple[PlannedFits, ...]
    num_runs: int
    """Different networks in all."""
    num_stored: int
    """Of these, in the folder already."""
    training_seconds: float
    """Predicted, of the others."""
    fitting_seconds: float | None
    """The most that missing baselines may take; None when nothing limits them: how long they take is not predicted."""
    other_seconds: float
    """For looking at the data, summaries and the report; 0 without a budget."""
    fits_budget: bool | None
    """Whether it is all done within the budget; None without one."""


def plan(
    task: Task,
    *,
    learner: Learner | None = None,
    studies: Sequence[str | AbstractStudy] = AUDITED,
    budget: str | float | None = None,
    runs: int | None = None,
    seed: int = 0,
    device: str | None = None,
    out: str | Path | None = None,
    workers: Workers = 1,
    keep_weights: bool = False,
    progress: bool = True,
    on_progress: OnProgress | None = None,
    began: float | None = None,
) -> AuditPlan:
    """Say what `byrote.audit` would do with the same arguments: nothing is trained but a few steps, to time them, and
    nothing is written to the folder.

    With a budget, as many networks are planned as fit even if baselines take all the time that they may.

    Args:
        task: as for `byrote.audit`, like all the others.
        learner: model and recipe.
        studies: names, or studies with settings of their own.
        budget: the time it may take.
        runs: networks per condition instead of a budget.
        seed: the root of every random number.
        device: "cpu", "cuda", …
        out: a folder whose runs need not be trained again.
        workers: processes that train.
        keep_weights: whether networks whose weights are not stored are trained again.
        progress: show what is being done in a line on standard error, in a terminal or a notebook.
        on_progress: told how far it is, in place of the line.
        began: when the budget began, in seconds of `time.monotonic`; now, unless given.

    Raises:
        BudgetError: the budget is too small for one run of each kind; the message says what the least is.
        ModelError: the model does not fit the task.

    >>> import byrote
    >>> made = byrote.plan(byrote.load("digits"), runs=2, studies=["memorisation"],
    ...     learner=byrote.Learner(model=byrote.models.linear(), recipe=byrote.Recipe(epochs=1)))
    >>> made.num_runs, made.runs[0].condition, made.runs[0].num_train
    (2, 'random 70 %', 1007)
    """
    started = time.monotonic() if began is None else began
    check_amounts(runs=runs, budget=budget, seed=seed)
    with (
        progress_line(progress, on_progress=on_progress) as tell,
        set_up(
            task,
            learner=learner,
            studies=studies,
            seed=seed,
            device=device,
            out=None if out is None else Path(out),
            workers=workers,
            keep_weights=keep_weights,
        ) as setting,
    ):
        if out is not None:
            refuse_folder(Path(out), task=task.name)
        tell(Progress("measuring the speed of this machine", 0, 1))
        if runs is not None:
            return _told(setting, setting.planner.fixed(runs), bounds=None, looking=0.0)
        looking = setting.background.forecast(**setting.looks)
        most = USUAL if budget is None else GENEROUS
        bounds = limits(setting.planner, seconds=seconds_of(budget), began=started, looking=looking, most=most)
        fitting = _fitting_seconds(setting, bounds, looking=looking)
        budgets = setting.planner.within(PLANNED * (bounds.training.left - looking - fitting), most)
        return _told(setting, budgets, bounds=bounds, looking=looking)


def _fitting_seconds(setting: Setting, bounds: Limits, *, looking: float) -> float:
    """The most that missing baselines may take, after the data have been looked at."""
    return max(0.0, bounds.fitting.left - looking) if setting.executor.missing(setting.planner.fits()) else 0.0


def _told(setting: Setting, budgets: Mapping[str, StudyBudget], *, bounds: Limits | None, looking: float) -> AuditPlan:
    planner, store = setting.planner, setting.store
    plans = {study.name: plan for study, plan in zip(planner.studies, planner.plans(budgets), strict=True)}
    runs = planner.foreseen(budgets)
    training = planner.seconds(budgets)
    fitting = None if bounds is None else _fitting_seconds(setting, bounds, looking=looking)
    other = 0.0 if bounds is None else looking + bounds.finishing
    return AuditPlan(
        task=planner.task.name,
        learner=planner.learner,
        workers=setting.executor.num_workers,
        budget=None if bounds is None else bounds.seconds,
        runs=tuple(_planned_runs(setting, plans)),
        fits=tuple(_planned_fits(setting, plans)),
        num_runs=len(runs),
        num_stored=sum(store.has(spec, extras=setting.extras) for spec in runs),
        training_seconds=training,
        fitting_seconds=fitting,
        other_seconds=other,
        fits_budget=None if bounds is None else training + (fitting or 0.0) + looking <= bounds.training.left,
    )


def _planned_runs(setting: Setting, plans: Mapping[str, Plan]) -> Iterator[PlannedRuns]:
    """One for each study and kind of run, in the order of their importance."""
    seen: set[RunSpec] = set()
    for study, plan in plans.items():
        kinds: dict[tuple[str, int, int, int], list[RunSpec]] = {}
        for spec in plan.foreseen:
            train, test = size(setting.planner.task, subset=spec.subset, sample=spec.sample)
            kinds.setdefault((condition(spec), train, test, spec.learner.recipe.epochs), []).append(spec)
        for (words, num_train, num_test, epochs), specs in kinds.items():
            own = [spec for spec in specs if spec not in seen]
            beside = [more for spec in own if setting.costs([spec]) > 0 for more in plan.alongside.get(spec, ())]
            yield PlannedRuns(
                study=study,
                condition=words,
                num_runs=len(specs),
                num_shared=len(specs) - len(own),
                num_stored=sum(setting.store.has(spec, extras=setting.extras) for spec in specs),
                num_train=num_train,
                num_test=num_test,
                epochs=epochs,
                seconds=setting.costs([*own, *beside]),
            )
        seen.update(plan.foreseen)


def _planned_fits(setting: Setting, plans: Mapping[str, Plan]) -> Iterator[PlannedFits]:
    for study, plan in plans.items():
        kinds: dict[tuple[str, int], list[FitSpec]] = {}
        for spec in plan.fits:
            num_train = size(setting.planner.task, subset=spec.subset, sample=spec.sample).train
            kinds.setdefault((describe(spec), num_train), []).append(spec)
        for (baseline, num_train), specs in kinds.items():
            yield PlannedFits(
                study=study,
                baseline=baseline,
                num_fits=len(specs),
                num_stored=sum(spec in setting.store for spec in specs),
                num_train=num_train,
            )
