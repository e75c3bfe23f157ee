"""The examples that everything is measured on."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, final, overload

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from byrote.measures.curvature import Batch

LEFT = 1 / 8
"""Share of the examples that may be left out for mini-batches of one size."""


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
        TypeError: it is a loader, a data set or a generator, of which it is not known how much is meant.
        ValueError: there are none, or one has no examples.
    """
    if isinstance(probe, (DataLoader, Dataset, Iterator)):
        raise TypeError(
            f"Expected a batch, or a list of some, got a {type(probe).__name__}. Take as many as you mean: "
            "probe=list(itertools.islice(loader, 4))."
        )
    batches: list[Batch] = probe if is_several(probe) else [probe]
    if not batches:
        raise ValueError("Expected at least one batch as the probe, got an empty list.")
    tensors: list[Tensor] = []
    for batch in batches:
        _gathered(batch, tensors)
    if any(not len(tensor) for tensor in tensors):
        raise ValueError("Expected examples in every batch of the probe, got a tensor without rows.")
    return list(batches)


def is_several(probe: Any) -> bool:
    """Whether it is a list of batches, be it of a single one, which then is not cut."""
    return isinstance(probe, list) and not any(isinstance(part, Tensor) for part in probe)  # pyright: ignore[reportUnknownVariableType]


def cut(batch: Batch, *, num_batches: int) -> list[Batch] | None:
    """Make one batch several, all of one size: as many as may be without leaving out more than an eighth of it, or
    more than one example.

    >>> [len(part["x"]) for part in cut({"x": torch.arange(7), "scale": 2.0}, num_batches=3)]
    [2, 2, 2]
    >>> len(cut({"x": torch.arange(31)}, num_batches=16))
    15

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
    spare = max(1.0, LEFT * num_examples)
    num = next(num for num in range(min(num_batches, num_examples), 0, -1) if num_examples % num <= spare)
    size = num_examples // num
    return [mapped(batch, partial(_rows, first=place * size, size=size)) for place in range(num)]


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
