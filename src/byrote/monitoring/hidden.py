"""What a network makes of the probe before its last layer."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from byrote.core import UnknownNameError, did_you_mean


@final
class Hidden:
    """Listens to one layer while the network is called."""

    def __init__(self, model: nn.Module, layer: str | None) -> None:
        """Choose it.

        Args:
            model: the network.
            layer: whose output it is, named as in `named_modules`; None: what the last linear layer is given, if
                another layer with weights was called before it.

        Raises:
            UnknownNameError: there is no such layer.
        """
        named = dict(model.named_modules())
        if layer is not None and layer not in named:
            known = ", ".join(name for name in named if name)
            raise UnknownNameError(f"No layer {layer!r}.{did_you_mean(layer, named)} There are: {known}.")
        self._model = model
        self._layer = None if layer is None else named[layer]
        self._num_called = 0
        self._latest: Tensor | None = None
        self._rows: list[Tensor | None] = []

    @contextmanager
    def heard(self) -> Generator[None]:
        """For a while every call of the network is listened to. It is left without a hook."""
        self._rows = []
        handles = [
            self._model.register_forward_pre_hook(self._begin),
            self._model.register_forward_hook(self._end, always_call=True),
        ]
        if self._layer is not None:
            handles.append(self._layer.register_forward_hook(self._after))
        else:
            layers = [layer for layer in self._model.modules() if list(layer.parameters(recurse=False))]
            handles += [layer.register_forward_pre_hook(self._before) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def rows(self) -> Float[Tensor, "example feature"] | None:
        """What was heard, one row for each example, positions of a sequence being averaged; None where it was not in
        every call, or cannot be put together.
        """
        heard, self._rows = self._rows, []
        found = [part for part in heard if part is not None]
        if not found or len(found) < len(heard) or len({part.shape[1] for part in found}) > 1:
            return None
        return torch.cat(found)

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        self._num_called, self._latest = 0, None

    def _before(self, layer: nn.Module, inputs: Any) -> None:
        if isinstance(layer, nn.Linear) and self._num_called and isinstance(inputs[0], Tensor):
            self._latest = inputs[0]
        self._num_called += 1

    def _after(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        self._latest = output if isinstance(output, Tensor) else None

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        latest, self._latest = self._latest, None
        self._rows.append(None if latest is None else _one_row_each(latest))


def _one_row_each(features: Tensor) -> Float[Tensor, "example feature"] | None:
    if not features.is_floating_point() or features.ndim < 2:
        return None
    kept = features.detach().to(torch.float32 if features.dtype != torch.float64 else torch.float64)
    return kept.mean(1) if kept.ndim == 3 else kept.flatten(1).clone()
