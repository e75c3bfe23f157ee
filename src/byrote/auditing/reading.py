"""What came of what was asked for."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, final

from typing_extensions import override

from byrote.auditing.planner import Planner, probes_of
from byrote.records import NOTHING, Extras, Fit, FitSpec, Run, RunSpec
from byrote.store import AbstractStore
from byrote.studies import Background, Results, StudyBudget


class Kept(NamedTuple):
    """What was asked for, and what of it is there."""

    results: Results
    runs: list[Run]
    fits: list[Fit]
    asked_runs: tuple[RunSpec, ...]
    """Those of the plans, and those that were wanted when these were there."""
    asked_fits: tuple[FitSpec, ...]
    complete: bool


@final
class StoredRuns(Mapping[RunSpec, Run]):
    """Completed runs in a store, each read when somebody asks for it, without probes and weights."""

    def __init__(self, store: AbstractStore) -> None:
        """Look into this store."""
        self._store = store
        self._read: dict[RunSpec, Run | None] = {}

    @override
    def __getitem__(self, spec: RunSpec) -> Run:
        if spec not in self._read:
            run = self._store.read_run(spec, extras=NOTHING) if spec in self._store else None
            self._read[spec] = run if run is not None and run.status == "completed" else None
        found = self._read[spec]
        if found is None:
            raise KeyError(spec)
        return found

    @override
    def __iter__(self) -> Iterator[RunSpec]:
        return (spec for spec, run in self._read.items() if run is not None)

    @override
    def __len__(self) -> int:
        return sum(run is not None for run in self._read.values())


def follow_ups(
    planner: Planner, budgets: Mapping[str, StudyBudget], *, store: AbstractStore, background: Background
) -> list[RunSpec]:
    """Runs beyond the plans that studies want, given what is there by now."""
    runs = StoredRuns(store)
    results = Results(task=planner.task, learner=planner.learner, runs=runs, fits={}, known=background)
    wanted = [study.follow_up(results, budgets[study.name]) for study in planner.studies]
    return list(dict.fromkeys(spec for specs in wanted for spec in specs))


def read(
    planner: Planner,
    budgets: Mapping[str, StudyBudget],
    *,
    store: AbstractStore,
    background: Background,
    extras: Extras,
) -> Kept:
    """Read what the plans, and what is wanted beyond them, left in a store.

    Args:
        planner: whose studies ask.
        budgets: how much each may ask for.
        store: where runs and fits are.
        background: what is known of the task.
        extras: what runs have to have been kept with for the audit to be complete.
    """
    asked = tuple(
        dict.fromkeys([*planner.runs(budgets), *follow_ups(planner, budgets, store=store, background=background)])
    )
    fits_asked = tuple(planner.fits())
    probes = probes_of(planner.plans(budgets))
    wanted = {spec: Extras(probes=tuple(probe.key for probe in probes.get(spec, ()))) for spec in asked}
    runs = [store.read_run(spec, extras=own) for spec, own in wanted.items() if store.has(spec, extras=own)]
    fits = [store.read_fit(spec) for spec in fits_asked if spec in store]
    results = Results(
        task=planner.task,
        learner=planner.learner,
        runs={run.spec: run for run in runs if run.status == "completed"},
        fits={fit.spec: fit for fit in fits},
        diverged=tuple(run for run in runs if run.status == "diverged"),
        known=background,
    )
    whole = all(store.has(spec, extras=replace(extras, probes=own.probes)) for spec, own in wanted.items())
    whole = whole and len(fits) == len(fits_asked)
    return Kept(results, runs, fits, asked, fits_asked, whole)
