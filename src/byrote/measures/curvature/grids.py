"""Grids that are finer where a function bends."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

DEPTH = 12
"""Times that a cell may be halved."""
EVEN = 1 / 2
"""Share of the points that are spread evenly before any is put where it is needed."""
SHRINKS = 1 / 4
"""What halving a cell does to the error of linear interpolation, where second derivatives vary little."""

Place = tuple[int, ...]


class Grid(NamedTuple):
    """Points and what was found there."""

    points: Float[np.ndarray, "point axis"]
    """In lexical order."""
    values: Float[np.ndarray, "point value"]
    residuals: Float[np.ndarray, "value"]
    """About how far linear interpolation between the points is off where it is worst, if nothing is narrower than the
    cells."""


class Cell(NamedTuple):
    """An interval or a square, on a lattice."""

    corner: Place
    size: int


def adaptive_grid(
    function: Callable[[tuple[float, ...]], Float[np.ndarray, "value"]],
    *,
    low: Sequence[float],
    high: Sequence[float],
    num_points: int,
    tolerance: float,
) -> Grid:
    """Spend points where functions bend most.

    Half of the points, evenly spaced, see the whole box. Then the cell where linear interpolation between corners is
    worst, in shares of the function's range, is halved along every axis, again and again: halving reveals the error
    e of the whole cell, and e/4 is expected of its parts.

    |x| bends at 0 alone, so that points gather there, except for the even ones:

    >>> grid = adaptive_grid(lambda x: np.abs(np.array(x) - 0.1), low=[-1], high=[1], num_points=21, tolerance=0.001)
    >>> bool((np.abs(grid.points - 0.1) < 0.1).sum() > 5)
    True

    Args:
        function: of a point; one number or several.
        low: the box's lower ends, one for each axis.
        high: its upper ends.
        num_points: at most; at least 3 along each axis.
        tolerance: as a share of the range of each function, at which it is fine enough.

    Raises:
        ValueError: the box is empty or not finite, or there are too few points.
    """
    check_box(low, high, num_points=num_points, tolerance=tolerance)
    axes, even = len(low), num_points * (EVEN if num_points * EVEN > 3 ** len(low) else 1)
    first = max(1, int((even ** (1 / axes) * (1 + 1e-12) - 1) / 2))
    whole = 1 << DEPTH
    spans = [(end - begin) / (first * whole) for begin, end in zip(low, high, strict=True)]
    known: dict[Place, Float[np.ndarray, "value"]] = {}
    cells: dict[Cell, Float[np.ndarray, "value"]] = {}

    def learn(place: Place) -> None:
        at = tuple(begin + part * span for begin, part, span in zip(low, place, spans, strict=True))
        known[place] = np.asarray(function(at), np.float64)

    def halve(cell: Cell) -> None:
        for place in dict.fromkeys(_lattice(cell)):
            if place not in known:
                learn(place)
        cells.update(dict.fromkeys(_halves(cell), SHRINKS * _bend(cell, known)))

    for corner in product(range(first), repeat=axes):
        halve(Cell(tuple(whole * part for part in corner), whole))
    while True:
        worst = _worst(cells, known)
        if worst is None or worst[1] <= tolerance:
            break
        missing = sum(place not in known for place in _lattice(worst[0]))
        if len(known) + missing > num_points:
            break
        del cells[worst[0]]
        halve(worst[0])
    order = sorted(known)
    points = np.array(order, np.float64) * np.array(spans) + np.array(low, np.float64)
    return Grid(points, np.stack([known[place] for place in order]), np.max(list(cells.values()), axis=0))


def check_box(low: Sequence[float], high: Sequence[float], *, num_points: int, tolerance: float) -> None:
    """Refuse what no grid can be laid over.

    Raises:
        ValueError: see `adaptive_grid`.
    """
    if not low or len(low) != len(high) or not all(-np.inf < a < b < np.inf for a, b in zip(low, high, strict=True)):
        raise ValueError(f"Expected low < high along each axis, finite, got low={list(low)}, high={list(high)}.")
    if num_points < 3 ** len(low) or not tolerance >= 0:
        raise ValueError(
            f"Expected at least {3 ** len(low)} points, 3 along each axis, and a tolerance of at least 0, got "
            f"{num_points!r} and {tolerance!r}."
        )


def _worst(
    cells: dict[Cell, Float[np.ndarray, "value"]], known: dict[Place, Float[np.ndarray, "value"]]
) -> tuple[Cell, float] | None:
    """The cell that may still be halved whose error is largest, and that error as a share of the range."""
    every = np.stack(list(known.values()))
    every[~np.isfinite(every)] = np.nan
    lowest, highest = (np.where(np.isnan(every), fill, every) for fill in (np.inf, -np.inf))
    ranges = np.where(np.isnan(every).all(0), 0.0, highest.max(0) - lowest.min(0))
    scale = np.divide(1.0, ranges, out=np.zeros_like(ranges), where=ranges > 0)
    shares = {cell: float((errors * scale).max()) for cell, errors in cells.items() if cell.size > 1}
    return max(shares.items(), key=lambda pair: pair[1], default=None)


def _bend(cell: Cell, known: dict[Place, Float[np.ndarray, "value"]]) -> Float[np.ndarray, "value"]:
    """How far interpolation between the corners is off at the points in their middle; 0 where a value is not finite."""
    half, errors = cell.size // 2, list[Float[np.ndarray, "value"]]()
    for offset in product((0, 1, 2), repeat=len(cell.corner)):
        around = product(*[(0, 2) if part == 1 else (part,) for part in offset])
        corners = [known[_moved(cell.corner, corner, half)] for corner in around]
        with np.errstate(invalid="ignore"):
            errors.append(np.abs(known[_moved(cell.corner, offset, half)] - np.mean(corners, axis=0)))
    return np.nan_to_num(np.array(errors), nan=0.0, posinf=0.0).max(0)


def _lattice(cell: Cell) -> Iterator[Place]:
    """Corners and middles."""
    return (_moved(cell.corner, offset, cell.size // 2) for offset in product((0, 1, 2), repeat=len(cell.corner)))


def _halves(cell: Cell) -> Iterator[Cell]:
    half = cell.size // 2
    return (Cell(_moved(cell.corner, offset, half), half) for offset in product((0, 1), repeat=len(cell.corner)))


def _moved(place: Place, offset: Place, step: int) -> Place:
    return tuple(part + step * count for part, count in zip(place, offset, strict=True))
