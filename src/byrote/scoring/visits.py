"""What one visit of an example says of it: a few numbers from its outputs, before any sum is formed."""

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

LOSS, MARGIN, ERROR = 0, 1, 2
"""The rows of a visit."""


def class_visits(logits: Float[Tensor, "class visit"], targets: Int[Tensor, "visit"]) -> Float[Tensor, "3 visit"]:
    """Loss −log softmax(z)_y, margin z_y − max_{c≠y} z_c, and error ‖softmax(z) − onehot(y)‖₂ of each visit.

    One pass for all three, in place, without the cancellation in 1 − p that hides small errors.

    >>> class_visits(torch.tensor([[0.0], [0.0]]), torch.tensor([1]))  # ln 2, 0, √(1/2)
    tensor([[0.6931],
            [0.0000],
            [0.7071]])

    Args:
        logits: z, overwritten.
        targets: y, codes in [0, number of classes).

    Returns:
        Rows `LOSS`, `MARGIN` and `ERROR`; NaN where a logit is.
    """
    at = targets[None]
    own = logits.gather(0, at)[0]
    largest = logits.scatter_(0, at, -torch.inf).amax(0)
    peak = torch.maximum(own, largest)
    others = logits.sub_(peak).exp_()
    own_share, rest = (own - peak).exp(), others.sum(0)
    loss = torch.log1p(rest + (own_share - 1)) + (peak - own)
    margin = own - largest
    error = (rest.square() + others.square_().sum(0)).sqrt() / (rest + own_share)
    return torch.stack([loss, margin, error])


def number_visits(predictions: Float[Tensor, "1 visit"], targets: Num[Tensor, "visit"]) -> Float[Tensor, "3 visit"]:
    """Squared error (ŷ − y)², residual ŷ − y in the margin's place, and |ŷ − y| of each visit.

    >>> number_visits(torch.tensor([[1.0]]), torch.tensor([3.0]))
    tensor([[ 4.],
            [-2.],
            [ 2.]])
    """
    residual = predictions[0] - targets
    return torch.stack([residual.square(), residual, residual.abs()])
