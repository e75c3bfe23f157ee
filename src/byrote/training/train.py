"""Train a population: every run a row, every example a column."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from byrote.models import with_norms_of
from byrote.records import CorruptedLabels, Run, RunSpec, TrueAfterRandom
from byrote.training.draws import run_keys
from byrote.training.learn import Lesson, learn
from byrote.training.losses import batch_shares
from byrote.training.nature import networks_of
from byrote.training.optimise import OptimiserState, adam_scales
from byrote.training.paths import Path, threads
from byrote.training.population import DTYPES, TrainingData, epoch_orders, make_network
from byrote.training.probes import AbstractProbe, Moment, ProbeRecord
from byrote.training.recording import Recording
from byrote.training.rules import Rulebook, Rules, batches, batchmates

OnEpoch = Callable[[int], None]
"""Told after every epoch how many runs have finished one more epoch."""


def train(
    specs: Sequence[RunSpec],
    data: TrainingData,
    *,
    path: Path,
    on_epoch: OnEpoch = lambda runs: None,
    probes: Sequence[AbstractProbe] = (),
    keep_weights: bool = False,
) -> list[Run]:
    """Train runs that are alike, `path.num_stacked` at a time.

    An example outside a run's subset is in its batches with weight 0, so the forward pass over it is a held-out
    evaluation. A run does not depend on the runs it is trained with, on their order or on how many are stacked: in
    float64 the numbers are equal to about 1e-10, in float32 rounding sets them apart over hundreds of steps.

    Args:
        specs: runs that differ only in seed, order, labels, subset index and the numbers of their recipes.
        data: of the specs' task, inputs, sample and dtype, from `training_data`.
        path: how to train them, from `choose_path`.
        on_epoch: told of every epoch.
        probes: what to compute on the way.
        keep_weights: whether the records hold the trained weights.

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
    trained: list[Run] = []
    with threads(path.num_threads):
        for begin in range(0, len(specs), size):
            together = _Together(specs[begin : begin + size], data, path=path, probes=probes)
            trained += together.train(on_epoch=on_epoch, keep_weights=keep_weights)
    return trained


def _check(specs: Sequence[RunSpec], data: TrainingData, path: Path) -> None:
    if len({batchmates(spec) for spec in specs}) > 1:
        raise ValueError(
            "Expected runs that differ only in seed, order, labels, subset index and the numbers of their recipes."
        )
    spec = specs[0]
    wanted = (spec.inputs, spec.sample, DTYPES[spec.learner.recipe.dtype])
    got = (data.inputs, data.sample, data.train_x.dtype)
    if wanted != got:
        raise ValueError(f"Expected training data made for {wanted} (inputs, sample, dtype), got {got}.")
    if path.method == "single" and path.num_stacked > 1:
        raise ValueError(f"One at a time means that 1 run is stacked, got {path.num_stacked}.")


@final
class _Together:
    """Runs that train at once."""

    def __init__(
        self, specs: Sequence[RunSpec], data: TrainingData, *, path: Path, probes: Sequence[AbstractProbe]
    ) -> None:
        self._began = time.perf_counter()
        recipe = specs[0].learner.recipe
        self._specs, self._data = specs, data
        self._epochs = batches(specs[0], num_examples=len(data.train_x))
        total, device = sum(map(len, self._epochs)), data.train_x.device
        modules = [make_network(spec, data, seed=spec.seed) for spec in specs]
        _pretrain(modules, specs, data, path=path)
        self._networks = networks_of(
            path.method,
            modules,
            device=device,
            seed=specs[0].seed,
            foreign=path.foreign,
            channels_last=path.channels_last,
            autocast=recipe.autocast,
        )
        self._recording = Recording(specs, data)
        self._rulebook = Rulebook([spec.learner.recipe for spec in specs], total=total, device=device)
        self._keys = run_keys([spec.seed for spec in specs], "draws", device=device)
        self._state = OptimiserState()
        self._rules: Rules | None = None
        """Of the last step."""
        self._skeleton = make_network(specs[0], data, seed=specs[0].seed).to(device).eval() if probes else None
        if len({probe.key for probe in probes}) < len(probes):
            raise ValueError(f"Expected different probes, got {', '.join(probe.key for probe in probes)}.")
        self._probes = [ProbeRecord(probe, total=total, num_runs=len(specs)) for probe in probes]

    def weights(self) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """Parameters and buffers after training; nothing else is kept."""
        for epoch in range(len(self._epochs)):
            self._train_epoch(epoch)
        return self._networks.state()

    def train(self, *, on_epoch: OnEpoch, keep_weights: bool) -> list[Run]:
        """From the first step to the records."""
        self._probe(step=0)
        for epoch in range(len(self._epochs)):
            self._train_epoch(epoch)
            on_epoch(len(self._specs))
        self._recording.end(self._networks, keep_weights=keep_weights)
        seconds = (time.perf_counter() - self._began) / len(self._specs)
        return self._recording.runs(seconds=seconds, probes=self._probes)

    def _train_epoch(self, epoch: int) -> None:
        data, recording = self._data, self._recording
        drawn = epoch_orders(self._specs, epoch=epoch, num_examples=len(data.train_x))
        order = torch.as_tensor(drawn).to(data.train_x.device)
        targets, included = recording.targets.gather(1, order), recording.included.gather(1, order)
        ends = torch.tensor([batch.end for batch in self._epochs[epoch]], device=order.device)
        shares = batch_shares(included, ends=ends, dtype=data.train_x.dtype)
        is_shared = len({spec.order for spec in self._specs}) == 1 < len(self._specs)
        step = 0
        for batch in self._epochs[epoch]:
            self._rules = self._rulebook.at(batch)
            here = slice(batch.begin, batch.end)
            recorded = learn(
                self._networks,
                Lesson(
                    x=self._inputs(order[:, here], is_shared=is_shared),
                    targets=targets[:, here],
                    included=included[:, here],
                    shares=shares[:, here],
                    keys=self._keys,
                    step=batch.step,
                ),
                rules=self._rules,
                state=self._state,
                regression=recording.regression,
            )
            recording.visit(batch.begin, recorded)
            step = batch.step + 1
            self._probe(step=step)
        recording.end_epoch(self._networks, epoch=epoch, order=order, step=step)

    def _inputs(self, order: Int[Tensor, "run batch"], *, is_shared: bool) -> Float[Tensor, "run batch ..."]:
        """Each run's own batch; runs of one order share theirs, which is read once."""
        if not is_shared:
            return self._data.train_x.take(order)
        x = self._data.train_x.take(order[0])
        return x.expand(len(order), *x.shape)

    def _scales(self) -> Mapping[str, Float[Tensor, "run ..."]]:
        parts = [] if self._rules is None else adam_scales(self._rules, self._state)
        return self._networks.named(parts) if parts else {}

    def _probe(self, *, step: int) -> None:
        if self._skeleton is None:
            return
        recording = self._recording
        moment = Moment(
            step=step,
            networks=self._networks,
            inputs=self._data.train_x,
            heldout=self._data.test_x,
            heldout_targets=self._data.test_y,
            targets=recording.targets,
            included=recording.included,
            regression=recording.regression,
            skeleton=self._skeleton,
            scales=self._scales,
            seeds=tuple(spec.seed for spec in self._specs),
        )
        for probe in self._probes:
            probe.call_if_due(moment)


def _pretrain(modules: Sequence[nn.Module], specs: Sequence[RunSpec], data: TrainingData, *, path: Path) -> None:
    """Train those networks on random targets that start from there."""
    begun = [
        (module, spec, spec.labels)
        for module, spec in zip(modules, specs, strict=True)
        if isinstance(spec.labels, TrueAfterRandom)
    ]
    if not begun:
        return
    before = [replace(spec, labels=CorruptedLabels(fraction=1.0, draw=labels.draw)) for _, spec, labels in begun]
    state = _Together(before, data, path=path, probes=()).weights()
    for row, (module, _, labels) in enumerate(begun):
        own = {name: part[row].cpu() for name, part in state.items()}
        if labels.rescaled:
            start = {name: part.detach() for name, part in module.named_parameters()}
            own |= with_norms_of({name: own[name] for name in start}, start)
        module.load_state_dict(own)
