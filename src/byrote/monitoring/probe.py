"""The examples that everything is measured on."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, final, overload

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from byrote.measures.curvature import Batch


@final
class Probe(Sequence[Batch]):
    """Batches on the device of the weights, wherever these are by then."""

    def __init__(self, batches: Sequence[Batch], *, device: Callable[[], torch.device]) -> None:
        """Keep them where they are until they are asked for."""
        self._batches, self._device = list(batches), device
        self._moved: dict[int, tuple[torch.device, Batch]] = {}

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | Sequence[Batch]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        device = self._device()
        known = self._moved.get(index)
        if known is None or known[0] != device:
            known = device, mapped(self._batches[index], lambda tensor: tensor.to(device))
            self._moved[index] = known
        return known[1]


def batches_of(probe: Any) -> list[Batch]:
    """The batches that were handed over: a list is several, unless a tensor is among its items; all else is one.

    So what a loader yields is one batch, be it a tuple, a dictionary or the list of tensors that loaders make of
    tuples.

    >>> x, y = torch.zeros(4, 2), torch.zeros(4)
    >>> len(batches_of((x, y))), len(batches_of([x, y])), len(batches_of([(x, y), (x, y), (x, y)]))
    (1, 1, 3)

    Raises:
        TypeError: it is a loader or a generator, of which it is not known how much is meant.
        ValueError: there are none.
    """
    if isinstance(probe, (DataLoader, Iterator)):
        raise TypeError(
            f"Expected a batch, or a list of some, got a {type(probe).__name__}. Take as many as you mean: "
            "probe=list(itertools.islice(loader, 4))."
        )
    if not is_several(probe):
        return [probe]
    if not probe:
        raise ValueError("Expected at least one batch as the probe, got an empty list.")
    return list(probe)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def is_several(probe: Any) -> bool:
    """Whether it is a list of batches, be it of a single one, which then is not cut."""
    return isinstance(probe, list) and not any(isinstance(part, Tensor) for part in probe)  # pyright: ignore[reportUnknownVariableType]


def cut(batch: Batch, *, num_batches: int) -> list[Batch] | None:
    """Make one batch several, all of one size, leaving out the fewest that are over.

    >>> [len(part["x"]) for part in cut({"x": torch.arange(7), "scale": 2.0}, num_batches=3)]
    [2, 2, 2]

    Args:
        batch: of tensors, tuples, lists and mappings.
        num_batches: at most.

    Returns:
        The parts; None where it cannot be cut: its tensors do not all have one row for each example, something in it
        is no tensor and no plain number, or there are not two examples.
    """
    tensors: list[Tensor] = []
    if not _gathered(batch, tensors) or not tensors:
        return None
    num_examples = len(tensors[0])
    if num_examples < 2 or any(len(tensor) != num_examples for tensor in tensors):
        return None
    size = max(1, num_examples // num_batches)
    starts = range(0, num_examples - size + 1, size)[:num_batches]
    return [mapped(batch, partial(_rows, first=first, size=size)) for first in starts]


def first_rows(batch: Batch, parts: Sequence[Batch]) -> Batch:
    """Those rows of a batch that its parts hold, as one batch."""
    num = sum(_num_rows(part) for part in parts)
    return mapped(batch, partial(_rows, first=0, size=num))


def mapped(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The same structure with every tensor changed."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        own: Any = copy.copy(batch)  # pyright: ignore[reportUnknownVariableType]
        for name, part in list(batch.items()):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            own[name] = mapped(part, change)
        return own
    if isinstance(batch, (tuple, list)):
        parts = [mapped(part, change) for part in batch]  # pyright: ignore[reportUnknownVariableType]
        plain = type(batch) in (tuple, list)  # pyright: ignore[reportUnknownArgumentType]
        return type(batch)(parts) if plain else type(batch)(*parts)  # pyright: ignore
    return batch


def _rows(tensor: Tensor, *, first: int, size: int) -> Tensor:
    return tensor[first : first + size] if tensor.ndim else tensor


def _num_rows(batch: Batch) -> int:
    tensors: list[Tensor] = []
    _gathered(batch, tensors)
    return len(tensors[0])


def _gathered(batch: Batch, tensors: list[Tensor]) -> bool:
    """Collect the tensors that have rows; whether the rest is plain."""
    if isinstance(batch, Tensor):
        tensors += [batch] if batch.ndim else []
        return True
    if isinstance(batch, Mapping):
        return all(_gathered(part, tensors) for part in batch.values())  # pyright: ignore[reportUnknownVariableType]
    if isinstance(batch, (tuple, list)):
        return all(_gathered(part, tensors) for part in batch)  # pyright: ignore[reportUnknownVariableType]
    return batch is None or isinstance(batch, (bool, int, float))
