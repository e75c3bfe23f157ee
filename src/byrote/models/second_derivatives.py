"""Whether autograd can differentiate a derivative again."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def is_cut_short(outputs: Sequence[Tensor]) -> bool:
    """Whether some derivative is itself without one: autograd would leave out what goes through it, without a word.

    So it is with functions marked as `once_differentiable`.

    >>> import torch
    >>> x = torch.ones(1, requires_grad=True)
    >>> is_cut_short(torch.autograd.grad(x.exp().sum(), [x], create_graph=True))
    False

    Args:
        outputs: derivatives, made with `create_graph`.
    """
    waiting = [output.grad_fn for output in outputs]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            return True
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
    return False
