"""Wrong numbers, in regression."""

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from byrote.measures.label_errors.found import (
    REASONS,
    LabelErrors,
    check_mask,
    conflicting,
    mean_over,
    ranked,
    variance_of_mean,
)
from byrote.measures.label_errors.mixture import FIRST_SHARE, Binned, Bins, Odds, binned, fit, log_odds_of
from byrote.records import Scores

MAD_TO_SD = 1.4826
"""A Gaussian's standard deviation in median absolute deviations."""
NUM_EXCHANGES = 10
"""Invented numbers for each example, taken from other examples."""
SCALES = (0.2, 5.0)
"""Of the right numbers' residuals, in robust standard deviations."""
FREEDOMS = (2.5, 200.0)
"""Degrees of freedom: from heavy tails to a Gaussian."""
LEAST = 1e-12
"""No bin is given less of the right numbers."""


def residual_errors(
    inclusion: Bool[np.ndarray, "run example"],
    predictions: Float[np.ndarray, "run example"],
    targets: Num[np.ndarray, "example"],
    *,
    duplicates: Int[np.ndarray, "example"] | None = None,
) -> LabelErrors:
    """Estimate how likely each number is wrong, from how far it lies from what held-out networks predict.

    A mixture of the size s of target − mean held-out prediction: right numbers' residuals have a Student's t
    distribution, its scale and degrees of freedom estimated; wrong numbers are like those of other examples, exchanged
    at random. The probability is the second one's share.

    A number that is wrong by less than the networks err cannot be told from a right one, nor can an outlier of noise
    with very heavy tails from a wrong one, and noise that is larger for some examples than for others is not looked
    for. Neighbours and the training's trace are not asked: what they say of a number the prediction says already.

    >>> rng = np.random.default_rng(0)
    >>> true = rng.normal(size=1000)
    >>> given = np.where(rng.random(1000) < 0.1, rng.permutation(true), true)
    >>> runs = true + 0.1 * rng.normal(size=(8, 1000))
    >>> found = residual_errors(np.arange(8)[:, None] % 4 != np.arange(1000) % 4, runs, given)
    >>> bool(found.probability.value[abs(given - true) > 0.5].min() > 0.99)
    True

    Args:
        inclusion: which examples each run was trained on.
        predictions: each run's, in the target's unit.
        targets: the given numbers.
        duplicates: a number for each example, the same for identical inputs; a doubted number that differs from its
            twin's is said to.

    Returns:
        As `label_errors`; `suggested` is the mean held-out prediction and `doubt` is s in robust standard deviations.

    Raises:
        TypeError: inclusion is not a mask.
        ValueError: shapes differ, a number is not finite, or no example was ever held out.

    Efron 2008, Microarrays, Empirical Bayes and the Two-Groups Model, Statistical Science 23
    """
    _check(inclusion, predictions, targets)
    known = ~inclusion.all(0)
    given, expected = targets.astype(np.float64), mean_over(predictions, ~inclusion)
    residual = given - expected
    unit = MAD_TO_SD * float(np.median(np.abs(residual[known]))) or float(np.abs(residual[known]).mean()) or 1.0
    doubt, value, se, suggested = (np.full(len(targets), np.nan) for _ in range(4))
    doubt[known] = np.abs(residual[known]) / unit
    exchanged = _exchanged(given[known], expected[known]) / unit
    odds = _fit(binned(doubt[known], exchanged, weight=np.ones(len(exchanged))))
    value[known] = odds.of(doubt[known])
    spread = np.sqrt(variance_of_mean(predictions, ~inclusion))
    ends = [odds.of(np.abs(residual + sign * spread) / unit) for sign in (1, -1)]
    se[known] = np.abs(ends[0] - ends[1])[known] / 2
    suggested[known] = expected[known]
    return LabelErrors(
        probability=Scores(value=value, se=se, count=(~inclusion).sum(0)),
        suggested=suggested,
        rank=ranked(value, doubt),
        doubt=doubt,
        reason=_reason(inclusion, predictions, given, value, duplicates=duplicates),
    )


def _check(inclusion: np.ndarray, predictions: np.ndarray, targets: np.ndarray) -> None:
    check_mask(inclusion)
    if predictions.shape != inclusion.shape or targets.shape != inclusion.shape[1:]:
        raise ValueError(
            f"Expected predictions of shape {inclusion.shape} and as many targets, got {predictions.shape} and "
            f"{targets.shape}."
        )
    for name, values in (("predictions", predictions), ("targets", targets)):
        if not np.isfinite(values).all():
            raise ValueError(f"Expected finite {name}, got NaN or infinite ones. Leave out runs that diverged.")


def _exchanged(given: np.ndarray, expected: np.ndarray) -> Float[np.ndarray, "invented"]:
    """How far other examples' numbers lie from each prediction; from examples near and far in their order."""
    number = min(NUM_EXCHANGES, max(1, len(given) - 1))
    shifts = [max(1, round(len(given) * (1 + index) / (number + 1))) for index in range(number)]
    return np.concatenate([np.abs(np.roll(given, shift) - expected) for shift in shifts])


def _fit(bins: Binned) -> Odds:
    """Right numbers' residuals, in absolute value: Student's t."""
    ends = np.append(bins.edges, np.inf)

    def right(parameters: np.ndarray) -> Bins:
        scale, freedom = np.exp(parameters)
        below = 2 * special.stdtr(freedom, ends / scale) - 1
        return np.log(np.maximum(np.diff(below, prepend=0.0), LEAST))

    start = np.array([0.0, np.log(10.0), log_odds_of(FIRST_SHARE)])
    return fit(bins, right, start=start, bounds=[(np.log(low), np.log(high)) for low, high in (SCALES, FREEDOMS)])


def _reason(
    inclusion: np.ndarray,
    predictions: np.ndarray,
    targets: np.ndarray,
    value: np.ndarray,
    *,
    duplicates: np.ndarray | None,
) -> Shaped[np.ndarray, "example"]:
    """A doubted number is memorised when the networks trained on it come at least half of the way to it."""
    doubted = np.nan_to_num(value) > 0.5
    without, after = (np.abs(targets - mean_over(predictions, mask)) for mask in (~inclusion, inclusion))
    _, memorised, never, _, duplicate = REASONS
    return np.select(
        [doubted & conflicting(targets, duplicates), doubted & (after > without / 2), doubted],
        [duplicate, never, memorised],
        REASONS[0],
    )
