"""How wrong each example is answered."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.passes.evaluation import ordinary


def losses(outputs: Float[Tensor, "batch ..."], targets: Shaped[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Cross-entropy −log softmax(z)_y where targets are classes, squared error (z − y)² where they are numbers.

    >>> losses(torch.zeros(1, 8), torch.tensor([3]))  # ln 8
    tensor([2.0794])

    Raises:
        ModelError: the outputs are not one row of logits, or one number, for each example.
    """
    if targets.is_floating_point():
        if outputs.numel() != len(targets):
            raise ModelError(
                f"The targets are numbers, so one output for each example is expected, got {tuple(outputs.shape)}."
            )
        return (outputs.reshape(len(targets)) - targets).square()
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ModelError(
            f"The targets are classes, so logits of shape [{len(targets)}, class] for at least two classes are "
            f"expected, got {tuple(outputs.shape)}. For a single logit z hand over the model with outputs (0, z)."
        )
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def checked_targets(targets: Shaped[Tensor, "..."], *, x: Shaped[Tensor, "example ..."]) -> Shaped[Tensor, "example"]:
    """Targets as losses take them: int64, or the precision of the inputs.

    Raises:
        TypeError: they are neither whole nor floating-point numbers.
        ValueError: there is not one for each example, one is below 0, or they are on another device than the inputs.
    """
    if targets.device != x.device:
        raise ValueError(f"Expected inputs and targets on one device, got {x.device} and {targets.device}.")
    if targets.ndim != 1 or len(targets) != len(x):
        raise ValueError(f"Expected one target for each of {len(x)} examples, got shape {tuple(targets.shape)}.")
    if targets.is_floating_point():
        return ordinary(targets, dtype=x.dtype if x.is_floating_point() else None)
    if targets.dtype == torch.bool or targets.is_complex():
        raise TypeError(f"Expected class codes or real numbers as targets, got {targets.dtype}.")
    codes = ordinary(targets, dtype=torch.int64)
    if len(codes) and int(codes.min()) < 0:
        raise ValueError(f"Expected class codes from 0 up, got {int(codes.min())}.")
    return codes
