"""Runs that can be trained together, and the tensors they share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor, nn

from byrote.core import DataError, ModelError, derive
from byrote.data import Affine, Task, inclusion, randomise_inputs, randomise_targets, sample_positions
from byrote.models import build
from byrote.records import GaussianInputs, Inputs, RunSpec, Sample, TrueInputs
from byrote.training.inputs import PackedInputs, pack
from byrote.training.layers import has_dropout
from byrote.training.rules import phases

DTYPES = {"float32": torch.float32, "float64": torch.float64}
"""What a recipe's dtype stands for."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """What all runs of a population read, on the device once."""

    task: Task
    """The task, or the part of it that is looked at."""
    inputs: Inputs
    """What was drawn."""
    sample: Sample | None
    """Which part of the whole task this is; None: all of it."""
    train_x: PackedInputs
    test_x: PackedInputs
    test_y: Shaped[Tensor, "test_example"]
    target_mean: float
    """For regression, networks learn (y − mean)/scale; 0 and 1 otherwise."""
    target_scale: float


def training_data(
    task: Task, *, inputs: Inputs, sample: Sample | None, device: torch.device, dtype: torch.dtype
) -> TrainingData:
    """Draw the inputs and put them on the device.

    Args:
        task: the whole task.
        inputs: which transformation of them.
        sample: which part of the task to look at; None: all of it.
        device: where to train.
        dtype: the precision of inputs and, for regression, targets.

    Returns:
        Inputs [example, *task.input_shape]; test targets as class codes or standardised numbers.
    """
    positions = sample_positions(task, sample)
    part = task if sample is None else task.part(train=positions.train, test=positions.test)
    drawn = _draw(part, inputs)
    mean, scale = (part.train.y.mean(), part.train.y.std()) if part.regression else (0.0, 1.0)
    shape = (-1, *part.input_shape)
    test_y = (
        torch.as_tensor((part.test.y - mean) / scale, dtype=dtype) if part.regression else torch.as_tensor(part.test.y)
    )
    packed = partial(
        pack,
        device=device,
        dtype=dtype,
        mean=float(part.normalise.mean.mean()),
        scale=float(part.normalise.scale.mean()),
    )
    return TrainingData(
        task=part,
        inputs=inputs,
        sample=sample,
        train_x=packed(drawn.train.reshape(shape)),
        test_x=packed(drawn.test.reshape(shape)),
        test_y=test_y.to(device),
        target_mean=float(mean),
        target_scale=float(scale),
    )


class _Drawn(NamedTuple):
    """Inputs after the transformation: normalised, or bytes still to be."""

    train: Shaped[np.ndarray, "example ..."]
    test: Shaped[np.ndarray, "test_example ..."]


def _draw(task: Task, inputs: Inputs) -> _Drawn:
    """Transform the inputs; bytes that share one mean and scale stay bytes, at a quarter of the memory."""
    as_bytes = task.train.x.dtype == task.test.x.dtype == np.uint8 and task.normalise.mean.ndim == 0
    if not as_bytes or task.normalise.scale.ndim or isinstance(inputs, GaussianInputs):
        drawn = randomise_inputs(task, inputs)
        return _Drawn(drawn.train, drawn.test)
    if isinstance(inputs, TrueInputs):
        return _Drawn(task.train.x, task.test.x)
    raw = randomise_inputs(replace(task, normalise=Affine()), inputs)
    return _Drawn(raw.train.astype(np.uint8), raw.test.astype(np.uint8))


def make_network(spec: RunSpec, data: TrainingData, *, seed: int) -> nn.Module:
    """A fresh network of a run's learner.

    Raises:
        ModelError: it cannot be made, or the recipe asks for what does not act on it.
    """
    recipe = spec.learner.recipe
    module = build(spec.learner.model, task=data.task, seed=seed, dtype=DTYPES[recipe.dtype])
    asked = [phase.regularisers.dropout for phase in phases(recipe)]
    if any(asked) and not has_dropout(module):
        raise ModelError(
            f"The recipe asks for a dropout rate of {max(rate or 0.0 for rate in asked):g}, but {spec.learner.model} "
            f"has no dropout layer. Add torch.nn.Dropout layers to it, or leave dropout out."
        )
    if data.task.regression and any(phase.regularisers.label_smoothing for phase in phases(recipe)):
        raise ModelError("The recipe asks for label smoothing, but the targets are numbers. Leave it out.")
    for layer in module.modules():  # A constant may be shared between networks; what a training writes to may not.
        layer._buffers.update({name: part if part is None else part.clone() for name, part in layer._buffers.items()})
    return module


class RunTargets(NamedTuple):
    """What each run of a population is trained on."""

    targets: Shaped[Tensor, "run example"]
    """Class codes, or standardised numbers."""
    included: Bool[Tensor, "run example"]
    """Whether the run learns from the example; otherwise its visits are held-out evaluations."""


def run_targets(specs: Sequence[RunSpec], data: TrainingData) -> RunTargets:
    """Draw labels and subsets of every run.

    Raises:
        DataError: a subset is so small that a run has nothing to learn from.
    """
    targets = np.stack([randomise_targets(data.task, spec.labels).targets for spec in specs])
    if data.task.regression:
        targets = (targets - data.target_mean) / data.target_scale
    included = np.stack([inclusion(data.task, spec.subset) for spec in specs])
    if not included.any(1).all():
        raise DataError(
            f"A subset of the {included.shape[1]} training examples is empty. Choose a larger fraction, or bring more "
            f"examples."
        )
    dtype, device = data.train_x.dtype, data.train_x.device
    labels = torch.as_tensor(targets, dtype=dtype if data.task.regression else torch.int64)
    return RunTargets(labels.to(device), torch.as_tensor(included).to(device))


def epoch_order(order: int, *, epoch: int, num_examples: int) -> Int[np.ndarray, "example"]:
    """The order in which an epoch, counted from 0, visits the examples."""
    return np.random.default_rng(derive(order, "order", epoch)).permutation(num_examples)


def epoch_orders(specs: Sequence[RunSpec], *, epoch: int, num_examples: int) -> Int[np.ndarray, "run example"]:
    """As `epoch_order`, for every run."""
    drawn = {order: epoch_order(order, epoch=epoch, num_examples=num_examples) for order in {s.order for s in specs}}
    return np.stack([drawn[spec.order] for spec in specs])
