"""The loss, and how many answers are right, along one direction in weight space or over a plane."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float
from scipy.interpolate import LinearNDInterpolator  # pyright: ignore
from torch import Tensor

from byrote.measures.curvature.differentiate import Batch
from byrote.measures.curvature.directions import Directions
from byrote.measures.curvature.grids import adaptive_grid, check_box
from byrote.measures.curvature.objective import Objective
from byrote.measures.curvature.readings import Correct, Reader, Reading, Readings
from byrote.models.borrowed import borrowed

NUM_POINTS = {1: 41, 2: 289}
TOLERANCE = 0.01
Progress = Callable[[int, int], object]
"""Called after each point with how many there are and how many there will be at most."""


@final
@dataclass(frozen=True, kw_only=True)
class SplitSurface:
    """Of one split, at each point."""

    loss: Float[np.ndarray, "point"]
    loss_se: Float[np.ndarray, "point"]
    """Of the mean over all of the split's batches, where only some were read; 0 where all were, NaN for one of many."""
    loss_spread: Float[np.ndarray, "point"]
    """Standard deviation s over examples; s/√n is the standard error for data never seen."""
    accuracy: Float[np.ndarray, "point"] | None
    """None where nobody asked."""
    accuracy_se: Float[np.ndarray, "point"] | None
    count: int
    """Examples that were read, at every point the same ones."""
    residual: float
    """About how far linear interpolation of the loss between the points is off where it is worst."""


@final
@dataclass(frozen=True, kw_only=True)
class LossSurface:
    """Along one or two directions."""

    coordinates: Float[np.ndarray, "point axis"]
    """In lengths of the directions; in lexical order."""
    train: SplitSurface
    """Of the objective's batches."""
    held_out: SplitSurface | None
    cost: float
    """In full-data gradients; not part of `Objective.spent`."""
    survives_rescaling: bool
    """As its directions do."""

    @property
    def count(self) -> int:
        """Points."""
        return len(self.coordinates)

    def on_grid(self, values: Float[np.ndarray, "point"], *, num: int = 61) -> "Raster":
        """Interpolate between the points of a plane, so that it can be drawn.

        Args:
            values: at each point, such as `surface.train.loss`.
            num: of columns, and of rows.

        Raises:
            ValueError: it is no plane, or there is not one value for each point.
        """
        if self.coordinates.shape[1] != 2 or values.shape != (self.count,):
            raise ValueError(
                f"Expected one value for each of {self.count} points of a plane, got {values.shape} on "
                f"{self.coordinates.shape[1]} axis or axes. Points on a line need no grid to be drawn."
            )
        return raster_of(self.coordinates, values, num=num)


class Raster(NamedTuple):
    """Evenly spaced values over a plane."""

    x: Float[np.ndarray, "column"]
    y: Float[np.ndarray, "row"]
    values: Float[np.ndarray, "row column"]


def raster_of(
    coordinates: Float[np.ndarray, "point 2"], values: Float[np.ndarray, "point"], *, num: int = 61
) -> Raster:
    """Interpolate linearly between points of a plane.

    >>> corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> raster_of(corners, corners[:, 0], num=3).values.tolist()
    [[0.0, 0.5, 1.0], [0.0, 0.5, 1.0], [0.0, 0.5, 1.0]]

    Args:
        coordinates: of the points, which do not lie on a line.
        values: at each.
        num: of columns, and of rows.
    """
    low, high = coordinates.min(0), coordinates.max(0)
    unit = np.linspace(0, 1, num)
    between: Callable[..., Any] = LinearNDInterpolator((coordinates - low) / (high - low), values)  # pyright: ignore
    found: Any = between(*np.meshgrid(unit, unit))  # pyright: ignore
    return Raster(low[0] + unit * (high[0] - low[0]), low[1] + unit * (high[1] - low[1]), found)


def loss_surface(
    objective: Objective,
    *,
    directions: Directions,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    centre: Float[Tensor, "parameter"] | None = None,
    held_out: Sequence[Batch] | None = None,
    correct: Correct | None = None,
    statistics: Sequence[Batch] | None = None,
    num_points: int | None = None,
    tolerance: float = TOLERANCE,
    share: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> LossSurface:
    """Look at the loss along one direction, or over the plane of two, with more points where it bends.

    L(θ + Σ_k a_k d_k), both splits in one pass.

    For ℓ = w² at w = 1 along d = 1 the loss is (1 + a)²:

    >>> import torch
    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> _ = torch.nn.init.ones_(model.weight)
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0] ** 2, batches=[torch.ones(1, 1).double()])
    >>> along = Directions(vectors=torch.ones(1, 1).double(), survives_rescaling=False)
    >>> found = loss_surface(objective, directions=along, num_points=5)
    >>> found.coordinates[:, 0].tolist(), found.train.loss.tolist()
    ([-1.0, -0.5, 0.0, 0.5, 1.0], [0.0, 0.25, 1.0, 2.25, 4.0])

    Args:
        objective: its loss, and its batches as the training split.
        directions: one or two, such as `random_directions(objective)` or those of `trajectory_plane(moments)`.
        low: where each axis begins; None: −1.
        high: where it ends; None: 1. A trajectory's are `plane.box()`.
        centre: flat weights at which coordinates are 0; None: those of now.
        held_out: batches of another split.
        correct: whether answers are right, such as `right_class`; None: only losses are read.
        statistics: batches from which BatchNorm's statistics are computed anew at each point; None: those it has.
        num_points: at most; None: 41 on a line, 289 on a plane.
        tolerance: as a share of the loss's range, at which the points are dense enough.
        share: of each split's batches that is read, drawn at random once for all points.
        seed: of that draw.
        progress: called after each point.

    Raises:
        ValueError: directions or another argument do not fit.
        ModelError: the loss or the model fails.

    Li et al. 2018, Visualizing the Loss Landscape of Neural Nets, https://arxiv.org/abs/1712.09913
    """
    axes = _check_directions(directions, objective)
    low, high = list(low or [-1.0] * axes), list(high or [1.0] * axes)
    most = num_points or NUM_POINTS[axes]
    if len(low) != axes or len(high) != axes:
        raise ValueError(f"Expected low and high for {axes} directions, got {low} and {high}.")
    check_box(low, high, num_points=most, tolerance=tolerance)
    before = objective.spent
    reader = Reader(objective, held_out=held_out, correct=correct, statistics=statistics, share=share, seed=seed)
    wide = (objective.flat_weights() if centre is None else centre.detach()).to(objective.weights.total)
    vectors = directions.vectors.detach().to(wide)
    found: dict[tuple[float, ...], list[Summary]] = {}

    def at(point: tuple[float, ...]) -> Float[np.ndarray, "value"]:
        step = sum((part * row for part, row in zip(point, vectors, strict=True)), start=wide)
        with objective.at(step.to(objective.weights.dtype)):
            found[point] = _summaries(reader.read(), reader)
        if progress is not None:
            progress(len(found), most)
        return np.array([summary.loss for summary in found[point]])

    with objective.opened(), borrowed(objective.model, device=objective.weights.device):
        grid = adaptive_grid(at, low=low, high=high, num_points=most, tolerance=tolerance)
    splits = [_split(column, residual) for column, residual in zip(_columns(found), grid.residuals, strict=True)]
    return LossSurface(
        coordinates=grid.points,
        train=splits[0],
        held_out=splits[1] if held_out is not None else None,
        cost=reader.cost + objective.spent - before,
        survives_rescaling=directions.survives_rescaling,
    )


class Summary(NamedTuple):
    """Of one split at one point."""

    loss: float
    loss_se: float
    loss_spread: float
    accuracy: float
    accuracy_se: float
    num_examples: int


def _summaries(readings: Readings, reader: Reader) -> list[Summary]:
    found = [_summary(readings.train, reader.missing)]
    if readings.held_out is not None:
        found.append(_summary(readings.held_out, reader.missing_held_out))
    return found


def _summary(reading: Reading, missing: float) -> Summary:
    """With standard errors of means over a finite whole, of which a share of the batches is missing."""
    nan, (losses, right, sizes) = float("nan"), reading
    with np.errstate(invalid="ignore", over="ignore"):
        return Summary(
            float(losses.mean()),
            _sampling_error(losses, sizes, missing),
            float(losses.std(ddof=1)) if len(losses) > 1 else nan,
            nan if right is None else float(right.mean()),
            nan if right is None else _sampling_error(right, sizes, missing),
            len(losses),
        )


def _sampling_error(values: Float[np.ndarray, "example"], sizes: Sequence[int], missing: float) -> float:
    """√(f·Σ_b t_b²/(k(k − 1)))/n̄, t_b = n_b(ȳ_b − ȳ): from the spread of k whole batches, shuffled or not."""
    if not missing:
        return 0.0
    count = len(sizes)
    totals = np.add.reduceat(values - values.mean(), np.cumsum([0, *sizes[:-1]]))
    if count < 2:
        return float("nan")
    return float((missing * np.square(totals).sum() / (count * (count - 1))) ** 0.5 / np.mean(sizes))


def _columns(found: dict[tuple[float, ...], list[Summary]]) -> list[list[Summary]]:
    """For each split, its summaries in the order of the grid."""
    return [list(column) for column in zip(*(found[point] for point in sorted(found)), strict=True)]


def _split(column: Sequence[Summary], residual: float) -> SplitSurface:
    table = np.array([summary[:-1] for summary in column], np.float64)
    asked = not np.isnan(table[:, 3]).all()
    return SplitSurface(
        loss=table[:, 0],
        loss_se=table[:, 1],
        loss_spread=table[:, 2],
        accuracy=table[:, 3] if asked else None,
        accuracy_se=table[:, 4] if asked else None,
        count=column[0].num_examples,
        residual=float(residual),
    )


def _check_directions(directions: Directions, objective: Objective) -> int:
    shape = tuple(directions.vectors.shape)
    if len(shape) != 2 or shape[0] not in NUM_POINTS or shape[1] != objective.num_parameters:
        raise ValueError(
            f"Expected 1 or 2 directions of {objective.num_parameters:,} numbers, one for each parameter, got shape "
            f"{shape}."
        )
    return shape[0]
