"""Losses of examples and their derivatives, each failure in one message."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from byrote.core import ModelError, describe_failure
from byrote.models.second_derivatives import is_cut_short

Batch = Any
"""Whatever the loss understands: a tensor, a tuple, a dictionary."""
Loss = Callable[[nn.Module, Batch], Tensor]
"""From a model and a batch, one value for each example: [example]."""

NO_SECOND = (
    "Curvature needs second derivatives, and a part of this model or its loss has none: {}. Replace it (a fused "
    "kernel, a function marked as once_differentiable?) by one written in plain operations."
)


def example_losses(model: nn.Module, *, loss: Loss, batch: Batch) -> Float[Tensor, "example"]:
    """The loss of each example of a batch.

    Raises:
        ModelError: it fails, or gives anything but one floating-point number for each example.
    """
    try:
        values: Any = loss(model, batch)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"The loss failed on a batch: {describe_failure(error)} (it is called as loss(model, batch) and gives one "
            "number for each example)"
        ) from error
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.ndim != 1 or not len(values):
        got = f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ModelError(
            "Expected loss(model, batch) to give one floating-point number for each example, a tensor of shape "
            f"[example] as with reduction='none', got {got}. Sum or average over what else there is, such as outputs."
        )
    return values


def pulled_back(
    outputs: Sequence[Tensor],
    leaves: Sequence[Tensor],
    *,
    slopes: Sequence[Tensor],
    differentiable: bool = False,
    again: bool = False,
) -> list[Tensor | None]:
    """Derivatives of Σ outputs·slopes with respect to leaves; None for a leaf that nothing depends on.

    Args:
        outputs: those that do not depend on any leaf are left out.
        leaves: what to differentiate with respect to.
        slopes: one for each output.
        differentiable: whether the derivatives are to be differentiated themselves.
        again: whether the graph is kept.

    Raises:
        ModelError: there is no such derivative.
    """
    alive = [place for place, output in enumerate(outputs) if output.requires_grad]
    if not alive or not leaves:
        return [None] * len(leaves)
    try:
        return list(
            torch.autograd.grad(
                [outputs[place] for place in alive],
                list(leaves),
                grad_outputs=[slopes[place] for place in alive],
                create_graph=differentiable,
                retain_graph=again or differentiable,
                allow_unused=True,
            )
        )
    except (RuntimeError, NotImplementedError) as error:
        raise ModelError(NO_SECOND.format(f"{error!s:.200}")) from error


def mean_slopes(
    losses: Float[Tensor, "example"], leaves: Sequence[Tensor], *, differentiable: bool = False, check: bool = False
) -> list[Tensor | None]:
    """Derivatives of the mean of losses, in the highest precision there is.

    Args:
        losses: of a batch.
        leaves: what to differentiate with respect to.
        differentiable: whether the derivatives are to be differentiated themselves.
        check: whether to make sure that they can be.
    """
    mean = losses.to(widest(losses.device)).mean()
    # What has no second derivatives says so only to a slope that has derivatives itself.
    slope = torch.ones_like(mean).requires_grad_(check)
    found = pulled_back([mean], leaves, slopes=[slope], differentiable=differentiable)
    if check:
        check_differentiable(found)
    return found


def widest(device: torch.device) -> torch.dtype:
    """In which numbers are added up there: float64, but Apple's GPUs have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def check_differentiable(derivatives: Sequence[Tensor | None]) -> None:
    """Refuse derivatives that autograd would differentiate again only in part.

    Raises:
        ModelError: some function in them is marked as once_differentiable.
    """
    if is_cut_short([part for part in derivatives if part is not None]):
        raise ModelError(NO_SECOND.format("a derivative that has none itself"))
