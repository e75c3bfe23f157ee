"""Multilayer perceptrons as batched matrix products, forward and backward written out."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from typing_extensions import override

from byrote.training.chains import chain_of
from byrote.training.draws import narrow
from byrote.training.layers import CALLS, OwnedDropout, factors, own_layers
from byrote.training.networks import AbstractNetworks, Pass
from byrote.training.optimise import Gradient, Product


class Activation(NamedTuple):
    """An elementwise function and its derivative. Both may overwrite what they are given first."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Of the slope behind it, its input and its output: the slope before it."""


def _relu_backward(slope: Tensor, _: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(slope, output, 0, grad_input=slope)


def _activation(layer: nn.Module) -> Activation | None:
    """What can be written out; None for anything else."""
    if type(layer) is nn.ReLU:
        return Activation(torch.relu_, _relu_backward)
    if type(layer) is nn.Tanh:
        return Activation(torch.tanh, lambda slope, _, output: torch.ops.aten.tanh_backward(slope, output))
    if type(layer) is nn.Sigmoid:
        return Activation(torch.sigmoid, lambda slope, _, output: torch.ops.aten.sigmoid_backward(slope, output))
    if type(layer) is nn.SiLU:
        return Activation(nn.functional.silu, lambda slope, x, _: torch.ops.aten.silu_backward(slope, x))
    if type(layer) is nn.GELU:
        kind = layer.approximate
        return Activation(
            lambda x: nn.functional.gelu(x, approximate=kind),
            lambda slope, x, _: torch.ops.aten.gelu_backward(slope, x, approximate=kind),
        )
    return None


@final
class _Affine:
    """x·W + b of every run."""

    def __init__(
        self,
        name: str,
        *,
        weight: Float[Tensor, "run fan_in fan_out"],
        bias: Float[Tensor, "run 1 fan_out"] | None,
    ) -> None:
        self.name, self.weight, self.bias = name, weight, bias
        self.inputs: Float[Tensor, "run batch fan_in"] | None = None
        """Of the last training pass."""


@final
class _Elementwise:
    """An activation."""

    def __init__(self, rule: Activation) -> None:
        self.rule = rule
        self.inputs: Tensor | None = None
        """Of the last training pass."""
        self.outputs: Tensor | None = None
        """Of the last training pass."""


@final
class _Dropout:
    """A dropout layer."""

    def __init__(self, layer: OwnedDropout, *, place: int, call: int) -> None:
        self.layer, self.place, self.call = layer, place, call
        """Which of the network's dropout layers it is, and how often that was called before."""
        self.factors: Tensor | None = None
        """Drawn in the last training pass."""


_Step = _Affine | _Elementwise | _Dropout


@final
class DenseNetworks(AbstractNetworks):
    """Stacks of what `chain_of` knows.

    Weights are kept as [run, fan_in, fan_out], so that every product runs along rows of memory, and gradients are left
    as products, so that momentum takes them in while they are multiplied out.
    """

    def __init__(self, modules: Sequence[nn.Module], *, device: torch.device) -> None:
        """Copy and stack the modules' weights."""
        self._num_runs = len(modules)
        self._layers = own_layers(modules[0])
        links = chain_of(modules[0])
        if not links:
            raise ValueError("Expected a chain of affine maps, activations and dropout.")
        states = [module.state_dict() for module in modules]

        def stack(name: str) -> Tensor:
            return torch.stack([state[name] for state in states]).to(device)

        self._steps: list[_Step] = []
        for name, layer in links:
            if isinstance(layer, nn.Linear):
                bias = None if layer.bias is None else stack(f"{name}.bias")[:, None].contiguous()
                weight = stack(f"{name}.weight").mT.contiguous()
                self._steps.append(_Affine(name, weight=weight, bias=bias))
            elif isinstance(layer, OwnedDropout):
                place = list(self._layers.dropouts.values()).index(layer)
                before = [step for step in self._steps if isinstance(step, _Dropout) and step.layer is layer]
                self._steps.append(_Dropout(layer, place=place, call=len(before)))
            elif (rule := _activation(layer)) is not None:
                self._steps.append(_Elementwise(rule))
        self._affine = [step for step in self._steps if isinstance(step, _Affine)]
        self._weights = [part for step in self._affine for part in (step.weight, step.bias) if part is not None]
        self._scratch: dict[tuple[int, str], Tensor] = {}

    @property
    @override
    def weights(self) -> Sequence[Float[Tensor, "run ..."]]:
        return self._weights

    @override
    def differ(self, dropout: Float[Tensor, "run"]) -> bool:
        return self._layers.differ(dropout)

    @override
    @torch.no_grad()
    def outputs(self, x: Float[Tensor, "run batch ..."]) -> Float[Tensor, "run batch output"]:
        h = _flat(x)
        for step in self._steps:
            if isinstance(step, _Affine):
                h = _affine(step, h, None)
            elif isinstance(step, _Elementwise):
                h = step.rule.forward(h)
        return h

    @override
    @torch.no_grad()
    def forward(self, x: Float[Tensor, "run batch ..."], about: Pass) -> Float[Tensor, "run batch output"]:
        h = _flat(x)
        rates = self._layers.rates(about.dropout)
        for index, step in enumerate(self._steps):
            if isinstance(step, _Affine):
                step.inputs = h
                h = _affine(step, h, self._room(f"{index}", h, step))
            elif isinstance(step, _Elementwise):
                step.inputs, h = h, step.rule.forward(h)
                step.outputs = h
            else:
                drops, rate = rates.drop[step.place], rates.layers[step.place]
                step.factors = _factors(step, rate, like=h, about=about) if drops else None
                h = h if step.factors is None else h * step.factors
        return h

    @override
    @torch.no_grad()
    def gradients(self, slopes: Float[Tensor, "run batch output"]) -> list[Gradient]:
        found: list[Gradient] = []
        slope = slopes
        for index, step in reversed(list(enumerate(self._steps))):
            if isinstance(step, _Affine):
                if step.inputs is None:
                    raise RuntimeError("There is no training pass to take gradients of.")
                if step.bias is not None:
                    found.append(slope.sum(1, keepdim=True))
                found.append(Product(step.inputs.mT, slope))
                if step is self._affine[0]:
                    break
                slope = torch.bmm(slope, step.weight.mT, out=self._room(f"slope {index}", slope, step, back=True))
            elif isinstance(step, _Elementwise):
                slope = step.rule.backward(slope, step.inputs, step.outputs)  # pyright: ignore[reportArgumentType]
            elif step.factors is not None:
                slope = slope * step.factors
        return found[::-1]

    def _room(self, name: str, like: Tensor, step: _Affine, *, back: bool = False) -> Tensor:
        """Scratch memory for a layer's outputs, or for the slopes before it: asked of the system once."""
        width = step.weight.shape[1 if back else 2]
        key = (like.shape[1], name)
        if key not in self._scratch:
            self._scratch[key] = like.new_empty(self._num_runs, like.shape[1], width)
        return self._scratch[key]

    @override
    def named(self, parts: Sequence[Float[Tensor, "run ..."]]) -> Mapping[str, Float[Tensor, "run ..."]]:
        rest, named = iter(parts), dict[str, Tensor]()
        for step in self._affine:
            named[f"{step.name}.weight"] = next(rest).mT
            if step.bias is not None:
                named[f"{step.name}.bias"] = next(rest)[:, 0]
        return named

    @override
    def state(self) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        return self.named(self._weights)


def _flat(x: Float[Tensor, "run batch ..."]) -> Float[Tensor, "run batch feature"]:
    """As rows; inputs that runs share are not copied."""
    size = math.prod(x.shape[2:])
    return x[0].reshape(-1, size).expand(len(x), -1, -1) if x.stride(0) == 0 else x.reshape(*x.shape[:2], size)


def _affine(step: _Affine, x: Tensor, room: Tensor | None) -> Float[Tensor, "run batch fan_out"]:
    if step.bias is None:
        return torch.bmm(x, step.weight) if room is None else torch.bmm(x, step.weight, out=room)
    if room is None:
        return torch.baddbmm(step.bias, x, step.weight)
    return torch.baddbmm(step.bias, x, step.weight, out=room)


def _factors(
    step: _Dropout, rate: Float[Tensor, "run"], *, like: Float[Tensor, "run batch feature"], about: Pass
) -> Float[Tensor, "run batch feature"]:
    """0, or 1/(1 − p), as `OwnedDropout` draws them."""
    keys = narrow(about.keys, CALLS * step.layer.index + step.call)
    return torch.stack([factors(key, like.shape[1:], p, like.dtype) for key, p in zip(keys, rate, strict=True)])
