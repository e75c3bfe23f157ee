"""All networks in one pass, through `torch.func.vmap`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from typing_extensions import override

from byrote.training.layers import own_layers
from byrote.training.networks import AbstractNetworks, Pass, blaming_the_model, training_mode
from byrote.training.optimise import Gradient
from byrote.training.unfolded import unfold_convolutions


@final
class StackedNetworks(AbstractNetworks):
    """For modules that are functions of their weights, their inputs and the engine's layers alone."""

    def __init__(self, modules: Sequence[nn.Module], *, device: torch.device, unfold: bool = False) -> None:
        """Copy and stack the modules' weights; the first module becomes the skeleton and belongs to the stack.

        Args:
            modules: one per run.
            device: where to train.
            unfold: whether convolutions are matrix products of unfolded patches; otherwise they are grouped.
        """
        self._num_runs = len(modules)
        for module in modules[1:]:
            own_layers(module)
        self._skeleton = modules[0]
        self._layers = own_layers(self._skeleton)
        if unfold:
            unfold_convolutions(self._skeleton)
        self._skeleton.eval().to(device)
        parameters = [dict(module.named_parameters()) for module in modules]
        self._parameters = {
            name: torch.stack([own[name].detach() for own in parameters]).to(device).requires_grad_(first.requires_grad)
            for name, first in parameters[0].items()
        }
        buffers = [dict(module.named_buffers()) for module in modules]
        self._buffers = {name: torch.stack([own[name] for own in buffers]).to(device) for name in buffers[0]}
        kept_as = {id(part): name for name, part in (*parameters[0].items(), *buffers[0].items())}
        whole = self._skeleton.state_dict(keep_vars=True)
        self._names = {name: kept_as[id(part)] for name, part in whole.items()}
        """Of every part in a state, under whatever name a tied one is kept."""
        self._leaves = [weight for weight in self._parameters.values() if weight.requires_grad]
        self._weights = [leaf.detach() for leaf in self._leaves]
        self._learnt: Tensor | None = None

    @property
    @override
    def weights(self) -> Sequence[Float[Tensor, "run ..."]]:
        return self._weights

    @override
    @torch.no_grad()
    def outputs(self, x: Float[Tensor, "run batch ..."]) -> Float[Tensor, "run batch output"]:
        return self._call(x)

    @override
    def differ(self, dropout: Float[Tensor, "run"]) -> bool:
        return self._layers.differ(dropout)

    @override
    @torch.enable_grad()
    def forward(self, x: Float[Tensor, "run batch ..."], about: Pass) -> Float[Tensor, "run batch output"]:
        if self._layers.differ(about.dropout):
            self._layers.prepare(keeps_statistics=not about.again, all_included=False)
            self._buffers.update(self._layers.buffers(keys=about.keys, dropout=about.dropout, included=about.included))
            with training_mode(self._skeleton):
                self._learnt = self._call(x)
        else:
            self._learnt = self._call(x)
        return self._learnt.detach()

    @override
    def gradients(self, slopes: Float[Tensor, "run batch output"]) -> list[Gradient]:
        if self._learnt is None:
            raise RuntimeError("There is no training pass to take gradients of.")
        found = torch.autograd.grad(self._learnt, self._leaves, grad_outputs=slopes, allow_unused=True)
        self._learnt = None
        return list(found)

    @override
    def named(self, parts: Sequence[Float[Tensor, "run ..."]]) -> Mapping[str, Float[Tensor, "run ..."]]:
        trained = [name for name, weight in self._parameters.items() if weight.requires_grad]
        return dict(zip(trained, parts, strict=True))

    @override
    def state(self) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        both = {**self._parameters, **self._buffers}
        return {name: both[first].detach() for name, first in self._names.items()}

    def _call(self, x: Float[Tensor, "run batch ..."]) -> Float[Tensor, "run batch output"]:
        shared = x.stride(0) == 0 and self._num_runs > 1
        mode = "training" if self._skeleton.training else "evaluation"
        with blaming_the_model(x[0], mode=mode), _written_out_attention():
            outputs = vmap(self._one, in_dims=(0, None if shared else 0), randomness="error")(
                {**self._parameters, **self._buffers}, x[0] if shared else x
            )
        return outputs.reshape(*x.shape[:2], -1).to(x.dtype)

    def _one(self, state: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self._skeleton, state, (x,))


@contextmanager
def _written_out_attention() -> Iterator[None]:
    """Attention without its fused kernels, which cannot be stacked."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
