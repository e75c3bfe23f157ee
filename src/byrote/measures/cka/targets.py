"""How well a kernel is made for the targets: centred kernel–target alignment."""

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from byrote.measures.cka.centred import centred_gram
from byrote.measures.cka.pairs import Cka, compared, fewest, prepared, side_of

ROUNDING = 1e4
"""Roundings by which a symmetric kernel may differ from its transpose."""


def target_alignment(
    kernel: Float[ndarray, "example other_example"] | Float[Tensor, "example other_example"],
    targets: Float[Tensor, "target_example output"],
    *,
    unbiased: bool = False,
) -> Cka:
    """Compare a kernel with the one that the targets themselves make.

    A = ⟨K̄, YYᵀ⟩_F/(‖K̄‖_F‖YYᵀ‖_F), K̄ = HKH and Y centred. Of the kernel XXᵀ it is the linear CKA of X and Y.

    The kernel of the targets is the best there is:

    >>> y = torch.eye(2).repeat(3, 1)
    >>> round(target_alignment((y @ y.T).numpy(), y).value, 12)
    1.0

    Args:
        kernel: K, symmetric and positive semi-definite: of the inputs, of features or of tangents.
        targets: Y, one-hot for classes.
        unbiased: whether the unbiased estimate is taken.

    Raises:
        ValueError: the kernel is not square and symmetric, or is not of as many examples as there are targets.

    Cortes, Mohri & Rostamizadeh 2012, Algorithms for Learning Kernels Based on Centered Alignment,
    https://arxiv.org/abs/1203.0550; Cristianini et al. 2001, On Kernel-Target Alignment
    """
    gram, count = torch.as_tensor(kernel).to(targets.device), len(targets)
    if gram.shape != (count, count):
        raise ValueError(f"Expected a kernel of the {count:,} examples with targets, got shape {tuple(gram.shape)}.")
    if count < fewest(unbiased=unbiased):
        return Cka(value=None, status="too few examples", count=count)
    if not bool(gram.isfinite().all()):
        return Cka(value=None, status="not finite", count=count)
    if float((gram - gram.T).abs().max()) > ROUNDING * torch.finfo(gram.dtype).eps * float(gram.abs().max()):
        raise ValueError("Expected a symmetric kernel, got one whose transpose is another.")
    one = prepared(centred_gram(gram), unbiased=unbiased)
    return compared(one, side_of(targets, unbiased=unbiased), count=count, unbiased=unbiased)
