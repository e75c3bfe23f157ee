"""Who asks for what, and what works on it: the same for an audit and for its plan."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Literal, cast, final

import joblib
import torch

from byrote.auditing.costs import Costs
from byrote.auditing.planner import Planner
from byrote.auditing.recipes import default_learner
from byrote.data import Task
from byrote.execution import AbstractExecutor, LocalExecutor, ProcessExecutor
from byrote.records import Extras, Learner
from byrote.store import AbstractStore, FolderStore, MemoryStore
from byrote.studies import STUDIES, AbstractStudy, Background
from byrote.training import Remembered

Workers = int | Literal["auto"]
"""Processes that train; "auto" is one for every processor that this process may use."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """Everything that planning and training share."""

    planner: Planner
    executor: AbstractExecutor
    store: AbstractStore
    background: Background
    costs: Costs
    extras: Extras
    """What every run has to be kept with."""

    @property
    def looks(self) -> dict[str, bool]:
        """What of the background its studies ask for, as `Background.look` takes it."""
        studies = self.planner.studies
        return {
            "neighbours": any(study.uses_neighbours for study in studies),
            "leaks": any(study.uses_leaks for study in studies),
            "values": any(study.uses_values for study in studies),
        }

    def try_model(self) -> None:
        """Find out whether the model can be trained at all, before anything else takes its time.

        Raises:
            ModelError: it cannot.
        """
        missing = self.executor.missing(self.planner.runs(self.planner.fixed(1)), extras=self.extras)
        if missing:
            self.executor.predicted_seconds(missing[0])


@contextmanager
def set_up(
    task: Task,
    *,
    learner: Learner | None,
    studies: Sequence[str | AbstractStudy],
    seed: int,
    device: str | None,
    out: Path | None,
    workers: Workers,
    keep_weights: bool,
) -> Iterator[Setting]:
    """Bring together what an audit needs; workers end with the context. Nothing is written or trained yet.

    Raises:
        ValueError: studies, device, or workers are not what they have to be, or weights are to be kept nowhere.
    """
    if keep_weights and out is None:
        raise ValueError("Weights are kept in a folder, and there is none. Name one (out=...), or do not keep them.")
    chosen, place = chosen_studies(studies), chosen_device(device)
    store = MemoryStore() if out is None else FolderStore(out)
    extras = Extras(weights=keep_weights)
    with make_executor(task, store=store, device=place, workers=num_workers(workers)) as executor:
        costs = Costs(missing=partial(executor.missing, extras=extras), predicted=executor.predicted_seconds)
        planner = Planner(task=task, learner=learner or default_learner(task), studies=chosen, seed=seed, cost=costs)
        yield Setting(
            planner=planner,
            executor=executor,
            store=store,
            background=Background(task),
            costs=costs,
            extras=extras,
        )


def make_executor(task: Task, *, store: AbstractStore, device: torch.device, workers: int) -> AbstractExecutor:
    """In this process, or in so many others if there is to be more than one."""
    remembered = Remembered.default()
    if workers == 1:
        return LocalExecutor(task, store=store, device=device, remembered=remembered)
    return ProcessExecutor(task, store=store, device=device, workers=workers, remembered=remembered)


def chosen_studies(studies: Sequence[str | AbstractStudy]) -> tuple[AbstractStudy, ...]:
    """Each study once; names become studies.

    Raises:
        UnknownNameError: there is no study of a name.
        ValueError: there is none, or one twice.
    """
    chosen = tuple(STUDIES[study]() if isinstance(study, str) else study for study in studies)
    names = [study.name for study in chosen]
    if not chosen or len(set(names)) < len(names):
        raise ValueError(f"Expected one or more different studies, got {names}. There are: {', '.join(STUDIES)}.")
    return chosen


def num_workers(workers: Workers) -> int:
    """How many processes train.

    >>> num_workers(3)
    3

    Raises:
        ValueError: it is neither a whole number of at least 1 nor "auto".
    """
    if workers == "auto":
        return joblib.cpu_count()
    if not isinstance(cast("object", workers), Integral) or workers < 1:
        raise ValueError(f'Expected workers to be a whole number of at least 1, or "auto", got {workers!r}.')
    return int(workers)


def chosen_device(name: str | None) -> torch.device:
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
