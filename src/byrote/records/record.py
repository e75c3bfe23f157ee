"""An audit as it is stored and drawn: everything the report needs, and nothing that needs torch."""

from dataclasses import dataclass
from typing import Literal, final

from byrote.records.figures import Figure
from byrote.records.findings import Finding
from byrote.records.learner import Learner
from byrote.records.provenance import Provenance

SCHEMA = 1
"""Raised when a stored record changes shape. Readers upgrade older ones and refuse newer ones."""


@final
@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """A task in a few numbers."""

    name: str
    fingerprint: str
    modality: str
    num_train: int
    num_test: int
    classes: tuple[str, ...]
    """Empty for regression."""
    chance: float
    """What always giving the commonest training answer scores; 0 for regression."""
    input_shape: tuple[int, ...]
    notes: tuple[str, ...]
    """What was done to the data on the way in."""


@final
@dataclass(frozen=True, kw_only=True)
class Section:
    """One study's part of a report."""

    study: str
    """`random-data`"""
    title: str
    """The question, as a person would ask it: `What if it is trained on random data?`"""
    summary: str
    """The answer in two or three plain sentences with their numbers."""
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    """What was approximated, sampled or left out, and why."""


@final
@dataclass(frozen=True, kw_only=True)
class Cost:
    """What it took."""

    seconds: float
    """Wall time of this call."""
    num_runs: int
    """Trainings behind the findings."""
    num_reused: int
    """Of these, read from disk."""
    training_seconds: float
    """Wall time of all trainings behind the findings, whenever they ran."""
    num_fits: int = 0
    """Fits of baselines."""
    fitting_seconds: float = 0.0
    planned_runs: int = 0
    """Trainings that were asked for; more than num_runs when the budget or a person stopped it."""
    num_workers: int = 1
    """Processes that trained at the same time."""
    probing_seconds: float = 0.0
    """Of the trainings' wall time, what measurements on the way (probes) took."""
    failures: tuple[str, ...] = ()
    """What went wrong without ending the audit, in plain words: workers that died, runs that were given up."""


@final
@dataclass(frozen=True, kw_only=True)
class Record:
    """A whole audit."""

    title: str
    task: TaskCard
    learner: Learner
    verdict: str
    """One paragraph of plain words with numbers and intervals."""
    sections: tuple[Section, ...]
    cost: Cost
    provenance: Provenance
    complete: bool
    """False when it was stopped, by a person or a budget, before all planned runs were there."""
    schema: Literal[1] = SCHEMA
