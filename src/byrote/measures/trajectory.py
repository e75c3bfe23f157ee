"""What a path through weight space says: how far a step could go, when training broke even, where a curve peaked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float, Int, Real

from byrote.records import SAM, SGD, Adam, AdamW, Optimiser, with_learning_rate

GROWTH = 1.2
"""Of the loss, at which a step has gone too far (Jastrzębski et al. 2020)."""


@final
@dataclass(frozen=True, kw_only=True)
class StepReach:
    """How far along a step the loss stays below its bound."""

    value: float
    """α*, in lengths of the step that was taken; infinite where nothing that was looked at goes too far."""
    residual: float
    """α* lies no further away, unless the loss rises and falls again between two places that were looked at."""
    count: int
    """Losses looked at, of all examples each: a third of a gradient."""
    survives_rescaling: bool = True
    """A step and the one that follows are rescaled alike."""


@final
@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """When the sharpest direction became unstable."""

    value: float
    """The step, interpolated between two measurements; NaN when it never did."""
    residual: float
    """Steps between those two measurements; 0 for the first of all, which only says "not later"."""
    status: Literal["crossed", "before the first measurement", "never"]
    index: int | None
    """Of the first measurement that is unstable."""
    growth: Float[np.ndarray, "moment"]
    """Mean square growth along the sharpest direction, from one step to the next; 1 is break-even."""
    survives_rescaling: bool = False
    """It is of the largest eigenvalue, which a rescaling changes."""

    @property
    def count(self) -> int:
        """Measurements."""
        return len(self.growth)


class Travel(NamedTuple):
    """Where each moment of a run lies between its start and its end."""

    from_start: Float[np.ndarray, "moment"]
    """‖θ_t − θ_0‖."""
    from_end: Float[np.ndarray, "moment"]
    """‖θ_t − θ_T‖."""
    cosine_to_start: Float[np.ndarray, "moment"]
    """⟨θ_t, θ_0⟩/(‖θ_t‖‖θ_0‖); NaN where one is zero."""
    cosine_to_end: Float[np.ndarray, "moment"]
    path: Float[np.ndarray, "moment"]
    """Σ ‖θ_s − θ_{s−1}‖ so far, over the moments that were kept."""
    survives_rescaling: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class Peak:
    """The highest point of a curve."""

    value: float
    """NaN when no measurement is finite."""
    se: float
    """Of the value, as handed over; NaN when none was."""
    step: float
    residual: float
    """Steps to the further one of the neighbouring measurements: the peak is no further away, if it is the only one."""
    earliest: float
    """The first step whose measurement cannot be told apart from the peak's by twice the standard error of their
    difference; the step itself without standard errors."""
    latest: float
    index: int | None
    rise: float
    """Peak minus first measurement."""
    fall: float
    """Peak minus last measurement."""
    inside: bool
    """Whether the curve both rises to it and falls after it, by more than twice the standard error of the difference
    where standard errors are known."""
    count: int
    """Finite measurements."""


def critical_step(
    loss: Callable[[float], float],
    *,
    growth: float = GROWTH,
    shortest: float = 2.0**-6,
    longest: float = 2.0**10,
    tolerance: float = 0.01,
) -> StepReach:
    """Find how many times longer a step could have been before the loss rose by a fifth.

    α* = the smallest α > 0 with L(θ_t − α(θ_t − θ_{t+1})) ≥ 1.2·L(θ_t). Looked for at α = shortest, 2·shortest, …, then
    by bisection. What the loss does between two such places is not seen.

    For L(θ) = θ² at θ = 1 with a step to 0.5: (1 − α/2)² = 1.2 at α = 2 + 2√1.2:

    >>> found = critical_step(lambda a: (1 - a / 2) ** 2)
    >>> abs(found.value - (2 + 2 * 1.2**0.5)) <= found.residual <= 0.01 * found.value
    True

    Args:
        loss: at θ_t − α(θ_t − θ_{t+1}), from α; 0 is the start of the step, 1 its end. Not finite counts as too high.
        growth: of the loss, above 1.
        shortest: α that is looked at first.
        longest: α beyond which is not looked.
        tolerance: of α*, as a share of it.

    Raises:
        ValueError: the loss at the start is not above 0, or an argument is out of its range.

    Jastrzębski et al. 2020, The Break-Even Point on Optimization Trajectories of Deep Neural Networks,
    https://arxiv.org/abs/2002.09572
    """
    if not 0 < shortest <= longest < float("inf") or not 0 < tolerance < 1:
        raise ValueError(
            "Expected 0 < shortest <= longest, finite, and a tolerance between 0 and 1, got "
            f"shortest={shortest!r}, longest={longest!r}, tolerance={tolerance!r}."
        )
    bound = _bound(loss(0.0), growth)
    low, high, count = 0.0, shortest, 2
    while loss(high) < bound:
        if high >= longest:
            return StepReach(value=float("inf"), residual=float("nan"), count=count)
        low, high, count = high, min(2 * high, longest), count + 1
    while high - low > 2 * tolerance * low and high > tolerance * shortest:
        middle = (low + high) / 2
        low, high = (middle, high) if loss(middle) < bound else (low, middle)
        count += 1
    return StepReach(value=(low + high) / 2, residual=(high - low) / 2, count=count)


def critical_step_between(
    losses: Float[np.ndarray, "place"], *, alphas: Real[np.ndarray, "place"], growth: float = GROWTH
) -> StepReach:
    """Find the same from losses that were measured already, at places along a step.

    The first crossing of 1.2·L(θ_t), on the straight line between the two losses around it. See `critical_step`.

    >>> found = critical_step_between(np.array([1.0, 0.5, 1.5]), alphas=np.array([0.0, 1.0, 2.0]))
    >>> round(found.value, 9)
    1.7

    Args:
        losses: the first at α = 0. Not finite counts as too high.
        alphas: from 0 upwards.
        growth: of the loss, above 1.

    Raises:
        ValueError: the places do not start at 0 or do not rise, or the loss at the start is not above 0.
    """
    if len(alphas) < 2 or losses.shape != alphas.shape or alphas[0] != 0 or not (np.diff(alphas) > 0).all():
        raise ValueError(
            "Expected one loss for each of at least two rising alphas, the first of them 0, got losses of shape "
            f"{losses.shape} and alphas {alphas.tolist()}."
        )
    bound = _bound(float(losses[0]), growth)
    high = np.flatnonzero(~(losses < bound))
    if not len(high):
        return StepReach(value=float("inf"), residual=float("nan"), count=len(losses))
    place = int(high[0])
    left, right = float(alphas[place - 1]), float(alphas[place])
    share = (bound - losses[place - 1]) / (losses[place] - losses[place - 1]) if np.isfinite(losses[place]) else 0.5
    value = left + float(share) * (right - left)
    return StepReach(value=value, residual=max(value - left, right - value), count=len(losses))


def _bound(start: float, growth: float) -> float:
    if not growth > 1:
        raise ValueError(f"Expected growth above 1, got {growth!r}.")
    if not 0 < start < float("inf"):
        raise ValueError(
            f"Expected a finite loss above 0 at the start of the step, of which a share is meaningful, got {start!r}."
        )
    return growth * start


def break_even(
    sharpness: Real[np.ndarray, "moment"],
    *,
    curvature_variance: Real[np.ndarray, "moment"] | None,
    learning_rate: float,
    batch_size: int,
    num_examples: int,
    steps: Real[np.ndarray, "moment"],
    measured_at: float | None = None,
) -> BreakEven:
    """Find the step at which training along the sharpest direction stops to be stable: the break-even point.

    The first t with (1 − ηλ_t)² + s_t²η²(N − S)/(S(N − 1)) ≥ 1 while λ_t > 0, that is λ_t = 2/η for full batches
    (S = N). Where λ ≤ 0 there is no valley to leave, and no break-even. With `measured_at` it is *predicted* for
    another learning rate and batch size: up to the break-even point a smaller learning rate is taken to follow the same
    path, after as many steps as make the same η·t.

    >>> found = break_even(
    ...     np.array([5.0, 15.0, 25.0]), steps=np.array([0.0, 10.0, 20.0]), curvature_variance=None,
    ...     learning_rate=0.1, batch_size=60, num_examples=60,
    ... )
    >>> round(found.value, 9), found.status
    (15.0, 'crossed')

    Args:
        sharpness: λ, the largest eigenvalue of the Hessian.
        curvature_variance: s², of the examples' curvatures along its direction, from `curvature_variance`; None: left
            out, so that the answer, λ = 2/η, is the latest that it can be.
        learning_rate: η of plain gradient descent.
        batch_size: S.
        num_examples: N, of the training set.
        steps: optimiser steps before each measurement, rising.
        measured_at: the learning rate of the run in which the curves were measured; None: `learning_rate`.

    Returns:
        The step, where a straight line between the two measurements around it crosses; in steps of `learning_rate`.

    Raises:
        ValueError: shapes do not fit, steps do not rise, or a number is out of its range.

    Jastrzębski et al. 2020, https://arxiv.org/abs/2002.09572
    """
    _check_curve(sharpness, steps)
    own = learning_rate if measured_at is None else measured_at
    if not (0 < learning_rate < float("inf") and 0 < own < float("inf") and 1 <= batch_size <= num_examples):
        raise ValueError(
            "Expected learning rates above 0 and a batch size from 1 to the number of examples, got "
            f"learning_rate={learning_rate!r}, measured_at={own!r}, batch_size={batch_size!r}, {num_examples=}."
        )
    noise = np.zeros(len(sharpness)) if curvature_variance is None else np.asarray(curvature_variance, np.float64)
    if noise.shape != sharpness.shape or (noise < 0).any():
        raise ValueError(f"Expected one variance, at least 0, for each of {len(sharpness)} moments, got {noise}.")
    noise = noise * _share_of_noise(batch_size, num_examples)
    curves = np.stack([sharpness.astype(np.float64), noise])
    growth = _growth(curves, learning_rate)
    unstable = np.flatnonzero((growth >= 1) & (sharpness > 0))
    if not len(unstable):
        nan = float("nan")
        return BreakEven(value=nan, residual=nan, status="never", index=None, growth=growth)
    index, time = int(unstable[0]), steps * (own / learning_rate)
    known = [moment for moment in range(index) if np.isfinite(growth[moment])]
    if not known:
        first = float(time[index])
        return BreakEven(value=first, residual=0.0, status="before the first measurement", index=index, growth=growth)
    left, gap = float(time[known[-1]]), float(time[index] - time[known[-1]])
    value = left + _crossing(curves[:, known[-1]], curves[:, index], learning_rate) * gap
    return BreakEven(value=value, residual=gap, status="crossed", index=index, growth=growth)


def _share_of_noise(batch_size: int, num_examples: int) -> float:
    """Of a single example's variance, in the mean of a batch drawn without replacement."""
    return 0.0 if batch_size == num_examples else (num_examples - batch_size) / (batch_size * (num_examples - 1))


def _growth(curves: Float[np.ndarray, "2 *moment"], learning_rate: float) -> Float[np.ndarray, "*moment"]:
    return (1 - learning_rate * curves[0]) ** 2 + learning_rate**2 * curves[1]


def _crossing(before: Float[np.ndarray, "2"], after: Float[np.ndarray, "2"], learning_rate: float) -> float:
    """Where growth ≥ 1 with λ > 0 begins, both curves being straight between two moments.

    Growth − 1 = η(ηλ² + ηcs² − 2λ) is a quadratic in the share of the way; the last place where it turns positive, or
    where λ does, is taken.
    """
    if not np.isfinite(after).all():
        return 1.0
    change = after - before
    quadratic = [
        learning_rate * change[0] ** 2,
        2 * learning_rate * before[0] * change[0] + learning_rate * change[1] - 2 * change[0],
        learning_rate * before[0] ** 2 + learning_rate * before[1] - 2 * before[0],
    ]
    roots = np.roots(quadratic)
    places = [float(root.real) for root in roots if abs(root.imag) < 1e-9 and 0 <= root.real <= 1]
    if before[0] <= 0:
        places.append(float(-before[0] / change[0]))
    return max(places, default=1.0)


def stability_limit(optimiser: Optimiser) -> float:
    """Say beyond which sharpness an optimiser's steps on a quadratic grow, at its full learning rate.

    Gradient descent 2/η; with heavy-ball momentum 2(1 + β)/η; with Nesterov's 2(1 + β)/((1 + 2β)η); Adam
    2(1 + β₁)/((1 − β₁)η), which is 38/η at β₁ = 0.9, of the *preconditioned* Hessian D⁻¹ᐟ²HD⁻¹ᐟ², its moving average of
    gradients being scaled by 1 − β₁. Weight decay ω is a curvature of its own and is taken off, as ω; AdamW's, which is
    not preconditioned, changes 2/η into 2/η − ω.

    >>> optimisers = [SGD(lr=0.1, momentum=0.0), SGD(lr=0.1, momentum=0.9), Adam(lr=0.1)]
    >>> [round(stability_limit(optimiser), 9) for optimiser in optimisers]
    [20.0, 38.0, 380.0]

    Args:
        optimiser: with its learning rate of the moment.

    Raises:
        ValueError: there is no such limit: SAM's depends on the gradient, Adam's penalty is preconditioned with the
            rest, or the weight decay alone makes the steps grow.

    Cohen et al. 2021, Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    https://arxiv.org/abs/2103.00065; Cohen et al. 2022, Adaptive Gradient Methods at the Edge of Stability,
    https://arxiv.org/abs/2207.14484
    """
    match optimiser:
        case SGD(lr=lr, momentum=momentum, weight_decay=decay, nesterov=nesterov):
            limit = 2 * (1 + momentum) / ((1 + 2 * momentum * nesterov) * lr) - decay
        case AdamW(lr=lr, beta1=beta1, weight_decay=decay):
            limit = (2 / lr - decay) * (1 + beta1) / (1 - beta1)
        case Adam(lr=lr, beta1=beta1, weight_decay=0.0):
            limit = 2 * (1 + beta1) / ((1 - beta1) * lr)
        case Adam():
            raise ValueError(
                "Adam's weight decay is part of the gradient that is preconditioned. Measure the sharpness of the loss "
                "with the penalty, and take the limit of Adam(weight_decay=0)."
            )
        case SAM():
            raise ValueError(
                "SAM's limit depends on the length of the gradient and not on the sharpness alone. For its base "
                "optimiser's: stability_limit(optimiser.base)."
            )
    if limit <= 0:
        raise ValueError(f"The weight decay alone makes the steps of {optimiser} grow. Lower it or the learning rate.")
    return limit


def stability_ratio(
    sharpness: Real[np.ndarray, "*moment"], *, optimiser: Optimiser, lr: Real[np.ndarray, "*moment"] | None = None
) -> Float[np.ndarray, "*moment"]:
    """Compare the sharpness with the most that an optimiser's steps can bear: λη/2 for plain gradient descent.

    1 is the edge of stability, where full-batch training comes to stay.

    >>> stability_ratio(np.array([10.0, 20.0]), optimiser=SGD(lr=0.1, momentum=0.0))
    array([0.5, 1. ])

    Args:
        sharpness: the largest eigenvalue of the Hessian; for Adam of the preconditioned one.
        optimiser: see `stability_limit`.
        lr: the learning rate of each moment, where it follows a schedule; 0 gives 0. None: the optimiser's own.

    Raises:
        ValueError: no limit is known, shapes do not fit, or a learning rate is below 0.
    """
    if lr is None:
        return np.asarray(sharpness / np.float64(stability_limit(optimiser)))
    if lr.shape != sharpness.shape or not (lr >= 0).all():
        raise ValueError(f"Expected one learning rate, at least 0, for each of {sharpness.size} moments, got {lr}.")
    limits = [_limit_at(optimiser, float(rate)) for rate in lr.ravel()]
    return np.asarray(sharpness / np.array(limits, np.float64).reshape(sharpness.shape))


def _limit_at(optimiser: Optimiser, lr: float) -> float:
    return stability_limit(with_learning_rate(optimiser, lr)) if lr else float("inf")


def travel(weights: Float[np.ndarray, "moment parameter"]) -> Travel:
    """Measure how far each moment of a run is from its start and from its end, and in which direction.

    Distances in float64; the cosines are between the weights themselves.

    >>> found = travel(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    >>> found.from_start.round(3).tolist(), found.cosine_to_end.round(3).tolist(), found.path.tolist()
    ([0.0, 1.0, 1.414], [0.0, 0.707, 1.0], [0.0, 1.0, 2.0])

    Args:
        weights: all parameters as one row, moment by moment.

    Raises:
        ValueError: there are no moments.
    """
    if not len(weights):
        raise ValueError("Expected the weights of at least one moment, got none.")
    start, end = weights[0].astype(np.float64), weights[-1].astype(np.float64)
    rows = np.empty((5, len(weights)))
    before = start
    for moment, row in enumerate(weights):
        now = row.astype(np.float64)
        rows[:, moment] = [
            np.linalg.norm(now - start),
            np.linalg.norm(now - end),
            _cosine(now, start),
            _cosine(now, end),
            np.linalg.norm(now - before),
        ]
        before = now
    return Travel(rows[0], rows[1], rows[2], rows[3], rows[4].cumsum())


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.clip(one @ other / lengths, -1, 1)) if lengths > 0 else float("nan")


def peak(
    values: Real[np.ndarray, "moment"],
    *,
    steps: Real[np.ndarray, "moment"],
    standard_errors: Float[np.ndarray, "moment"] | None = None,
) -> Peak:
    """Find where a curve is highest, and whether it rises to it and falls after it.

    The largest finite measurement, the first of equals. With standard errors also the steps that could be meant.

    >>> found = peak(np.array([1.0, 3.0, 2.0]), steps=np.array([0, 10, 30]))
    >>> found.step, found.residual, found.rise, found.fall, found.inside
    (10.0, 20.0, 2.0, 1.0, True)

    Args:
        values: along training; what is not finite is left out.
        steps: of each, rising.
        standard_errors: of each value, independent.

    Raises:
        ValueError: shapes do not fit, or steps do not rise.
    """
    _check_curve(values, steps)
    if standard_errors is not None and standard_errors.shape != values.shape:
        raise ValueError(f"Expected {len(values)} standard errors, one for each value, got {standard_errors.shape}.")
    places = np.flatnonzero(np.isfinite(values))
    if not len(places):
        nan = float("nan")
        return Peak(
            value=nan,
            se=nan,
            step=nan,
            residual=nan,
            earliest=nan,
            latest=nan,
            index=None,
            rise=nan,
            fall=nan,
            inside=False,
            count=0,
        )
    own, at = values[places].astype(np.float64), steps[places].astype(np.float64)
    errors = None if standard_errors is None else standard_errors[places].astype(np.float64)
    return _peak(own, at, errors, places)


def _peak(
    values: Float[np.ndarray, "moment"],
    steps: Float[np.ndarray, "moment"],
    errors: Float[np.ndarray, "moment"] | None,
    places: Int[np.ndarray, "moment"],
) -> Peak:
    top = int(values.argmax())
    below = values[top] - values
    margin = np.zeros(len(values)) if errors is None else 2 * np.hypot(errors, errors[top])
    apart = below > margin
    meant = np.flatnonzero(~apart) if errors is not None else np.array([top])
    beside = steps[max(top - 1, 0) : top + 2]
    return Peak(
        value=float(values[top]),
        se=float("nan") if errors is None else float(errors[top]),
        step=float(steps[top]),
        residual=float(np.abs(beside - steps[top]).max()),
        earliest=float(steps[meant[0]]),
        latest=float(steps[meant[-1]]),
        index=int(places[top]),
        rise=float(below[0]),
        fall=float(below[-1]),
        inside=bool(apart[0] and apart[-1]),
        count=len(values),
    )


def _check_curve(values: np.ndarray, steps: np.ndarray) -> None:
    if not len(values) or steps.shape != values.shape or not (np.diff(steps) > 0).all():
        raise ValueError(
            f"Expected at least one measurement, and rising steps, one for each, got values of shape {values.shape} "
            f"and steps {steps.tolist()}."
        )
