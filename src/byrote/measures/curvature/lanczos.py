"""Lanczos' tridiagonal matrix, by products with one vector after another."""

from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from byrote.core import derive
from byrote.measures.curvature.differentiate import widest
from byrote.measures.curvature.matrices import Product

REPEATED = 2
"""Times that a new vector is made orthogonal to all before: twice is enough (Kahan; Parlett 1980)."""
FIRST = 10
"""Vectors that there is room for at first."""


class RitzPairs(NamedTuple):
    """What a tridiagonal matrix says of eigenvalues, from the largest down."""

    values: Float[np.ndarray, "pair"]
    residuals: Float[np.ndarray, "pair"]
    """‖Hy − θy‖: some eigenvalue is no further from θ than this."""
    coordinates: Float[np.ndarray, "step pair"]
    """Of the vectors y, in the basis."""


@final
class Lanczos:
    """An orthonormal basis of the vectors b, Hb, H²b, … in which a symmetric matrix H is tridiagonal.

    Every new vector is made orthogonal to all before. Where the vectors come to an end, the basis goes on with a random
    one, so that eigenvalues of several dimensions are found as often as they are there.

    >>> diagonal = torch.tensor([1.0, 2.0, 5.0]).double()
    >>> run = Lanczos(lambda v: diagonal * v, start=torch.ones(3).double(), most=3)
    >>> for _ in range(3):
    ...     run.step()
    >>> run.ritz().values.round(9).tolist()
    [5.0, 2.0, 1.0]

    Lanczos 1950, An iteration method for the solution of the eigenvalue problem; Parlett 1980, The Symmetric
    Eigenvalue Problem
    """

    def __init__(self, product: Product, *, start: Float[Tensor, "parameter"], most: int, seed: int = 0) -> None:
        """Before the first product.

        Args:
            product: with H.
            start: b; it need not have length 1.
            most: products that may be asked for.
            seed: of random vectors, where they are needed.
        """
        self._product, self._seed, self._most = product, seed, min(most, len(start))
        self._basis = start.new_empty(min(FIRST, self._most), len(start))
        self._basis[0] = start / _length(start)
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        """Of the tridiagonal matrix; the last is the length of what comes next."""

    @property
    def num_products(self) -> int:
        """So far."""
        return len(self._diagonal)

    @property
    def finished(self) -> bool:
        """Whether there is no more room."""
        return self.num_products == self._most

    @property
    def finite(self) -> bool:
        """Whether all products were."""
        return bool(np.isfinite(self._diagonal).all() and np.isfinite(self._beside).all())

    @property
    def basis(self) -> Float[Tensor, "step parameter"]:
        """One row for each product."""
        return self._basis[: self.num_products]

    @property
    def sum(self) -> float:
        """Trace of the matrix on the basis."""
        return float(np.sum(self._diagonal))

    def step(self) -> None:
        """One more product."""
        place = self.num_products
        last = self._basis[place]
        image = self._product(last)
        self._diagonal.append(dot(last, image))
        rest = self._orthogonal(image)
        length = _length(rest)
        negligible = length <= torch.finfo(rest.dtype).eps * max(1, place) * _length(image)
        self._beside.append(0.0 if negligible else length)
        if not self.finished:
            if negligible:
                rest = self._orthogonal(random_direction(self._seed, place, like=rest))
                length = _length(rest)
            self._make_room()
            self._basis[place + 1] = rest / length

    def ritz(self) -> RitzPairs:
        """Eigenvalues of the tridiagonal matrix; NaN where a product was not finite."""
        size = self.num_products
        if not self.finite:
            nothing = np.full(size, np.nan)
            return RitzPairs(nothing, nothing, np.full((size, size), np.nan))
        beside = np.diag(self._beside[:-1], 1)
        values, vectors = np.linalg.eigh(np.diag(self._diagonal) + beside + beside.T)
        return RitzPairs(values[::-1], np.abs(self._beside[-1] * vectors[-1, ::-1]), vectors[:, ::-1])

    def vectors(self, coordinates: Float[np.ndarray, "step pair"]) -> Float[Tensor, "pair parameter"]:
        """Of those coordinates in the basis, each of length 1."""
        weights = torch.as_tensor(coordinates.T.copy(), dtype=self._basis.dtype, device=self._basis.device)
        return weights @ self.basis

    def _make_room(self) -> None:
        missing = min(len(self._basis), self._most - len(self._basis))
        if self.num_products == len(self._basis):
            self._basis = torch.cat([self._basis, self._basis.new_empty(missing, self._basis.shape[1])])

    def _orthogonal(self, vector: Tensor) -> Tensor:
        """To all of the basis so far."""
        basis = self._basis[: self.num_products]
        for _ in range(REPEATED):
            vector = vector - (basis @ vector) @ basis
        return vector


def random_direction(seed: int, *purpose: int | str, like: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
    """Normally distributed, all directions being equally likely; the same on every machine and device."""
    generator = torch.Generator().manual_seed(derive(seed, "direction", *purpose))
    return torch.randn(len(like), generator=generator, dtype=like.dtype).to(like.device)


def dot(one: Float[Tensor, "parameter"], two: Float[Tensor, "parameter"]) -> float:
    """Added up in the highest precision there is."""
    wide = widest(one.device)
    return float(torch.dot(one.to(wide), two.to(wide)))


def _length(vector: Float[Tensor, "parameter"]) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=widest(vector.device)))  # pyright: ignore
