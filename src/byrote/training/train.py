"""Train a population: every run a row, every example a column."""

import math
import time
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from byrote.models import build
from byrote.records import Run, RunCurves, RunSpec, Trace
from byrote.training.losses import error_norms, example_losses, margins, score
from byrote.training.networks import AbstractNetworks, SingleNetwork, StackedNetworks
from byrote.training.optimise import learning_rate, start, update
from byrote.training.paths import Path
from byrote.training.population import (
    DTYPES,
    TrainingData,
    batch_size,
    batchmates,
    epoch_order,
    run_targets,
    steps_per_epoch,
)

EVALUATION_BATCH = 2048

OnEpoch = Callable[[int], None]
"""Told after every epoch how many runs have finished one more epoch."""


def train(
    specs: Sequence[RunSpec], data: TrainingData, *, path: Path, on_epoch: OnEpoch = lambda runs: None
) -> list[Run]:
    """Train runs that share batches, `path.num_stacked` at a time, and return them in the order asked for.

    Raises:
        ValueError: the specs do not share batches.
    """
    if len({batchmates(spec) for spec in specs}) > 1:
        raise ValueError("Expected runs that differ only in seed, labels and subset index.")
    size = path.num_stacked
    chunks = [specs[begin : begin + size] for begin in range(0, len(specs), size)]
    return [run for chunk in chunks for run in _train_together(chunk, data, path=path, on_epoch=on_epoch)]


def _train_together(specs: Sequence[RunSpec], data: TrainingData, *, path: Path, on_epoch: OnEpoch) -> list[Run]:
    began = time.perf_counter()
    spec = specs[0]
    recipe, num_examples = spec.learner.recipe, len(data.train_x)
    networks, record = _networks(specs, data, path), _Recording(specs, data, modes_differ=path.modes_differ)
    state = start(recipe.optimiser, networks.parameters)
    batch = batch_size(spec, num_examples=num_examples)
    per_epoch = steps_per_epoch(spec, num_examples=num_examples)
    step = 0
    for epoch in range(recipe.epochs):
        order = torch.as_tensor(epoch_order(spec, epoch=epoch, num_examples=num_examples)).to(data.train_x.device)
        for begin in range(0, num_examples, batch):
            chosen = order[begin : begin + batch]
            targets, included = record.targets[:, chosen], record.included[:, chosen]
            outputs, recorded = networks.training_logits(data.train_x[chosen], included=included, step=step)
            losses = example_losses(outputs, targets, regression=record.regression)
            mean = (losses * included).sum(1) / included.sum(1).clamp(min=1)
            gradients = list(torch.autograd.grad(mean.sum(), networks.parameters))
            record.visit(begin, losses=losses.detach(), recorded=recorded, targets=targets, epoch=epoch)
            lr = learning_rate(
                recipe.optimiser.lr,
                recipe.schedule,
                step=step,
                num_steps=recipe.epochs * per_epoch,
                steps_per_epoch=per_epoch,
            )
            step += 1
            update(recipe.optimiser, parameters=networks.parameters, gradients=gradients, state=state, lr=lr, step=step)
        record.end_epoch(networks, epoch=epoch, order=order, step=step)
        on_epoch(len(specs))
    record.end(networks)
    return record.runs(seconds=(time.perf_counter() - began) / len(specs))


def _networks(specs: Sequence[RunSpec], data: TrainingData, path: Path) -> AbstractNetworks:
    recipe, device = specs[0].learner.recipe, data.train_x.device
    modules = [build(s.learner.model, task=data.task, seed=s.seed, dtype=DTYPES[recipe.dtype]) for s in specs]
    if path.num_stacked == 1:
        return SingleNetwork(modules[0], device=device, modes_differ=path.modes_differ, seed=specs[0].seed)
    return StackedNetworks(modules, device=device)


@torch.no_grad()
def _evaluate(networks: AbstractNetworks, x: Float[Tensor, "example ..."]) -> Float[Tensor, "run example output"]:
    return torch.cat([networks.logits(part) for part in x.split(EVALUATION_BATCH)], dim=1)


@final
class _Recording:
    """What the runs of one population leave behind, while it grows."""

    def __init__(self, specs: Sequence[RunSpec], data: TrainingData, *, modes_differ: bool) -> None:
        self.specs, self.data, self._modes_differ = specs, data, modes_differ
        self.targets, self.included = run_targets(specs, data)
        epochs, (num_runs, num_examples) = specs[0].learner.recipe.epochs, self.targets.shape
        self.regression = bool(data.task.regression)
        dtype, device = data.train_x.dtype, data.train_x.device
        self._loss = torch.empty(epochs + 1, num_runs, num_examples, dtype=dtype, device=device)
        self._margin = torch.empty_like(self._loss)
        self._early_epoch = math.ceil(epochs / 10) - 1
        self._early_error = torch.empty(num_runs, num_examples, dtype=dtype, device=device)
        self._visits = torch.empty(3, num_runs, num_examples, dtype=dtype, device=device)
        self._curves = np.full((6, num_runs, epochs), np.nan)
        self._outputs: tuple[Tensor, Tensor] | None = None

    def visit(
        self,
        begin: int,
        *,
        losses: Float[Tensor, "run batch"],
        recorded: Float[Tensor, "run batch output"],
        targets: Shaped[Tensor, "run batch"],
        epoch: int,
    ) -> None:
        """Keep what the networks said of a batch before they learnt from it, in the order of the visit."""
        end = begin + losses.shape[1]
        if self._modes_differ:
            losses = example_losses(recorded, targets, regression=self.regression)
        self._visits[0, :, begin:end] = losses
        self._visits[1, :, begin:end] = margins(recorded, targets, regression=self.regression)
        if epoch == self._early_epoch:
            self._visits[2, :, begin:end] = error_norms(recorded, targets, regression=self.regression)

    def end_epoch(self, networks: AbstractNetworks, *, epoch: int, order: Int[Tensor, "example"], step: int) -> None:
        """Put the visits back in the examples' own order, evaluate, and add a point to every curve."""
        self._loss[epoch][:, order] = self._visits[0]
        self._margin[epoch][:, order] = self._visits[1]
        if epoch == self._early_epoch:
            self._early_error[:, order] = self._visits[2]
        test = _evaluate(networks, self.data.test_x)
        test_targets = self.data.test_y.expand(len(test), -1)
        test_loss = example_losses(test, test_targets, regression=self.regression)
        rows = (
            torch.full((len(test),), step),
            (self._loss[epoch] * self.included).sum(1) / self.included.sum(1).clamp(min=1),
            self._score(self._loss[epoch], self._margin[epoch], self.targets, self.included),
            test_loss.mean(1),
            self._score(
                test_loss,
                margins(test, test_targets, regression=self.regression),
                test_targets,
                torch.ones_like(test_loss),
            ),
            networks.weight_norms(),
        )
        self._curves[:, :, epoch] = torch.stack([row.double().cpu() for row in rows]).numpy()

    def _score(
        self,
        losses: Float[Tensor, "run example"],
        margin: Float[Tensor, "run example"],
        targets: Shaped[Tensor, "run example"],
        weights: Float[Tensor, "run example"],
    ) -> Float[Tensor, "run"]:
        return score(losses=losses, margin=margin, targets=targets, weights=weights, regression=self.regression)

    def end(self, networks: AbstractNetworks) -> None:
        """Evaluate the trained networks on everything."""
        outputs = _evaluate(networks, self.data.train_x)
        self._loss[-1] = example_losses(outputs, self.targets, regression=self.regression)
        self._margin[-1] = margins(outputs, self.targets, regression=self.regression)
        self._outputs = (outputs, _evaluate(networks, self.data.test_x))

    def runs(self, *, seconds: float) -> list[Run]:
        """One record per run."""
        assert self._outputs is not None
        scale, mean = self.data.target_scale, self.data.target_mean
        train_outputs, test_outputs = ((part * scale + mean).cpu().numpy() for part in self._outputs)
        loss, margin, early_error = (part.cpu().numpy() for part in (self._loss, self._margin, self._early_error))
        return [
            self._run(
                row,
                trace=Trace(
                    loss=loss[:, row].copy(),
                    margin=margin[:, row].copy(),
                    early_error=early_error[row].copy(),
                    train_outputs=train_outputs[row].copy(),
                    test_outputs=test_outputs[row].copy(),
                ),
                seconds=seconds,
            )
            for row in range(len(self.specs))
        ]

    def _run(self, row: int, *, trace: Trace, seconds: float) -> Run:
        step, train_loss, train_score, test_loss, test_score, weight_norm = self._curves[:, row]
        spec = self.specs[row]
        bad = np.flatnonzero(~np.isfinite(train_loss) | ~np.isfinite(weight_norm))
        diverged = len(bad) > 0 or not np.isfinite(trace.train_outputs).all()
        at = int(bad[0]) + 1 if len(bad) else spec.learner.recipe.epochs
        return Run(
            spec=spec,
            status="diverged" if diverged else "completed",
            message=f"The loss was no longer a finite number in epoch {at} of {spec.learner.recipe.epochs}. "
            f"Lower the learning rate (it is {spec.learner.recipe.optimiser.lr:g})."
            if diverged
            else "",
            curves=RunCurves(
                step=step,
                train_loss=train_loss,
                train_score=train_score,
                test_loss=test_loss,
                test_score=test_score,
                weight_norm=weight_norm,
            ),
            trace=trace,
            seconds=seconds,
        )
