"""Whether a batch's arrays fit together."""

from typing import NamedTuple

import torch
from jaxtyping import Int, Num, Shaped
from torch import Tensor


class Checked(NamedTuple):
    """Outputs and targets of one shape each, whatever they came in."""

    outputs: Shaped[Tensor, "visit output"]
    targets: Shaped[Tensor, "visit"]


def checked_batch(
    rows: Int[Tensor, "visit"], outputs: Shaped[Tensor, "..."], targets: Shaped[Tensor, "..."], *, regression: bool
) -> Checked:
    """Outputs as a matrix and targets as a vector, or an error that says what came.

    Raises:
        TypeError: class targets are not codes.
        ValueError: shapes do not fit, or a target on the CPU is no class.
    """
    num = rows.shape[0]
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if outputs.ndim != 2 or outputs.shape[0] != num:
        wanted = "predictions of shape [batch]" if regression else "logits of shape [batch, class]"
        raise ValueError(
            f"Expected {wanted} for a batch of {num} ids, got {tuple(outputs.shape)}. Of several outputs an example "
            f"(tokens, pixels), record their mean or give each an id."
        )
    if targets.shape != (num,):
        raise ValueError(
            f"Expected targets of shape [{num}], one an id, got {tuple(targets.shape)}. Of soft or mixed labels, "
            f"record the class that the example has, such as targets.argmax(1)."
        )
    if regression and outputs.shape[1] != 1:
        raise ValueError(f"Expected one prediction an example, got {outputs.shape[1]}. For classes: regression=False.")
    if not regression:
        _check_classes(targets, num_classes=max(2, outputs.shape[1]), one_logit=outputs.shape[1] == 1)
    return Checked(outputs, targets)


def both(outputs: Num[Tensor, "output visit"]) -> Num[Tensor, "class visit"]:
    """Logits of all classes: those of two, where there is one output, the first being 0.

    >>> both(torch.tensor([[3.0, -1.0]]))
    tensor([[ 0.,  0.],
            [ 3., -1.]])
    """
    return torch.cat([torch.zeros_like(outputs), outputs]) if len(outputs) == 1 else outputs


def _check_classes(targets: Shaped[Tensor, "visit"], *, num_classes: int, one_logit: bool) -> None:
    if not len(targets):
        return
    if targets.dtype.is_floating_point and not one_logit:
        raise TypeError(
            f"Expected class codes as targets, got {targets.dtype}. For numbers to predict: Recorder(regression=True)."
        )
    if targets.device.type != "cpu":
        return
    least, most = (float(end) for end in torch.aminmax(targets))
    if least < 0 or most >= num_classes:
        advice = (
            "Leave examples without a target, such as those of ignore_index, out of the batch: ids, logits and targets."
            if least < 0
            else "Threshold examples, whose label is an extra class, need a model with one output more."
        )
        raise ValueError(
            f"Expected targets in [0, {num_classes}), the classes of the model, got {least:g} to {most:g}. {advice}"
        )
    if targets.dtype.is_floating_point and not bool((targets == targets.round()).all()):
        raise ValueError("Expected targets 0 or 1 for a model with one logit, got numbers in between.")
