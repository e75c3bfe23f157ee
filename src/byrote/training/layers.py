"""Layers whose randomness and buffers belong to the engine, so that networks that have them can be stacked.

They take the place of torch's own inside a network and compute the same, but dropout draws from the keys of its run
and step, and batch statistics are those of the examples that a run is trained on.
"""

from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from typing_extensions import override

from byrote.training.draws import kept, narrow

CALLS = 1024
"""More often than this a layer is not called in one pass."""
ALMOST = 1 - 2**-20
"""A rate that the draws can tell from 1."""


@final
class OwnedDropout(nn.Module):
    """Dropout as a function of its key: x·m/(1 − p) with m ~ Bernoulli(1 − p) while training, x otherwise.

    As `torch.nn.Dropout`, or with one m per channel as `Dropout1d`, `Dropout2d` and `Dropout3d`.
    """

    key: Int[Tensor, "2"]
    rate: Float[Tensor, ""]

    def __init__(self, layer: nn.Module, *, index: int, p: float, dimensions: int | None) -> None:
        """Take the place of a layer, the index-th of its network; `dimensions` of a map that is dropped whole."""
        super().__init__()
        self.index, self.p, self.dimensions = index, p, dimensions
        self.training = layer.training
        self.calls = 0
        """In this pass; a layer may be called more than once."""
        self.register_buffer("key", torch.zeros(2, dtype=torch.int32), persistent=False)
        self.register_buffer("rate", torch.tensor(float(p)), persistent=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Drop, while training."""
        if not self.training:
            return x
        if self.calls == CALLS:
            raise RuntimeError(f"A dropout layer was called more than {CALLS} times in one pass.")
        key = narrow(self.key, CALLS * self.index + self.calls)
        self.calls += 1
        return x * factors(key, self._drawn(x.shape), self.rate, x.dtype)

    def _drawn(self, shape: Sequence[int]) -> Sequence[int]:
        """What is drawn for: every number, or every channel; the first axis alone where torch sees a single example."""
        if self.dimensions is None:
            return shape
        own = 2 if len(shape) == self.dimensions + 2 or (self.dimensions, len(shape)) == (2, 3) else 1
        return (*shape[:own], *[1] * (len(shape) - own))


def factors(
    key: Int[Tensor, "2"], shape: Sequence[int], rate: Float[Tensor, ""], dtype: torch.dtype
) -> Float[Tensor, "..."]:
    """1/(1 − p) with probability 1 − p, and 0; at p = 1 nothing but 0."""
    size = torch.where(rate < 1, 1 / (1 - rate), 0)
    return kept(key, shape, rate.clamp(max=ALMOST)).to(dtype) * size.to(dtype)


@final
class OwnedBatchNorm(nn.Module):
    """Batch normalisation over the examples that a run is trained on: (x − mean)/√(var + ε)·γ + β.

    While training, mean and biased variance are those of the included examples of the batch, and the running averages
    take in mean and unbiased variance; in evaluation mode the running averages are used, and also while training on a
    single value, of which there is no variance. As `torch.nn.BatchNorm1d` to `3d` on the included examples alone.
    """

    included: Bool[Tensor, "batch"]
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        """Take the place of a layer, with its parameters and buffers."""
        super().__init__()
        self.training = layer.training
        self.eps, self.momentum = layer.eps, layer.momentum
        self.num_features = layer.num_features
        self.keeps_statistics = True
        """Whether a training pass changes the running averages."""
        self.all_included = False
        """Whether torch's own kernel does it: a network alone, trained on everything in the batch."""
        for name, parameter in layer.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        if not layer.affine:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        for name, buffer in layer.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.register_buffer("included", torch.ones(1, dtype=torch.bool), persistent=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Normalise; while training by what is included, and remember it."""
        several = x.numel() > x.shape[1]
        if self.training and several and self.all_included and self.keeps_statistics and self.momentum is not None:
            self.num_batches_tracked.add_(1)
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum, self.eps
            )
        given = x.dtype
        x = x.float() if given in (torch.bfloat16, torch.float16) else x
        axes = [0, *range(2, x.ndim)]
        as_channels = (1, -1, *[1] * (x.ndim - 2))
        mean, var = self.running_mean, self.running_var
        if self.training:
            share = self.included.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
            number = self.included.sum() * (x[0].numel() // x.shape[1])
            total = number.clamp(min=1).to(x.dtype)
            seen = (x * share).sum(axes) / total
            spread = ((x - seen.view(as_channels)).square() * share).sum(axes) / total
            if self.keeps_statistics:
                self._remember(seen.detach(), spread.detach(), number)
            enough = number > 1
            mean, var = torch.where(enough, seen, mean), torch.where(enough, spread, var)
        normed = (x - mean.view(as_channels)) * (var + self.eps).rsqrt().view(as_channels)
        if self.weight is not None and self.bias is not None:
            normed = normed * self.weight.view(as_channels) + self.bias.view(as_channels)
        return normed.to(given)

    def _remember(self, mean: Tensor, var: Tensor, number: Int[Tensor, ""]) -> None:
        enough = (number > 1).to(mean.dtype)
        self.num_batches_tracked.add_((number > 1).to(self.num_batches_tracked.dtype))
        count = self.num_batches_tracked.clamp(min=1).to(mean.dtype)
        rate = enough / count if self.momentum is None else enough * self.momentum
        unbiased = var * (number.to(var.dtype) / (number - 1).clamp(min=1).to(var.dtype))
        self.running_mean.add_(rate * (mean - self.running_mean))
        self.running_var.add_(rate * (unbiased - self.running_var))


DROPOUTS = {nn.Dropout: None, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}
"""Dimensions of the maps that they drop whole; None for single numbers."""
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Rates(NamedTuple):
    """How often dropout drops, for a while."""

    asked: Float[Tensor, "run"]
    """What the recipes say; NaN leaves each layer's own."""
    layers: tuple[Float[Tensor, "run"], ...]
    """Of every dropout layer."""
    drop: tuple[bool, ...]
    """Whether any run's layer drops anything."""


@final
class OwnedLayers:
    """The engine's layers in a network, by their names in it."""

    def __init__(self) -> None:
        """None yet."""
        self.dropouts: dict[str, OwnedDropout] = {}
        self.batch_norms: dict[str, OwnedBatchNorm] = {}
        self._rates: Rates | None = None

    def prepare(self, *, keeps_statistics: bool, all_included: bool) -> None:
        """Before a training pass."""
        for layer in self.dropouts.values():
            layer.calls = 0
        for norm in self.batch_norms.values():
            norm.keeps_statistics, norm.all_included = keeps_statistics, all_included

    def differ(self, asked: Float[Tensor, "run"]) -> bool:
        """Whether a training pass gives other outputs than an evaluation, at these rates."""
        return bool(self.batch_norms) or any(self.rates(asked).drop)

    def rates(self, asked: Float[Tensor, "run"]) -> Rates:
        """The rates that are in force; worked out once for as long as the same tensor is handed in."""
        if self._rates is None or self._rates.asked is not asked:
            rates = tuple(torch.where(asked.isnan(), layer.p, asked) for layer in self.dropouts.values())
            self._rates = Rates(asked, rates, tuple(bool((rate > 0).any()) for rate in rates))
        return self._rates

    def buffers(
        self,
        *,
        keys: Int[Tensor, "run 2"],
        dropout: Float[Tensor, "run"],
        included: Bool[Tensor, "run batch"],
    ) -> dict[str, Tensor]:
        """What the layers have to know of a step, by the names of their buffers, one row a run."""
        known: dict[str, Tensor] = {}
        for name, rate in zip(self.dropouts, self.rates(dropout).layers, strict=True):
            known[f"{name}.key"], known[f"{name}.rate"] = keys, rate
        known.update({f"{name}.included": included for name in self.batch_norms})
        return known


def own_layers(module: nn.Module) -> OwnedLayers:
    """Put the engine's layers in the place of torch's dropout and batch normalisation, in a network of one's own.

    Also let ReLU follow max-pooling where it precedes it in a network that is a `Sequential`, of which nobody else
    takes a part: max and ReLU commute, in outputs and gradients, and after pooling there is less to do.
    """
    made: dict[nn.Module, nn.Module] = {}
    owned = OwnedLayers()
    _pool_first(module)
    for prefix, parent in list(module.named_modules()):
        for name, child in list(parent._modules.items()):
            if child is None:
                continue
            full = f"{prefix}.{name}" if prefix else name
            replacement = made.get(child) or _owned(child, index=len(made))
            if replacement is None:
                continue
            if child not in made:
                made[child] = replacement
                if isinstance(replacement, OwnedDropout):
                    owned.dropouts[full] = replacement
                elif isinstance(replacement, OwnedBatchNorm):
                    owned.batch_norms[full] = replacement
            setattr(parent, name, replacement)
    return owned


def _owned(layer: nn.Module, *, index: int) -> nn.Module | None:
    if has_hooks(layer):
        return None
    if type(layer) in DROPOUTS:
        return OwnedDropout(layer, index=index, p=float(layer.p), dimensions=DROPOUTS[type(layer)])  # pyright: ignore
    if type(layer) in BATCH_NORMS and layer.track_running_stats:
        return OwnedBatchNorm(layer)  # pyright: ignore
    return None


def has_hooks(layer: nn.Module) -> bool:
    """Whether something of the user's is called when the layer is."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _pool_first(module: nn.Module) -> None:
    if type(module) is not nn.Sequential or has_hooks(module):
        return
    for inner in module:
        _pool_first(inner)
    for index in range(len(module) - 1):
        relu, pool = module[index], module[index + 1]
        plain = type(relu) is nn.ReLU and type(pool) is nn.MaxPool2d and not pool.return_indices
        if plain and not has_hooks(relu) and not has_hooks(pool):
            module[index], module[index + 1] = pool, nn.ReLU()


def keeps_its_own(module: nn.Module) -> bool:
    """Whether a layer was left in its place that only the engine's could make repeatable in a stack."""
    return any(
        type(layer) in DROPOUTS or (isinstance(layer, BATCH_NORMS) and layer.track_running_stats)
        for layer in module.modules()
    )


def has_dropout(module: nn.Module) -> bool:
    """Whether a network has a layer whose rate a recipe can set."""
    return any(type(layer) in DROPOUTS for layer in module.modules())
