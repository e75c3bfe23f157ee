"""The fast path: stacked or one at a time, whichever a few timed steps say."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from byrote.core import ModelError
from byrote.models import build
from byrote.records import RunSpec
from byrote.training.learn import learn
from byrote.training.nature import Nature, inspect_model
from byrote.training.networks import AbstractNetworks, SingleNetwork, StackedNetworks
from byrote.training.optimise import start
from byrote.training.population import DTYPES, TrainingData, batch_size, run_targets

STACKS = (1, 8, 16, 32)
"""Runs stacked at once that are tried; more gain nothing on two cores and delay the first result."""
MEMORY = 2 * 1024**3
"""Bytes that a stack's weights, gradients, moments and trace may take."""
INSPECTED = 8
"""Inputs that are put through a model to see how it may be trained."""
TIMED_STEPS = 4


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
    channels_last: bool = False
    """Images and convolutions with their channels innermost in memory: the same numbers, often sooner on a CPU."""
    num_threads: int | None = None
    """Threads within an operation; None leaves torch's setting. Tiny networks are faster with one."""


def choose_path(data: TrainingData, spec: RunSpec, *, num_runs: int) -> Path:
    """Inspect the model, time a few steps every way it can be trained and take the fastest.

    Args:
        data: what the runs read.
        spec: one of the runs; the others differ from it in seed, order, labels and subset index.
        num_runs: how many there will be.

    Raises:
        ModelError: the model cannot be built, or what it left behind would be silently wrong.
    """
    make = partial(_make, spec, data)
    nature = inspect_model(make, data.train_x[:INSPECTED])
    timed = [
        path._replace(seconds_per_visit=_seconds(path, make, data, spec))
        for path in _candidates(make(0), data, spec, nature, num_runs=num_runs)
    ]
    best = min(timed, key=lambda path: path.seconds_per_visit)
    if best.num_stacked > 1:
        return best
    stacked = [path.seconds_per_visit for path in timed if path.num_stacked > 1]
    ratio = min(stacked, default=math.inf) / best.seconds_per_visit
    faster = f"one at a time is {ratio:.1f} times as fast" if stacked else "there is only one run"
    return best._replace(reason=nature.reason or faster)


def networks_of(path: Path, modules: Sequence[nn.Module], *, device: torch.device, seed: int) -> AbstractNetworks:
    """The modules as the path trains them; `seed` is that of a run trained alone."""
    if path.num_stacked == 1:
        return SingleNetwork(
            modules[0], device=device, modes_differ=path.modes_differ, seed=seed, channels_last=path.channels_last
        )
    return StackedNetworks(modules, device=device)


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """So many threads within an operation, for a while."""
    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)


def _candidates(
    module: nn.Module, data: TrainingData, spec: RunSpec, nature: Nature, *, num_runs: int
) -> Iterator[Path]:
    """Every way worth timing."""
    device = data.train_x.device
    most = min(num_runs, _fitting(module, data, spec)) if nature.stackable else 1
    sizes = sorted({min(size, most) for size in STACKS})
    convolves = data.train_x.ndim == 4 and any(isinstance(layer, nn.Conv2d) for layer in module.modules())
    layouts = (False, True) if convolves and device.type == "cpu" else (False,)
    counts = sorted({1, torch.get_num_threads()}) if device.type == "cpu" else [None]
    for number in counts:
        for layout in layouts:
            yield Path(1, nature.modes_differ, math.inf, "", channels_last=layout, num_threads=number)
        for size in sizes:
            if size > 1:
                yield Path(size, False, math.inf, "", num_threads=number)


def _make(spec: RunSpec, data: TrainingData, seed: int) -> nn.Module:
    return build(spec.learner.model, task=data.task, seed=seed, dtype=DTYPES[spec.learner.recipe.dtype])


def _fitting(module: nn.Module, data: TrainingData, spec: RunSpec) -> int:
    """Runs that fit into `MEMORY`: weight, gradient and two moments; two traces; outputs and what is made of them."""
    weights = sum(weight.numel() for weight in module.parameters())
    trace = len(data.train_x) * (2 * spec.learner.recipe.epochs + 4 * data.task.num_outputs)
    return max(1, MEMORY // (data.train_x.element_size() * (4 * weights + trace)))


def _seconds(path: Path, make: Callable[[int], nn.Module], data: TrainingData, spec: RunSpec) -> float:
    """The least time of a step, per run and example, after one that is not counted; infinite when the path fails."""
    batch = batch_size(spec, num_examples=len(data.train_x))
    modules = [make(seed) for seed in range(path.num_stacked)]
    networks = networks_of(path, modules, device=data.train_x.device, seed=0)
    drawn = run_targets([spec], data)
    targets, included = (part[:, :batch].expand(path.num_stacked, -1) for part in drawn)
    order = torch.arange(batch, device=data.train_x.device).expand(path.num_stacked, -1)
    optimiser = spec.learner.recipe.optimiser
    state = start(optimiser, networks.parameters)
    times: list[float] = []
    with torch.enable_grad(), threads(path.num_threads):
        for step in range(1 + TIMED_STEPS):
            began = time.perf_counter()
            try:
                learn(
                    networks,
                    data.train_x[order],
                    targets=targets,
                    included=included,
                    regression=bool(data.task.regression),
                    optimiser=optimiser,
                    state=state,
                    lr=optimiser.lr,
                    step=step,
                )
            except ModelError:
                if path.channels_last:  # A module that calls view() may need its channels where they were.
                    return math.inf
                raise
            if data.train_x.device.type == "cuda":
                torch.cuda.synchronize(data.train_x.device)
            times.append(time.perf_counter() - began)
    return min(times[1:]) / batch / path.num_stacked
