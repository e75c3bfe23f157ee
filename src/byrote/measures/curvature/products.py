"""What one batch keeps so that a matrix of its curvature can be multiplied with one vector after another."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from byrote.core import ModelError, describe_failure

Batch = Any
"""Whatever the loss understands: a tensor, a tuple, a dictionary."""
Loss = Callable[[nn.Module, Batch], Float[Tensor, "example"]]
"""From a model and a batch, one value for each example."""

NO_SECOND = (
    "Curvature needs second derivatives, and a part of this model or loss has none: {} Replace it by one that has, or "
    "leave the parameters before it out."
)


class AbstractGraph(ABC):
    """A batch's graph, as autograd keeps it."""

    @abstractmethod
    def product(self, parts: Sequence[Tensor]) -> list[Tensor | None]:
        """The matrix, of the mean over the batch, times a vector; in parts like the parameters."""


def example_losses(model: nn.Module, *, loss: Loss, batch: Batch) -> Float[Tensor, "example"]:
    """The loss of each example of a batch, or its failure in one message.

    Raises:
        ModelError: it fails, or gives anything but one floating-point number for each example.
    """
    try:
        values: Any = loss(model, batch)
    except Exception as error:
        raise ModelError(f"The loss failed on a batch: {describe_failure(error)}") from error
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.ndim != 1 or not len(values):
        got = f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ModelError(
            "Expected loss(model, batch) to give one floating-point number for each example, as with "
            f"reduction='none', got {got}."
        )
    return values


def pulled_back(
    outputs: Sequence[Tensor],
    leaves: Sequence[Tensor],
    *,
    slopes: Sequence[Tensor] | None = None,
    differentiable: bool = False,
    again: bool = False,
) -> list[Tensor | None]:
    """Derivatives of Σ outputs·slopes with respect to leaves; None for a leaf that nothing depends on.

    Args:
        outputs: those that do not depend on any leaf are left out.
        leaves: what to differentiate with respect to.
        slopes: one for each output; None for a single number.
        differentiable: whether the derivatives are to be differentiated themselves.
        again: whether the graph is kept.

    Raises:
        ModelError: there is no such derivative.
    """
    alive = [place for place, output in enumerate(outputs) if output.requires_grad]
    if not alive:
        return [None] * len(leaves)
    try:
        return list(
            torch.autograd.grad(
                [outputs[place] for place in alive],
                list(leaves),
                grad_outputs=None if slopes is None else [slopes[place] for place in alive],
                create_graph=differentiable,
                retain_graph=again or differentiable,
                allow_unused=True,
            )
        )
    except (RuntimeError, NotImplementedError) as error:
        raise ModelError(NO_SECOND.format(f"{error!s:.200}")) from error


@final
class HessianGraph(AbstractGraph):
    """By double backward: Hv = ∂(g·v)/∂θ, the gradient g being kept together with how it came about."""

    def __init__(self, model: nn.Module, *, loss: Loss, batch: Batch, leaves: Sequence[Tensor]) -> None:
        values = example_losses(model, loss=loss, batch=batch)
        self.num_examples = len(values)
        self._leaves = list(leaves)
        self.gradient = pulled_back([values.double().mean()], self._leaves, differentiable=True)

    def product(self, parts: Sequence[Tensor]) -> list[Tensor | None]:
        """Hv."""
        pairs = [(g, part) for g, part in zip(self.gradient, parts, strict=True) if g is not None]
        return pulled_back([g for g, _ in pairs], self._leaves, slopes=[part for _, part in pairs], again=True)
