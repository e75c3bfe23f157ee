"""What the study of representation trains and fits, and what came of it."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple, final

import numpy as np

from byrote.core import derive
from byrote.data import Task
from byrote.probing import (
    INPUTS,
    OUTPUTS,
    Examined,
    FeatureWorth,
    KernelSpeed,
    Representations,
    TangentKernels,
    drawn_places,
)
from byrote.records import (
    CorruptedLabels,
    Labels,
    Learner,
    Run,
    RunSpec,
    TrueAfterRandom,
    TrueLabels,
)
from byrote.studies.study import Results, StudyBudget, heldout_quality, run_seed, sampled
from byrote.studies.watching import Watched, watched
from byrote.training import AbstractProbe, Given, batches

STUDY = "representation"
TRUE, RANDOM, AFTER, RESCALED = "true", "random", "after", "rescaled"
KINDS = (TRUE, RANDOM, AFTER, RESCALED)
"""Of what networks learn: true labels, random ones, and true ones after those, as they are or with the lengths of
weights restored."""
MACHINES: Mapping[str, str] = {
    "forest": "forest",
    "gaussian": "Gaussian kernel machine",
    "laplacian": "Laplacian kernel machine",
}
"""By what probes call them."""
HELDOUT = Examined(num_batches=1, batch_size=256)
TANGENT = Examined(num_batches=1, batch_size=64)
NUM_BETWEEN = 3
"""Moments between the second epoch and the last but one."""
AS_LONG = {TRUE: 3, RANDOM: 1, AFTER: 1, RESCALED: 1}
"""Trainings of the same network that measuring, or the training before, takes as long as. Measured on digits."""


@final
class Asked(NamedTuple):
    """What one kind of labels is asked."""

    layers: Representations
    tangent: TangentKernels
    worth: FeatureWorth | None
    inputs: FeatureWorth | None
    """As `worth`, of the inputs."""
    speed: KernelSpeed | None

    @property
    def probes(self) -> tuple[AbstractProbe, ...]:
        """All of them."""
        return tuple(probe for probe in self if probe is not None)


@final
class Represented(NamedTuple):
    """What networks of one kind of labels say, by seed."""

    runs: Mapping[int, Run]
    layers: Watched
    tangent: Watched
    worth: Watched
    inputs: Watched
    speed: Watched

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers, the outputs last."""
        return tuple(key.removeprefix("probe:") for key in self.layers.values if key.startswith("probe:"))

    @property
    def hidden(self) -> tuple[str, ...]:
        """Without the outputs."""
        return tuple(name for name in self.names if name != OUTPUTS)

    @property
    def reasons(self) -> list[str]:
        """Why something could not be measured."""
        return [seen.reason for seen in (self.layers, self.tangent, self.worth, self.inputs, self.speed) if seen.reason]


def run_specs(kind: str, task: Task, learner: Learner, budget: StudyBudget) -> tuple[RunSpec, ...]:
    """The networks of one kind of labels, a seed after the other; random labels are drawn anew for each."""
    own = sampled(learner, task, budget.sample)
    specs: list[RunSpec] = []
    for index in range(budget.runs):
        seed = run_seed(budget, index)
        specs.append(
            RunSpec(
                task=task.fingerprint,
                learner=own,
                seed=seed,
                order=seed,
                labels=_labels(kind, seed),
                sample=budget.sample,
            )
        )
    return tuple(specs)


def asked(kind: str, task: Task, learner: Learner, budget: StudyBudget) -> Asked:
    """What networks of one kind of labels have to compute."""
    ends = epoch_ends(task, learner, budget)
    at, total = Given(steps=tuple(ends[epoch] for epoch in looked_at(len(ends) - 1))), ends[-1]
    return Asked(
        layers=Representations(at=at, heldout=HELDOUT, optional=True),
        tangent=TangentKernels(at=at, examined=TANGENT, optional=True),
        worth=FeatureWorth(at=Given(steps=(0, total)), optional=True) if kind == TRUE else None,
        inputs=FeatureWorth(at=Given(steps=(0,)), inputs=True, optional=True) if kind == TRUE else None,
        speed=KernelSpeed(at=Given(steps=(0,)), optional=True) if kind == RANDOM else None,
    )


def epoch_ends(task: Task, learner: Learner, budget: StudyBudget) -> list[int]:
    """Steps taken before the first epoch, after it, and so on."""
    number = len(task.train) if budget.sample is None else min(budget.sample.train, len(task.train))
    own = sampled(learner, task, budget.sample)
    spec = RunSpec(task=task.fingerprint, learner=own, seed=0, order=0)
    return [0, *accumulate(len(epoch) for epoch in batches(spec, num_examples=number))]


def looked_at(epochs: int) -> tuple[int, ...]:
    """After which epochs: the first two and the last two, and a few between, closer together early.

    >>> looked_at(40), looked_at(2)
    ((0, 1, 2, 4, 8, 18, 39, 40), (0, 1, 2))
    """
    between = np.geomspace(2, max(2, epochs - 1), NUM_BETWEEN + 2)[1:-1].astype(int).tolist() if epochs > 3 else []
    return tuple(sorted({0, *(epoch for epoch in (1, 2, *between, epochs - 1, epochs) if 0 < epoch <= epochs)}))


def probes_of(kind: str, task: Task, learner: Learner, budget: StudyBudget) -> tuple[AbstractProbe, ...]:
    """What networks of one kind have to compute; of those that learn true labels after random ones curves suffice."""
    return asked(kind, task, learner, budget).probes if kind in (TRUE, RANDOM) else ()


def finished(kind: str, results: Results, budget: StudyBudget) -> dict[int, Run]:
    """The networks of one kind, by seed."""
    runs = results.completed(run_specs(kind, results.task, results.learner, budget))
    return {run.spec.seed: run for run in runs}


def represented(kind: str, results: Results, budget: StudyBudget) -> Represented:
    """What came of the networks of one kind of labels."""
    task, learner = results.task, results.learner
    found = finished(kind, results, budget)
    runs, own = list(found.values()), asked(kind, task, learner, budget)
    return Represented(
        runs=found,
        layers=watched(runs, own.layers),
        tangent=watched(runs, own.tangent),
        worth=watched(runs, own.worth),
        inputs=watched(runs, own.inputs),
        speed=watched(runs, own.speed),
    )


def worth_quality(part: Task, own: Represented, machine: str, layer: str, *, moment: int) -> dict[int, np.ndarray]:
    """How good a machine is on held-out examples that is given a layer's features, by seed.

    Args:
        part: the task, or the part of it that was looked at.
        own: what networks say.
        machine: one of `MACHINES`.
        layer: a hidden one, or that of the inputs.
        moment: 0 before training, −1 after it.
    """
    scale, mean = (float(part.train.y.std()), float(part.train.y.mean())) if part.regression else (1.0, 0.0)
    said = (own.inputs if layer == INPUTS else own.worth).of(f"{machine}:{layer}")
    return {seed: heldout_quality(part, answers[moment] * scale + mean) for seed, answers in said.items()}


def probed_groups(part: Task) -> np.ndarray | None:
    """The groups of the held-out examples that linear probes look at."""
    if part.test.groups is None:
        return None
    return part.test.groups[drawn_places(len(part.test), examined=HELDOUT, purpose="held out").flatten()]


def longer(spec: RunSpec, kind: str) -> tuple[RunSpec, ...]:
    """Trainings that take as long as what a network computes on the way."""
    return tuple(replace(spec, order=spec.order + more) for more in range(1, AS_LONG[kind] + 1))


def _labels(kind: str, seed: int) -> Labels:
    draw = derive(seed, "random labels")
    if kind in (AFTER, RESCALED):
        return TrueAfterRandom(draw=draw, rescaled=kind == RESCALED)
    return TrueLabels() if kind == TRUE else CorruptedLabels(fraction=1.0, draw=draw)
