"""What models of permuted targets say about the model of the true ones, as chemists and statisticians judge it."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Float
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

FEWEST = 3
"""Permutations, without which no line can be put through them and the model itself."""
SIGNIFICANCE = 0.975
"""Quantile of Student's t, for 95 % intervals."""


@final
@dataclass(frozen=True, kw_only=True)
class Intercept:
    """Of scores against how alike permuted targets are to the true ones: what a model of no relation would score."""

    value: float
    se: float
    """Of the line fitted by least squares; NaN where there is none."""
    low: float
    high: float
    """95 %, by Student's t."""
    slope: float
    count: int
    """Permutations, and the model itself."""
    status: Literal["fitted", "too few permutations", "permutations are all as alike"]


@final
@dataclass(frozen=True, kw_only=True)
class CorrectedDetermination:
    """cR²p: what is left of a model's R² when that of models of permuted targets is taken away."""

    value: float
    """NaN where it is not defined."""
    se: float
    """From the spread of the permutations alone."""
    count: int
    """Permutations."""
    status: Literal["measured", "no correlation", "too few permutations"]


def corrected_determination(true: float, permuted: Float[np.ndarray, "permutation"]) -> CorrectedDetermination:
    """Correct a coefficient of determination for what chance reaches.

    cR²p = R·√(R² − R̄_r²), R² being that of the model, and R̄_r² the mean over permutations. Above 0.5 it is taken as a
    sign that the model is more than chance. Where chance reaches as much, it is 0.

    >>> found = corrected_determination(0.81, np.array([0.15, 0.17, 0.19]))
    >>> round(found.value, 6)
    0.72

    Args:
        true: R² of the model of the true targets: a squared correlation, or 1 − the share of the variance that is left.
        permuted: likewise, of models of permuted targets.

    Raises:
        ValueError: a score is not finite.

    Mitra, Saha & Roy 2010, Exploring Quantitative Structure–Activity Relationship Studies of Antioxidant Phenolic
    Compounds; Rücker et al. 2007, y-Randomization and Its Variants in QSPR/QSAR
    """
    _check_finite(true, permuted)
    nan, count = float("nan"), len(permuted)
    if count < 1:
        return CorrectedDetermination(value=nan, se=nan, count=count, status="too few permutations")
    if true <= 0:
        return CorrectedDetermination(value=0.0, se=nan, count=count, status="no correlation")
    left = max(0.0, true - float(permuted.mean()))
    value = float(np.sqrt(true * left))
    error = float(permuted.std(ddof=1) / np.sqrt(count)) if count > 1 else nan
    return CorrectedDetermination(
        value=value,
        se=error * float(np.sqrt(true / left)) / 2 if left > 0 else nan,
        count=count,
        status="measured",
    )


def eriksson_intercept(
    scores: Float[np.ndarray, "permutation"],
    *,
    likeness: Float[np.ndarray, "_"],
    true: float,
) -> Intercept:
    """Say what the model would score if its targets had nothing in common with the true ones.

    A line is put through the scores of models of permuted targets against |corr(y, y_permuted)|, and through that of
    the model itself at 1; where it meets 0 is the intercept. For the score on training examples (R²) below 0.3 is
    expected, for the held-out one (Q²) below 0.05.

    >>> found = eriksson_intercept(np.array([0.1, 0.2, 0.3]), likeness=np.array([0.0, 0.125, 0.25]), true=0.9)
    >>> round(found.value, 9), round(found.slope, 9)
    (0.1, 0.8)

    Args:
        scores: of models of permuted targets.
        likeness: |corr(y, y_permuted)| of each, in [0, 1].
        true: the score of the model of the true targets.

    Raises:
        ValueError: lengths differ, a score is not finite, or a likeness lies outside of [0, 1].

    Eriksson et al. 2003, Methods for Reliability and Uncertainty Assessment and for Applicability Evaluations of
    Classification- and Regression-Based QSARs, https://doi.org/10.1289/ehp.5758
    """
    _check_finite(true, scores)
    if len(likeness) != len(scores):
        raise ValueError(f"Expected a likeness of each of the {len(scores)} permutations, got {len(likeness)}.")
    if not ((likeness >= 0) & (likeness <= 1)).all():
        raise ValueError(f"Expected likenesses from 0 to 1, got {likeness.min():g} to {likeness.max():g}.")
    nan, count = float("nan"), len(scores) + 1
    x, y = np.append(likeness, 1.0).astype(np.float64), np.append(scores, true).astype(np.float64)
    spread = float(np.square(x - x.mean()).sum())
    if len(scores) < FEWEST or spread == 0:
        status = "too few permutations" if len(scores) < FEWEST else "permutations are all as alike"
        return Intercept(value=nan, se=nan, low=nan, high=nan, slope=nan, count=count, status=status)
    slope = float((x - x.mean()) @ (y - y.mean())) / spread
    value = float(y.mean() - slope * x.mean())
    residual = float(np.square(y - value - slope * x).sum()) / (count - 2)
    error = float(np.sqrt(residual * (1 / count + x.mean() ** 2 / spread)))
    reach = float(special.stdtrit(count - 2, SIGNIFICANCE)) * error
    return Intercept(
        value=value, se=error, low=value - reach, high=value + reach, slope=slope, count=count, status="fitted"
    )


def likeness_of(
    targets: Float[np.ndarray, "example"], permuted: Float[np.ndarray, "permutation example"]
) -> Float[np.ndarray, "permutation"]:
    """Measure how alike permuted targets are to the true ones: |corr(y, y_permuted)|, Pearson's.

    >>> likeness_of(np.array([1.0, 2.0, 3.0]), np.array([[3.0, 2.0, 1.0], [2.0, 1.0, 3.0]])).round(9).tolist()
    [1.0, 0.5]

    Args:
        targets: the true ones; of two classes 0 and 1.
        permuted: the same numbers in other orders.

    Raises:
        ValueError: the targets do not vary.
    """
    own = targets.astype(np.float64) - targets.mean(dtype=np.float64)
    others = permuted.astype(np.float64) - permuted.mean(1, keepdims=True, dtype=np.float64)
    lengths = np.linalg.norm(own) * np.linalg.norm(others, axis=1)
    if not (lengths > 0).all():
        raise ValueError("Expected targets that vary, got some that are all the same.")
    return np.clip(np.abs(others @ own) / lengths, 0, 1)


def _check_finite(true: float, permuted: Float[np.ndarray, "permutation"]) -> None:
    if not (np.isfinite(true) and np.isfinite(permuted).all()):
        raise ValueError("Expected finite scores, got NaN or infinite ones. Leave out the models that diverged.")
