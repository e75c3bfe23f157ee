"""Inputs on the device once, bytes as bytes until a batch is made of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from byrote.training.memory import free_bytes


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PackedInputs:
    """Inputs as they are stored, and how they become what a network sees.

    >>> packed = PackedInputs(values=torch.tensor([[0], [255]], dtype=torch.uint8), dtype=torch.float32, mean=51.0,
    ...     scale=102.0)
    >>> packed.take(torch.tensor([1, 0]))
    tensor([[ 2.0000],
            [-0.5000]])
    """

    values: Shaped[Tensor, "example ..."]
    """Normalised numbers, or raw bytes."""
    dtype: torch.dtype
    """Of what a network sees."""
    mean: float = 0.0
    scale: float = 1.0
    """Of bytes: a network sees (x − mean)/scale, computed in float32."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.values.device

    @property
    def shape(self) -> torch.Size:
        """[example, *task.input_shape]."""
        return self.values.shape

    def take(self, positions: Int[Tensor, "*batch"]) -> Float[Tensor, "..."]:
        """The inputs at these positions, normalised: [*batch, *task.input_shape]."""
        taken = self.values.index_select(0, positions.reshape(-1))
        return self._normalise(taken).view(*positions.shape, *self.values.shape[1:])

    def split(self, size: int) -> Iterator[Float[Tensor, "batch ..."]]:
        """All of them, so many at a time."""
        return (self._normalise(part) for part in self.values.split(size))

    def _normalise(self, values: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        if values.dtype != torch.uint8:
            return values
        return values.float().sub_(self.mean).div_(self.scale).to(self.dtype)


ROOMY = 0.1
"""Of the free memory: normalised numbers that take less are kept instead of bytes on a CPU, where it takes longer to
normalise a batch than to read four times as much."""


def pack(
    inputs: Shaped[np.ndarray, "example ..."], *, device: torch.device, dtype: torch.dtype, mean: float, scale: float
) -> PackedInputs:
    """Put inputs on a device: normalised floating-point numbers as they are, bytes to be normalised when taken."""
    values = torch.as_tensor(inputs)
    if values.dtype != torch.uint8:
        return PackedInputs(values=values.to(device, dtype), dtype=dtype)
    packed = PackedInputs(values=values.to(device), dtype=dtype, mean=mean, scale=scale)
    if device.type == "cpu" and values.numel() * dtype.itemsize < ROOMY * free_bytes(device):
        return PackedInputs(values=torch.cat(list(packed.split(1 << 14))), dtype=dtype)
    return packed
