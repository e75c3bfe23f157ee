"""Grids that are finer where a function bends."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple, final

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
    found = _Refined(function, corner=low, spans=spans)
    for corner in product(range(first), repeat=axes):
        found.halve(Cell(tuple(whole * part for part in corner), whole))
    while found.worst() > tolerance and found.num_points_next() <= num_points:
        found.halve(found.pop())
    order = sorted(found.known)
    points = np.array(order, np.float64) * np.array(spans) + np.array(low, np.float64)
    return Grid(points, np.stack([found.known[place] for place in order]), found.residuals())


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


@final
class _Refined:
    """Points that are known, and the cells between them from the worst down."""

    def __init__(
        self,
        function: Callable[[tuple[float, ...]], Float[np.ndarray, "value"]],
        *,
        corner: Sequence[float],
        spans: Sequence[float],
    ) -> None:
        self.known: dict[Place, Float[np.ndarray, "value"]] = {}
        self._function, self._corner, self._spans = function, corner, spans
        self._cells: list[tuple[float, Cell, Float[np.ndarray, "value"]]] = []
        self._smallest: list[Float[np.ndarray, "value"]] = []
        self._lowest, self._highest = np.array(np.nan), np.array(np.nan)

    def halve(self, cell: Cell) -> None:
        """Along every axis, and learn the middles."""
        for place in _lattice(cell):
            if place not in self.known:
                self._learn(place)
        errors = SHRINKS * _bend(cell, self.known)
        for half in _halves(cell):
            if half.size > 1:
                heapq.heappush(self._cells, (-self._share(errors), half, errors))
            else:
                self._smallest.append(errors)

    def worst(self) -> float:
        """The largest error of a cell that may be halved, as a share of the range; −1 where there is none.

        Ranges only grow and shares only fall, so the first one is right once its share is that of now.
        """
        while self._cells:
            share, cell, errors = self._cells[0]
            now = self._share(errors)
            if now == -share:
                return now
            heapq.heapreplace(self._cells, (-now, cell, errors))
        return -1.0

    def pop(self) -> Cell:
        """Take that cell out."""
        return heapq.heappop(self._cells)[1]

    def num_points_next(self) -> int:
        """Points there would be if it were halved."""
        return len(self.known) + sum(place not in self.known for place in _lattice(self._cells[0][1]))

    def residuals(self) -> Float[np.ndarray, "value"]:
        """The largest error of each value."""
        return np.max([*(errors for _, _, errors in self._cells), *self._smallest], axis=0)

    def _learn(self, place: Place) -> None:
        at = tuple(begin + part * span for begin, part, span in zip(self._corner, place, self._spans, strict=True))
        values = self.known[place] = np.asarray(self._function(at), np.float64)
        finite = np.where(np.isfinite(values), values, np.nan)
        self._lowest, self._highest = np.fmin(self._lowest, finite), np.fmax(self._highest, finite)

    def _share(self, errors: Float[np.ndarray, "value"]) -> float:
        ranges = np.nan_to_num(self._highest - self._lowest)
        return float(np.divide(errors, ranges, out=np.zeros_like(errors), where=ranges > 0).max())


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
