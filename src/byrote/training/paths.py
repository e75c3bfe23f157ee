"""The fast path: stacked or one at a time, whichever a few timed steps say."""

import time
from typing import NamedTuple

import torch
from torch import nn

from byrote.models import build
from byrote.records import RunSpec
from byrote.training.losses import example_losses, margins
from byrote.training.nature import inspect_module
from byrote.training.networks import AbstractNetworks, SingleNetwork, StackedNetworks
from byrote.training.optimise import start, update
from byrote.training.population import DTYPES, TrainingData, batch_size

LARGEST_STACK = 32
"""Runs stacked at once at most; more gain nothing on two cores and delay the first result."""
MEMORY = 2 * 1024**3
"""Bytes that a stack's weights, gradients, moments and trace may take."""
TIMED_STEPS = 3


class Path(NamedTuple):
    """How to train a population."""

    num_stacked: int
    """Runs trained at once; 1 is one at a time."""
    modes_differ: bool
    seconds_per_visit: float
    """Measured: one run, one example, forward and backward."""
    reason: str
    """Why it is not stacked; empty when it is."""


def choose_path(data: TrainingData, spec: RunSpec, *, num_runs: int) -> Path:
    """Time a few steps both ways and take the faster."""
    dtype = DTYPES[spec.learner.recipe.dtype]
    device = data.train_x.device
    modules = [build(spec.learner.model, task=data.task, seed=seed, dtype=dtype) for seed in range(min(num_runs, 4))]
    nature = inspect_module(modules[0].to(device), data.train_x[:8])
    batch = batch_size(spec, num_examples=len(data.train_x))
    alone = _seconds(
        SingleNetwork(modules[-1], device=device, modes_differ=nature.modes_differ, seed=0), data, spec, batch
    )
    if not nature.stackable or num_runs == 1:
        return Path(1, nature.modes_differ, alone / batch, nature.reason or "there is only one run")
    most = min(LARGEST_STACK, _fitting(modules[0], data, spec))
    timed = min(num_runs, most)
    stack = [build(spec.learner.model, task=data.task, seed=seed, dtype=dtype) for seed in range(timed)]
    together = _seconds(StackedNetworks(stack, device=device), data, spec, batch) / timed
    if together < alone:
        return Path(most, False, together / batch, "")
    return Path(1, False, alone / batch, f"one at a time is {together / alone:.1f} times as fast")


def _fitting(module: nn.Module, data: TrainingData, spec: RunSpec) -> int:
    weights = sum(weight.numel() for weight in module.parameters())
    trace = len(data.train_x) * (2 * spec.learner.recipe.epochs + 2 * data.task.num_outputs)
    return max(1, MEMORY // (8 * (4 * weights + trace)))


def _seconds(networks: AbstractNetworks, data: TrainingData, spec: RunSpec, batch: int) -> float:
    """The median time of a step, after one that is not counted."""
    x = data.train_x[:batch]
    regression = bool(data.task.regression)
    num_runs = len(networks.weight_norms())
    y = torch.as_tensor(data.task.train.y[:batch]).to(x.device)
    targets = (y.to(x.dtype) if regression else y).expand(num_runs, -1)
    weights = torch.ones(num_runs, len(x), device=x.device, dtype=x.dtype)
    state = start(spec.learner.recipe.optimiser, networks.parameters)
    times: list[float] = []
    for step in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        outputs, recorded = networks.training_logits(x, included=weights, step=step)
        losses = example_losses(outputs, targets, regression=regression)
        margins(recorded, targets, regression=regression)
        gradients = torch.autograd.grad((losses * weights).mean(1).sum(), networks.parameters)
        update(
            spec.learner.recipe.optimiser,
            parameters=networks.parameters,
            gradients=list(gradients),
            state=state,
            lr=1e-6,
            step=step + 1,
        )
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[TIMED_STEPS // 2]
