"""The only place that joins studies, engine, executor and store."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import final

import torch

from byrote.auditing.budget import check_amounts, seconds_of
from byrote.auditing.folder import claim_folder, refuse_folder
from byrote.auditing.interim import Interim
from byrote.auditing.limits import Limits, finishing_seconds, limits
from byrote.auditing.planner import GENEROUS, USUAL, Amount
from byrote.auditing.progress_line import how_to_go_on, progress_line
from byrote.auditing.reading import follow_ups
from byrote.auditing.result import Audit
from byrote.auditing.rounds import Rounds
from byrote.auditing.setting import Setting, Workers, set_up
from byrote.auditing.summarise import Story, Summary, summarise
from byrote.data import Task
from byrote.execution import Deadline, OnProgress, ProcessExecutor, Progress
from byrote.records import Learner
from byrote.studies import AUDITED, AbstractStudy

SOON_FITTED = 3000
"""Training examples up to which no baseline takes so long that it has to be given up when its time is over."""

OnInterim = Callable[[Audit], None]
"""Told what has been found so far."""


def audit(
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
    on_interim: OnInterim | None = None,
    keep_partial: bool = False,
    began: float | None = None,
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
        workers: processes that train, each with one thread; "auto" for one on every processor.
        keep_weights: keep every network's trained weights in the folder, too.
        progress: show how far it is in a line on standard error, in a terminal or a notebook.
        on_progress: told how far it is, in place of the line.
        on_interim: told now and then what has been found so far, while it costs little (5 % of the time).
        keep_partial: on Ctrl-C, return what the finished runs say instead of raising KeyboardInterrupt.
        began: when the budget began, in seconds of `time.monotonic`; now, unless given.

    Raises:
        BudgetError: the budget is too small for one run of each kind; the message says what the least is.
        ModelError: the model does not fit the task.
        StoreError: the folder cannot be used.
        KeyboardInterrupt: on Ctrl-C; its note says what is kept.

    >>> import byrote
    >>> result = byrote.audit(byrote.load("digits"), runs=2, studies=["memorisation"],
    ...     learner=byrote.Learner(model=byrote.models.linear(), recipe=byrote.Recipe(epochs=1)))
    >>> result.examples.columns[:3]
    ('id', 'target', 'memorisation')
    """
    started = time.monotonic() if began is None else began
    check_amounts(runs=runs, budget=budget, seed=seed)
    folder = None if out is None else Path(out)
    with (
        progress_line(progress, on_progress=on_progress) as tell,
        set_up(
            task,
            learner=learner,
            studies=studies,
            seed=seed,
            device=device,
            out=folder,
            workers=workers,
            keep_weights=keep_weights,
        ) as setting,
    ):
        if folder is not None:
            refuse_folder(folder, task=task.name)
        tell(Progress("measuring the speed of this machine", 0, 1))
        setting.try_model()
        bounds, most = None, USUAL if budget is None else GENEROUS
        if runs is None:
            looking = setting.background.forecast(**setting.looks)
            bounds = limits(setting.planner, seconds=seconds_of(budget), began=started, looking=looking, most=most)
        if folder is not None:
            claim_folder(folder, about={"task": task.name, "fingerprint": task.fingerprint})
        tell(Progress("looking at the data", 0, 1))
        setting.background.look(**setting.looks)
        work = _Work(setting, began=started, runs=runs, most=most, on_progress=tell)
        interrupted = False
        try:
            work.do(bounds, on_interim=on_interim)
        except KeyboardInterrupt as stop:
            if not keep_partial:
                stop.add_note(how_to_go_on(folder, done=setting.executor.num_trained, noun="network"))
                raise
            interrupted = True
        tell(Progress("summarising", 0, 1))
        summary = work.summary()
        tell(Progress("summarising", 1, 1))
    stopped = interrupted and not summary.record.complete
    return Audit(summary.record, summary.examples, labels=summary.labels, interrupted=stopped)


@final
class _Work:
    """One audit under way."""

    def __init__(
        self, setting: Setting, *, began: float, runs: int | None, most: Amount, on_progress: OnProgress
    ) -> None:
        self._setting, self._began, self._on_progress = setting, began, on_progress
        self._failures: list[str] = []
        self._rounds = Rounds(
            setting.planner,
            trainer=setting.executor,
            costs=setting.costs,
            follow_ups=partial(follow_ups, setting.planner, store=setting.store, background=setting.background),
            extras=setting.extras,
            runs=runs,
            most=most,
            on_progress=on_progress,
        )

    def do(self, bounds: Limits | None, *, on_interim: OnInterim | None) -> None:
        """Fit the baselines, which do not depend on the number of runs, and train."""

        def tell() -> None:
            if on_interim is not None:
                summary = self.summary()
                unfinished = replace(summary.record, complete=False)
                on_interim(Audit(unfinished, summary.examples, labels=summary.labels))

        guess = finishing_seconds(self._setting.planner.task)
        self._fit(None if bounds is None else bounds.fitting)
        self._rounds.train(
            None if bounds is None else bounds.training,
            interim=Interim(tell, began=self._began, guess=guess if on_interim is not None else math.inf),
        )

    def summary(self) -> Summary:
        """What has been found so far."""
        failures = (*self._failures, *self._setting.executor.failures)
        story = Story(self._began, self._rounds.new, failures)
        return summarise(self._setting, self._rounds.budgets, story=story)

    def _fit(self, deadline: Deadline | None) -> None:
        """In a process of its own where a fit may outlast its time, since one in this process cannot be given up."""
        executor, task = self._setting.executor, self._setting.planner.task
        fits = self._setting.planner.fits()
        if deadline is None or executor.num_workers > 1 or len(task.train) <= SOON_FITTED:
            executor.fit(fits, deadline=deadline, on_progress=self._on_progress)
            return
        with ProcessExecutor(
            task,
            store=self._setting.store,
            device=executor.device,
            workers=1,
            threads_per_worker=torch.get_num_threads(),
        ) as apart:
            apart.fit(fits, deadline=deadline, on_progress=self._on_progress)
            self._failures += apart.failures
