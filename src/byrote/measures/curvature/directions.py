"""Directions in weight space along which a loss is worth looking at."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from byrote.measures.curvature.lanczos import random_direction
from byrote.measures.curvature.objective import Objective
from byrote.measures.curvature.rows import MEMORY, Rows
from byrote.measures.curvature.weights import Weights

NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,  # pyright: ignore[reportPrivateUsage]
    nn.GroupNorm,
    nn.LayerNorm,
)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@final
@dataclass(frozen=True, kw_only=True)
class Directions:
    """One or more directions."""

    vectors: Float[Tensor, "axis parameter"]
    survives_rescaling: bool
    """Whether steps along them do the same to a ReLU network after Dinh's rescaling (θ₁a, θ₂/a)."""


@final
@dataclass(frozen=True, kw_only=True)
class TrajectoryPlane:
    """Where a trajectory went, in the few directions in which it went furthest."""

    directions: Directions
    """Orthonormal."""
    centre: Float[Tensor, "parameter"]
    """The last moment, at which coordinates are 0."""
    coordinates: Float[np.ndarray, "moment axis"]
    """Of each moment's projection."""
    shares: Float[np.ndarray, "axis"]
    """Of the moments' variance around their mean that each direction explains."""
    by_chance: Float[np.ndarray, "axis"]
    """The same for a random walk in infinitely many dimensions: it looks like a curve in a plane, too."""
    off_plane: Float[np.ndarray, "moment"]
    """Distance of each moment from the plane through the last."""

    @property
    def count(self) -> int:
        """Moments."""
        return len(self.coordinates)

    def box(self, *, margin: float = 0.1) -> tuple[list[float], list[float]]:
        """Lower and upper ends of the axes around all moments, wider at each end by a share of the range."""
        low, high = self.coordinates.min(0), self.coordinates.max(0)
        reach = np.where(high > low, margin * (high - low), 1.0)
        return (low - reach).tolist(), (high + reach).tolist()


def filter_normalised(objective: Objective, direction: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
    """Give each filter of a direction the length of the same filter of the weights.

    d_f ← d_f·‖θ_f‖/‖d_f‖, f running over the filters of convolutions and the rows of matrices, all that leads to one
    output unit. Biases, scales (all that has fewer than two axes) and normalisation layers do not move.

    >>> model = torch.nn.Linear(2, 1)
    >>> _ = torch.nn.init.constant_(model.weight, 5.0)
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0], batches=[torch.ones(1, 2)])
    >>> (filter_normalised(objective, torch.tensor([3.0, 4.0, 1.0])) / 2**0.5).round(decimals=4).tolist()
    [3.0, 4.0, 0.0]

    Args:
        objective: at whose weights.
        direction: one number for each parameter.

    Raises:
        ValueError: it does not fit.

    Li et al. 2018, Visualizing the Loss Landscape of Neural Nets, https://arxiv.org/abs/1712.09913
    """
    weights = objective.weights
    axes = _filter_axes(objective.model, weights)
    scaled = [
        _scaled(piece.to(weights.total), own.detach().to(weights.total), within)
        for piece, own, within in zip(weights.parts(direction), weights.tensors, axes, strict=True)
    ]
    return weights.flat(scaled, dtype=weights.dtype)


def random_directions(objective: Objective, *, num: int = 2, seed: int = 0) -> Directions:
    """Draw directions at random, filter-normalised; the same for every network of that shape.

    In many dimensions they are almost orthogonal. Dinh's rescaling of whole layers changes their filters as it does the
    weights', so that what is seen along them stays as it was.

    >>> model = torch.nn.Linear(3, 4)
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0], batches=[torch.ones(1, 3)])
    >>> rows = random_directions(objective).vectors[0, :12].reshape(4, 3)
    >>> torch.allclose(rows.norm(dim=1), model.weight.norm(dim=1))
    True

    Args:
        objective: at whose weights.
        num: of directions, at least 1.
        seed: decides which.

    Raises:
        ValueError: none is asked for, or no weight may move.
    """
    if num < 1:
        raise ValueError(f"Expected at least one direction, got num={num!r}.")
    here = objective.flat_weights()
    drawn = [filter_normalised(objective, random_direction(seed, "surface", row, like=here)) for row in range(num)]
    found = torch.stack(drawn)
    if not bool(found.any(1).all()):
        raise ValueError(
            "Nothing moves along filter-normalised directions: the parameters that are looked at are all biases, "
            "scales, normalisation layers or zero. Look at others, or bring `Directions` of your own."
        )
    return Directions(vectors=found, survives_rescaling=True)


def trajectory_plane(
    moments: Float[Tensor, "moment parameter"], *, num: int = 2, memory: int = MEMORY
) -> TrajectoryPlane:
    """Find the directions in which a trajectory went furthest, and project it onto them.

    The leading eigenvectors of Σ_t (θ_t − θ̄)(θ_t − θ̄)ᵀ, through the matrix of the moments' inner products; coordinates
    are ⟨θ_t − θ_T, e_k⟩. For n moments of a random walk the eigenvalues are as 1/(1 − cos(πk/n)).

    >>> moments = torch.tensor([[2.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    >>> plane = trajectory_plane(moments, num=1)
    >>> plane.shares.round(6).tolist(), np.abs(plane.coordinates[:, 0]).round(6).tolist()
    ([1.0], [2.0, 1.0, 0.0])

    Args:
        moments: flat weights, in the order of time, such as `objective.flat_weights()` of each.
        num: directions; fewer than there are moments.
        memory: bytes that a copy of the moments may take before it is written to a temporary file.

    Raises:
        ValueError: too few moments, or they span fewer directions.

    Li et al. 2018, https://arxiv.org/abs/1712.09913; Antognini & Sohl-Dickstein 2018, PCA of high dimensional random
    walks with comparison to neural network training, https://arxiv.org/abs/1806.08805
    """
    count = len(moments)
    if not 1 <= num < count:
        raise ValueError(f"Expected between 1 direction and {count - 1}, for {count} moments, got num={num!r}.")
    centre = moments[-1].detach().clone()
    rows = Rows(count, width=moments.shape[1], like=moments, memory=memory)
    rows.extend(moment.detach() - centre for moment in moments)
    around_mean, products = rows.gram_around_mean()
    own, coordinates = np.linalg.eigh(around_mean)
    own, coordinates = np.maximum(own[::-1], 0.0), coordinates[:, ::-1]
    if not own[num - 1] > own[0] * count * rows.epsilon:
        raise ValueError(
            f"Expected moments that span {num} directions, got as good as fewer: {own[:num].tolist()} are their "
            "variances. Ask for fewer, or keep more moments."
        )
    mixed = coordinates[:, :num] - coordinates[:, :num].mean(0)
    vectors = _orthonormal(rows.combined((mixed / np.sqrt(own[:num])).T).to(rows.total))
    projected = rows.times(vectors.T)
    beside = np.maximum(0.0, np.diag(products) - np.square(projected).sum(1))
    walk = 1 / (1 - np.cos(np.pi * np.arange(1, count) / count))
    return TrajectoryPlane(
        directions=Directions(vectors=vectors.to(moments.dtype), survives_rescaling=False),
        centre=centre,
        coordinates=projected,
        shares=own[:num] / own.sum(),
        by_chance=walk[:num] / walk.sum(),
        off_plane=np.sqrt(beside),
    )


def _orthonormal(rows: Float[Tensor, "axis parameter"]) -> Float[Tensor, "axis parameter"]:
    basis, triangle = _factors(rows.T)
    return (basis * triangle.diagonal().sign()).T.contiguous()


def _factors(columns: Tensor) -> tuple[Tensor, Tensor]:
    return torch.linalg.qr(columns)  # pyright: ignore


def _filter_axes(model: nn.Module, weights: Weights) -> list[tuple[int, ...] | None]:
    """For each parameter the axes that lie within one filter; None for what does not move."""
    owners: dict[int, nn.Module] = {}
    for layer in model.modules():
        for part in layer.parameters(recurse=False):
            owners.setdefault(id(part), layer)
    return [_axes(part, owners.get(id(part))) for part in weights.tensors]


def _axes(part: Tensor, owner: Any) -> tuple[int, ...] | None:
    if part.ndim < 2 or isinstance(owner, NORMALISATIONS) or type(owner).__name__.endswith("Norm"):
        return None
    return (0, *range(2, part.ndim)) if isinstance(owner, TRANSPOSED) and owner.groups == 1 else (*range(1, part.ndim),)


def _scaled(piece: Tensor, own: Tensor, axes: tuple[int, ...] | None) -> Tensor:
    if axes is None:
        return torch.zeros_like(piece)
    lengths = piece.square().sum(axes, keepdim=True).sqrt()
    ratio = own.square().sum(axes, keepdim=True).sqrt() / lengths
    return torch.where(lengths > 0, piece * ratio, 0.0)
