"""A model as a function of its inputs."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from byrote.core import ModelError, describe_failure
from byrote.models.borrowed import Model, random_states

MEMORY = 1 << 28
"""Bytes that the tensors of one chunk of examples may take, about."""
PROBED = 8
"""Examples on which a model is tried out first."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Relative and absolute: rounding passes, another function does not."""
COARSE = 3e-2
"""The same in half precision."""


def ordinary(values: Shaped[Tensor, "*shape"], *, dtype: torch.dtype | None = None) -> Shaped[Tensor, "*shape"]:
    """The same numbers as autograd takes them, also where they come from, or this is called in, inference mode."""
    with torch.inference_mode(False):
        own = values.clone() if values.is_inference() else values.detach()
        return own.to(dtype or own.dtype)


def call(model: Model, x: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """The model's outputs, or its failure in one message.

    Raises:
        ModelError: the model fails, or does not give one row of floating-point numbers for each input.
    """
    try:
        outputs: Any = model(x.clone())  # It may write into its inputs.
    except Exception as error:
        raise ModelError(f"The model failed on inputs of shape {tuple(x.shape)}: {describe_failure(error)}") from error
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or outputs.shape[:1] != x.shape[:1]:
        got = (
            f"{outputs.dtype} of shape {tuple(outputs.shape)}"
            if isinstance(outputs, Tensor)
            else type(outputs).__name__
        )
        raise ModelError(f"Expected the model to give a row of numbers for each of {len(x)} inputs, got {got}.")
    return outputs


def derivatives(
    total: Float[Tensor, ""], leaves: Sequence[Tensor], *, differentiable: bool = False
) -> list[Float[Tensor, "..."] | None]:
    """Of a sum with respect to each leaf; None for one it does not depend on."""
    if not total.requires_grad:
        return [None] * len(leaves)
    return list(torch.autograd.grad(total, leaves, create_graph=differentiable, allow_unused=True))


def try_out(model: Model, x: Shaped[Tensor, "example ..."]) -> int:
    """Refuse a model of which nothing could be said example by example, and see how much memory a pass takes.

    Args:
        model: within `borrowed`.
        x: the inputs; a few are looked at.

    Returns:
        Bytes that a forward pass keeps for the way back, per example, at least 1.

    Raises:
        ModelError: it draws random numbers, or the answer to one example depends on the others.
    """
    few = x[:PROBED]
    part = few[: -(-len(few) // 2)]
    before = random_states(x.device)
    together, kept_together = _remembering(model, few)
    drew = random_states(x.device) != before
    alone, kept_alone = _remembering(model, part)
    if drew or not same(together, call(model, few)):
        raise ModelError(
            "The model draws random numbers while it is evaluated, so that no gradient could be repeated. Let it draw "
            "only when self.training is true; hand over a module rather than a function, so that it can be put in "
            "evaluation mode."
        )
    if not same(together[: len(part)], alone):
        raise ModelError(
            "The model's answer to one example depends on the other examples in its batch (batch statistics without "
            "running averages, or attention across the batch), so nothing can be said of a single one. Hand over a "
            "module rather than a function, so that it can be put in evaluation mode; give BatchNorm "
            "track_running_stats=True, or use GroupNorm."
        )
    return max(1, (kept_together - kept_alone) // max(1, len(few) - len(part)))


def same(one: Tensor, two: Tensor) -> bool:
    """Whether two results differ by rounding alone."""
    tolerance = TOLERANCE.get(one.dtype, COARSE)
    scale = max(1.0, float(two.detach().abs().nan_to_num(0.0, 0.0, 0.0).max())) if two.numel() else 1.0
    return torch.allclose(one, two, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def _remembering(model: Model, x: Tensor) -> tuple[Tensor, int]:
    """A pass, and the bytes of all it kept, weights among them."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    start = x.detach().clone().requires_grad_() if x.is_floating_point() else x
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = call(model, start)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return outputs.detach(), size


def parts(num_examples: int, *, bytes_each: int, memory: int) -> Iterator[slice]:
    """Consecutive examples, so many at a time that they take about this much memory.

    >>> list(parts(5, bytes_each=4, memory=8))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]

    Raises:
        ValueError: memory is not above 0.
    """
    if memory <= 0:
        raise ValueError(f"Expected memory above 0 bytes, got {memory!r}.")
    size = max(1, memory // bytes_each)
    return (slice(begin, min(num_examples, begin + size)) for begin in range(0, num_examples, size))
