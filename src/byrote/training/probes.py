"""Computations during a run, at steps of their choice."""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from byrote.core import ModelError, UnknownNameError, did_you_mean
from byrote.records import ProbeResult, canonical, encode, identity, place
from byrote.training.inputs import PackedInputs
from byrote.training.losses import output_slopes
from byrote.training.networks import AbstractNetworks, Pass
from byrote.training.optimise import whole


class Moment(NamedTuple):
    """A population between two steps. What a probe reads; nothing it does may change the weights."""

    step: int
    """Optimiser steps taken so far; 0 is at initialisation."""
    networks: AbstractNetworks
    inputs: PackedInputs
    """The training inputs."""
    heldout: PackedInputs
    """The inputs of the test examples."""
    heldout_targets: Shaped[Tensor, "test_example"]
    """Their true targets: class codes, or standardised numbers."""
    targets: Shaped[Tensor, "run example"]
    """What each run is trained on."""
    included: Bool[Tensor, "run example"]
    """Which examples each run is trained on."""
    regression: bool
    skeleton: nn.Module
    """A network as its author wrote it, in evaluation mode, for `modules` to fill."""
    scales: Callable[[], Mapping[str, Float[Tensor, "run ..."]]] = dict
    """By what Adam divided its last step, √v̂ + ε, by the names of the trained parameters; empty for SGD, and before the
    first step."""

    seeds: tuple[int, ...] = ()
    """Of each run: what a probe draws from it is the same whatever runs train together."""

    def modules(self) -> Iterator[nn.Module]:
        """Every run's network in turn, as its author wrote it, with its weights of now; one object, filled anew."""
        state = self.networks.state()
        for row in range(len(self.targets)):
            self.skeleton.load_state_dict({name: part[row] for name, part in state.items()})
            yield self.skeleton


class AbstractProbe(ABC):
    """Something to compute during a run. Concrete probes are frozen keyword-only dataclasses, so that they can be sent
    to another process and their settings make a key.
    """

    name: ClassVar[str]
    """In the record, and in the names of files."""

    @property
    def key(self) -> str:
        """The name, and eight hexadecimal digits of class and settings."""
        code = [identity(value) for value in vars(self).values() if callable(value)]
        settings = "\n".join([place(type(self)), canonical(self), *code])
        return f"{self.name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"

    @abstractmethod
    def steps(self, total: int) -> Sequence[int]:
        """After how many of a run's `total` steps it is called; 0 is before the first."""

    @abstractmethod
    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """Compute; by name, one row per run, the same names and shapes at every moment."""


@final
@dataclass(frozen=True, kw_only=True)
class Given:
    """At these steps, and no other. Steps after the last are left out."""

    steps: tuple[int, ...]
    """Optimiser steps taken before; 0 is before the first."""

    def __post_init__(self) -> None:
        if list(self.steps) != sorted(set(self.steps)) or any(step < 0 for step in self.steps):
            raise ValueError(f"Expected steps from 0 up, in order and each once, got {self.steps}.")

    def of(self, total: int) -> tuple[int, ...]:
        """The steps, of a run of `total`."""
        return tuple(step for step in self.steps if step <= total)


@final
@dataclass(frozen=True, kw_only=True)
class LogSpaced:
    """At 0, at the end, and at about `number` steps between, each the same factor after the last.

    >>> LogSpaced(number=3).of(1000)
    (0, 1, 6, 32, 178, 1000)
    """

    number: int = 8
    """Between the first step and the end, at least 0."""

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError(f"Expected number at least 0, got {self.number!r}.")

    def of(self, total: int) -> tuple[int, ...]:
        """The steps, of a run of `total`."""
        spaced = np.geomspace(1, max(1, total), self.number + 2).round().astype(int)
        return tuple(sorted({0, total, *spaced.tolist()}))


Moments = Given | LogSpaced


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint(AbstractProbe):
    """The weights and buffers, named as in the module's `state_dict`."""

    at: Moments = field(default_factory=LogSpaced)
    name: ClassVar[str] = "checkpoint"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """All of them."""
        return moment.networks.state()


@final
@dataclass(frozen=True, kw_only=True)
class Answers(AbstractProbe):
    """The outputs on the first training examples: how predictions come about."""

    at: Moments = field(default_factory=LogSpaced)
    num_examples: int = 256
    """The first so many of the training examples."""
    name: ClassVar[str] = "answers"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`outputs`: [run, example, output]."""
        x = _first(moment, self.num_examples)
        return {"outputs": moment.networks.outputs(x)}


@final
@dataclass(frozen=True, kw_only=True)
class Features(AbstractProbe):
    """What layers put out for the first training examples, in evaluation mode."""

    layers: tuple[str, ...]
    """Names as in the module's `named_modules`."""
    at: Moments = field(default_factory=LogSpaced)
    num_examples: int = 256
    """The first so many of the training examples."""
    name: ClassVar[str] = "features"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    @torch.no_grad()
    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """By layer, [run, example, *feature].

        Raises:
            UnknownNameError: the model has no such layer.
            ModelError: a layer is not called, more than once, or gives something that is not a tensor.
        """
        x = moment.inputs.take(torch.arange(min(self.num_examples, len(moment.inputs)), device=moment.inputs.device))
        found: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}
        for row, module in enumerate(moment.modules(), start=1):
            named = dict(module.named_modules())
            for layer in self.layers:
                if layer not in named:
                    known = ", ".join(name for name in named if name)
                    raise UnknownNameError(f"No layer {layer!r}.{did_you_mean(layer, named)} There are: {known}.")
            hooks = [named[layer].register_forward_hook(partial(_keep, found[layer])) for layer in self.layers]
            try:
                module(x)
            finally:
                for hook in hooks:
                    hook.remove()
            for layer, outputs in found.items():
                if len(outputs) != row:
                    raise ModelError(f"Expected the layer {layer!r} to be called once with a tensor as its result.")
        return {layer: torch.stack(outputs) for layer, outputs in found.items()}


def _keep(found: list[Tensor], layer: nn.Module, inputs: object, outputs: object) -> None:
    if isinstance(outputs, Tensor):
        found.append(outputs.clone())


@final
@dataclass(frozen=True, kw_only=True)
class GradientGram(AbstractProbe):
    """The Gram matrix G_ij = ⟨g_i, g_j⟩ of the gradients of mini-batches of training examples at frozen weights.

    With `batch_size` 1 these are per-example gradients. The non-zero spectrum of their covariance, and what is made of
    it, follow from G (Jastrzębski et al. 2020, https://arxiv.org/abs/2002.09572). Gradients are of the mean loss of a
    batch, without regularisers; batch statistics are the batch's, and leave the running ones as they are. What a model
    draws outside dropout layers it draws here too. All examples of a batch count, left out of the run or not.
    """

    at: Moments = field(default_factory=LogSpaced)
    num_batches: int = 25
    """L."""
    batch_size: int = 128
    """Consecutive training examples; the batches do not overlap."""
    name: ClassVar[str] = "gram"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`gram`: [run, L, L]; `loss_gradient_norm` follows from it."""
        gradients = [self._gradient(moment, index) for index in range(self._possible(moment))]
        stacked = torch.stack(gradients, dim=1)
        return {"gram": stacked @ stacked.mT}

    def _possible(self, moment: Moment) -> int:
        number = min(self.num_batches, len(moment.inputs) // self.batch_size)
        if number < 2:
            raise ValueError(
                f"The probe {self.name} needs at least two batches of {self.batch_size} training examples, and there "
                f"are {len(moment.inputs)} examples. Choose a smaller batch_size."
            )
        return number

    def _gradient(self, moment: Moment, index: int) -> Float[Tensor, "run weight"]:
        here = slice(index * self.batch_size, (index + 1) * self.batch_size)
        x = _rows(moment, torch.arange(here.start, here.stop, device=moment.inputs.device))
        everything = torch.ones_like(moment.included[:, here])
        zeros = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        keys = torch.zeros(len(x), 2, dtype=torch.int32, device=x.device)
        outputs = moment.networks.forward(x, Pass(everything, keys, zeros, moment.step, again=True))
        slopes = output_slopes(
            outputs,
            moment.targets[:, here],
            shares=torch.full_like(outputs[..., 0], 1 / outputs.shape[1]),
            label_smoothing=0.0,
            regression=moment.regression,
        )
        parts = whole(moment.networks.gradients(slopes))
        return torch.cat([part.flatten(1) for part in parts if part is not None], dim=1)


def _first(moment: Moment, number: int) -> Float[Tensor, "run batch ..."]:
    return _rows(moment, torch.arange(min(number, len(moment.inputs)), device=moment.inputs.device))


def _rows(moment: Moment, positions: Int[Tensor, "batch"]) -> Float[Tensor, "run batch ..."]:
    x = moment.inputs.take(positions)
    return x.expand(len(moment.targets), *x.shape)


@final
class ProbeRecord:
    """What a probe computed for runs that train together, while they do."""

    def __init__(self, probe: AbstractProbe, *, total: int, num_runs: int) -> None:
        """Of a training of `total` steps."""
        self.key = probe.key
        self._probe, self._num_runs = probe, num_runs
        self._due = sorted(set(probe.steps(total)))
        self._steps: list[int] = []
        self._values: dict[str, list[np.ndarray]] = {}
        self._seconds = 0.0

    def call_if_due(self, moment: Moment) -> None:
        """Compute, if this is one of the probe's steps."""
        if moment.step not in self._due:
            return
        began = time.perf_counter()
        for name, values in self._probe(moment).items():
            self._values.setdefault(name, []).append(values.detach().cpu().numpy().copy())
        self._steps.append(moment.step)
        self._seconds += time.perf_counter() - began

    def result(self, row: int) -> ProbeResult:
        """What it computed for one of the runs."""
        settings: Any = encode(self._probe)
        return ProbeResult(
            name=self._probe.name,
            settings=settings,
            steps=np.asarray(self._steps, dtype=np.int64),
            values={name: np.stack([moment[row] for moment in moments]) for name, moments in self._values.items()},
            seconds=self._seconds / self._num_runs,
        )
