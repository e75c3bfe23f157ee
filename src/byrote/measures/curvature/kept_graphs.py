"""Graphs kept from product to product, as many as memory allows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from byrote.measures.curvature.matrices import AbstractGraph, AbstractMatrix

Build = Callable[[AbstractMatrix, int], AbstractGraph]


class _Kept(NamedTuple):
    graph: AbstractGraph
    nbytes: int


@final
class KeptGraphs:
    """The graphs of a matrix on batches; one that does not fit any more is built for each product."""

    def __init__(self, build: Build, *, memory: int, weights: Sequence[Tensor]) -> None:
        """Empty at first.

        Args:
            build: the graph of a matrix on the batch of a number.
            memory: bytes that all kept graphs may take together.
            weights: which take no memory of their own in a graph.
        """
        self._build, self._memory, self._weights = build, memory, weights
        self._kept: dict[tuple[AbstractMatrix, int], _Kept] = {}
        self._sizes: dict[tuple[AbstractMatrix, int], int] = {}
        self._versions = self._version()

    @property
    def nbytes(self) -> int:
        """What is kept takes."""
        return sum(kept.nbytes for kept in self._kept.values())

    def find(self, matrix: AbstractMatrix, index: int) -> AbstractGraph | None:
        """A kept graph, if there is one and the weights are still those it was built with."""
        if self._versions != self._version():
            self.clear()
        found = self._kept.get((matrix, index))
        return None if found is None else found.graph

    def get(self, matrix: AbstractMatrix, index: int) -> AbstractGraph:
        """A kept graph, or one built anew, which is kept if it fits."""
        if (found := self.find(matrix, index)) is not None:
            return found
        key = matrix, index
        if self._sizes.get(key, 0) + self.nbytes > self._memory:
            return self._build(matrix, index)
        if key in self._sizes:
            graph = self._build(matrix, index)
        else:
            graph, self._sizes[key] = self._measured(matrix, index)
        if self._sizes[key] + self.nbytes <= self._memory:
            self._kept[key] = _Kept(graph, self._sizes[key])
        return graph

    def clear(self) -> None:
        """Free all."""
        self._kept.clear()
        self._versions = self._version()

    def _measured(self, matrix: AbstractMatrix, index: int) -> tuple[AbstractGraph, int]:
        """A graph, and the bytes of all that it keeps but the weights."""
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, _as_it_is):
            graph = self._build(matrix, index)
        for weight in self._weights:
            kept.pop(weight.untyped_storage().data_ptr(), None)
        return graph, sum(kept.values()) + sum(weight.numel() * weight.itemsize for weight in self._weights)

    def _version(self) -> tuple[tuple[int, int], ...]:
        """Changes when a weight does, in place or by another tensor put in."""
        return tuple((weight.data_ptr(), weight._version) for weight in self._weights)  # pyright: ignore[reportPrivateUsage]


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
