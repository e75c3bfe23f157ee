"""Membership inference: can somebody who sees a network's answers tell which examples it was trained on?

Each run in turn is the target, the others are the references that an attacker would have trained. What to make of the
scores is in `membership_risk`.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

Variance = Literal["fixed", "shrunken", "example"]
"""Whose variance a Gaussian has: that of all examples, a mean of both weighted by what the data say, its own."""

FEW_REFERENCES = 8
"""Below so many references on a side, too little is known of any one example's variance to make use of it."""
GAMMA = 2.0
"""How many times likelier than another point an example has to be, in RMIA (Zarifzadeh et al. 2024)."""
OFFLINE_SLOPE = 0.3
"""What RMIA's offline approximation assumes to be left of being trained on (Zarifzadeh et al. 2024: CIFAR-10)."""
SUMS_TO_ONE = 1e-3
"""Rows of numbers in [0, 1] that sum to 1 this nearly are probabilities and no logits."""


class Attack(NamedTuple):
    """What an attacker says of each example of each target run."""

    score: Float[np.ndarray, "run example"]
    """The larger, the likelier a member; NaN where there are too few references, or nothing was measured."""
    num_references: Int[np.ndarray, "run example"]
    """References on the smaller side that it needs; 0 for an attack that needs none."""
    variance: Variance | None
    """Which variance was chosen; None for an attack that has none."""


class _Others(NamedTuple):
    """One side's references, for each target run and example."""

    mean: Float[np.ndarray, "run example"]
    squares: Float[np.ndarray, "run example"]
    """Sum of squared deviations from the mean."""
    num_runs: Int[np.ndarray, "run example"]
    prior: float
    """How many observations' worth is known of an example's variance from all others'; infinite if all are equal."""


def log_odds(
    logits: Float[np.ndarray, "run example class"], targets: Int[np.ndarray, "example"]
) -> Float[np.ndarray, "run example"]:
    """Turn logits into the log-odds of the given class: what LiRA takes for Gaussian.

    φ = log(p_y/(1 − p_y)) = z_y − log Σ_{c≠y} exp(z_c).

    From logits, never by way of softmax, whose largest probability rounds to 1 and its log-odds to infinity.

    >>> log_odds(np.array([[[2.0, 2.0, 2.0], [100.0, 0.0, 0.0]]]), np.array([1, 0])).round(3)
    array([[-0.693, 99.307]])

    Args:
        logits: each run's output before softmax (logarithms of probabilities do as well).
        targets: for each example the *column* of its class.

    Returns:
        Log-odds in nats, any real number; NaN where a logit is NaN, infinite where a probability is exactly 0 or 1.

    Raises:
        ValueError: shapes do not fit, a target is not a column, or the logits are probabilities.

    Carlini et al. 2022, Membership Inference Attacks From First Principles, https://arxiv.org/abs/2112.03570
    """
    _check_logits(logits, targets)
    columns = targets[:, None]
    odds = np.empty(logits.shape[:2])
    for run, output in enumerate(logits):  # a copy of one run's logits at a time, not of all
        others = output.astype(np.float64)
        own = np.take_along_axis(others, columns, axis=1)[:, 0].copy()
        np.put_along_axis(others, columns, -np.inf, axis=1)
        largest = others.max(1)
        others -= np.where(np.isfinite(largest), largest, 0.0)[:, None]
        with np.errstate(divide="ignore"):
            odds[run] = own - np.where(np.isfinite(largest), largest, 0.0) - np.log(np.exp(others, out=others).sum(1))
    return odds


def closeness(
    predictions: Float[np.ndarray, "run example"], targets: Float[np.ndarray, "example"]
) -> Float[np.ndarray, "run example"]:
    """Turn predicted numbers into what LiRA uses for regression, where log-odds are not defined.

    φ = −|ŷ − y| = −√(squared loss). Over runs it is nearer to Gaussian than the loss itself.

    >>> closeness(np.array([[1.0, 4.0]]), np.array([2.0, 4.0]))
    array([[-1., -0.]])

    Returns:
        Numbers at most 0, in the target's unit.

    Raises:
        ValueError: shapes do not fit.
    """
    if predictions.ndim != 2 or targets.shape != predictions.shape[1:]:
        raise ValueError(f"Expected one target for each column, got shapes {predictions.shape} and {targets.shape}.")
    return -np.abs(predictions - targets, dtype=np.float64)


def lira(
    inclusion: Bool[np.ndarray, "run example"],
    statistic: Float[np.ndarray, "run example"],
    *,
    offline: bool = False,
    variance: Variance | None = None,
) -> Attack:
    """Attack by the likelihood ratio of two Gaussians per example, of runs that were trained on it and of the others.

    online: score = log N(φ; μ_in, σ²_in) − log N(φ; μ_out, σ²_out);  offline: score = (φ − μ_out)/σ_out.

    Each run in turn is the target. It is not among its own references, and neither is one other run of the opposite
    kind: for a target that was trained on the example, the next one (in cyclic order) that was not, and the other way
    round. So members and non-members are judged from equally many references, and where nothing leaks the attack is
    right half the time; leaving out the target alone would give AUCs below ½ with few runs.

    The variances are, on each side: `fixed`, that of one target's references about their examples' means, pooled over
    all examples; `example`, each example's own (of few runs a bad estimate, and a worse attack); `shrunken`, the mean
    of both that empirical Bayes takes, σ² = (d·σ²_fixed + SS)/(d + n − 1), with d from how far the examples' variances
    differ more than n runs explain (Smyth 2004). Left to choose, it is `fixed` where the median example has fewer than
    8 references on its smaller side (on their only side, offline), and `shrunken` from there on.

    >>> inclusion = np.array([[True], [False]] * 3)
    >>> statistic = np.array([[4.0], [0.0], [5.0], [1.0], [6.0], [2.0]])
    >>> lira(inclusion, statistic).score[:, 0] > 0
    array([ True, False,  True, False,  True, False])

    Args:
        inclusion: which examples each run was trained on.
        statistic: log-odds of the given class (`log_odds`), for regression `closeness`, or any number that is larger
            for members. NaN: not measured; such a run is neither target nor reference for the example.
        offline: use only the runs that were not trained on the example. It needs no reference to be trained on the
            targets, and is weaker.
        variance: None: chosen by the number of references.

    Returns:
        A score for each target run and example: logarithms of likelihood ratios; offline, standard deviations. Above 0:
        more likely than not a member at even odds (online). NaN without a reference on a side that is needed, and
        with a single one if the variance is `example`.

    Raises:
        TypeError: inclusion is not a mask.
        ValueError: the shapes differ, or the statistic is infinite.

    Carlini et al. 2022, Membership Inference Attacks From First Principles, https://arxiv.org/abs/2112.03570;
    Smyth 2004, Linear Models and Empirical Bayes Methods
    """
    _check(inclusion, statistic, name="statistic")
    values = statistic.astype(np.float64)
    known = ~np.isnan(values)
    included, heldout = inclusion & known, ~inclusion & known
    without = _left_aside(included, heldout)
    outside = _others(values, heldout, without[1])
    inside = None if offline else _others(values, included, without[0])
    references = np.where(
        known, outside.num_runs if inside is None else np.minimum(inside.num_runs, outside.num_runs), 0
    )
    chosen = variance or _choice(references)
    rounding = float(np.abs(values[known]).max(initial=0) * np.finfo(np.float64).eps) ** 2 + np.finfo(np.float64).tiny
    spread = np.maximum(_variance(outside, chosen), rounding)
    if inside is None:
        score = (values - outside.mean) / np.sqrt(spread)
    else:
        score = _log_density(values, inside.mean, np.maximum(_variance(inside, chosen), rounding))
        score -= _log_density(values, outside.mean, spread)
    return Attack(score=score, num_references=references, variance=chosen)


def rmia(
    inclusion: Bool[np.ndarray, "run example"],
    log_likelihood: Float[np.ndarray, "run example"],
    *,
    population: Float[np.ndarray, "run point"] | None = None,
    offline: bool = False,
    gamma: float = GAMMA,
    offline_slope: float = OFFLINE_SLOPE,
) -> Attack:
    """Attack by comparing how much likelier a target finds an example than references do, with the same for others.

    score(x) = share of the points z with [p(x|θ)/p(x)]/[p(z|θ)/p(z)] ≥ γ, where p(x) = ½(mean of p(x|θ') over
    references trained on x + mean over references that were not).

    Where references that were trained on x are missing, and everywhere if `offline`, p(x) = ½((1 + a)·mean over the
    others + 1 − a). References are those of `lira`: not the target, nor one run of the opposite kind. One sort for each
    target; nothing of size example × point is held.

    >>> inclusion = np.array([[True, False], [False, True]] * 2)
    >>> probability = np.array([[0.9, 0.2], [0.1, 0.8]] * 2)
    >>> rmia(inclusion, np.log(probability), population=np.log(np.full((4, 1), 0.5))).score
    array([[1., 0.],
           [0., 1.],
           [1., 0.],
           [0., 1.]])

    Args:
        inclusion: which examples each run was trained on.
        log_likelihood: log of the probability of the given class, minus the cross-entropy. For regression
            −(ŷ − y)²/(2s²), s² being the mean held-out squared error. NaN: not measured.
        population: the same of points z that no run was trained on, such as the test set. None: all examples are
            compared with one another.
        offline: use only the runs that were not trained on the example.
        gamma: γ, at least 1.
        offline_slope: a in [0, 1]: 1 if training changes nothing, 0 if it makes every answer certain (by half).

    Returns:
        Scores in [0, 1], in steps of one point: many are tied at the ends. NaN where no reference was held out.

    Raises:
        TypeError: inclusion is not a mask.
        ValueError: shapes differ, a log-likelihood is above 0 or infinite, or γ or a is out of range.

    Zarifzadeh et al. 2024, Low-Cost High-Power Membership Inference Attacks, https://arxiv.org/abs/2312.03262
    """
    _check(inclusion, log_likelihood, name="log_likelihood")
    _check_rmia(log_likelihood, population, gamma, offline_slope)
    logs = log_likelihood.astype(np.float64)
    known = ~np.isnan(logs)
    included, heldout = inclusion & known, ~inclusion & known
    without = _left_aside(included, heldout)
    outside, num_outside = _log_mean_of_others(logs, heldout, without[1])
    inside, num_inside = _log_mean_of_others(logs, included, without[0])
    approximate = _offline_log_mean(outside, offline_slope)
    both = approximate if offline else np.where(num_inside > 0, np.logaddexp(inside, outside) - np.log(2), approximate)
    ratio = np.where(num_outside > 0, logs - both, np.nan)
    references = num_outside if offline else np.where(num_inside > 0, np.minimum(num_inside, num_outside), num_outside)
    points = ratio if population is None else _population_ratio(population, offline_slope)
    score = np.stack([_share_below(each, others) for each, others in zip(ratio - np.log(gamma), points, strict=True)])
    if population is None:
        num_points = (~np.isnan(points)).sum(1, keepdims=True)
        score *= num_points / np.maximum(num_points - 1, 1)  # an example is not among those it is compared with
        if gamma == 1:
            score -= 1 / np.maximum(num_points - 1, 1)
    return Attack(score=score, num_references=np.where(known, references, 0), variance=None)


def loss_attack(loss: Float[np.ndarray, "run example"]) -> Attack:
    """Attack by the loss alone: the baseline, which needs no references.

    score = −loss.

    >>> loss_attack(np.array([[0.25, 2.0]])).score
    array([[-0.25, -2.  ]])

    Args:
        loss: cross-entropy of the given class; for regression the squared error.

    Returns:
        Scores at most 0 when the loss is at least 0; NaN where it is.

    Yeom et al. 2018, Privacy Risk in Machine Learning, https://arxiv.org/abs/1709.01604
    """
    return Attack(score=-loss.astype(np.float64), num_references=np.zeros(loss.shape, np.int64), variance=None)


def _left_aside(
    included: np.ndarray, heldout: np.ndarray
) -> tuple[Int[np.ndarray, "run example"], Int[np.ndarray, "run example"]]:
    """For each target and side, the run that is no reference: the target itself, or the next one of that side."""
    return _this_or_next(included), _this_or_next(heldout)


def _this_or_next(mask: np.ndarray) -> Int[np.ndarray, "run example"]:
    """The first run from each one on, in cyclic order, that the mask picks; itself where there is none."""
    num_runs = len(mask)
    position = np.arange(2 * num_runs, dtype=np.int32)[:, None]
    marked = np.where(np.concatenate([mask, mask]), position, np.int32(2 * num_runs))
    following = np.minimum.accumulate(marked[::-1], axis=0)[::-1][:num_runs]
    return np.where(following < 2 * num_runs, following % num_runs, position[:num_runs])


def _others(values: np.ndarray, mask: np.ndarray, left_aside: np.ndarray) -> _Others:
    """Mean and sum of squares of one side without one of its runs, from those with it."""
    count = mask.sum(0)
    mean = np.where(mask, values, 0).sum(0) / np.maximum(count, 1)
    deviation = np.where(mask, values - mean, 0)
    squares = (deviation**2).sum(0)
    rest = np.maximum(count - 1, 0)
    own = np.take_along_axis(deviation, left_aside, axis=0)
    divisor = np.maximum(rest, 1)
    return _Others(
        mean=np.where(rest > 0, mean - own / divisor, np.nan),
        squares=np.maximum(squares - own**2 * (count / divisor), 0.0),
        num_runs=np.broadcast_to(rest, values.shape),
        prior=_prior_freedom(_divided(squares, rest), rest),
    )


def _choice(references: np.ndarray) -> Variance:
    used = references[:, (references > 0).any(0)].max(0)
    return "shrunken" if used.size and np.median(used) >= FEW_REFERENCES else "fixed"


def _variance(side: _Others, chosen: Variance) -> Float[np.ndarray, "run _"]:
    freedom = np.maximum(side.num_runs - 1, 0)
    fixed = _divided(side.squares.sum(1, keepdims=True), freedom.sum(1, keepdims=True))
    if chosen == "fixed":
        return fixed
    if chosen == "example":
        return _divided(side.squares, freedom)
    if np.isinf(side.prior):
        return np.broadcast_to(fixed, side.squares.shape)
    return (side.prior * fixed + side.squares) / (side.prior + freedom)


def _prior_freedom(variances: np.ndarray, freedom: np.ndarray) -> float:
    """By the moments of log s²: Var(log s²) = ψ'(ν/2) + ψ'(d/2) (Smyth 2004)."""
    usable = variances > 0
    if not usable.any():
        return np.inf
    logs, halves = np.log(variances[usable]), freedom[usable] / 2
    excess = float((logs - special.psi(halves)).var() - _polygamma(1, halves).mean())
    return 2 * _inverse_trigamma(excess) if excess > 0 else np.inf


def _inverse_trigamma(value: float) -> float:
    """Newton's method on 1/ψ', which is convex and nearly linear (Smyth 2004, appendix)."""
    root = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(_polygamma(1, np.array(root)))
        step = trigamma * (1 - trigamma / value) / float(_polygamma(2, np.array(root)))
        root += step
        if abs(step) < 1e-9 * root:
            break
    return root


def _polygamma(order: int, x: np.ndarray) -> Float[np.ndarray, "*shape"]:
    return np.asarray(special.polygamma(order, x))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _log_density(values: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> Float[np.ndarray, "run example"]:
    """Of a Gaussian, up to what all have in common."""
    return -0.5 * (np.log(variance) + (values - mean) ** 2 / variance)


def _log_mean_of_others(
    logs: np.ndarray, mask: np.ndarray, left_aside: np.ndarray
) -> tuple[Float[np.ndarray, "run example"], Int[np.ndarray, "run example"]]:
    """Log of one side's mean likelihood without one of its runs, and how many there are; of none it means nothing.

    By sums from both ends, so that nothing is subtracted: one run's likelihood may be all there is.
    """
    top = np.where(mask, logs, -np.inf).max(0, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    likelihood = np.exp(np.where(mask, logs - top, -np.inf))
    nothing = np.zeros((1, logs.shape[1]))
    before = np.concatenate([nothing, np.cumsum(likelihood, axis=0)[:-1]])
    after = np.concatenate([np.cumsum(likelihood[:0:-1], axis=0)[::-1], nothing])
    count = np.broadcast_to(np.maximum(mask.sum(0) - 1, 0), logs.shape)
    mean = np.take_along_axis(before + after, left_aside, axis=0) / np.maximum(count, 1)
    return np.log(np.maximum(mean, np.finfo(np.float64).tiny)) + top, count


def _offline_log_mean(log_mean: np.ndarray, slope: float) -> Float[np.ndarray, "run _"]:
    certain = np.log1p(-slope) if slope < 1 else -np.inf
    return np.logaddexp(log_mean + np.log1p(slope), certain) - np.log(2)


def _population_ratio(population: np.ndarray, slope: float) -> Float[np.ndarray, "run point"]:
    logs = population.astype(np.float64)
    known = ~np.isnan(logs)
    itself = np.broadcast_to(np.arange(len(logs))[:, None], logs.shape)
    mean, _ = _log_mean_of_others(logs, known, itself)
    return logs - _offline_log_mean(mean, slope)


def _share_below(values: np.ndarray, points: np.ndarray) -> Float[np.ndarray, "example"]:
    """Of one run: the share of the points that are at most as large as each value."""
    measured = np.sort(points[~np.isnan(points)])
    if len(measured) == 0:
        return np.full(len(values), np.nan)
    return np.where(np.isnan(values), np.nan, np.searchsorted(measured, values, side="right") / len(measured))


def _divided(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _check(inclusion: np.ndarray, values: np.ndarray, *, name: str) -> None:
    if inclusion.dtype.kind != "b":
        raise TypeError(f"Expected a boolean mask of shape [run, example], got an array of {inclusion.dtype}.")
    if inclusion.ndim != 2 or inclusion.shape != values.shape or 0 in inclusion.shape:
        raise ValueError(f"Expected a mask and a {name} of one shape, got {inclusion.shape} and {values.shape}.")
    if np.isinf(values).any():
        raise ValueError(
            f"Expected a {name} that is finite (or NaN where nothing was measured), got infinity. Rounded "
            "probabilities do that: start from logits, as log_odds does."
        )


def _check_logits(logits: np.ndarray, targets: np.ndarray) -> None:
    if logits.ndim != 3 or targets.shape != logits.shape[1:2]:
        raise ValueError(
            f"Expected logits [run, example, class] and a target for each example, got shapes {logits.shape} and "
            f"{targets.shape}."
        )
    num_classes = logits.shape[2]
    if num_classes < 2:
        raise ValueError("Expected at least two classes, got one column. For regression, use closeness.")
    if targets.size and not (targets.min() >= 0 and targets.max() < num_classes):
        raise ValueError(
            f"Expected targets that are columns of the logits, 0 to {num_classes - 1}, got {targets.min()} to "
            f"{targets.max()}. If classes have other names, look up each one's column first."
        )
    first = logits[:1].astype(np.float64)
    if first.size and (first >= 0).all() and (np.abs(first.sum(2) - 1) < SUMS_TO_ONE).all():
        raise ValueError("Expected logits, got probabilities: rows sum to 1. Pass logits, or the logarithm of these.")


def _check_rmia(log_likelihood: np.ndarray, population: np.ndarray | None, gamma: float, slope: float) -> None:
    if population is not None and (population.ndim != 2 or len(population) != len(log_likelihood)):
        raise ValueError(
            f"Expected a population with a row for each of {len(log_likelihood)} runs, got shape {population.shape}."
        )
    if population is not None and (np.isinf(population).any() or (population > SUMS_TO_ONE).any()):
        raise ValueError("Expected finite log-likelihoods of at most 0 in the population (or NaN).")
    if (log_likelihood > SUMS_TO_ONE).any():
        largest = float(np.nanmax(log_likelihood))
        raise ValueError(f"Expected log-likelihoods of at most 0, got {largest:g}. Are they losses or probabilities?")
    if not gamma >= 1:
        raise ValueError(f"Expected gamma at least 1, got {gamma!r}.")
    if not 0 <= slope <= 1:
        raise ValueError(f"Expected offline_slope in [0, 1], got {slope!r}.")
