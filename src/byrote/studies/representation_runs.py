"""What the study of representation trains and fits, and what came of it."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float

from byrote.core import derive
from byrote.data import Task, randomise_targets
from byrote.probing import OUTPUTS, Examined, FeatureWorth, KernelSpeed, Representations, TangentKernels, drawn_places
from byrote.records import (
    Baseline,
    CorruptedLabels,
    FitSpec,
    Forest,
    KernelMachine,
    Labels,
    Learner,
    Run,
    RunSpec,
    TrueLabels,
)
from byrote.studies.study import Results, StudyBudget, heldout_quality, run_seed, sampled
from byrote.studies.watching import UNSEEN, Watched, watched
from byrote.training import AbstractProbe, Given, batches

STUDY = "representation"
TRUE, RANDOM = "true", "random"
MACHINES: Mapping[str, tuple[str, Baseline]] = {
    "forest": ("forest", Forest()),
    "gaussian": ("Gaussian kernel machine", KernelMachine(kernel="gaussian")),
    "laplacian": ("Laplacian kernel machine", KernelMachine(kernel="laplacian")),
}
"""By what probes call them: their names, and what they are."""
HELDOUT = Examined(num_batches=1, batch_size=256)
TANGENT = Examined(num_batches=1, batch_size=64)
NUM_BETWEEN = 3
"""Moments between the second epoch and the last but one."""
AS_LONG = {TRUE: 3, RANDOM: 1}
"""Trainings of the same network that measuring takes as long as. Measured on digits."""


@final
class Asked(NamedTuple):
    """What one kind of labels is asked."""

    layers: Representations
    tangent: TangentKernels
    worth: FeatureWorth | None
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
        return [seen.reason for seen in (self.layers, self.tangent, self.worth, self.speed) if seen.reason]


@final
class Fits(NamedTuple):
    """Machines that were given the inputs: how good each is on held-out examples, and what it fits, by seed."""

    heldout: Mapping[str, Mapping[int, Float[np.ndarray, "example"]]]
    random_fit: Mapping[int, float]
    """Share of random labels that a forest fits."""


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


def fit_specs(task: Task, budget: StudyBudget) -> dict[str, tuple[FitSpec, ...]]:
    """Machines that are given the inputs, a fit for every seed; the forest on random labels, too."""
    seeds = [run_seed(budget, index) for index in range(budget.runs)]
    found = {
        name: tuple(
            FitSpec(task=task.fingerprint, baseline=baseline, seed=seed, sample=budget.sample, evaluate_train=False)
            for seed in seeds
        )
        for name, (_, baseline) in MACHINES.items()
    }
    random = tuple(
        FitSpec(
            task=task.fingerprint,
            baseline=Forest(),
            seed=seed,
            labels=_labels(RANDOM, seed),
            sample=budget.sample,
        )
        for seed in seeds
    )
    return found | {RANDOM: random}


def asked(kind: str, task: Task, learner: Learner, budget: StudyBudget) -> Asked:
    """What networks of one kind of labels have to compute."""
    ends = epoch_ends(task, learner, budget)
    at, total = Given(steps=tuple(ends[epoch] for epoch in looked_at(len(ends) - 1))), ends[-1]
    return Asked(
        layers=Representations(at=at, heldout=HELDOUT, optional=True),
        tangent=TangentKernels(at=at, examined=TANGENT, optional=True),
        worth=FeatureWorth(at=Given(steps=(0, total)), optional=True) if kind == TRUE else None,
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
    ((0, 1, 2, 4, 9, 19, 39, 40), (0, 1, 2))
    """
    between = np.geomspace(2, max(2, epochs - 1), NUM_BETWEEN + 2)[1:-1].astype(int).tolist() if epochs > 3 else []
    return tuple(sorted({0, *(epoch for epoch in (1, 2, *between, epochs - 1, epochs) if 0 < epoch <= epochs)}))


def represented(kind: str, results: Results, budget: StudyBudget) -> Represented:
    """What came of the networks of one kind of labels."""
    task, learner = results.task, results.learner
    runs = results.completed(run_specs(kind, task, learner, budget))
    own = asked(kind, task, learner, budget)
    return Represented(
        runs={run.spec.seed: run for run in runs},
        layers=watched(runs, own.layers),
        tangent=watched(runs, own.tangent),
        worth=watched(runs, own.worth) if own.worth else UNSEEN,
        speed=watched(runs, own.speed) if own.speed else UNSEEN,
    )


def fitted(part: Task, results: Results, budget: StudyBudget) -> Fits:
    """What came of the machines that were given the inputs."""
    specs = fit_specs(results.task, budget)
    heldout = {
        name: {
            spec.seed: heldout_quality(part, results.fits[spec].test_outputs)
            for spec in specs[name]
            if spec in results.fits
        }
        for name in MACHINES
    }
    random: dict[int, float] = {}
    for spec in specs[RANDOM]:
        outputs = results.fits[spec].train_outputs if spec in results.fits else None
        if outputs is not None:
            random[spec.seed] = _fit(part, spec, outputs)
    return Fits(heldout, random)


def worth_quality(part: Task, own: Represented, machine: str, layer: str, *, moment: int) -> dict[int, np.ndarray]:
    """How good a machine is on held-out examples that is given a layer's features, by seed.

    Args:
        part: the task, or the part of it that was looked at.
        own: what networks say.
        machine: one of `MACHINES`.
        layer: a hidden one.
        moment: 0 before training, −1 after it.
    """
    scale, mean = (float(part.train.y.std()), float(part.train.y.mean())) if part.regression else (1.0, 0.0)
    said = own.worth.of(f"{machine}:{layer}")
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
    return TrueLabels() if kind == TRUE else CorruptedLabels(fraction=1.0, draw=derive(seed, "random labels"))


def _fit(part: Task, spec: FitSpec, outputs: Float[np.ndarray, "example output"]) -> float:
    """Accuracy, or R², on the targets that it was fitted to."""
    targets = randomise_targets(part, spec.labels).targets
    if part.regression:
        return 1 - float(np.square(outputs[:, 0] - targets).mean() / targets.var())
    own = np.arange(outputs.shape[1]) == targets[:, None]
    return float((outputs[own] > np.where(own, -np.inf, outputs).max(1)).mean())
