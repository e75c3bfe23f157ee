"""What kind of model this is: can many be stacked, does it behave differently while training?"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from byrote.core import ModelError, describe_failure
from byrote.training.networks import AbstractNetworks, SingleNetwork, StackedNetworks, seeded

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Relative and absolute: rounding passes, another function does not."""
JITTER = 0.05
"""Standard deviation of what is added to weights, so that a head that starts at zero hides nothing behind it."""


class Nature(NamedTuple):
    """How a model may be trained."""

    stackable: bool
    """`torch.func.vmap` gives the outputs and gradients that the module itself gives."""
    modes_differ: bool
    """Dropout, BatchNorm and their kind: training mode is not evaluation mode."""
    reason: str
    """Why it cannot be stacked; empty when it can."""


def inspect_model(make: Callable[[int], nn.Module], x: Float[Tensor, "batch ..."]) -> Nature:
    """Find out by trying, and refuse what would be silently wrong.

    Args:
        make: makes a fresh network from a seed.
        x: a few inputs, on the device to train on.

    Raises:
        ModelError: the factory gives the same module twice, or other weights for the same seed; two passes in
            evaluation mode differ; the answer to one example depends on the others in the batch; the model fails in
            training mode.
    """
    first, again, other = make(0), make(0), make(1)
    _refuse_shared(first, again)
    for seed, module in ((0, first), (0, again), (1, other)):
        _jitter(module.to(x.device), seed)
    recorded, drew = _outputs(first.eval(), x, seed=1)
    _refuse_random(recorded, _outputs(first, x, seed=2)[0], drew=drew)
    half = max(1, len(x) // 2)
    _refuse_mixing(recorded[:half], _outputs(first, x[:half], seed=1)[0])
    learnt, drew = _outputs(again.train(), x, seed=2)
    by_type = any(isinstance(layer, (_NormBase, _DropoutNd)) for layer in first.modules())
    if by_type or drew or not _same(recorded, learnt):
        return Nature(False, True, "training and evaluation mode differ (dropout or batch statistics)")
    reason = _reason_against_stacking(first, other, x)
    return Nature(not reason, False, reason)


def _refuse_shared(first: nn.Module, again: nn.Module) -> None:
    theirs = {id(weight) for weight in first.parameters()}
    if first is again or any(id(weight) in theirs for weight in again.parameters()):
        raise ModelError(
            "The factory gave the same module, or the same weights, twice. Every run needs a network of its own: "
            "make it inside the factory (a trained one: load it or copy.deepcopy it there)."
        )
    one, two = dict(first.named_parameters()), dict(again.named_parameters())
    changed = [
        name for name in {**one, **two} if not (name in one and name in two and torch.equal(one[name], two[name]))
    ]
    if changed:
        raise ModelError(
            f"The factory made two networks from the same seed, and {changed[0]} differs, so that no run could be "
            f"repeated. Draw initial weights from torch's global generator, which byrote seeds, not from numpy's or "
            f"Python's."
        )


def _jitter(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.add_(JITTER * noise.to(weight.device))


class _Pass(NamedTuple):
    outputs: Float[Tensor, "batch output"]
    drew: bool


def _outputs(module: nn.Module, x: Tensor, *, seed: int) -> _Pass:
    with seeded(seed, x.device) as generator, torch.no_grad():
        before = generator.get_state()
        try:
            outputs = module(x)
        except Exception as error:
            mode = "training" if module.training else "evaluation"
            raise ModelError(
                f"The model failed on inputs of shape {tuple(x.shape)} in {mode} mode: {describe_failure(error)}"
            ) from error
        return _Pass(outputs.reshape(len(x), -1), not torch.equal(before, generator.get_state()))


def _refuse_random(one: Tensor, two: Tensor, *, drew: bool) -> None:
    if drew or not _same(one, two):
        raise ModelError(
            "The model draws random numbers in evaluation mode, so that two passes over the same inputs differ. "
            "Let it draw only when self.training is true."
        )


def _refuse_mixing(together: Tensor, alone: Tensor) -> None:
    if not _same(together, alone):
        raise ModelError(
            "In evaluation mode the model's answer to one example depends on the other examples in its batch (batch "
            "statistics without running averages, or attention across the batch). Examples left out would reach the "
            "training, and nothing said of a single example would hold. Give BatchNorm track_running_stats=True, or "
            "use GroupNorm."
        )


def _reason_against_stacking(first: nn.Module, other: nn.Module, x: Tensor) -> str:
    """Stack two different networks and compare the second with itself; empty when all is well."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="There is a performance drop")
            stacked = StackedNetworks([other, first], device=x.device)
            outputs, gradients = _answers(stacked, x)
    except Exception as error:
        return f"torch.func.vmap cannot run it: {type(error).__name__}: {error!s:.200}"
    own_outputs, own_gradients = _answers(SingleNetwork(first, device=x.device, modes_differ=False, seed=0), x)
    if not _same(outputs[1], own_outputs[0]):
        return "torch.func.vmap gives other outputs than the module itself"
    if not all(_same(g[1], own) for g, own in zip(gradients, own_gradients, strict=True)):
        return "torch.func.vmap gives other gradients than the module itself"
    return ""


class _Answers(NamedTuple):
    outputs: Tensor
    gradients: tuple[Tensor, ...]


def _answers(networks: AbstractNetworks, x: Tensor) -> _Answers:
    with torch.enable_grad():
        outputs = networks.logits(x)
        gradients = torch.autograd.grad(
            outputs.square().sum(), networks.parameters, allow_unused=True, materialize_grads=True
        )
    return _Answers(outputs.detach(), gradients)


def _same(one: Tensor, two: Tensor) -> bool:
    tolerance = TOLERANCE[one.dtype]
    scale = max(1.0, float(two.abs().max())) if two.numel() else 1.0
    return torch.allclose(one, two, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
