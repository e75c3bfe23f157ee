"""Many networks of one architecture behind one face: stacked where that is possible, one by one where it is not."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from byrote.core import ModelError, derive, describe_failure


class TrainingOutputs(NamedTuple):
    """What a batch gives. The two are the same numbers unless training mode differs from evaluation mode."""

    learnt: Float[Tensor, "run batch output"]
    """To learn from, with a graph."""
    recorded: Float[Tensor, "run batch output"]
    """In evaluation mode, without a graph."""


class AbstractNetworks(ABC):
    """R networks of one architecture."""

    @property
    @abstractmethod
    def parameters(self) -> list[Tensor]:
        """The trainable weights, leaves of autograd; an optimiser changes them in place, element by element."""

    @abstractmethod
    def weight_norms(self) -> Float[Tensor, "run"]:
        """‖θ‖₂ of every network's trainable weights."""

    @abstractmethod
    def logits(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "run batch output"]:
        """Outputs in evaluation mode, of all networks on the same inputs."""

    @abstractmethod
    def training_logits(
        self, x: Float[Tensor, "run batch ..."], *, included: Bool[Tensor, "run batch"], step: int
    ) -> TrainingOutputs:
        """Outputs to learn from and outputs to record, of each network on its own batch, at a step counted from 0."""


@final
class StackedNetworks(AbstractNetworks):
    """All networks in one pass, through `torch.func.vmap`. For modules that are pure functions of their weights."""

    def __init__(self, modules: Sequence[nn.Module], *, device: torch.device) -> None:
        """Copy and stack the modules' weights; the first module becomes the skeleton and belongs to the stack."""
        self._num_runs = len(modules)
        self._skeleton = modules[0].eval().to(device)
        parameters = [dict(module.named_parameters()) for module in modules]
        self._weights = {
            name: torch.stack([own[name].detach() for own in parameters]).to(device).requires_grad_(first.requires_grad)
            for name, first in parameters[0].items()
        }
        buffers = [dict(module.named_buffers()) for module in modules]
        self._buffers = {name: torch.stack([own[name] for own in buffers]).to(device) for name in buffers[0]}

    @property
    @override
    def parameters(self) -> list[Tensor]:
        return [weight for weight in self._weights.values() if weight.requires_grad]

    @override
    def weight_norms(self) -> Float[Tensor, "run"]:
        with torch.no_grad():
            return torch.stack([p.flatten(1).square().sum(1) for p in self.parameters]).sum(0).sqrt()

    @override
    def logits(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "run batch output"]:
        return self._outputs(x.expand(self._num_runs, *x.shape))

    @override
    def training_logits(
        self, x: Float[Tensor, "run batch ..."], *, included: Bool[Tensor, "run batch"], step: int
    ) -> TrainingOutputs:
        outputs = self._outputs(x)
        return TrainingOutputs(outputs, outputs.detach())

    def _outputs(self, x: Float[Tensor, "run batch ..."]) -> Float[Tensor, "run batch output"]:
        with _blaming_the_model(x[0], mode="evaluation"):
            outputs = vmap(self._one, randomness="error")({**self._weights, **self._buffers}, x)
        return outputs.reshape(*x.shape[:2], -1)

    def _one(self, state: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self._skeleton, state, (x,))


@final
class SingleNetwork(AbstractNetworks):
    """One network as its author wrote it.

    Where training and evaluation mode differ (dropout, BatchNorm), the training pass sees only the examples trained
    on, so that nothing held out reaches a batch statistic, and draws from a seed of its own at every step. Batch
    statistics of a single example are undefined: such a batch is learnt from as in evaluation mode.
    """

    def __init__(
        self, module: nn.Module, *, device: torch.device, modes_differ: bool, seed: int, channels_last: bool = False
    ) -> None:
        """Take over a module; nobody else may use it."""
        self._module = module.to(device).eval()
        if channels_last:
            self._module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._device = device
        self._modes_differ = modes_differ
        self._least = 2 if any(isinstance(layer, _BatchNorm) for layer in module.modules()) else 1
        self._seed = seed
        self._parameters: list[Tensor] = [weight for weight in module.parameters() if weight.requires_grad]

    @property
    @override
    def parameters(self) -> list[Tensor]:
        return self._parameters

    @override
    def weight_norms(self) -> Float[Tensor, "run"]:
        with torch.no_grad():
            return torch.stack([p.square().sum() for p in self._parameters]).sum().sqrt()[None]

    @override
    def logits(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "run batch output"]:
        return self._call(x).reshape(1, len(x), -1)

    @override
    def training_logits(
        self, x: Float[Tensor, "run batch ..."], *, included: Bool[Tensor, "run batch"], step: int
    ) -> TrainingOutputs:
        own = x[0]
        if not self._modes_differ:
            outputs = self.logits(own)
            return TrainingOutputs(outputs, outputs.detach())
        with torch.no_grad():
            recorded = self.logits(own)
        chosen = included[0].nonzero()[:, 0]
        if len(chosen) < self._least:
            return TrainingOutputs(self.logits(own), recorded)
        with seeded(derive(self._seed, "step", step), self._device), _training(self._module):
            learnt = self._call(own[chosen]).reshape(len(chosen), -1)
        return TrainingOutputs(torch.zeros_like(recorded[0]).index_copy(0, chosen, learnt)[None], recorded)

    def _call(self, x: Tensor) -> Tensor:
        with _blaming_the_model(x, mode="training" if self._module.training else "evaluation"):
            return self._module(x)


@contextmanager
def _blaming_the_model(x: Tensor, *, mode: str) -> Iterator[None]:
    """What a user's forward raises becomes one message with its own words and line."""
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"The model failed on a batch of shape {tuple(x.shape)} in {mode} mode: {describe_failure(error)}"
        ) from error


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """What a module draws inside comes from the seed; the caller's generators are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        generator = torch.default_generator
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
            generator = torch.cuda.default_generators[device.index or 0]
        yield generator


@contextmanager
def _training(module: nn.Module) -> Iterator[None]:
    module.train()
    try:
        yield
    finally:
        module.eval()
