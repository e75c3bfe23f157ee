"""Many long rows, such as gradients, kept where there is room, and their inner products."""

import tempfile
from collections.abc import Iterable
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from byrote.measures.curvature.differentiate import widest

MEMORY = 1 << 30
"""Bytes that rows may take before they are written to a temporary file."""
COLUMNS = 1 << 19
"""Bytes of a block of columns that is worked on at a time: it stays in the cache."""


@final
class Rows:
    """A table whose rows come one after another, each of them once.

    In memory, or, if it would take more than is allowed, in a temporary file that is gone with it. Sums are in float64,
    over blocks of columns.

    >>> rows = Rows(2, width=3, like=torch.empty(0).double())
    >>> rows.extend(iter([torch.tensor([1.0, 0.0, 2.0]).double(), torch.tensor([3.0, 0.0, 0.0]).double()]))
    >>> rows.gram().tolist(), rows.mean().tolist()
    ([[5.0, 3.0], [3.0, 9.0]], [2.0, 0.0, 1.0])
    """

    def __init__(self, num_rows: int, *, width: int, like: Tensor, memory: int = MEMORY) -> None:
        """With room for all rows.

        Args:
            num_rows: that will come.
            width: of each.
            like: gives precision and device.
            memory: bytes they may take there; beyond, they are in a file.

        Raises:
            ValueError: memory is below 0.
        """
        if memory < 0:
            raise ValueError(f"Expected memory of at least 0 bytes, got {memory!r}.")
        self.device, self.total = like.device, widest(like.device)
        self._filled = 0
        self.in_file = num_rows * width * like.itemsize > memory
        if not self.in_file:
            self._table = like.new_empty(num_rows, width)
            return
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the memory map owns it
        kind = torch.empty(0, dtype=like.dtype).numpy().dtype
        self._table = torch.as_tensor(np.memmap(file, dtype=kind, mode="w+", shape=(num_rows, width)))
        file.close()

    def __len__(self) -> int:
        return len(self._table)

    @property
    def width(self) -> int:
        """Numbers in each."""
        return self._table.shape[1]

    @property
    def epsilon(self) -> float:
        """Of the precision that rows are kept in."""
        return torch.finfo(self._table.dtype).eps

    def extend(self, rows: Iterable[Float[Tensor, "column"]]) -> None:
        """Keep the rows that come.

        Raises:
            ValueError: there is no room for one.
        """
        for row in rows:
            if self._filled == len(self):
                raise ValueError(f"Expected {len(self)} rows, got more.")
            self._table[self._filled] = row
            self._filled += 1

    def gram(self) -> Float[np.ndarray, "row row"]:
        """Inner products of all rows with one another."""
        found = torch.zeros(len(self), len(self), dtype=self.total, device=self.device)
        for block in self._blocks():
            found += block @ block.T
        return found.cpu().double().numpy()

    def gram_around_mean(self) -> tuple[Float[np.ndarray, "row row"], Float[np.ndarray, "row row"]]:
        """Inner products of what the rows are away from their mean; and, from the same pass, those of the rows.

        The mean is taken from rows of single precision afterwards: their products in float64 lose less by it than
        rounding has cost the rows themselves.
        """
        if self.epsilon > torch.finfo(self.total).eps:
            whole = self.gram()
            beside = whole.mean(0)
            return whole - beside - beside[:, None] + beside.mean(), whole
        found = torch.zeros(len(self), len(self), dtype=self.total, device=self.device)
        along, square = found.new_zeros(len(self)), found.new_zeros(())
        for block in self._blocks():
            mean = block.mean(0)
            block -= mean
            found += block @ block.T
            along += block @ mean
            square += mean @ mean
        whole = found + along + along[:, None] + square
        return found.cpu().double().numpy(), whole.cpu().double().numpy()

    def mean(self) -> Float[Tensor, "column"]:
        """The mean row, in float64."""
        return torch.cat([block.mean(0) for block in self._blocks()])

    def times(self, vectors: Float[Tensor, "column vector"]) -> Float[np.ndarray, "row vector"]:
        """Inner products of each row with each of some vectors."""
        found = torch.zeros(len(self), vectors.shape[1], dtype=self.total, device=self.device)
        begin = 0
        for block in self._blocks():
            end = begin + block.shape[1]
            found += block @ vectors[begin:end].to(block)
            begin = end
        return found.cpu().double().numpy()

    def combined(self, weights: Float[np.ndarray, "sum row"]) -> Float[Tensor, "sum column"]:
        """Weighted sums of rows, in the rows' own precision."""
        if not len(weights):
            return self._table.new_empty(0, self.width, device=self.device)
        own = torch.as_tensor(weights).to(device=self.device, dtype=self.total)
        return torch.cat([(own @ block).to(self._table.dtype) for block in self._blocks()], dim=1)

    def whole(self) -> Float[Tensor, "row column"]:
        """All of them; read it, and do not write."""
        return self._table

    def _blocks(self) -> Iterable[Float[Tensor, "row part"]]:
        """Copies of columns, so many at a time that they take little."""
        if self._filled < len(self):
            raise ValueError(f"Expected {len(self)} rows, got {self._filled}.")
        size = max(1, COLUMNS // (8 * max(1, len(self))))
        for begin in range(0, self._table.shape[1], size):
            yield self._table[:, begin : begin + size].to(device=self.device, dtype=self.total, copy=True)
