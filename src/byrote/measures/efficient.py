"""Memorisation from few runs: everything the runs say of an example, shrunk by what they say of all the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

NUM_FOLDS: Final = 5
"""Parts that the runs are cut into; the predictor of one part is made from the others."""
NUM_PARTITIONS: Final = 4
"""Ways in which they are cut, for more pairs of runs of one part."""
MOST_FITTED: Final = 3000
"""Examples that the predictor is fitted on, spread evenly over the range of held-out margins; all are scored."""
AT_A_TIME: Final = 2048
"""Examples whose runs are held in double precision at once."""
BORROWED_RUNS: Final = 4.0
"""Runs of the average example that every example's spread of margins is mixed with."""
PRIOR_RUNS: Final = 5.0
"""Runs that the predictor is worth where an example has none of its own."""
FEW_RUNS: Final = 10
"""Below so many runs the predictor is trusted less beforehand."""
SQUARABLE: Final = (1e-100, 1e100)
"""Between these, sums of squares are ordinary numbers."""
TRUSTED_RUNS: Final = 8
"""Below so many runs no interval is narrower than that of a Gaussian with the stated standard error."""
USUAL_LOG_SCALE, SPREAD_OF_SCALE = -0.2, 0.5
"""Prior mean and standard deviation of the logarithm of the predictor's error variance, in units of `_variance`: from
networks of 128 and 256 hidden units on images and signals, with and without label noise."""
UNRESOLVED: Final = 0.05
"""Divided by the number of runs, a distance from 0 or 1 that they cannot see: nearer ends of intervals are 0 or 1."""
LOG_SCALES: Final = np.linspace(-2.5, 2.5, 21)
"""Where that logarithm is looked for."""
RIDGE: Final = 5.0
"""Penalty on the predictor's standardised coefficients: what draws it back to the margin model."""
KNOTS: Final = (0.02, 0.2, 0.4, 0.6, 0.8, 0.98)
"""Quantiles at which a curved feature may bend."""
FARTHEST: Final = 6.0
"""Standard deviations at which a feature is cut off."""
ESTIMATED, TOO_FEW = "estimated", "too few runs"
NEVER_LEFT_OUT, NEVER_INCLUDED, NOT_FINITE = "never left out", "never included", "not finite"


class Chance(NamedTuple):
    """How probable a right answer is, per example, to networks of one kind."""

    value: Float[np.ndarray, "example"]
    """In [0, 1]."""
    se: Float[np.ndarray, "example"]
    low: Float[np.ndarray, "example"]
    high: Float[np.ndarray, "example"]


@final
@dataclass(frozen=True, kw_only=True)
class EfficientMemorisation:
    """Memorisation scores with intervals, and the two chances that each is the difference of."""

    value: Float[np.ndarray, "example"]
    """In [−1, 1]; NaN where the status says why there is none."""
    se: Float[np.ndarray, "example"]
    """Standard error: the expected root mean square difference from the score that infinitely many runs would give."""
    count: Int[np.ndarray, "example"]
    """Runs on the smaller side."""
    low: Float[np.ndarray, "example"]
    high: Float[np.ndarray, "example"]
    status: Shaped[np.ndarray, "example"]
    """`estimated`, `never left out`, `never included`, `not finite` where a margin or a covariate is no number, or
    `too few runs` when no example has two runs on both sides, so that nothing could judge a prediction."""
    included: Chance
    """Of a right answer to networks that were trained on the example."""
    heldout: Chance
    """Of a right answer to networks that were not: the C-score."""


class _Side(NamedTuple):
    """What the included runs, or the others, say of each example, for several sets of runs at once."""

    num_runs: Float[np.ndarray, "set example"]
    num_right: Float[np.ndarray, "set example"]
    mean: Float[np.ndarray, "quantity set example"]
    """The margin's first, then the covariates'; each quantity in units of its own root mean square."""
    spread: Float[np.ndarray, "quantity set example"]
    """Standard deviations, mixed with that of the average example."""

    @property
    def share(self) -> Float[np.ndarray, "set example"]:
        """Right answers: the published estimate of the side's chance; 0 where there are no runs."""
        return self.num_right / np.maximum(self.num_runs, 1)

    def take(self, examples: Int[np.ndarray, "chosen"]) -> "_Side":
        """The same of some examples."""
        return _Side(*(part[..., examples] for part in self))


class _Frame(NamedTuple):
    """How features become columns: fixed by all runs together, the same for every set of them."""

    centre: Float[np.ndarray, "feature 1 1"]
    scale: Float[np.ndarray, "feature 1 1"]
    knots: list[Float[np.ndarray, "knot"]]
    column_centre: Float[np.ndarray, "column"]
    column_scale: Float[np.ndarray, "column"]


class _Regression(NamedTuple):
    """A fitted logistic regression."""

    coefficients: Float[np.ndarray, "column"]
    covariance: Float[np.ndarray, "column column"]


class _ErrorScale(NamedTuple):
    """How large the predictor's errors are, and how well that is known."""

    scale: float
    """Their variance on the probit scale, in units of `_variance`."""
    freedom: float
    """Degrees of freedom of that variance: 2/Var(log scale)."""


class _Held(NamedTuple):
    """Runs of one side that a set does not keep: what predictions from the set are judged by."""

    num_runs: Float[np.ndarray, "*shape"]
    num_right: Float[np.ndarray, "*shape"]


class _Evidence(NamedTuple):
    """All there is on one side."""

    whole: _Side
    """From all runs, of all examples."""
    kept: _Side
    """From the runs that each set keeps, of the chosen examples."""
    held: _Held
    """The answers of the other runs."""


def efficient_memorisation(
    inclusion: Bool[np.ndarray, "run example"],
    correct: Bool[np.ndarray, "run example"] | Num[np.ndarray, "run example"],
    *,
    margin: Num[np.ndarray, "run example"],
    covariates: Sequence[Num[np.ndarray, "run example"]] = (),
    level: float = 0.95,
) -> EfficientMemorisation:
    """Estimate memorisation from a fraction of the runs that the difference of means needs to rank examples as well.

    mem(i) = p_in(i) − p_out(i), each p(i) = q(i) + w·(share of right answers(i) − q(i)).

    q(i) predicts the chance of a right answer from the mean and spread of the example's margins and covariates among
    the runs of either side: the margin model Φ(mean/spread), corrected by a logistic regression over all examples. The
    regression is cross-fitted over runs: features come from four fifths of the runs, the answers it learns from out of
    the others. The same answers say how far to trust the counts instead, w = Σ(y − q)(share − q)/Σ(share − q)² over
    left-out answers y, and how wrong q is: the product of two left-out residuals of one example has the expectation
    (p − q)², free of the noise of right and wrong.
    Errors are Gaussian on the probit scale, with a variance that falls as 1/(runs + 5); the two chances' intervals are
    joined as Zou & Donner (2008) join those of a difference; with fewer than 8 runs neither is narrower than a
    Gaussian's of its standard error. As runs grow, wherever the predictor stays wrong w tends
    to 1 and the score to the published one.

    >>> rng = np.random.default_rng(0)
    >>> inclusion = rng.random((400, 300)) < 0.7
    >>> margin = rng.normal(size=(400, 300)) + np.where(inclusion, 2.0, 0.0)
    >>> scores = efficient_memorisation(inclusion, margin > 0, margin=margin)
    >>> bool(abs(scores.value - (0.977 - 0.5)).max() < 0.05)
    True

    Args:
        inclusion: which examples each run was trained on; best balanced, so that each is left out equally often.
        correct: whether each run answers each example right, after training.
        margin: the right class's logit minus the largest other, after training, or whatever else is above 0 where the
            answer is right and larger the surer it is.
        covariates: whatever else was measured of every example in every run and goes with right answers; what helps
            most is the margin averaged over training (AUM), and over the second half of it.
        level: the intervals' coverage, on average over examples.

    Returns:
        Scores with intervals. Permuting runs changes nothing, permuting examples permutes them.

    Raises:
        TypeError: inclusion is not a mask.
        ValueError: the shapes differ, correct is not 0 or 1 everywhere, or the level is outside (0, 1).

    Feldman & Zhang 2020, What Neural Networks Memorize and Why, https://arxiv.org/abs/2008.03703 (the quantity);
    Efron & Morris 1973, Stein's Estimation Rule and its Competitors, https://doi.org/10.1080/01621459.1973.10481350;
    Zou & Donner 2008, Construction of Confidence Limits about Effect Measures, https://doi.org/10.1002/sim.3095
    """
    _check(inclusion, correct, (margin, *covariates), level)
    counts = np.stack([inclusion.sum(0), (~inclusion).sum(0)])
    status = _status(counts, (margin, *covariates))
    is_usable = status == ESTIMATED
    usable = slice(None) if is_usable.all() else np.flatnonzero(is_usable)
    blank = Chance(*np.full((4, len(status)), np.nan))
    included, heldout = (Chance(*(part.copy() for part in blank)) for _ in range(2))
    if is_usable.any():
        taken = [quantity[:, usable] for quantity in (margin, *covariates)]
        estimates = _estimate(inclusion[:, usable], correct[:, usable] > 0, taken, level)
        for chance, estimate in zip((included, heldout), estimates, strict=True):
            for part, own in zip(chance, estimate, strict=True):
                part[usable] = own
    return EfficientMemorisation(
        value=included.value - heldout.value,
        se=np.hypot(included.se, heldout.se),
        count=counts.min(0),
        low=included.value - heldout.value - np.hypot(_below(included), _above(heldout)),
        high=included.value - heldout.value + np.hypot(_above(included), _below(heldout)),
        status=status,
        included=included,
        heldout=heldout,
    )


def _below(chance: Chance) -> Float[np.ndarray, "example"]:
    return np.maximum(chance.value - chance.low, 0)


def _above(chance: Chance) -> Float[np.ndarray, "example"]:
    return np.maximum(chance.high - chance.value, 0)


def _status(
    counts: Int[np.ndarray, "2 example"], quantities: Sequence[Num[np.ndarray, "run example"]]
) -> Shaped[np.ndarray, "example"]:
    finite = np.all([np.isfinite(quantity).all(0) for quantity in quantities], axis=0)
    too_few = np.full(len(finite), not (counts.min(0)[finite] > 1).any())
    reasons = [counts[0] == 0, counts[1] == 0, ~finite, too_few]
    return np.select(reasons, [NEVER_INCLUDED, NEVER_LEFT_OUT, NOT_FINITE, TOO_FEW], default=ESTIMATED)


def _estimate(
    inclusion: Bool[np.ndarray, "run example"],
    correct: Bool[np.ndarray, "run example"],
    quantities: list[Num[np.ndarray, "run example"]],
    level: float,
) -> list[Chance]:
    quantities = [_tamed(quantity) for quantity in quantities]
    sizes = [_size(quantity) for quantity in quantities]
    kept = _kept_runs(inclusion, quantities[0])
    everything = np.ones((1, len(inclusion)))
    whole = [_side(everything, mask, correct, quantities, sizes) for mask in (inclusion, ~inclusion)]
    chosen = _spread_evenly(whole[1].mean[0, 0])
    chosen_inclusion, chosen_correct, *some = (part[:, chosen] for part in (inclusion, correct, *quantities))
    included, heldout = (
        _Evidence(
            whole=side,
            kept=_side(kept, mask, chosen_correct, some, sizes),
            held=_Held((1 - kept) @ mask, (1 - kept) @ (mask & chosen_correct)),
        )
        for side, mask in zip(whole, (chosen_inclusion, ~chosen_inclusion), strict=True)
    )
    return [_chance(included, heldout, chosen, level), _chance(heldout, included, chosen, level)]


def _tamed(quantity: Num[np.ndarray, "run example"]) -> Num[np.ndarray, "run example"]:
    """The same, or a power of two times the same where squares of it would be infinite or 0."""
    largest = float(np.abs(quantity).max())
    if largest == 0 or SQUARABLE[0] < largest < SQUARABLE[1]:
        return quantity
    return np.ldexp(quantity.astype(np.float64), -int(np.frexp(largest)[1]))


def _size(quantity: Num[np.ndarray, "run example"]) -> float:
    """Root mean square, over runs first, so that the order of examples matters no more than rounding does."""
    squares = np.zeros(len(quantity))
    for number, run in enumerate(quantity):
        squares[number] = np.mean(run.astype(np.float64) ** 2)
    return float(np.sqrt(squares.mean())) or 1.0


def _kept_runs(
    inclusion: Bool[np.ndarray, "run example"], margin: Num[np.ndarray, "run example"]
) -> Float[np.ndarray, "set run"]:
    """Which runs each set keeps, 1 or 0. Runs are told apart by what they say, not by where they stand."""
    rows = zip(margin, inclusion, strict=True)
    said = np.array([(run[mask].sum(dtype=np.float64), run.sum(dtype=np.float64)) for run, mask in rows])
    order = np.lexsort(said.T)
    number, folds = len(order), min(NUM_FOLDS, len(order) // 2)
    rng = np.random.default_rng(0)
    kept = np.ones((NUM_PARTITIONS, folds, number))
    for partition in kept:
        partition[rng.permutation(number) % folds, order] = 0
    return kept.reshape(-1, number)


def _side(
    sets: Float[np.ndarray, "set run"],
    mask: Bool[np.ndarray, "run example"],
    correct: Bool[np.ndarray, "run example"],
    quantities: Sequence[Num[np.ndarray, "run example"]],
    sizes: Sequence[float],
) -> _Side:
    num_runs = _sums(sets, mask)
    means, spreads = zip(
        *(_moments(sets, mask, each, size, num_runs) for each, size in zip(quantities, sizes, strict=True)), strict=True
    )
    return _Side(num_runs, _sums(sets, mask & correct), np.stack(means), np.stack(spreads))


def _moments(
    sets: Float[np.ndarray, "set run"],
    mask: Bool[np.ndarray, "run example"],
    quantity: Num[np.ndarray, "run example"],
    size: float,
    num_runs: Float[np.ndarray, "set example"],
) -> tuple[Float[np.ndarray, "set example"], Float[np.ndarray, "set example"]]:
    """Mean and shrunken standard deviation; the floor keeps a quantity that never varies from dividing by 0."""
    mean = _sums(sets, mask, quantity, size=size) / np.maximum(num_runs, 1)
    squares = np.maximum(_sums(sets, mask, quantity, size=size, power=2) - num_runs * mean**2, 0)
    freedom = np.maximum(num_runs - 1, 0)
    average = squares.sum(1, keepdims=True) / np.maximum(freedom.sum(1, keepdims=True), 1)
    variance = (squares + BORROWED_RUNS * average) / (freedom + BORROWED_RUNS)
    return mean, np.sqrt(np.maximum(variance, 1e-6 * np.maximum(average, 1e-6)))


def _sums(
    sets: Float[np.ndarray, "set run"],
    mask: Bool[np.ndarray, "run example"],
    quantity: Num[np.ndarray, "run example"] | None = None,
    *,
    size: float = 1.0,
    power: int = 1,
) -> Float[np.ndarray, "set example"]:
    """Over the runs of each set that the mask picks: how many, or Σ(quantity/size)^power. Some examples at a time."""
    total = np.empty((len(sets), mask.shape[1]))
    for first in range(0, mask.shape[1], AT_A_TIME):
        here = np.s_[:, first : first + AT_A_TIME]
        picked = mask[here].astype(np.float64)
        if quantity is not None:
            picked *= (quantity[here] / size) ** power
        total[here] = sets @ picked
    return total


def _spread_evenly(values: Float[np.ndarray, "example"]) -> Int[np.ndarray, "chosen"]:
    if len(values) <= MOST_FITTED:
        return np.arange(len(values))
    ranks = np.linspace(0, len(values) - 1, MOST_FITTED).round().astype(int)
    return np.argsort(values, kind="stable")[ranks]


def _chance(own: _Evidence, other: _Evidence, chosen: Int[np.ndarray, "chosen"], level: float) -> Chance:
    """The chance of a right answer on one side."""
    kept, held = own.kept, own.held
    frame = _frame(own.whole.take(chosen), other.whole.take(chosen))
    judged = (held.num_runs > 0) & (kept.num_runs > 0) & (other.kept.num_runs > 0)
    columns, offset = _columns(kept, other.kept, frame), _margin_model(kept)
    answers = _Held(*(part[judged] / NUM_PARTITIONS for part in held))
    regression = _fit(columns[judged], offset[judged], answers)
    predicted = special.expit(offset + columns @ regression.coefficients)
    weight = _weight(predicted[judged], kept.share[judged], answers)
    predicted += weight * (kept.share - predicted)
    pairs = judged & (held.num_runs > 1)
    answers = _Held(*(part[pairs] for part in held))
    leverage = ((columns[pairs] @ regression.covariance) * columns[pairs]).sum(1)
    total = int((own.whole.num_runs + other.whole.num_runs).max())
    usual = USUAL_LOG_SCALE + np.log(max(1.0, FEW_RUNS / total))
    error = _error_scale(predicted[pairs], kept.num_runs[pairs], answers, leverage, float(usual))
    final = special.expit(_margin_model(own.whole) + _columns(own.whole, other.whole, frame) @ regression.coefficients)
    final = final[0] + weight * (own.whole.share[0] - final[0])
    return _with_interval(final, own.whole.num_runs[0], error, level, total=total)


def _features(own: _Side, other: _Side) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features whose effect may bend, and those whose effect is straight; of shape [set, example] each."""
    raw = special.logit((own.num_right + 0.5) / (own.num_runs + 1))
    curved = [own.mean[0] / own.spread[0], raw, *own.mean]
    straight = [other.mean[0] / other.spread[0], *other.mean, *np.log(own.spread)]
    return curved, straight


def _frame(own: _Side, other: _Side) -> _Frame:
    curved, straight = _features(own, other)
    features = np.stack(curved + straight)
    centre, scale = features.mean((1, 2), keepdims=True), features.std((1, 2), keepdims=True)
    scale[scale < 1e-9] = np.inf
    knots = [np.quantile(each, KNOTS) for each in _standardised(features, centre, scale)[: len(curved)]]
    columns = _raw_columns(own, other, centre, scale, knots).reshape(-1, own.num_runs[0].size, 1)[..., 0]
    column_scale = columns.std(1)
    column_scale[column_scale < 1e-9] = np.inf
    return _Frame(centre, scale, knots, columns.mean(1), column_scale)


def _standardised(features: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.clip((features - centre) / scale, -FARTHEST, FARTHEST)


def _columns(own: _Side, other: _Side, frame: _Frame) -> Float[np.ndarray, "set example column"]:
    """The regression's columns, standardised, and a constant."""
    raw = np.moveaxis(_raw_columns(own, other, frame.centre, frame.scale, frame.knots), 0, -1)
    standard = (raw - frame.column_centre) / frame.column_scale
    return np.concatenate([standard, np.ones((*standard.shape[:-1], 1))], axis=-1)


def _raw_columns(
    own: _Side, other: _Side, centre: np.ndarray, scale: np.ndarray, knots: list[np.ndarray]
) -> Float[np.ndarray, "column set example"]:
    """Every feature, the bends of the curved ones, and products with the margin's mean over its spread."""
    curved, straight = _features(own, other)
    features = _standardised(np.stack(curved + straight), centre, scale)
    num_quantities = len(own.mean)
    signal, raw, other_signal = features[0], features[1], features[len(curved)]
    covariates = features[3 : len(curved)]
    others = features[len(curved) + 2 : len(curved) + 1 + num_quantities]
    products = [signal * other_signal, signal * raw, *(signal * covariates), *(signal * others), *(covariates * others)]
    bends = [bend for feature, own_knots in zip(features, knots, strict=False) for bend in _bends(feature, own_knots)]
    return np.stack([*features, *bends, *products])


def _bends(feature: np.ndarray, knots: np.ndarray) -> list[np.ndarray]:
    """A cubic spline's terms beyond the line, straight outside the knots (Stone & Koo 1985); none of a few values."""
    if np.diff(knots).min() < 1e-3:
        return []
    *inner, last = (np.maximum(feature - knot, 0) ** 3 for knot in knots)
    slopes = [(each - last) / (knots[-1] - knot) for each, knot in zip(inner, knots, strict=False)]
    return [(slope - slopes[-1]) / (knots[-1] - knots[0]) for slope in slopes[:-1]]


def _margin_model(side: _Side) -> Float[np.ndarray, "set example"]:
    """The logit of Φ(mean/spread), drawn towards 0 by how uncertain the ratio is."""
    signal = side.mean[0] / side.spread[0]
    probit = signal / np.sqrt(1 + _variance(signal, side.num_runs, 1.0))
    return special.log_ndtr(probit) - special.log_ndtr(-probit)


def _fit(columns: Float[np.ndarray, "row column"], offset: Float[np.ndarray, "row"], answers: _Held) -> _Regression:
    """Logistic regression with a ridge, by Newton's method; a step that makes it worse is halved."""
    coefficients = np.zeros(columns.shape[1])
    ridge = np.full(len(coefficients), RIDGE)
    ridge[-1] = 0.1

    def misfit(coefficients: Float[np.ndarray, "column"]) -> float:
        logit = offset + columns @ coefficients
        deviance = answers.num_runs * np.logaddexp(0, logit) - answers.num_right * logit
        return float(deviance.sum() + (ridge * coefficients**2).sum() / 2)

    curvature: Float[np.ndarray, "column column"] = np.diag(ridge)
    for _ in range(50):
        chance: Float[np.ndarray, "row"] = special.expit(offset + columns @ coefficients)
        surprise: Float[np.ndarray, "row"] = answers.num_right - answers.num_runs * chance
        slope: Float[np.ndarray, "column"] = columns.T @ surprise - ridge * coefficients
        curvature = columns.T @ (columns * (answers.num_runs * chance * (1 - chance))[:, None]) + np.diag(ridge)
        step: Float[np.ndarray, "column"] = np.linalg.solve(curvature, slope)
        enough = misfit(coefficients) * (1 + 1e-9)
        while misfit(coefficients + step) > enough and np.abs(step).max() > 1e-7:
            step = step / 2
        coefficients += step
        if np.abs(step).max() < 1e-7:
            break
    return _Regression(coefficients, np.linalg.inv(curvature))


def _weight(predicted: Float[np.ndarray, "row"], share: Float[np.ndarray, "row"], answers: _Held) -> float:
    """How far left-out answers lie from the prediction towards the published estimate, from 0 to 1."""
    trust = 1 / (predicted * (1 - predicted) + 1e-3)
    difference = share - predicted
    towards = (trust * difference * (answers.num_right - answers.num_runs * predicted)).sum()
    length = (trust * answers.num_runs * difference**2).sum()
    return float(np.clip(towards / length, 0, 1)) if length > 0 else 0.0


def _error_scale(
    predicted: Float[np.ndarray, "row"],
    num_runs: Float[np.ndarray, "row"],
    held: _Held,
    leverage: Float[np.ndarray, "row"],
    usual: float,
) -> _ErrorScale:
    """Learn from pairs of left-out runs how wrong the predictor is.

    Σ over pairs of (y − q)(y' − q) has the expectation (number of pairs)·((p − q)² − h), h = u²·x'Cx being what the
    coefficients owe to those very answers, u = q(1 − q).
    """
    right, number = held.num_right, held.num_runs
    chance = np.clip(predicted, 1e-9, 1 - 1e-9)
    num_pairs = number * (number - 1)
    products = right * (right - 1) - 2 * chance * right * (number - 1) + chance**2 * num_pairs
    products += num_pairs * leverage * (chance * (1 - chance)) ** 2
    probit, noise = special.ndtri(chance), np.maximum(chance * (1 - chance), 0.01) ** 2 * num_pairs

    def misfit(log_scale: float) -> float:
        expected = num_pairs * _variance_of_chance(probit, _variance(probit, num_runs, np.exp(log_scale)))
        likelihood = ((products - expected) ** 2 / noise).sum() / NUM_PARTITIONS / 4
        return float(likelihood + ((log_scale - usual) / SPREAD_OF_SCALE) ** 2 / 2)

    misfits = np.array([misfit(log_scale) for log_scale in LOG_SCALES])
    best = int(misfits[1:-1].argmin()) + 1
    below, least, above = misfits[best - 1 : best + 2]
    step = LOG_SCALES[1] - LOG_SCALES[0]
    bend = max((below + above - 2 * least) / step**2, 1 / SPREAD_OF_SCALE**2)
    vertex = LOG_SCALES[best] + np.clip((below - above) / (2 * step) / bend, -step, step)
    return _ErrorScale(float(np.exp(vertex)), float(2 * bend))


def _variance(
    probit: Float[np.ndarray, "*shape"], num_runs: Float[np.ndarray, "*shape"], scale: float
) -> Float[np.ndarray, "*shape"]:
    """Of the error on the probit scale: of a Gaussian margin's mean over its spread, (1 + h²/2)/n, and of a prior."""
    return scale / (num_runs / (1 + probit**2 / 2) + PRIOR_RUNS)


def _variance_of_chance(
    probit: Float[np.ndarray, "*shape"], variance: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Of Φ(h√(1 + s²) + s·ε), whose mean is Φ(h): P(two correlated Gaussians below h) − Φ(h)²."""
    correlation = variance / (1 + variance)
    both = special.ndtr(probit) - 2 * special.owens_t(probit, np.sqrt((1 - correlation) / (1 + correlation)))
    return np.maximum(both - special.ndtr(probit) ** 2, 0)


def _with_interval(
    chance: Float[np.ndarray, "example"],
    num_runs: Float[np.ndarray, "example"],
    error: _ErrorScale,
    level: float,
    *,
    total: int,
) -> Chance:
    """The interval is Gaussian on the probit scale; of a handful of runs no interval says more than its error does."""
    probit = special.ndtri(np.clip(chance, 1e-12, 1 - 1e-12))
    variance = _variance(probit, num_runs, error.scale)
    middle, reach = probit * np.sqrt(1 + variance), special.stdtrit(error.freedom, (1 + level) / 2) * np.sqrt(variance)
    low, high, unseen = special.ndtr(middle - reach), special.ndtr(middle + reach), UNRESOLVED / num_runs
    se = np.maximum(np.sqrt(_variance_of_chance(probit, variance)), unseen)
    low, high = np.where(low < unseen, 0.0, low), np.where(high > 1 - unseen, 1.0, high)
    if total < TRUSTED_RUNS:
        least = special.ndtri((1 + level) / 2) * se
        low, high = np.minimum(low, np.maximum(chance - least, 0)), np.maximum(high, np.minimum(chance + least, 1))
    return Chance(chance, se, low, high)


def _check(
    inclusion: np.ndarray, correct: np.ndarray, quantities: Sequence[Num[np.ndarray, "run example"]], level: float
) -> None:
    if inclusion.dtype.kind != "b":
        raise TypeError(f"Expected a boolean mask of shape [run, example], got an array of {inclusion.dtype}.")
    shapes = [array.shape for array in (inclusion, correct, *quantities)]
    if inclusion.ndim != 2 or len(set(shapes)) > 1:
        raise ValueError(
            f"Expected inclusion, correct, margin and covariates of one shape [run, example], got {shapes}."
        )
    if not ((correct == 0) | (correct == 1)).all():
        raise ValueError(
            "Expected correct to be 0 or 1 everywhere. For other numbers, such as minus the loss of a regression, "
            "use memorisation."
        )
    if not 0 < level < 1:
        raise ValueError(f"Expected a level in (0, 1), got {level!r}.")
