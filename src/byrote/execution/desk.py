"""Do one shard: what happens in every process that trains or fits."""

import time
from collections.abc import Callable
from typing import assert_never, final

import numpy as np
import torch

from byrote.baselines import fit_baseline
from byrote.data import Task, inclusion, randomise_targets, sample_positions
from byrote.execution.shards import FitShard, RunShard, Shard
from byrote.records import Fit, FitSpec, Inputs, Run, RunSpec, Sample
from byrote.training import DTYPES, TrainingData, train, training_data

KEPT_DATA = 2
"""Input variants kept on the device at once."""

OnEpoch = Callable[[int], None]
"""Told after every epoch how many runs have finished one more epoch."""


@final
class Desk:
    """A task on a device, with those of its input variants at hand that were used last."""

    def __init__(self, task: Task, *, device: torch.device) -> None:
        """Nothing is drawn yet."""
        self.task, self.device = task, device
        self._data: dict[tuple[Inputs, Sample | None, str], TrainingData] = {}

    def do(self, shard: Shard, *, on_epoch: OnEpoch) -> list[Run] | list[Fit]:
        """Train or fit, and hand over the records in the order of the shard's specs."""
        match shard:
            case RunShard(specs=specs):
                return train(
                    specs,
                    self.training_data(specs[0]),
                    path=shard.path,
                    on_epoch=on_epoch,
                    probes=shard.probes,
                    keep_weights=shard.keep_weights,
                )
            case FitShard(specs=specs):
                return [self._fit(spec) for spec in specs]
            case _:
                assert_never(shard)

    def training_data(self, spec: RunSpec) -> TrainingData:
        """What a run reads."""
        dtype = spec.learner.recipe.dtype
        key = (spec.inputs, spec.sample, dtype)
        if key not in self._data:
            while len(self._data) >= KEPT_DATA:
                self._data.pop(next(iter(self._data)))
            self._data[key] = training_data(
                self.task, inputs=spec.inputs, sample=spec.sample, device=self.device, dtype=DTYPES[dtype]
            )
        return self._data[key]

    def _fit(self, spec: FitSpec) -> Fit:
        began = time.perf_counter()
        positions = sample_positions(self.task, spec.sample)
        part = self.task if spec.sample is None else self.task.part(train=positions.train, test=positions.test)
        included = inclusion(part, spec.subset)
        train_x, test_x = (part.normalise(x).reshape(len(x), -1) for x in (part.train.x, part.test.x))
        fitted = fit_baseline(
            spec.baseline,
            x=train_x[included],
            y=randomise_targets(part, spec.labels).targets[included],
            queries=np.concatenate([test_x, train_x]) if spec.evaluate_train else test_x,
            num_classes=part.num_classes,
            seed=spec.seed,
        )
        return Fit(
            spec=spec,
            train_outputs=fitted.outputs[len(test_x) :] if spec.evaluate_train else None,
            test_outputs=fitted.outputs[: len(test_x)],
            note=fitted.note,
            seconds=time.perf_counter() - began,
        )
