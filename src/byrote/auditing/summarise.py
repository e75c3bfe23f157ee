"""From runs to a record."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from byrote.auditing.reading import Kept, read
from byrote.auditing.setting import Setting
from byrote.auditing.verdict import verdict
from byrote.data import Task
from byrote.records import Cost, Kind, Record, RunSpec, TaskCard, provenance
from byrote.scoring import Table, kind_notes
from byrote.studies import StudyBudget


class Summary(NamedTuple):
    """A record, the scores of examples by every study that gives some, and what one says of their labels."""

    record: Record
    examples: pa.Table | None
    labels: pa.Table | None


class Story(NamedTuple):
    """What a record tells besides what the runs say."""

    began: float
    """When it began, in seconds of `time.monotonic`."""
    new: Collection[RunSpec]
    """Runs that were not there when it began."""
    failures: tuple[str, ...]
    """What went wrong without ending it."""


def summarise(setting: Setting, budgets: Mapping[str, StudyBudget], *, story: Story) -> Summary:
    """Let every study answer from what is there."""
    planner, executor = setting.planner, setting.executor
    kept = read(planner, budgets, store=setting.store, background=setting.background, extras=setting.extras)
    outcomes = [study.summarise(kept.results, budgets[study.name]) for study in planner.studies]
    sections = tuple(outcome.section for outcome in outcomes)
    record = Record(
        title=f"{planner.task.name}: what {planner.learner.model} learnt, and what it knows by rote",
        task=_card(planner.task),
        learner=planner.learner,
        verdict=verdict(sections),
        sections=sections,
        cost=_cost(kept, story, num_workers=executor.num_workers),
        provenance=provenance(
            seed=planner.seed,
            device=str(executor.device),
            dtype=planner.learner.recipe.dtype,
            num_threads=torch.get_num_threads() if executor.num_workers == 1 else 1,
        ),
        complete=kept.complete,
    )
    labels = next((outcome.labels for outcome in outcomes if outcome.labels is not None), None)
    kind = "numbers" if planner.task.regression else "classes"
    return Summary(record, _side_by_side([outcome.examples for outcome in outcomes], kind=kind), labels)


def _side_by_side(tables: Sequence[pa.Table | None], *, kind: Kind) -> pa.Table | None:
    """Every column of each, once: all have a row for every training example, in the task's order. Its notes say why
    columns are null that such targets cannot have.
    """
    columns = {name: table[name] for table in tables[::-1] if table is not None for name in table.column_names}
    order = dict.fromkeys(name for table in tables if table is not None for name in table.column_names)
    if not columns:
        return None
    whole = pa.table({name: columns[name] for name in order})
    return Table(whole).with_notes(kind_notes(whole, kind=kind)).arrow


def _cost(kept: Kept, story: Story, *, num_workers: int) -> Cost:
    num_trained = sum(run.spec in story.new for run in kept.runs)
    return Cost(
        seconds=time.monotonic() - story.began,
        num_runs=len(kept.runs),
        num_reused=len(kept.runs) - num_trained,
        training_seconds=sum(run.seconds for run in kept.runs),
        num_fits=len(kept.fits),
        fitting_seconds=sum(fit.seconds for fit in kept.fits),
        planned_runs=len(kept.asked_runs),
        num_workers=num_workers,
        probing_seconds=sum(run.probing_seconds for run in kept.runs),
        failures=story.failures,
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
