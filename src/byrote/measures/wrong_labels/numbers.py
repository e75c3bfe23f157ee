"""Wrong numbers, in regression."""

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from byrote.measures.wrong_labels.found import (
    JUDGED,
    LIKE_NOISE,
    REASONS,
    UNSETTLED,
    LabelErrors,
    check_mask,
    conflicting,
    lead_of,
    mean_over,
    ranked,
    status_of,
    unsaid,
    variance_of_mean,
    wrong_share,
)
from byrote.measures.wrong_labels.mixture import (
    FIRST_SHARE,
    Binned,
    Bins,
    Odds,
    Shape,
    Shares,
    binned,
    fit,
    log_odds_of,
    shares,
)
from byrote.records import Scores

MAD_TO_SD = 1.4826
"""A Gaussian's standard deviation in median absolute deviations."""
NUM_EXCHANGES = 10
"""Invented numbers for each example, taken from other examples."""
SCALES = (0.2, 5.0)
"""Of the right numbers' residuals, in robust standard deviations."""
FREEDOMS = (1.0, 200.0)
"""Degrees of freedom: from Cauchy's tails to a Gaussian."""
MANY = 0.03
"""More wrong numbers than this are not claimed where noise with heavy tails and no wrong number fits about as well."""
TOLD = 10.0
"""So many wrong numbers it takes to see whether they are like exchanged ones or like noise."""
WRONG = 0.9
"""Where clearly less than this share of what is doubted is like exchanged numbers, nothing is said."""
ONE_SIDED = 1.6448536269514722
"""A Gaussian is above −1.64 in 95 % of cases."""
CHANCE = 0.01
"""A gap that is as likely without wrong numbers is none."""
LEAST = 1e-12
"""No bin is given less of the right numbers."""
START = np.array([0.0, np.log(10.0), log_odds_of(FIRST_SHARE)])
"""Where fitting begins: logarithms of scale and degrees of freedom, and the share."""
BOUNDS = [(float(np.log(low)), float(np.log(high))) for low, high in (SCALES, FREEDOMS)]


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

    A number that is wrong by less than the networks err cannot be told from a right one, nor a rare outlier of noise
    from a wrong one. Where the tails are so heavy that none need be wrong and many may be, nothing is said. Neighbours
    and the training's trace are not asked: what they say of a number the prediction says already.

    Noise that is larger for some examples than for others, or skewed, lies far from predictions, too. But then the
    number still goes with its prediction f, while an exchanged one y' does not. So where ten or more numbers may be
    wrong, it is looked at

        κ = −cov_p(f, y − f) / (π · −cov_q(f, y' − f)),    π = Σp²/Σp,

    p being the probabilities and q those that the exchanged numbers would have: 1 when the doubted numbers are wrong
    as often as their probabilities say, 0 when they are noise that is no larger one way for large f than for small.
    Nothing is said when κ is not above 0, or is below 0.9, by 1.64 standard errors; unless there is a gap between the
    doubted numbers and the others, which no noise leaves: then they are wrong, in whatever way.

    Nothing is said, either, when predictions are no nearer to their own numbers than to exchanged ones, as chance would
    have it, or when it is not settled whether many numbers are wrong or none. The status says why.

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
    _check(inclusion, predictions, targets, duplicates)
    known = ~inclusion.all(0)
    given, expected = targets.astype(np.float64), mean_over(predictions, ~inclusion)
    residual = given - expected
    unit = MAD_TO_SD * float(np.median(np.abs(residual[known]))) or float(np.abs(residual[known]).mean()) or 1.0
    doubt, value, se, suggested = (np.full(len(targets), np.nan) for _ in range(4))
    doubt[known] = np.abs(residual[known]) / unit
    exchanged = _exchanged(given[known], expected[known])
    found = _fit(doubt[known], np.abs(exchanged) / unit)
    odds = found.best
    value[known] = odds.of(doubt[known])
    spread = np.sqrt(variance_of_mean(predictions, ~inclusion))
    ends = [odds.of(np.abs(residual + sign * spread) / unit) for sign in (1, -1)]
    se[known] = np.abs(ends[0] - ends[1])[known] / 2
    wrong = wrong_share(value[known], doubt[known], found, most=0.0)
    status = status_of(found, wrong, lead=_lead(given[known], expected[known]))
    if status == JUDGED and found.low.at_lower_bound and wrong.value > MANY:
        status = UNSETTLED
    if status == JUDGED and value[known].sum() >= TOLD:
        weight = odds.of(np.abs(exchanged) / unit)
        if not _is_apart(doubt[known], odds) and _is_like_noise(
            expected[known], residual[known], value[known], exchanged=exchanged, weight=weight
        ):
            status = LIKE_NOISE
    if status != JUDGED:
        value, se, wrong = *np.full((2, len(targets)), np.nan), unsaid(wrong.count)
    suggested[known] = expected[known]
    return LabelErrors(
        probability=Scores(value=value, se=se, count=(~inclusion).sum(0)),
        suggested=suggested,
        rank=ranked(value, doubt),
        doubt=doubt,
        reason=_reason(inclusion, predictions, given, value, duplicates=duplicates),
        status=status,
        wrong=wrong,
    )


def _check(inclusion: np.ndarray, predictions: np.ndarray, targets: np.ndarray, duplicates: np.ndarray | None) -> None:
    check_mask(inclusion)
    if predictions.shape != inclusion.shape or targets.shape != inclusion.shape[1:]:
        raise ValueError(
            f"Expected predictions of shape {inclusion.shape} and as many targets, got {predictions.shape} and "
            f"{targets.shape}."
        )
    for name, values in (("predictions", predictions), ("targets", targets)):
        if not np.isfinite(values).all():
            raise ValueError(f"Expected finite {name}, got NaN or infinite ones. Leave out runs that diverged.")
    if duplicates is not None and duplicates.shape != targets.shape:
        raise ValueError(f"Expected duplicates for each of {len(targets)} examples, got shape {duplicates.shape}.")


def _exchanged(given: np.ndarray, expected: np.ndarray) -> Float[np.ndarray, "invented"]:
    """Other examples' numbers minus each prediction, again and again; of examples near and far in their order."""
    number = min(NUM_EXCHANGES, max(1, len(given) - 1))
    shifts = [max(1, round(len(given) * (1 + index) / (number + 1))) for index in range(number)]
    return np.concatenate([np.roll(given, shift) - expected for shift in shifts])


def _is_apart(doubt: Float[np.ndarray, "example"], odds: Odds) -> bool:
    """Whether there is a gap between what is doubted and what is not: of where doubt begins and the middle of what is
    doubted, the farther half holds more, as no unimodal noise would have it (a sign test).
    """
    begin = float(odds.doubt[np.searchsorted(odds.probability, 0.5).clip(max=len(odds.doubt) - 1)])
    doubted = doubt[doubt >= begin]
    if not len(doubted):
        return False
    end = float(np.median(doubted))
    far = int(np.sum(doubted[doubted <= end] > (begin + end) / 2))
    return bool(special.bdtrc(far - 1, np.sum(doubted <= end), 0.5) < CHANCE)


def _is_like_noise(
    expected: Float[np.ndarray, "example"],
    residual: Float[np.ndarray, "example"],
    probability: Float[np.ndarray, "example"],
    *,
    exchanged: Float[np.ndarray, "invented"],
    weight: Float[np.ndarray, "invented"],
) -> bool:
    """Whether the doubted numbers go with their predictions as exchanged numbers would not, or may all be noise."""
    wrong, _ = _covariance(np.tile(expected, len(exchanged) // len(expected)), exchanged, weight)
    found, error = _covariance(expected, residual, probability)
    unit = -wrong * float(np.sum(probability**2) / probability.sum())
    if unit <= 0:
        return True
    share, error = -found / unit, error / unit
    return share < ONE_SIDED * error or share + ONE_SIDED * error < WRONG


def _covariance(
    x: Float[np.ndarray, "pair"], y: Float[np.ndarray, "pair"], weight: Float[np.ndarray, "pair"]
) -> tuple[float, float]:
    """Weighted, with its standard error."""
    part = weight / weight.sum()
    products = (x - part @ x) * (y - part @ y)
    value = float(part @ products)
    return value, float(np.sqrt(np.sum((part * (products - value)) ** 2)))


def _fit(doubt: np.ndarray, exchanged: np.ndarray) -> Shares:
    bins = binned(doubt, exchanged, weight=np.ones(len(exchanged)))
    right = _right(bins)
    best = fit(bins, right, start=START, bounds=BOUNDS)
    return shares(best, bins, right, start=START, bounds=BOUNDS, num_invented=len(exchanged))


def _right(bins: Binned) -> Shape:
    """Right numbers' residuals, in absolute value: Student's t."""
    ends = np.append(bins.edges, np.inf)

    def right(parameters: np.ndarray) -> Bins:
        scale, freedom = np.exp(parameters)
        below = 2 * special.stdtr(freedom, ends / scale) - 1
        return np.log(np.maximum(np.diff(below, prepend=0.0), LEAST))

    return right


def _lead(given: np.ndarray, expected: np.ndarray) -> float:
    """How much nearer numbers are to their own predictions than to those of others; a few far ones do not decide it."""
    middle = float(np.median(given))
    y, f = given - middle, expected - middle
    nearness = -_mean_distance(f, y)
    return lead_of(
        -np.abs(y - f),
        by_prediction=nearness,
        by_target=-_mean_distance(y, f),
        mean=float(nearness.mean()),
        mean_square=float(np.mean(y**2) + np.mean(f**2) - 2 * y.mean() * f.mean()),
    )


def _mean_distance(points: np.ndarray, others: np.ndarray) -> Float[np.ndarray, "point"]:
    """Of each point to all others, by sorting them."""
    ordered = np.sort(others)
    total = np.concatenate([[0.0], np.cumsum(ordered)])
    below = np.searchsorted(ordered, points)
    return (points * (2 * below - len(others)) + total[-1] - 2 * total[below]) / len(others)


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
