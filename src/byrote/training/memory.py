"""How much memory a run takes while it trains, measured, and how much there is."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

LEAST = 1 << 20
"""Bytes a run is taken to need at least."""


@final
class _Meter(TorchDispatchMode):
    """Adds up the memory of all tensors that operations make while they are alive."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here. Otherwise torch loads its compiler at the first operation, which takes seconds."""
        return False

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(outputs):
            if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
                storage = leaf.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._alive = {key: held for key, held in self._alive.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return outputs


def step_bytes(make_step: Callable[[int], Callable[[], object]], methods: Sequence[str]) -> int:
    """What a run takes: the memory of its weights, moments and gradients and of one step's activations.

    Args:
        make_step: makes a population of so many runs and gives a step of it.
        methods: how the model can be trained; with more than one, three runs are stacked, and half the difference to
            one is what a run takes.
    """
    if len(methods) == 1:
        return max(LEAST, _peak(make_step, 1))
    return max(LEAST, (_peak(make_step, 3) - _peak(make_step, 1)) // 2)


def _peak(make_step: Callable[[int], Callable[[], object]], number: int) -> int:
    with _Meter() as meter:
        step = make_step(number)
        step()
        step()
    return meter.peak


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [_available(), *_control_group()]
    return min(limits)


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def _control_group() -> list[int]:
    """What is left under the limit of a container, if it has one."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return [] if limit == "max" else [max(0, int(limit) - int(used))]
    except (OSError, ValueError):
        return []
