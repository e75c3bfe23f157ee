"""Train a population: every run a row, every example a column."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from byrote.models import build
from byrote.records import Run, RunSpec
from byrote.training.learn import learn
from byrote.training.networks import AbstractNetworks
from byrote.training.optimise import learning_rate, start
from byrote.training.paths import Path, networks_of, threads
from byrote.training.population import (
    DTYPES,
    TrainingData,
    batch_size,
    batchmates,
    epoch_orders,
    steps_per_epoch,
)
from byrote.training.recording import Recording

OnEpoch = Callable[[int], None]
"""Told after every epoch how many runs have finished one more epoch."""


def train(
    specs: Sequence[RunSpec], data: TrainingData, *, path: Path, on_epoch: OnEpoch = lambda runs: None
) -> list[Run]:
    """Train runs that are alike, `path.num_stacked` at a time.

    An example outside a run's subset is in its batches with weight 0, so the forward pass over it is a held-out
    evaluation. A run does not depend on the runs it is trained with, on their order or on how many are stacked: in
    float64 the numbers are equal to about 1e-10, in float32 rounding sets them apart over hundreds of steps.

    Args:
        specs: runs that differ only in seed, order, labels and subset index.
        data: of the specs' task, inputs, sample and dtype, from `training_data`.
        path: how to train them, from `choose_path`.
        on_epoch: told of every epoch.

    Returns:
        One record per spec, in the order asked for. A run whose loss stops being a number has the status `diverged`
        and does not touch the others.

    Raises:
        ValueError: the specs differ in more than that, or the data are not theirs.
        ModelError: the model fails on a batch.
    """
    if not specs:
        return []
    _check(specs, data, path)
    size = path.num_stacked
    chunks = [specs[begin : begin + size] for begin in range(0, len(specs), size)]
    with threads(path.num_threads):
        return [run for chunk in chunks for run in _train_together(chunk, data, path=path, on_epoch=on_epoch)]


def _check(specs: Sequence[RunSpec], data: TrainingData, path: Path) -> None:
    if len({batchmates(spec) for spec in specs}) > 1:
        raise ValueError("Expected runs that differ only in seed, order, labels and subset index.")
    spec = specs[0]
    wanted = (spec.inputs, spec.sample, DTYPES[spec.learner.recipe.dtype])
    got = (data.inputs, data.sample, data.train_x.dtype)
    if wanted != got:
        raise ValueError(f"Expected training data made for {wanted} (inputs, sample, dtype), got {got}.")
    if path.modes_differ and path.num_stacked > 1:
        raise ValueError("A model whose training mode differs from its evaluation mode is trained one at a time.")


@torch.enable_grad()
def _train_together(specs: Sequence[RunSpec], data: TrainingData, *, path: Path, on_epoch: OnEpoch) -> list[Run]:
    began = time.perf_counter()
    recipe, num_examples = specs[0].learner.recipe, len(data.train_x)
    networks, recording = _networks(specs, data, path), Recording(specs, data)
    state = start(recipe.optimiser, networks.parameters)
    batch = batch_size(specs[0], num_examples=num_examples)
    rate = partial(learning_rate, recipe, steps_per_epoch=steps_per_epoch(specs[0], num_examples=num_examples))
    step = 0
    for epoch in range(recipe.epochs):
        order = torch.as_tensor(epoch_orders(specs, epoch=epoch, num_examples=num_examples)).to(data.train_x.device)
        targets, included = recording.targets.gather(1, order), recording.included.gather(1, order)
        for begin in range(0, num_examples, batch):
            here = slice(begin, begin + batch)
            recorded = learn(
                networks,
                data.train_x[order[:, here]],
                targets=targets[:, here],
                included=included[:, here],
                regression=recording.regression,
                optimiser=recipe.optimiser,
                state=state,
                lr=rate(step=step),
                step=step,
            )
            recording.visit(begin, recorded)
            step += 1
        recording.end_epoch(networks, epoch=epoch, order=order, step=step)
        on_epoch(len(specs))
    recording.end(networks)
    return recording.runs(seconds=(time.perf_counter() - began) / len(specs))


def _networks(specs: Sequence[RunSpec], data: TrainingData, path: Path) -> AbstractNetworks:
    dtype = DTYPES[specs[0].learner.recipe.dtype]
    modules = [build(s.learner.model, task=data.task, seed=s.seed, dtype=dtype) for s in specs]
    return networks_of(path, modules, device=data.train_x.device, seed=specs[0].seed)
