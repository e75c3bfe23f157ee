"""The model's outputs on the way to the loss, where the Gauss–Newton matrix cuts."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from jaxtyping import Float
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.curvature.differentiate import Batch, Loss, example_losses, pulled_back


class Cut(NamedTuple):
    """A loss cut in two at the model's outputs."""

    losses: Float[Tensor, "example"]
    outputs: list[Tensor]
    """As functions of the weights."""
    cuts: list[Tensor]
    """The same numbers, of which the losses are functions."""

    def single(self) -> Float[Tensor, "example ..."]:
        """The one output there is.

        Raises:
            ModelError: there are several.
        """
        if len(self.outputs) != 1:
            raise ModelError(
                "To draw answers from the model, a single tensor as its output is expected, got "
                f"{len(self.outputs)}. Hand over a module that gives the logits alone, and its loss."
            )
        return self.outputs[0]

    def check_nothing_else(self, leaves: Sequence[Tensor]) -> None:
        """Refuse a loss that depends on the weights in another way than through the model's outputs.

        Raises:
            ModelError: it does, or the model computes the loss itself.
        """
        total = self.losses.sum()
        slopes = [total.new_ones(())]
        if any(part is not None for part in pulled_back([total], leaves, slopes=slopes, again=True)):
            raise ModelError(
                "The Gauss–Newton matrix is defined by the model's outputs, and this loss depends on the weights in "
                "another way too (a penalty on weights, a layer that the loss calls itself). Leave that out of it."
            )
        used = pulled_back([total], self.cuts, slopes=slopes, again=True)
        if any(part is not None and cut.ndim == 0 for part, cut in zip(used, self.cuts, strict=True)):
            raise ModelError(
                "The Gauss–Newton matrix needs the outputs of single examples, and this model computes its loss "
                "itself. Compute the loss of each example from the model's logits."
            )


def cut_at_outputs(model: nn.Module, *, loss: Loss, batch: Batch, attached: bool = False) -> Cut:
    """Compute the losses of a batch, and catch the model's outputs on the way.

    Args:
        model: which the loss calls once.
        loss: of each example.
        batch: what it is computed on.
        attached: whether the losses stay functions of the weights; the cuts are then the outputs themselves.

    Raises:
        ModelError: the loss does not call the model once, or no output is a floating-point tensor.
    """
    outputs: list[Tensor] = []
    cuts: list[Tensor] = []
    calls: list[nn.Module] = []

    def cut(tensor: Tensor) -> Tensor:
        outputs.append(tensor)
        cuts.append(tensor if attached else tensor.detach().requires_grad_())
        return cuts[-1]

    def catch(module: nn.Module, inputs: Any, result: Any) -> Any:
        calls.append(module)
        return _replaced(result, cut)

    hook = model.register_forward_hook(catch)
    try:
        losses = example_losses(model, loss=loss, batch=batch)
    finally:
        hook.remove()
    if len(calls) != 1 or not outputs:
        raise ModelError(
            "The Gauss–Newton and Fisher matrices are defined by the model's outputs, so a loss that calls the model "
            f"once, for at least one floating-point tensor, is expected; it called it {len(calls)} times and got "
            f"{len(outputs)}. Call the module itself rather than one of its methods."
        )
    return Cut(losses, outputs, cuts)


def _replaced(result: Any, cut: Any) -> Any:
    """The same structure of tuples, lists and dictionaries, its floating-point tensors replaced."""
    if isinstance(result, Tensor):
        return cut(result) if result.is_floating_point() else result
    if isinstance(result, Mapping):
        return _replaced_in_mapping(result, cut)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(result, (tuple, list)):
        return _replaced_in_row(result, cut)  # pyright: ignore[reportUnknownArgumentType]
    return result


def _replaced_in_mapping(result: Any, cut: Any) -> Any:
    own = copy.copy(result)
    for name in list(own):
        own[name] = _replaced(own[name], cut)
    return own


def _replaced_in_row(result: Any, cut: Any) -> Any:
    kind = cast(Any, type(result))
    parts = [_replaced(part, cut) for part in result]
    return kind(parts) if kind in (tuple, list) else kind(*parts)  # pyright: ignore[reportUnknownVariableType]
