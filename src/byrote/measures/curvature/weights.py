"""The weights that are looked at, as one long vector and as the tensors they are."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from byrote.core import UnknownNameError, did_you_mean
from byrote.measures.curvature.differentiate import widest


@final
class Weights:
    """Some of a module's parameters. A weight under two names is one."""

    def __init__(self, model: nn.Module, names: Iterable[str] | None = None) -> None:
        """Choose them.

        Args:
            model: whose they are.
            names: as in `named_parameters`; None: all that have requires_grad set.

        Raises:
            UnknownNameError: the model has no parameter of that name.
            ValueError: none are left, one is named twice, or they are on several devices.
            TypeError: one is complex.
        """
        chosen = _chosen(model, names)
        self.names: tuple[str, ...] = tuple(chosen)
        self.tensors: tuple[nn.Parameter, ...] = tuple(chosen.values())
        self._others = [part for part in model.parameters() if all(part is not own for own in self.tensors)]
        if len({part.device for part in self.tensors}) > 1:
            raise ValueError("Expected all parameters on one device. Hand over those of one device as `parameters`.")
        if any(part.is_complex() for part in self.tensors):
            raise TypeError("Expected real parameters, got complex ones: curvature is of a real function of reals.")
        self.dtype = torch.float32
        for part in self.tensors:
            self.dtype = torch.promote_types(self.dtype, part.dtype)

    @property
    def device(self) -> torch.device:
        """Where they all are."""
        return self.tensors[0].device

    @property
    def total(self) -> torch.dtype:
        """In which numbers are added up."""
        return widest(self.device)

    @property
    def sizes(self) -> list[int]:
        """Numbers in each."""
        return [part.numel() for part in self.tensors]

    @property
    def nbytes(self) -> int:
        """Of all."""
        return sum(part.numel() * part.itemsize for part in self.tensors)

    def __len__(self) -> int:
        return sum(self.sizes)

    def flat(self, parts: Sequence[Tensor | None], *, dtype: torch.dtype) -> Float[Tensor, "parameter"]:
        """One tensor for each parameter, end to end; None is zeros."""
        rows = [
            torch.zeros(size, dtype=dtype, device=self.device) if part is None else part.detach().reshape(-1).to(dtype)
            for part, size in zip(parts, self.sizes, strict=True)
        ]
        return torch.cat(rows)

    def positions(self, names: Iterable[str]) -> list[int]:
        """Where those of these names are among the tensors.

        Raises:
            UnknownNameError: one is not among them.
        """
        for name in (wanted := list(names)):
            if name not in self.names:
                raise UnknownNameError(
                    f"No parameter {name!r} among those that are looked at.{did_you_mean(name, self.names)} There are: "
                    f"{', '.join(self.names)}."
                )
        return [self.names.index(name) for name in wanted]

    def within(self, names: Iterable[str]) -> Bool[Tensor, "parameter"]:
        """Which numbers of a vector belong to the parameters of these names."""
        inside = set(self.positions(names))
        rows = [torch.full((size,), place in inside, device=self.device) for place, size in enumerate(self.sizes)]
        return torch.cat(rows)

    def parts(self, vector: Float[Tensor, "parameter"]) -> list[Float[Tensor, "..."]]:
        """The same numbers in the shape, and the precision, of the parameters.

        Raises:
            ValueError: there is not one number for each.
        """
        if vector.shape != (len(self),):
            raise ValueError(
                f"Expected a vector of {len(self):,} numbers, one for each parameter, got shape {tuple(vector.shape)}."
            )
        rows = self.cut(vector.detach().to(self.device))
        return [row.reshape(own.shape).to(own.dtype) for row, own in zip(rows, self.tensors, strict=True)]

    def cut(self, vector: Float[Tensor, "parameter"]) -> list[Float[Tensor, "_"]]:
        """Where the numbers of each parameter are, in the same memory."""
        ends = np.cumsum(self.sizes).tolist()
        return [vector[end - size : end] for end, size in zip(ends, self.sizes, strict=True)]

    def now(self) -> Float[Tensor, "parameter"]:
        """A copy of their values."""
        return self.flat(self.tensors, dtype=self.dtype)

    @contextmanager
    def alone(self) -> Generator[None]:
        """For a while these, and only these, are asked for gradients."""
        before = [(part, part.requires_grad) for part in (*self.tensors, *self._others)]
        try:
            for part, _ in before:
                part.requires_grad_(False)
            for part in self.tensors:
                part.requires_grad_(True)
            yield
        finally:
            for part, trains in before:
                part.requires_grad_(trains)

    @contextmanager
    def at(self, vector: Float[Tensor, "parameter"]) -> Generator[None]:
        """For a while they have other values. Their own memory is not touched: what refers to it stays valid."""
        moved = self.parts(vector)
        before = [part.data for part in self.tensors]
        try:
            for part, values in zip(self.tensors, moved, strict=True):
                part.data = torch.empty_like(part.data).copy_(values)
            yield
        finally:
            for part, values in zip(self.tensors, before, strict=True):
                part.data = values


def _chosen(model: nn.Module, names: Iterable[str] | None) -> dict[str, nn.Parameter]:
    every = dict(model.named_parameters(remove_duplicate=False))
    if names is None:
        chosen = {name: part for name, part in model.named_parameters() if part.requires_grad}
        if not chosen:
            raise ValueError("Expected a model with trainable weights: none has requires_grad set.")
        return chosen
    if isinstance(names, str):
        raise TypeError(f"Expected several names of parameters, got the one string {names!r}; put it into a tuple.")
    chosen = dict[str, nn.Parameter]()
    for name in names:
        if name not in every:
            raise UnknownNameError(f"No parameter {name!r}.{did_you_mean(name, every)} There are: {', '.join(every)}.")
        if any(every[name] is own for own in chosen.values()):
            raise ValueError(f"Expected each parameter once, got {name!r} again (maybe under another name).")
        chosen[name] = every[name]
    if not chosen:
        raise ValueError("Expected the name of at least one parameter, got none.")
    return chosen
