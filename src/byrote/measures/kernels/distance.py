"""How far apart two kernels of the same examples are, and how fast a kernel changes while a network learns."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float, Real, Shaped

KernelStatus = Literal["measured", "too few examples", "zero", "not finite"]

FEWEST = 3
"""Examples, below which there is no standard error."""
REASONS: tuple[KernelStatus, ...] = ("too few examples", "not finite", "zero")


@final
@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """Of two kernels, or why there is none."""

    value: float | None
    """S: 0 for kernels that differ by a factor alone, 1 for kernels with nothing in common; None where it is not
    measured."""
    se: float | None
    """From leaving out one example at a time; None with fewer than three, or where without one of them nothing is
    left."""
    status: KernelStatus
    count: int
    """Examples."""


@final
@dataclass(frozen=True, kw_only=True)
class KernelDistances:
    """Of every kernel from every other."""

    value: Float[np.ndarray, "kernel other"]
    """NaN where `status` says why."""
    se: Float[np.ndarray, "kernel other"]
    """From leaving out one example at a time; NaN where there is none."""
    status: Shaped[np.ndarray, "kernel other"]
    """"measured", or why not, in the words of `KernelStatus`."""
    count: int
    """Examples."""


@final
@dataclass(frozen=True, kw_only=True)
class KernelVelocity:
    """Between each two moments of a run that follow each other."""

    value: Float[np.ndarray, "interval"]
    """Distance per unit of time; NaN where `status` says why."""
    se: Float[np.ndarray, "interval"]
    """From leaving out one example at a time; NaN where there is none."""
    midpoint: Float[np.ndarray, "interval"]
    """Of the two moments."""
    status: Shaped[np.ndarray, "interval"]
    count: int
    """Examples."""


class _Common(NamedTuple):
    """⟨K, L⟩_F, whole and with each example's rows and columns left out in turn."""

    whole: float
    without: Float[np.ndarray, "example"]


def kernel_distance(
    one: Real[np.ndarray, "row row"], other: Real[np.ndarray, "other_row other_row"], *, rows_per_example: int = 1
) -> KernelDistance:
    """Measure how much two kernels of the same examples differ, whatever their scale.

    S = 1 − ⟨K₁, K₂⟩_F/(‖K₁‖_F‖K₂‖_F).

    A factor changes nothing; the identity and a matrix of ones, of n examples, are 1 − 1/√n apart:

    >>> kernel = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> kernel_distance(kernel, 7 * kernel).value
    0.0
    >>> kernel_distance(np.eye(4), np.ones((4, 4))).value
    0.5

    Args:
        one: K₁, such as a tangent kernel at one moment.
        other: K₂.
        rows_per_example: of the full tangent kernel the number of outputs: an example is left out with all its rows.

    Raises:
        ValueError: they are not square and of one shape, or there are not so many rows for each example.

    Fort et al. 2020, Deep Learning versus Kernel Learning, https://arxiv.org/abs/2010.15110
    """
    _check([one, other], rows_per_example=rows_per_example)
    sides = [_Side(kernel, rows_per_example) for kernel in (one, other)]
    return _distance(sides[0], sides[1])


def kernel_distances(kernels: Sequence[Real[np.ndarray, "_ _"]], *, rows_per_example: int = 1) -> KernelDistances:
    """Measure how far each of some kernels of the same examples is from each other one.

    As in `kernel_distance`.

    >>> kernel_distances([np.eye(4), np.ones((4, 4)), 2 * np.eye(4)]).value
    array([[0. , 0.5, 0. ],
           [0.5, 0. , 0.5],
           [0. , 0.5, 0. ]])

    Args:
        kernels: such as tangent kernels, at several moments or of several runs.
        rows_per_example: of the full tangent kernel the number of outputs.

    Raises:
        ValueError: there are none, they are not square and of one shape, or there are not so many rows for each
            example.

    Fort et al. 2020, Deep Learning versus Kernel Learning, https://arxiv.org/abs/2010.15110
    """
    _check(kernels, rows_per_example=rows_per_example)
    sides = [_Side(kernel, rows_per_example) for kernel in kernels]
    found = [[_distance(sides[max(i, j)], sides[min(i, j)]) for j in range(len(sides))] for i in range(len(sides))]
    flat = [pair for row in found for pair in row]
    value, se, status = (part.reshape(len(sides), len(sides)) for part in _columns(flat))
    return KernelDistances(value=value, se=se, status=status, count=sides[0].num_examples)


def kernel_velocity(
    kernels: Sequence[Real[np.ndarray, "_ _"]], *, times: Real[np.ndarray, "moment"], rows_per_example: int = 1
) -> KernelVelocity:
    """Measure how fast a kernel changes while a network learns.

    v = S(K_t, K_{t+Δt})/Δt. S grows with the square of a small change, so compare velocities over intervals of like
    length.

    >>> found = kernel_velocity([np.eye(4), np.ones((4, 4)), np.ones((4, 4))], times=np.array([0, 2, 10]))
    >>> found.value.tolist(), found.midpoint.tolist()
    ([0.25, 0.0], [1.0, 6.0])

    Args:
        kernels: at moments that follow one another.
        times: of each, rising: epochs, or steps.
        rows_per_example: of the full tangent kernel the number of outputs.

    Raises:
        ValueError: fewer than two moments, times do not rise, or as for `kernel_distance`.

    Fort et al. 2020, Deep Learning versus Kernel Learning, https://arxiv.org/abs/2010.15110
    """
    gaps = np.diff(times.astype(np.float64))
    if len(kernels) < 2 or len(kernels) != len(times) or not (np.isfinite(gaps) & (gaps > 0)).all():
        raise ValueError(
            f"Expected at least two kernels, and rising times, one for each, got {len(kernels)} kernels and times "
            f"{times.tolist()}."
        )
    _check(kernels, rows_per_example=rows_per_example)
    sides = [_Side(kernel, rows_per_example) for kernel in kernels]
    found = [_distance(before, after) for before, after in itertools.pairwise(sides)]
    value, se, status = _columns(found)
    return KernelVelocity(
        value=value / gaps,
        se=se / gaps,
        midpoint=times[:-1] + gaps / 2,
        status=status,
        count=sides[0].num_examples,
    )


@final
class _Side:
    """A kernel of length 1, and what it has in common with itself; or why it cannot be compared."""

    def __init__(self, kernel: Real[np.ndarray, "row row"], rows_per_example: int) -> None:
        wide = kernel.astype(np.float64)
        self.rows_per_example, self.num_examples = rows_per_example, len(kernel) // rows_per_example
        largest = float(np.abs(wide).max(initial=0.0))
        self.status: KernelStatus = "measured"
        if self.num_examples < 2:
            self.status = "too few examples"
        elif not np.isfinite(largest):
            self.status = "not finite"
        elif largest == 0:
            self.status = "zero"
        if self.status != "measured":
            return
        wide /= largest
        self.kernel = wide / np.linalg.norm(wide)
        self.itself = self.common(self)

    def common(self, other: "_Side") -> _Common:
        each = self.rows_per_example
        shape = (self.num_examples, each, self.num_examples, each)
        products = (self.kernel * other.kernel).reshape(shape).sum((1, 3))
        whole = float(products.sum())
        return _Common(whole, whole - products.sum(0) - products.sum(1) + np.diagonal(products))


def _distance(one: _Side, other: _Side) -> KernelDistance:
    for reason in REASONS:
        if reason in (one.status, other.status):
            return KernelDistance(value=None, se=None, status=reason, count=one.num_examples)
    # Half the squared distance of kernels of length 1: 1 − cos, without its loss of digits near 0.
    value = float(np.square(one.kernel - other.kernel).sum()) / 2
    return KernelDistance(value=value, se=_jackknife_error(one, other), status="measured", count=one.num_examples)


def _jackknife_error(one: _Side, other: _Side) -> float | None:
    """√((n − 1)/n Σ_i (S₍₋ᵢ₎ − their mean)²)."""
    count, lengths = one.num_examples, one.itself.without * other.itself.without
    if count < FEWEST or not ((one.itself.without > 0) & (other.itself.without > 0)).all():
        return None
    found = one.common(other).without / np.sqrt(lengths)
    return float(np.sqrt((count - 1) / count * np.square(found - found.mean()).sum()))


def _columns(
    found: Sequence[KernelDistance],
) -> tuple[Float[np.ndarray, "pair"], Float[np.ndarray, "pair"], Shaped[np.ndarray, "pair"]]:
    values = [np.nan if pair.value is None else pair.value for pair in found]
    errors = [np.nan if pair.se is None else pair.se for pair in found]
    return np.array(values), np.array(errors), np.array([pair.status for pair in found])


def _check(kernels: Sequence[np.ndarray], *, rows_per_example: int) -> None:
    shapes = sorted({kernel.shape for kernel in kernels})
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] != shapes[0][1]:
        raise ValueError(
            "Expected kernels of the same examples, square and of one shape, got "
            f"{' and '.join(map(str, shapes)) or 'none'}."
        )
    if rows_per_example < 1 or shapes[0][0] % rows_per_example:
        raise ValueError(
            f"Expected a kernel of {rows_per_example} rows for each example, got {shapes[0][0]:,} rows in all."
        )
