"""Many networks of one architecture behind one face: stacked where that is possible, one by one where it is not."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from byrote.core import derive


class AbstractNetworks(ABC):
    """R networks that take the same batch."""

    @property
    @abstractmethod
    def parameters(self) -> list[Tensor]:
        """The trainable weights, leaves of autograd; an optimiser changes them in place, element by element."""

    @abstractmethod
    def weight_norms(self) -> Float[Tensor, "run"]:
        """‖θ‖₂ of every network."""

    @abstractmethod
    def logits(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "run batch output"]:
        """Outputs in evaluation mode."""

    @abstractmethod
    def training_logits(
        self, x: Float[Tensor, "batch ..."], *, included: Float[Tensor, "run batch"], step: int
    ) -> tuple[Float[Tensor, "run batch output"], Float[Tensor, "run batch output"]]:
        """Outputs to learn from, with a graph, and outputs in evaluation mode to record. Often the same."""


@final
class StackedNetworks(AbstractNetworks):
    """All networks in one pass, through `torch.func.vmap`. For modules that are pure functions of their weights."""

    def __init__(self, modules: Sequence[nn.Module], *, device: torch.device) -> None:
        """Stack the modules' weights; the modules themselves are left alone."""
        self._skeleton = copy.deepcopy(modules[0]).eval().to("meta")
        parameters = [dict(module.named_parameters()) for module in modules]
        self._weights = {
            name: torch.stack([own[name].detach() for own in parameters]).to(device).requires_grad_(first.requires_grad)
            for name, first in parameters[0].items()
        }
        buffers = [dict(module.named_buffers()) for module in modules]
        self._buffers = {name: torch.stack([own[name] for own in buffers]).to(device) for name in buffers[0]}

    @property
    def parameters(self) -> list[Tensor]:
        return [weight for weight in self._weights.values() if weight.requires_grad]

    def weight_norms(self) -> Float[Tensor, "run"]:
        with torch.no_grad():
            return torch.stack([p.flatten(1).square().sum(1) for p in self.parameters]).sum(0).sqrt()

    def logits(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "run batch output"]:
        outputs = vmap(self._one, in_dims=(0, None), randomness="error")({**self._weights, **self._buffers}, x)
        return outputs.reshape(*outputs.shape[:2], -1)

    def training_logits(
        self, x: Float[Tensor, "batch ..."], *, included: Float[Tensor, "run batch"], step: int
    ) -> tuple[Float[Tensor, "run batch output"], Float[Tensor, "run batch output"]]:
        outputs = self.logits(x)
        return outputs, outputs.detach()

    def _one(self, state: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self._skeleton, state, (x,))


@final
class SingleNetwork(AbstractNetworks):
    """One network as its author wrote it.

    Where training and evaluation mode differ (dropout, BatchNorm), the training pass sees only the examples trained
    on, so that nothing held out reaches a batch statistic, and draws from a seed of its own at every step.
    """

    def __init__(self, module: nn.Module, *, device: torch.device, modes_differ: bool, seed: int) -> None:
        """Take over a module; nobody else may use it."""
        self._module = module.to(device).eval()
        self._device = device
        self._modes_differ = modes_differ
        self._seed = seed
        self._parameters = [weight for weight in module.parameters() if weight.requires_grad]

    @property
    def parameters(self) -> list[Tensor]:
        return self._parameters

    def weight_norms(self) -> Float[Tensor, "run"]:
        with torch.no_grad():
            return torch.stack([p.square().sum() for p in self._parameters]).sum().sqrt()[None]

    def logits(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "run batch output"]:
        return self._module(x).reshape(1, len(x), -1)

    def training_logits(
        self, x: Float[Tensor, "batch ..."], *, included: Float[Tensor, "run batch"], step: int
    ) -> tuple[Float[Tensor, "run batch output"], Float[Tensor, "run batch output"]]:
        if not self._modes_differ:
            outputs = self.logits(x)
            return outputs, outputs.detach()
        with torch.no_grad():
            recorded = self.logits(x)
        chosen = included[0].nonzero()[:, 0]
        if len(chosen) < 2:  # A batch statistic of one example is undefined; learn as in evaluation mode.
            return self.logits(x), recorded
        with _seeded(derive(self._seed, "step", step), self._device), _training(self._module):
            learnt = self._module(x[chosen]).reshape(len(chosen), -1)
        return torch.zeros_like(recorded[0]).index_copy(0, chosen, learnt)[None], recorded


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """What a module draws comes from the seed; the caller's generators are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


@contextmanager
def _training(module: nn.Module) -> Iterator[None]:
    module.train()
    try:
        yield
    finally:
        module.eval()
