"""Which of the optimisers whose limits are known a `torch.optim.Optimizer` is."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from byrote.records import SGD, Adam, AdamW, Optimiser


def learning_rate(optimiser: torch.optim.Optimizer) -> float:
    """The largest of its groups' learning rates, whose parameters are the first to become unstable."""
    return max(float(group["lr"]) for group in optimiser.param_groups)


def as_recorded(optimiser: torch.optim.Optimizer, *, weights: Sequence[Tensor]) -> Optimiser:
    """The optimiser as a record, at a learning rate of 1, for `stability_ratio`.

    Where groups differ in momentum or weight decay, the group counts that has most of the weights.

    >>> layer = torch.nn.Linear(2, 1)
    >>> as_recorded(torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.5), weights=list(layer.parameters()))
    SGD(lr=1.0, momentum=0.5, weight_decay=0.0, nesterov=False, kind='sgd')

    Raises:
        ValueError: no limit is known of its steps.
    """
    group = _main_group(optimiser, weights)
    decay = float(group.get("weight_decay", 0.0))
    match optimiser:
        case torch.optim.SGD() if not group["dampening"]:
            return SGD(lr=1.0, momentum=float(group["momentum"]), weight_decay=decay, nesterov=bool(group["nesterov"]))
        case torch.optim.AdamW():
            return AdamW(lr=1.0, beta1=float(group["betas"][0]), weight_decay=decay)
        case torch.optim.Adam() if not decay:
            return Adam(lr=1.0, beta1=float(group["betas"][0]), weight_decay=0.0)
        case _:
            kind = type(optimiser).__name__
            raise ValueError(
                f"The largest curvature at which the steps of this {kind} are stable is not known: it is known of SGD "
                "without dampening, with any momentum, of AdamW, and of Adam without weight decay."
            )


def is_adaptive(optimiser: torch.optim.Optimizer | None) -> bool:
    """Whether it is the preconditioned Hessian's largest eigenvalue that counts."""
    return isinstance(optimiser, torch.optim.Adam)


def _main_group(optimiser: torch.optim.Optimizer, weights: Sequence[Tensor]) -> dict[str, Any]:
    own = {id(weight) for weight in weights}

    def size(group: dict[str, Any]) -> int:
        return sum(part.numel() for part in group["params"] if id(part) in own)

    return max(optimiser.param_groups, key=size)
