"""How fast gradient descent fits targets with a kernel machine: in closed form, and by blocks for many examples."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float, Int, Num

from byrote.measures.kernels.matrices import KernelName, kernel_matrix

BLOCK_BYTES = 1 << 28
"""Bytes of a block of rows of the kernel."""
POWER_STEPS = 200
"""Products with the kernel at most, from which its largest eigenvalue is found."""
POWER_TOLERANCE = 1e-4
"""Relative change of it, below which it is taken."""
FINENESS = 0.01
"""Of the steps to an error: how far they may be off, relatively."""
NEGATIVE = 1e-6
"""Of the largest eigenvalue: what rounding, in single precision too, makes of one that is 0."""
TIED = 1e-12
"""Of the largest target: outputs that differ by less are as large."""


@final
@dataclass(frozen=True, kw_only=True)
class KernelDescent:
    """What is left of the targets along gradient descent with a kernel machine, on the examples it is fitted to."""

    steps: Int[np.ndarray, "moment"]
    squared_error: Float[np.ndarray, "moment"]
    """Mean over examples of ‖y − f(x)‖², over that of ‖y‖²: 1 before the first step."""
    wrong: Float[np.ndarray, "moment"]
    """Share of examples whose output at the target is not the largest, alone; with one output, whose sign is not the
    target's."""
    step_size: float
    """η/n, in f ← f + (η/n)·K(y − f)."""
    largest_eigenvalue: float
    """Of K; for many examples from below, to about 1 in 10,000."""
    exact_until: float
    """Steps after which the slowest directions follow from rounding and not from the kernel."""
    count: int
    """Examples."""


@final
@dataclass(frozen=True, kw_only=True)
class StepsToFit:
    """How many steps of gradient descent a kernel machine needs."""

    value: float
    """Steps; infinite where `status` says so."""
    residual: float
    """Steps by which it may be too late."""
    status: Literal["reached", "not within rounding"]
    """Beyond some number of steps only directions are left whose eigenvalues are rounding: "not within rounding"."""
    exact_until: float
    """That number of steps."""
    count: int
    """Examples."""


class _Spectrum(NamedTuple):
    """Of K/λ_max, and the targets in its eigenvectors."""

    largest: float
    shares: Float[np.ndarray, "direction"]
    """λ_i/λ_max."""
    vectors: Float[np.ndarray, "example direction"]
    along: Float[np.ndarray, "direction output"]
    """Uᵀy."""

    rounding: float
    """Of them."""

    @property
    def exact_until(self) -> float:
        return 1 / self.rounding

    def left(self, steps: int, *, rate: float) -> Float[np.ndarray, "direction output"]:
        """(1 − rate·λ_i/λ_max)^t Uᵀy."""
        return ((1 - rate * self.shares) ** steps)[:, None] * self.along


def kernel_descent(
    kernel: Float[np.ndarray, "example example"],
    targets: Num[np.ndarray, "example output"],
    *,
    steps: Int[np.ndarray, "moment"],
    rate: float = 1.0,
) -> KernelDescent:
    """Follow gradient descent with a kernel machine on its own training examples, in closed form.

    From f₀ = 0 by f ← f + (η/n)K(y − f): y − f_t = Σ_i (1 − ηλ_i/n)^t (u_iᵀy) u_i, with η/n = rate/λ_max. So kernels of
    any scale are each given the step that they can bear. One eigendecomposition, for any number of steps; for more than
    about 10,000 examples `blocked_kernel_descent`.

    With the identity, one step fits:

    >>> found = kernel_descent(np.eye(3), np.eye(3), steps=np.array([0, 1]))
    >>> found.squared_error.tolist(), found.wrong[1].item()
    ([1.0, 0.0], 0.0)

    Args:
        kernel: K, symmetric and positive semi-definite.
        targets: y, one-hot for classes; centre them, unless the kernel is to learn the mean too.
        steps: to be looked at, whole numbers from 0 up.
        rate: of the step, in 1/λ_max; above 0 and below 2, beyond which it diverges.

    Raises:
        ValueError: shapes do not fit, something is not finite, all targets are 0, the kernel is zero or has an
            eigenvalue below 0, or the rate would not converge.

    Belkin, Ma & Mandal 2018, To Understand Deep Learning We Need to Understand Kernel Learning,
    https://arxiv.org/abs/1802.01396; Yao, Rosasco & Caponnetto 2007, On Early Stopping in Gradient Descent Learning
    """
    _check_steps(steps)
    spectrum, wide = _spectrum(kernel, targets, rate=rate), targets.astype(np.float64)
    squares, wrong = np.empty(len(steps)), np.empty(len(steps))
    for place, step in enumerate(steps.tolist()):
        left = spectrum.left(step, rate=rate)
        squares[place] = np.square(left).sum() / np.square(wide).sum()
        wrong[place] = _wrong(wide - spectrum.vectors @ left, wide)
    return KernelDescent(
        steps=steps,
        squared_error=squares,
        wrong=wrong,
        step_size=rate / spectrum.largest,
        largest_eigenvalue=spectrum.largest,
        exact_until=spectrum.exact_until,
        count=len(kernel),
    )


def steps_to_fit(
    kernel: Float[np.ndarray, "example example"],
    targets: Num[np.ndarray, "example output"],
    *,
    squared_error: float | None = None,
    wrong: float | None = None,
    rate: float = 1.0,
) -> StepsToFit:
    """Find how many steps of gradient descent a kernel machine needs to fit its training examples.

    The smallest t at which the error of `kernel_descent` is at most what is wanted. The squared error falls with every
    step, so that its t is exact; the share of wrong examples may rise again, and is looked for at steps that grow by a
    quarter, then by bisection to 1 in 100.

    The slower of two directions has half the eigenvalue: its square falls as 4⁻ᵗ.

    >>> steps_to_fit(np.diag([2.0, 1.0]), np.array([[0.0], [1.0]]), squared_error=0.01).value
    4.0

    Args:
        kernel: K, symmetric and positive semi-definite.
        targets: y, one-hot for classes.
        squared_error: that is wanted, relative to that of answering 0; above 0.
        wrong: the share of wrong examples that is wanted, in place of it; from 0 up.
        rate: of the step, in 1/λ_max; above 0 and below 2.

    Raises:
        ValueError: not exactly one error is named, it is out of range, or as for `kernel_descent`.

    Belkin, Ma & Mandal 2018, To Understand Deep Learning We Need to Understand Kernel Learning,
    https://arxiv.org/abs/1802.01396
    """
    if (squared_error is None) == (wrong is None):
        raise ValueError(f"Expected squared_error or wrong, got squared_error={squared_error} and wrong={wrong}.")
    goal = squared_error if wrong is None else wrong
    if goal is None or not 0 <= goal < 1 or (wrong is None and goal == 0):
        raise ValueError(f"Expected an error to reach from 0, for the squared error above it, to below 1, got {goal}.")
    spectrum, wide = _spectrum(kernel, targets, rate=rate), targets.astype(np.float64)

    def reached(step: int) -> bool:
        left = spectrum.left(step, rate=rate)
        if wrong is None:
            return bool(np.square(left).sum() <= goal * np.square(wide).sum())
        return _wrong(wide - spectrum.vectors @ left, wide) <= goal

    value, before = _first(reached, last=spectrum.exact_until, growth=2.0 if wrong is None else 1.25)
    if math.isfinite(value):
        value, before = _bisected(reached, value, before, fineness=0.0 if wrong is None else FINENESS)
    return StepsToFit(
        value=value,
        residual=value - before - 1 if math.isfinite(value) and value > before else 0.0,
        status="reached" if math.isfinite(value) else "not within rounding",
        exact_until=spectrum.exact_until,
        count=len(kernel),
    )


def blocked_kernel_descent(
    x: Num[np.ndarray, "example feature"],
    targets: Num[np.ndarray, "example output"],
    *,
    kernel: KernelName,
    bandwidth: float,
    steps: Int[np.ndarray, "moment"],
    rate: float = 1.0,
) -> KernelDescent:
    """Follow gradient descent with a kernel machine on more examples than their kernel fits into memory for.

    As `kernel_descent`, step by step: K is made anew for each step, in blocks of rows, at n²(d + k) multiplications.
    Its largest eigenvalue is found by powers, at some such products more.

    >>> x = np.arange(6.0)[:, None]
    >>> found = blocked_kernel_descent(x, np.sin(x), kernel="laplacian", bandwidth=2.0, steps=np.array([0, 10]))
    >>> whole = kernel_descent(kernel_matrix(x, kernel="laplacian", bandwidth=2.0), np.sin(x), steps=found.steps)
    >>> bool(np.allclose(found.squared_error, whole.squared_error, rtol=1e-2))
    True

    Args:
        x: inputs, or features.
        targets: y, one-hot for classes.
        kernel: Gaussian or Laplacian, as in `kernel_matrix`.
        bandwidth: σ, above 0.
        steps: to be looked at, from 0 up; all steps up to the largest are made.
        rate: of the step, in 1/λ_max; above 0 and below 2.

    Raises:
        ValueError: as for `kernel_descent` and `kernel_matrix`.

    Belkin, Ma & Mandal 2018, To Understand Deep Learning We Need to Understand Kernel Learning,
    https://arxiv.org/abs/1802.01396
    """
    _check_steps(steps)
    wide = _checked_targets(targets, count=len(x), rate=rate)

    def times(vectors: Float[np.ndarray, "example vector"]) -> Float[np.ndarray, "example vector"]:
        size = max(1, BLOCK_BYTES // (8 * len(x)))
        parts = (
            kernel_matrix(x[begin : begin + size], x, kernel=kernel, bandwidth=bandwidth) @ vectors
            for begin in range(0, len(x), size)
        )
        return np.concatenate(list(parts))

    largest = _largest_eigenvalue(times, count=len(x))
    squares, wrong, left = np.empty(len(steps)), np.empty(len(steps)), wide.copy()
    for step in range(int(steps.max()) + 1):
        here = steps == step
        squares[here] = np.square(left).sum() / np.square(wide).sum()
        wrong[here] = _wrong(wide - left, wide)
        if step < steps.max():
            left -= rate / largest * times(left)
    return KernelDescent(
        steps=steps,
        squared_error=squares,
        wrong=wrong,
        step_size=rate / largest,
        largest_eigenvalue=largest,
        exact_until=float(1 / (len(x) * np.finfo(np.float64).eps)),
        count=len(x),
    )


def _largest_eigenvalue(times: Callable[[np.ndarray], np.ndarray], *, count: int) -> float:
    """Of a matrix without negative entries, whose first eigenvector has none either."""
    vector, before = np.full((count, 1), count**-0.5), 0.0
    for _ in range(POWER_STEPS):
        product = times(vector)
        found = float(np.linalg.norm(product))
        if abs(found - before) <= POWER_TOLERANCE * found:
            return found
        vector, before = product / found, found
    return before


def _spectrum(kernel: np.ndarray, targets: np.ndarray, *, rate: float) -> _Spectrum:
    wide = _checked_targets(targets, count=len(kernel), rate=rate)
    if kernel.shape != (len(wide), len(wide)) or not np.isfinite(kernel).all():
        raise ValueError(f"Expected a finite kernel of {len(wide):,} examples, got shape {kernel.shape}.")
    values, vectors = np.linalg.eigh(kernel.astype(np.float64))
    largest = float(values[-1])
    if largest <= 0:
        raise ValueError("Expected a kernel that is not zero, with eigenvalues from 0 up, got none above 0.")
    shares = values / largest
    if shares[0] < -NEGATIVE:
        raise ValueError(
            f"Expected a kernel with eigenvalues from 0 up, got {values[0]:.3g} beside {largest:.3g}. With it gradient "
            "descent diverges."
        )
    rounding = max(len(wide) * float(np.finfo(kernel.dtype).eps), -float(shares[0]))
    return _Spectrum(largest, np.clip(shares, 0, 1), vectors, vectors.T @ wide, rounding)


def _first(reached: Callable[[int], bool], *, last: float, growth: float) -> tuple[float, float]:
    """A step at which it is reached, and one before at which it is not: 0, 1, 2 and so on, ever further apart."""
    before, step = -1, 0
    while step <= last:
        if reached(step):
            return float(step), float(before)
        before, step = step, max(step + 1, int(step * growth))
    return math.inf, float(before)


def _bisected(reached: Callable[[int], bool], value: float, before: float, *, fineness: float) -> tuple[float, float]:
    low, high = int(before), int(value)
    while high - low > max(1, fineness * high):
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return float(high), float(low)


def _wrong(outputs: Float[np.ndarray, "example output"], targets: Float[np.ndarray, "example output"]) -> float:
    """A tie is no right answer, such as before the first step."""
    least = TIED * float(np.abs(targets).max())
    if targets.shape[1] == 1:
        return float((outputs[:, 0] * np.sign(targets[:, 0]) <= least).mean())
    own = np.zeros(targets.shape, dtype=bool)
    own[np.arange(len(targets)), targets.argmax(1)] = True
    return float((outputs[own] - np.where(own, -np.inf, outputs).max(1) <= least).mean())


def _check_steps(steps: Int[np.ndarray, "moment"]) -> None:
    if not len(steps) or (steps < 0).any():
        raise ValueError(f"Expected at least one number of steps, from 0 up, got {steps.tolist()}.")


def _checked_targets(targets: np.ndarray, *, count: int, rate: float) -> Float[np.ndarray, "example output"]:
    if len(targets) != count or not np.isfinite(targets).all() or not targets.any():
        raise ValueError(
            f"Expected finite targets, not all 0, for each of {count:,} examples, got {len(targets):,} from "
            f"{targets.min(initial=0)} to {targets.max(initial=0)}."
        )
    if not 0 < rate < 2:
        raise ValueError(f"Expected a rate above 0 and below 2, beyond which gradient descent diverges, got {rate!r}.")
    return targets.astype(np.float64)
