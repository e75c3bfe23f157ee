"""How alike two representations of the same examples are: linear centred kernel alignment."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

CkaStatus = Literal["measured", "too few examples", "constant features", "not finite"]


@final
@dataclass(frozen=True, kw_only=True)
class Cka:
    """Alignment of two representations, or why there is none."""

    value: float | None
    """1 for the same up to rotation, reflection and one scale, 0 for unrelated; None where it is not measured. The
    unbiased estimate of unrelated ones scatters around 0."""
    status: CkaStatus
    """Two examples are always aligned, and the unbiased estimate needs four: "too few examples"."""
    count: int
    """Examples."""
    survives_rescaling: bool = True
    """A layer whose output is multiplied by a number, the next dividing by it, is the same to it."""


def linear_cka(
    one: Float[Tensor, "example feature"],
    other: Float[Tensor, "other_example other_feature"],
    *,
    unbiased: bool = False,
) -> Cka:
    """Compare two representations of the same examples.

    CKA = ‖YᵀX‖²_F/(‖XᵀX‖_F‖YᵀY‖_F) with centred columns. The unbiased estimate leaves out the products of examples with
    themselves, which make few examples with many features look alike (HSIC₁ of Song et al. 2012). Nothing of size n×n
    is made where features are fewer than examples; all sums are in float64.

    Invariant to a scale, a shift and a change of sign:

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [1.0, 5.0]])
    >>> round(linear_cka(x, 7 - 2 * x).value, 12), round(linear_cka(x, 7 - 2 * x, unbiased=True).value, 12)
    (1.0, 1.0)
    >>> linear_cka(x[:2], x[:2])
    Cka(value=None, status='too few examples', count=2, survives_rescaling=True)

    Args:
        one: X.
        other: Y.
        unbiased: whether the unbiased estimate is taken.

    Raises:
        ValueError: they have not as many examples.

    Kornblith et al. 2019, Similarity of Neural Network Representations Revisited, https://arxiv.org/abs/1905.00414;
    Nguyen et al. 2021, Do Wide and Deep Networks Learn the Same Things?, https://arxiv.org/abs/2010.15327
    """
    if len(one) != len(other):
        raise ValueError(f"Expected the same examples in both, got {len(one):,} and {len(other):,}.")
    count = len(one)
    if count < (4 if unbiased else 3):
        return Cka(value=None, status="too few examples", count=count)
    if not (bool(one.isfinite().all()) and bool(other.isfinite().all())):
        return Cka(value=None, status="not finite", count=count)
    x, y = _centred(one), _centred(other)
    if x is None or y is None:
        return Cka(value=None, status="constant features", count=count)
    product = _unbiased if unbiased else _biased
    both, first, second = product(x, y), product(x, x), product(y, y)
    if first <= 0 or second <= 0:
        return Cka(value=None, status="constant features", count=count)
    return Cka(value=both / (first * second) ** 0.5, status="measured", count=count)


def _centred(rows: Float[Tensor, "example feature"]) -> Float[Tensor, "example feature"] | None:
    """In float64, of length 1 as a whole; None where what is left is rounding alone."""
    wide = rows.detach().to(torch.float32 if rows.device.type == "mps" else torch.float64)
    centred = wide - wide.mean(0)
    length, whole = (float(part.square().sum()) ** 0.5 for part in (centred, wide))
    if length <= len(rows) * torch.finfo(rows.dtype).eps * whole:
        return None
    return centred / length


def _biased(x: Float[Tensor, "example feature"], y: Float[Tensor, "example other_feature"]) -> float:
    """Tr(XXᵀYYᵀ), by whichever product is smaller."""
    if x.shape[1] * y.shape[1] <= len(x) ** 2:
        return float((x.T @ y).square().sum())
    return float(((x @ x.T) * (y @ y.T)).sum())


class _Sums(NamedTuple):
    """Of the Gram matrix without its diagonal."""

    diagonal: Float[Tensor, "example"]
    rows: Float[Tensor, "example"]


def _without_diagonal(x: Float[Tensor, "example feature"]) -> _Sums:
    diagonal = x.square().sum(1)
    return _Sums(diagonal, x @ x.sum(0) - diagonal)


def _unbiased(x: Float[Tensor, "example feature"], y: Float[Tensor, "example other_feature"]) -> float:
    """n(n − 3)·HSIC₁ = Tr(K̃L̃) + (1ᵀK̃1)(1ᵀL̃1)/((n − 1)(n − 2)) − 2·1ᵀK̃L̃1/(n − 2)."""
    n, k, q = len(x), _without_diagonal(x), _without_diagonal(y)
    trace = _biased(x, y) - float(k.diagonal @ q.diagonal)
    whole = float(k.rows.sum() * q.rows.sum()) / ((n - 1) * (n - 2))
    return trace + whole - 2 * float(k.rows @ q.rows) / (n - 2)
