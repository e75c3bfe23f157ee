"""How alike two representations of the same examples are: linear centred kernel alignment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from byrote.measures.cka.centred import Alike, Centred, biased_products, centred_features, unbiased_products

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
    se: float | None = None
    """From leaving out one example at a time; None where an example more would be needed for it, or where without one
    of them nothing varies."""
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
    is made where features are fewer than examples; all sums are in float64. The standard error is the jackknife's over
    examples, which takes no further pass.

    Invariant to a scale, a shift and a change of sign:

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [1.0, 5.0]])
    >>> round(linear_cka(x, 7 - 2 * x).value, 12), round(linear_cka(x, 7 - 2 * x, unbiased=True).value, 12)
    (1.0, 1.0)
    >>> linear_cka(x[:2], x[:2])
    Cka(value=None, status='too few examples', count=2, se=None, survives_rescaling=True)

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
    sides = [side_of(rows, unbiased=unbiased) for rows in (one, other)]
    return compared(sides[0], sides[1], count=len(one), unbiased=unbiased)


@final
@dataclass(frozen=True, kw_only=True)
class Side:
    """One of two that are compared, ready for it; or why it cannot be."""

    centred: Centred | None
    status: CkaStatus
    itself: Alike
    """Its products with itself."""


def prepared(centred: Centred | None, *, unbiased: bool) -> Side:
    """What every comparison with it needs, made once; None says that it is constant."""
    itself = NOTHING if centred is None else _products(unbiased)(centred, centred)
    if itself.whole <= 0:
        return Side(centred=None, status="constant features", itself=NOTHING)
    return Side(centred=centred, status="measured", itself=itself)


def side_of(rows: Float[Tensor, "example feature"], *, unbiased: bool) -> Side:
    """The same of features, once they are found to be enough and finite."""
    if len(rows) < fewest(unbiased=unbiased):
        return Side(centred=None, status="too few examples", itself=NOTHING)
    if not bool(rows.isfinite().all()):
        return Side(centred=None, status="not finite", itself=NOTHING)
    return prepared(centred_features(rows), unbiased=unbiased)


def compared(one: Side, other: Side, *, count: int, unbiased: bool) -> Cka:
    """Their alignment, or the first reason why there is none."""
    if one.centred is None or other.centred is None:
        reason: CkaStatus = next(reason for reason in REASONS if reason in (one.status, other.status))
        return Cka(value=None, status=reason, count=count)
    both = _products(unbiased)(one.centred, other.centred)
    value = both.whole / (one.itself.whole * other.itself.whole) ** 0.5
    known = count > fewest(unbiased=unbiased)
    se = _jackknife_error(both, one.itself, other.itself) if known else None
    return Cka(value=value, status="measured", count=count, se=se)


def fewest(*, unbiased: bool) -> int:
    """Examples, of which it can be measured."""
    return 4 if unbiased else 3


def _products(unbiased: bool) -> Callable[[Centred, Centred], Alike]:
    return unbiased_products if unbiased else biased_products


def _jackknife_error(both: Alike, one: Alike, other: Alike) -> float | None:
    """√((n − 1)/n Σ_i (CKA₍₋ᵢ₎ − their mean)²)."""
    lengths = one.without * other.without
    if not bool(((one.without > 0) & (other.without > 0)).all()):
        return None
    found = both.without / lengths.sqrt()
    count = len(found)
    return float(((count - 1) / count * (found - found.mean()).square().sum()).sqrt())


NOTHING = Alike(0.0, torch.zeros(0))
REASONS: tuple[CkaStatus, ...] = ("too few examples", "not finite", "constant features")
