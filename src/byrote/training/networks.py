"""Many networks of one architecture behind one face: stacked where that is possible, one by one where it is not."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from byrote.core import ModelError, describe_failure
from byrote.training.optimise import Gradient


class Pass(NamedTuple):
    """A training pass: what networks read besides their inputs."""

    included: Bool[Tensor, "run batch"]
    """Which examples each run is trained on."""
    keys: Int[Tensor, "run 2"]
    """What each run draws from at this step."""
    dropout: Float[Tensor, "run"]
    """Rate of every dropout layer; NaN leaves each layer's own."""
    step: int
    """Counted from 0."""
    again: bool = False
    """Whether this is a second pass over the batch, which leaves running averages as they are."""


class AbstractNetworks(ABC):
    """R networks of one architecture."""

    @property
    @abstractmethod
    def weights(self) -> Sequence[Float[Tensor, "run ..."]]:
        """What is trained, [run, ...]; an optimiser changes it in place, under `torch.no_grad`."""

    @abstractmethod
    def outputs(self, x: Float[Tensor, "run batch ..."]) -> Float[Tensor, "run batch output"]:
        """In evaluation mode, without a graph; inputs of stride 0 along the runs are shared by them."""

    @abstractmethod
    def differ(self, dropout: Float[Tensor, "run"]) -> bool:
        """Whether a training pass gives other outputs than an evaluation."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "run batch ..."], about: Pass) -> Float[Tensor, "run batch output"]:
        """A training pass; what `gradients` needs is kept."""

    @abstractmethod
    def gradients(self, slopes: Float[Tensor, "run batch output"]) -> list[Gradient]:
        """Of the last training pass: Σ slopes·∂outputs/∂w for every one of `weights`."""

    @abstractmethod
    def named(self, parts: Sequence[Float[Tensor, "run ..."]]) -> Mapping[str, Float[Tensor, "run ..."]]:
        """One tensor for each of `weights`, in the shapes of the module's parameters and under their names."""

    @abstractmethod
    def state(self) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """Parameters and buffers as in a module's `state_dict`, one row per run."""


@contextmanager
def blaming_the_model(x: Tensor, *, mode: str, where: Literal["forward", "backward"] = "forward") -> Iterator[None]:
    """What a user's forward, or the way back through it, raises becomes one message with its own words and line."""
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"The model failed on a batch of shape {tuple(x.shape)} in {mode} mode"
            f"{', going backward' if where == 'backward' else ''}: {describe_failure(error)}"
        ) from error


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """What a module draws inside, be it from torch's, numpy's or Python's generator, comes from the seed; the caller's
    generators are left as they were.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _others_seeded(seed):
        torch.default_generator.manual_seed(seed)
        generator = torch.default_generator
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
            generator = torch.cuda.default_generators[device.index or 0]
        yield generator


@contextmanager
def _others_seeded(seed: int) -> Iterator[None]:
    before = other_generators()
    _set_others(random.Random(seed).getstate(), np.random.RandomState(seed % (1 << 32)).get_state())
    try:
        yield
    finally:
        _set_others(*before)


def other_generators() -> tuple[Any, Any]:
    """The states of Python's and numpy's global generators."""
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def _set_others(pythons: Any, numpys: Any) -> None:
    random.setstate(pythons)
    np.random.set_state(numpys)  # noqa: NPY002


@contextmanager
def training_mode(module: nn.Module) -> Iterator[None]:
    """For a while; afterwards it is in evaluation mode."""
    module.train()
    try:
        yield
    finally:
        module.eval()
