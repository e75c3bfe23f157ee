"""One network as its author wrote it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from byrote.core import derive
from byrote.training.layers import DROPOUTS, OwnedLayers, own_layers
from byrote.training.networks import AbstractNetworks, Pass, blaming_the_model, seeded, training_mode
from byrote.training.optimise import Gradient


@final
class SingleNetwork(AbstractNetworks):
    """One network, through its own forward and autograd.

    Its dropout and batch normalisation are the engine's. If it has other layers that draw or mix while training (it is
    `foreign`), its training pass sees only the examples trained on, so that nothing held out reaches it, and draws from
    a seed of its own at every step. Batch statistics of a single example are undefined: such a batch is learnt from as
    in evaluation mode.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        device: torch.device,
        seed: int,
        foreign: bool = False,
        channels_last: bool = False,
        autocast: bool = False,
    ) -> None:
        """Take over a module; nobody else may use it."""
        self._layers = OwnedLayers() if foreign else own_layers(module)
        self._dropouts = [layer for layer in module.modules() if type(layer) in DROPOUTS]
        self._rates = [float(layer.p) for layer in self._dropouts]  # pyright: ignore
        self._module = module.to(device).eval()
        if channels_last:
            self._module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._device, self._seed, self._foreign = device, seed, foreign
        self._autocast = autocast
        self._least = 2 if any(isinstance(layer, _BatchNorm) for layer in module.modules()) else 1
        self._leaves = [weight for weight in module.parameters() if weight.requires_grad]
        self._weights = [leaf.detach()[None] for leaf in self._leaves]
        self._recurs = device.type == "cuda" and any(isinstance(layer, nn.RNNBase) for layer in module.modules())
        """Recurrent layers learn in training mode only there; it gives the same outputs."""
        self._learnt: Tensor | None = None

    @property
    @override
    def weights(self) -> Sequence[Float[Tensor, "run ..."]]:
        return self._weights

    @override
    @torch.no_grad()
    def outputs(self, x: Float[Tensor, "run batch ..."]) -> Float[Tensor, "run batch output"]:
        return self._call(x[0])[None]

    @override
    def differ(self, dropout: Float[Tensor, "run"]) -> bool:
        return self._foreign or self._layers.differ(dropout)

    @override
    @torch.enable_grad()
    def forward(self, x: Float[Tensor, "run batch ..."], about: Pass) -> Float[Tensor, "run batch output"]:
        if self._foreign:
            self._learnt = self._on_the_included(x[0], about)
        elif self.differ(about.dropout) or self._recurs:
            self._prepare(about)
            with training_mode(self._module):
                self._learnt = self._call(x[0])[None]
        else:
            self._learnt = self._call(x[0])[None]
        return self._learnt.detach()

    def _prepare(self, about: Pass) -> None:
        self._layers.prepare(keeps_statistics=not about.again, all_included=bool(about.included.all()))
        rates = self._layers.rates(about.dropout).layers
        for layer, rate in zip(self._layers.dropouts.values(), rates, strict=True):
            layer.key, layer.rate = about.keys[0], rate[0]
        for norm in self._layers.batch_norms.values():
            norm.included = about.included[0]

    def _on_the_included(self, x: Tensor, about: Pass) -> Tensor:
        chosen = about.included[0].nonzero()[:, 0]
        if len(chosen) < self._least:
            return self._call(x)[None]
        asked = float(about.dropout[0])
        for layer, own in zip(self._dropouts, self._rates, strict=True):
            layer.p = own if math.isnan(asked) else asked  # pyright: ignore
        remembering = _other_buffers(self._module) if about.again else nullcontext()
        with remembering, seeded(derive(self._seed, "step", about.step), self._device), training_mode(self._module):
            learnt = self._call(x[chosen])
        return learnt.new_zeros(len(x), learnt.shape[-1]).index_copy(0, chosen, learnt)[None]

    @override
    def gradients(self, slopes: Float[Tensor, "run batch output"]) -> list[Gradient]:
        if self._learnt is None:
            raise RuntimeError("There is no training pass to take gradients of.")
        with blaming_the_model(self._learnt, mode="training", where="backward"):
            found = torch.autograd.grad(self._learnt, self._leaves, grad_outputs=slopes, allow_unused=True)
        self._learnt = None
        return [None if gradient is None else gradient[None] for gradient in found]

    @override
    def named(self, parts: Sequence[Float[Tensor, "run ..."]]) -> Mapping[str, Float[Tensor, "run ..."]]:
        trained = [name for name, weight in self._module.named_parameters() if weight.requires_grad]
        return dict(zip(trained, parts, strict=True))

    @override
    def state(self) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        return {name: value.detach()[None] for name, value in self._module.state_dict().items()}

    def _call(self, x: Tensor) -> Tensor:
        mode = "training" if self._module.training else "evaluation"
        with (
            blaming_the_model(x, mode=mode),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._autocast),
        ):
            outputs = self._module(x)
        return outputs.reshape(len(x), -1).to(x.dtype)


@contextmanager
def _other_buffers(module: nn.Module) -> Iterator[None]:
    """Copies in the place of a module's buffers for a while, so that what a pass writes to them is forgotten."""
    own = [(layer, dict(layer._buffers)) for layer in module.modules()]
    for layer, buffers in own:
        layer._buffers.update({name: None if part is None else part.clone() for name, part in buffers.items()})
    try:
        yield
    finally:
        for layer, buffers in own:
            layer._buffers.update(buffers)
