"""Representations of the same examples, centred: products of their Gram matrices, whole and without an example."""

from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor


class Alike(NamedTuple):
    """How much two Gram matrices have in common, up to a factor that the number of examples alone decides."""

    whole: float
    without: Float[Tensor, "example"]
    """The same with each example left out in turn."""


@final
class Centred:
    """A representation whose mean is 0 and whose length is 1, as features or as Gram matrix, whichever is smaller."""

    def __init__(self, rows: Float[Tensor, "example column"], *, is_gram: bool) -> None:
        """Keep it.

        Args:
            rows: X, or XXᵀ; in the precision that sums are to have.
            is_gram: whether it is XXᵀ.
        """
        self.is_gram = is_gram or rows.shape[1] > len(rows)
        self.rows = rows if is_gram or not self.is_gram else rows @ rows.T
        self.diagonal = self.rows.diagonal() if self.is_gram else rows.square().sum(1)

    def times(self, vectors: Float[Tensor, "example vector"]) -> Float[Tensor, "example vector"]:
        """XXᵀ times each."""
        return self.rows @ vectors if self.is_gram else self.rows @ (self.rows.T @ vectors)

    def shared(self, other: "Centred") -> Float[Tensor, "example"]:
        """Σ_j ⟨x_i, x_j⟩⟨y_i, y_j⟩, of each i."""
        if self.is_gram and other.is_gram:
            return (self.rows * other.rows).sum(1)
        if other.is_gram:
            return other.shared(self)
        return (
            (self.times(other.rows) if self.is_gram else self.rows @ (self.rows.T @ other.rows)).mul(other.rows).sum(1)
        )


def centred_features(rows: Float[Tensor, "example feature"]) -> Centred | None:
    """In float64; None where what is left is rounding alone."""
    wide = rows.detach().to(_widest(rows))
    centred = wide - wide.mean(0)
    length, whole = (float(part.square().sum()) ** 0.5 for part in (centred, wide))
    if length <= len(rows) * torch.finfo(rows.dtype).eps * whole:
        return None
    return Centred(centred / length, is_gram=False)


def centred_gram(kernel: Float[Tensor, "example example"]) -> Centred | None:
    """HKH with H = I − 11ᵀ/n, of trace 1 and in float64; None where what is left is rounding alone."""
    wide = kernel.detach().to(_widest(kernel))
    means = wide.mean(0)
    centred = wide - means - means[:, None] + means.mean()
    trace = float(centred.trace())
    if trace <= len(kernel) * torch.finfo(kernel.dtype).eps * float(wide.trace()):
        return None
    return Centred(centred / trace, is_gram=True)


def biased_products(x: Centred, y: Centred) -> Alike:
    """Tr(KL) of the centred Gram matrices.

    Without example i the mean moves by −x_i/(n − 1), so that XᵀY becomes XᵀY − a·x_iy_iᵀ with a = n/(n − 1), and its
    squared length Tr(KL) − 2a(KL)_ii + a²K_iiL_ii.
    """
    rows, grown = x.shared(y), len(x.rows) / (len(x.rows) - 1)
    whole = rows.sum()
    return Alike(float(whole), whole - 2 * grown * rows + grown**2 * x.diagonal * y.diagonal)


def unbiased_products(x: Centred, y: Centred) -> Alike:
    """n(n − 3)·HSIC₁ = Tr(K̃L̃) + (1ᵀK̃1)(1ᵀL̃1)/((n − 1)(n − 2)) − 2·1ᵀK̃L̃1/(n − 2), K̃ being K with a diagonal of 0.

    The rows of a centred K add up to 0, and so those of K̃ to −K_ii.
    """
    n, k, q = len(x.rows), -x.diagonal, -y.diagonal
    rows = x.shared(y) - k * q
    along = (x.times(q[:, None]) + y.times(k[:, None]))[:, 0] + 2 * k * q
    products, both = rows.sum(), k @ q
    whole = _hsic(products, k.sum(), q.sum(), both, count=n)
    without = _hsic(products - 2 * rows, k.sum() - 2 * k, q.sum() - 2 * q, both - k * q - along + rows, count=n - 1)
    return Alike(float(whole), without)


def _hsic(products: Tensor, one: Tensor, other: Tensor, both: Tensor, *, count: int) -> Tensor:
    return products + one * other / ((count - 1) * (count - 2)) - 2 * both / (count - 2)


def _widest(rows: Tensor) -> torch.dtype:
    return torch.float32 if rows.device.type == "mps" else torch.float64
