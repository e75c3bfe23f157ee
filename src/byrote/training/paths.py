"""The fast path: stacked or one at a time, whichever a few timed steps say."""

import time
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from byrote.models import build
from byrote.records import RunSpec
from byrote.training.learn import learn
from byrote.training.nature import inspect_model
from byrote.training.networks import AbstractNetworks, SingleNetwork, StackedNetworks
from byrote.training.optimise import start
from byrote.training.population import DTYPES, TrainingData, batch_size, run_targets

LARGEST_STACK = 32
"""Runs stacked at once at most; more gain nothing on two cores and delay the first result."""
MEMORY = 2 * 1024**3
"""Bytes that a stack's weights, gradients, moments and trace may take."""
INSPECTED = 8
"""Inputs that are put through a model to see how it may be trained."""
TIMED_STEPS = 3


class Path(NamedTuple):
    """How to train a population."""

    num_stacked: int
    """Runs trained at once; 1 is one at a time."""
    modes_differ: bool
    """Whether a training step behaves differently from an evaluation (dropout, BatchNorm)."""
    seconds_per_visit: float
    """Measured: one run, one example, forward and backward."""
    reason: str
    """Why it is not stacked; empty when it is."""


def choose_path(data: TrainingData, spec: RunSpec, *, num_runs: int) -> Path:
    """Inspect the model, time a few steps both ways and take the faster.

    Args:
        data: what the runs read.
        spec: one of the runs; the others differ from it in seed, labels and subset index.
        num_runs: how many there will be.

    Raises:
        ModelError: the model cannot be built, or what it left behind would be silently wrong.
    """
    device = data.train_x.device
    make = partial(_make, spec, data)
    nature = inspect_model(make, data.train_x[:INSPECTED])
    alone = _seconds(SingleNetwork(make(0), device=device, modes_differ=nature.modes_differ, seed=0), data, spec)
    if not nature.stackable or num_runs == 1:
        return Path(1, nature.modes_differ, alone, nature.reason or "there is only one run")
    most = min(LARGEST_STACK, _fitting(make(0), data, spec))
    timed = min(num_runs, most)
    together = _seconds(StackedNetworks([make(seed) for seed in range(timed)], device=device), data, spec) / timed
    if together < alone:
        return Path(most, False, together, "")
    return Path(1, False, alone, f"one at a time is {together / alone:.1f} times as fast")


def _make(spec: RunSpec, data: TrainingData, seed: int) -> nn.Module:
    return build(spec.learner.model, task=data.task, seed=seed, dtype=DTYPES[spec.learner.recipe.dtype])


def _fitting(module: nn.Module, data: TrainingData, spec: RunSpec) -> int:
    """Runs that fit into `MEMORY`: weight, gradient and two moments; two traces; outputs and what is made of them."""
    weights = sum(weight.numel() for weight in module.parameters())
    trace = len(data.train_x) * (2 * spec.learner.recipe.epochs + 4 * data.task.num_outputs)
    return max(1, MEMORY // (data.train_x.element_size() * (4 * weights + trace)))


def _seconds(networks: AbstractNetworks, data: TrainingData, spec: RunSpec) -> float:
    """The median time of a step per example, after one step that is not counted."""
    batch = batch_size(spec, num_examples=len(data.train_x))
    num_runs = len(networks.weight_norms())
    drawn = run_targets([spec], data)
    targets, included = (part[:, :batch].expand(num_runs, -1) for part in drawn)
    optimiser = spec.learner.recipe.optimiser
    state = start(optimiser, networks.parameters)
    times: list[float] = []
    for step in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        with torch.enable_grad():
            learn(
                networks,
                data.train_x[:batch],
                targets=targets,
                included=included,
                regression=bool(data.task.regression),
                optimiser=optimiser,
                state=state,
                lr=optimiser.lr,
                step=step,
            )
        if data.train_x.device.type == "cuda":
            torch.cuda.synchronize(data.train_x.device)
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[TIMED_STEPS // 2] / batch
