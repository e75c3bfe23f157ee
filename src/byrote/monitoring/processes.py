"""Sums over the processes that train together."""

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, distributed

Reduce = Callable[[Tensor], Tensor]
"""The sum of a tensor over all processes."""


@final
class Processes:
    """Those that measure together, each on its own part of the probe."""

    def __init__(self, reduce: Reduce | None) -> None:
        """Of a sum, or of `torch.distributed` where it is in use."""
        self._reduce = reduce

    @property
    def several(self) -> bool:
        """Whether there may be more than this one."""
        return self._reduce is not None or _distributed()

    def sum(self, tensor: Tensor) -> Tensor:
        """Of all processes; what was handed over is left as it is."""
        if self._reduce is not None:
            return self._reduce(tensor.clone())
        if not _distributed():
            return tensor
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    def means(self, values: Sequence[float], *, like: Tensor) -> list[float]:
        """Of each number over all processes.

        Args:
            values: this process's.
            like: a tensor on the device, and in the precision, in which numbers are added up.
        """
        if not self.several:
            return list(values)
        total = self.sum(torch.tensor([*values, 1.0], dtype=like.dtype, device=like.device))
        return (total[:-1] / total[-1]).tolist()


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
