"""What the runs of a population leave behind, while they train."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from byrote.records import ProbeResult, Run, RunCurves, RunSpec, Trace
from byrote.training.inputs import PackedInputs
from byrote.training.losses import error_norms, example_losses, margins, score
from byrote.training.networks import AbstractNetworks
from byrote.training.optimise import norms
from byrote.training.population import TrainingData, run_targets
from byrote.training.probes import ProbeRecord
from byrote.training.rules import phases

EVALUATED_TOGETHER = 128
"""Inputs in one evaluation pass: activations that stay in the processor's caches, and are not asked of the system."""


class _Curves(NamedTuple):
    """The fields of `RunCurves` while they grow."""

    step: Float[np.ndarray, "run epoch"]
    train_loss: Float[np.ndarray, "run epoch"]
    train_score: Float[np.ndarray, "run epoch"]
    test_loss: Float[np.ndarray, "run epoch"]
    test_score: Float[np.ndarray, "run epoch"]
    weight_norm: Float[np.ndarray, "run epoch"]


class _Answers(NamedTuple):
    """What networks say of examples, and how good it is."""

    losses: Float[Tensor, "run example"]
    margins: Float[Tensor, "run example"]
    scores: Float[Tensor, "run"]


@final
class Recording:
    """Traces and curves of runs that train together."""

    def __init__(self, specs: Sequence[RunSpec], data: TrainingData) -> None:
        """Draw what the runs are trained on, and make room."""
        self.specs, self.data = specs, data
        self.targets, self.included = run_targets(specs, data)
        self.regression = bool(data.task.regression)
        epochs, (num_runs, num_examples) = specs[0].learner.recipe.epochs, self.targets.shape
        self._early_epoch = math.ceil(epochs / 10) - 1
        room = partial(torch.empty, dtype=data.train_x.dtype, device=data.train_x.device)
        self._loss = room(num_runs, epochs + 1, num_examples)
        self._margin = room(num_runs, epochs + 1, num_examples)
        self._early_error = room(num_runs, num_examples)
        self._visits = room(num_runs, data.task.num_outputs, num_examples)
        self._train_outputs = self._test_outputs = room(num_runs, 0, 0)
        self._weights: dict[str, np.ndarray] | None = None
        self._curves = _Curves(*np.full((len(_Curves._fields), num_runs, epochs), np.nan))

    def visit(self, begin: int, recorded: Float[Tensor, "run batch output"]) -> None:
        """Keep what the networks said of a batch before they learnt from it, in the order of the visit."""
        self._visits[..., begin : begin + recorded.shape[1]] = recorded.mT

    def end_epoch(
        self, networks: AbstractNetworks, *, epoch: int, order: Int[Tensor, "run example"], step: int
    ) -> None:
        """Put the visits back in the examples' own order, evaluate, and add a point to every curve.

        Args:
            networks: as they are after the epoch.
            epoch: counted from 0.
            order: in which each run visited the examples.
            step: optimiser steps taken so far.
        """
        visited = torch.empty_like(self._visits)
        outputs = visited.scatter_(-1, order[:, None].expand_as(visited), self._visits).mT
        train = self._judge(outputs, self.targets, self.included)
        self._loss[:, epoch], self._margin[:, epoch] = train.losses, train.margins
        if epoch == self._early_epoch:
            self._early_error = error_norms(outputs, self.targets, regression=self.regression)
        self._test_outputs = evaluate(networks, self.data.test_x)
        test_targets = self.data.test_y.expand(len(self._test_outputs), -1)
        test = self._judge(self._test_outputs, test_targets, torch.ones_like(test_targets, dtype=torch.bool))
        learnt = train.losses.masked_fill(~self.included, 0).sum(1) / self.included.sum(1)
        point = (torch.full_like(learnt, step), learnt, train.scores, test.losses.mean(1), test.scores)
        for curve, values in zip(self._curves, (*point, norms(networks.weights)), strict=True):
            curve[:, epoch] = values.double().cpu().numpy()

    def _judge(
        self,
        outputs: Float[Tensor, "run example output"],
        targets: Shaped[Tensor, "run example"],
        included: Bool[Tensor, "run example"],
    ) -> _Answers:
        losses = example_losses(outputs, targets, regression=self.regression)
        margin = margins(outputs, targets, regression=self.regression)
        scores = score(losses=losses, margin=margin, targets=targets, included=included, regression=self.regression)
        return _Answers(losses, margin, scores)

    def end(self, networks: AbstractNetworks, *, keep_weights: bool) -> None:
        """Evaluate the trained networks on the training examples; on the test examples they just were."""
        train = evaluate(networks, self.data.train_x)
        answers = self._judge(train, self.targets, self.included)
        self._loss[:, -1], self._margin[:, -1] = answers.losses, answers.margins
        self._train_outputs = train
        self._weights = {name: part.cpu().numpy() for name, part in networks.state().items()} if keep_weights else None

    def runs(self, *, seconds: float, probes: Sequence[ProbeRecord] = ()) -> list[Run]:
        """One record per run, after the end. `seconds` is the wall time of each."""
        scale, mean = self.data.target_scale, self.data.target_mean
        train_outputs, test_outputs = (
            (part * scale + mean if self.regression else part).cpu().numpy()
            for part in (self._train_outputs, self._test_outputs)
        )
        loss, margin, early_error = (part.cpu().numpy() for part in (self._loss, self._margin, self._early_error))
        return [
            self._run(
                row,
                trace=Trace(
                    loss=loss[row],
                    margin=margin[row],
                    early_error=early_error[row],
                    train_outputs=train_outputs[row],
                    test_outputs=test_outputs[row],
                ),
                seconds=seconds,
                probes={record.key: record.result(row) for record in probes},
                weights=None
                if self._weights is None
                else {name: np.array(w[row]) for name, w in self._weights.items()},
            )
            for row in range(len(self.specs))
        ]

    def _run(
        self,
        row: int,
        *,
        trace: Trace,
        seconds: float,
        probes: dict[str, ProbeResult],
        weights: dict[str, np.ndarray] | None,
    ) -> Run:
        recipe = self.specs[row].learner.recipe
        curves = RunCurves(**{name: curve[row].copy() for name, curve in self._curves._asdict().items()})
        bad = np.flatnonzero(~np.isfinite(curves.train_loss) | ~np.isfinite(curves.weight_norm))
        diverged = len(bad) > 0 or not np.isfinite(trace.train_outputs).all()
        epoch = int(bad[0]) + 1 if len(bad) else recipe.epochs
        rates = ", then ".join(f"{phase.optimiser.lr:g}" for phase in phases(recipe))
        advice = (
            f"Loss or weights were no longer finite numbers in epoch {epoch} of {recipe.epochs}. "
            f"Lower the learning rate (it is {rates})."
        )
        return Run(
            spec=self.specs[row],
            status="diverged" if diverged else "completed",
            message=advice if diverged else "",
            curves=curves,
            trace=trace,
            seconds=seconds,
            probes=probes,
            weights=weights,
        )


def evaluate(networks: AbstractNetworks, x: PackedInputs) -> Float[Tensor, "run example output"]:
    """Outputs in evaluation mode, a part at a time."""
    num_runs = len(networks.weights[0])
    parts = [networks.outputs(part.expand(num_runs, *part.shape)).mT for part in x.split(EVALUATED_TOGETHER)]
    return torch.cat(parts, dim=-1).mT
