"""Which training examples decide which test examples: the pairs of high influence (Feldman & Zhang 2020)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from byrote.records import Scores

BLOCK_BYTES = 8 * 2**20
"""No block of influences takes more memory than this."""
LEAST_MEMORISATION = 0.25
LEAST_INFLUENCE = 0.15
"""The thresholds of Feldman & Zhang 2020."""
ROUNDING = 1e-9
"""An estimate this near below a threshold reaches it: 0.65 − 0.5 is 0.15."""


class InfluencePairs(NamedTuple):
    """Pairs of a training and a test example, the strongest first."""

    train: Int[np.ndarray, "pair"]
    """Positions of the training examples."""
    test: Int[np.ndarray, "pair"]
    influence: Scores
    """Shape [pair]."""
    p_value: Float[np.ndarray, "pair"]
    """One-sided, of no influence; of this pair alone, as if it had been the only one looked at."""
    num_compared: int
    """Training × test examples: how many pairs were looked at."""


class _Sums(NamedTuple):
    """What each pair's two sides sum to; [pair]."""

    included: Float[np.ndarray, "pair"]
    heldout: Float[np.ndarray, "pair"]
    num_included: Int[np.ndarray, "pair"]
    num_heldout: Int[np.ndarray, "pair"]


def influence_pairs(
    inclusion: Bool[np.ndarray, "run example"],
    correct_test: Bool[np.ndarray, "run test_example"] | Num[np.ndarray, "run test_example"],
    *,
    memorisation: Float[np.ndarray, "example"],
    least_memorisation: float = LEAST_MEMORISATION,
    least_influence: float = LEAST_INFLUENCE,
    false_discovery_rate: float | None = None,
) -> InfluencePairs:
    """Find the test examples that are answered because of one memorised training example.

    All pairs (i, j) with mem(i) ≥ 0.25 and infl(i, j) ≥ 0.15, infl(i, j) being the mean of correct_test[r, j] over the
    runs trained on i minus the mean over the others, as in `influence`; computed block by block, so that only the pairs
    found are held.

    With few runs most such pairs are chance: of n·m estimates with standard error s, a share Φ(−0.15/s) passes the
    threshold where there is nothing. `false_discovery_rate` keeps only pairs that also pass Benjamini & Hochberg's
    step-up rule, p_(k) ≤ rate·k/(n·m), among *all* n·m pairs, those below the thresholds counting as p = 1; so choosing
    the pairs by the same runs biases nothing. The p-value of 0/1 values is Fisher's exact one: given how often j was
    answered right, is it right more often where i was trained on than if inclusion were drawn anew? For other
    values it is Welch's t-test. The rule holds for pairs that are independent or depend positively.

    >>> inclusion = np.array([[True, True], [True, False], [False, True], [False, False]])
    >>> correct = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    >>> found = influence_pairs(inclusion, correct, memorisation=np.array([0.9, 0.1]))
    >>> found.train, found.test, found.influence.value, found.p_value.round(3)
    (array([0]), array([0]), array([1.]), array([0.167]))

    Args:
        inclusion: which examples each run was trained on.
        correct_test: 0/1, or any number of which more is better, for each test example.
        memorisation: each training example's score, from `memorisation`; those below the threshold, or NaN, influence
            nothing that is looked at.
        least_memorisation: the published threshold.
        least_influence: the published threshold for 0/1 values; in the unit of the values.
        false_discovery_rate: the share of the pairs returned that may be chance, on average. None: no control.

    Returns:
        The pairs in falling order of influence, ties by position; standard errors and counts as in `influence`.

    Raises:
        TypeError: inclusion is not a mask.
        ValueError: shapes do not fit, or the false-discovery rate is outside (0, 1).

    Feldman & Zhang 2020, What Neural Networks Memorize and Why, https://arxiv.org/abs/2008.03703;
    Benjamini & Hochberg 1995, Controlling the False Discovery Rate
    """
    _check(inclusion, correct_test, memorisation, false_discovery_rate)
    num_included = inclusion.sum(0)
    usable = (memorisation >= least_memorisation) & (num_included > 0) & (num_included < len(inclusion))
    rows = np.flatnonzero(usable)
    values = correct_test.astype(np.float64)
    binary = bool(((values == 0) | (values == 1)).all())
    if not binary:
        values -= values.mean(0)
    train, test, sums = _search(inclusion, values, rows, least_influence, binary=binary)
    scores, freedom = _scores(inclusion, values, train, test, sums, binary=binary)
    p_value = _exact_p_value(sums) if binary else _welch_p_value(scores, freedom)
    num_compared = inclusion.shape[1] * correct_test.shape[1]
    kept = np.ones(len(train), bool)
    if false_discovery_rate is not None:
        kept = _step_up(p_value, num_compared, false_discovery_rate)
    order = np.flatnonzero(kept)[np.argsort(-scores.value[kept], kind="stable")]
    return InfluencePairs(
        train=train[order],
        test=test[order],
        influence=Scores(value=scores.value[order], se=scores.se[order], count=scores.count[order]),
        p_value=p_value[order],
        num_compared=num_compared,
    )


def _search(
    inclusion: np.ndarray, values: np.ndarray, rows: np.ndarray, least: float, *, binary: bool
) -> tuple[Int[np.ndarray, "pair"], Int[np.ndarray, "pair"], _Sums]:
    """The pairs that reach the threshold, by one matrix product per block of training examples."""
    num_runs, num_tests = values.shape
    total = values.sum(0)
    factor = values.astype(np.float32 if binary else np.float64)  # sums of 0 and 1 are exact in either
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    step = max(1, BLOCK_BYTES // max(8 * num_tests, 1))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        count = inclusion[:, block].sum(0)[:, None]
        included = (inclusion[:, block].T.astype(factor.dtype) @ factor).astype(np.float64)
        influence = included / count - (total - included) / (num_runs - count)
        row, column = np.nonzero(influence >= least - ROUNDING)
        found.append((block[row], column, included[row, column]))
    nothing = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    train, test, included = (np.concatenate(parts) for parts in zip(nothing, *found, strict=True))
    count = inclusion[:, train].sum(0)
    return train, test, _Sums(included, total[test] - included, count, num_runs - count)


def _scores(
    inclusion: np.ndarray, values: np.ndarray, train: np.ndarray, test: np.ndarray, sums: _Sums, *, binary: bool
) -> tuple[Scores, Float[np.ndarray, "pair"]]:
    """Influences with their errors, and for real values Welch's degrees of freedom."""
    included, heldout, num_included, num_heldout = sums
    value = included / num_included - heldout / num_heldout
    count = np.minimum(num_included, num_heldout)
    if binary:
        adjusted = (included + 1) / (num_included + 2), (heldout + 1) / (num_heldout + 2)
        variances = [p * (1 - p) / n for p, n in zip(adjusted, (num_included, num_heldout), strict=True)]
        return Scores(value=value, se=np.sqrt(sum(variances)), count=count), np.full(len(value), np.inf)
    inside = _squares(inclusion, values, train, test)
    outside = (values**2).sum(0)[test] - inside
    parts = (inside, included, num_included), (outside, heldout, num_heldout)
    variances = [
        _divided(np.maximum(squares - total**2 / number, 0), (number - 1) * number) for squares, total, number in parts
    ]
    both = variances[0] + variances[1]
    spread = _divided(variances[0] ** 2, num_included - 1) + _divided(variances[1] ** 2, num_heldout - 1)
    return Scores(value=value, se=np.sqrt(both), count=count), _divided(both**2, spread)


def _squares(
    inclusion: np.ndarray, values: np.ndarray, train: np.ndarray, test: np.ndarray
) -> Float[np.ndarray, "pair"]:
    """For each pair, the sum of squares over the runs that were trained on its training example."""
    squares = np.empty(len(train))
    step = max(1, BLOCK_BYTES // (8 * len(values)))
    for start in range(0, len(train), step):
        here = slice(start, start + step)
        squares[here] = np.einsum(
            "rp,rp,rp->p", inclusion[:, train[here]], values[:, test[here]], values[:, test[here]]
        )
    return squares


def _exact_p_value(sums: _Sums) -> Float[np.ndarray, "pair"]:
    """Fisher's: the hypergeometric chance of so many right answers or more where the example was trained on."""
    right = np.rint(sums.included + sums.heldout).astype(np.int64)
    least = np.rint(sums.included).astype(np.int64)
    most = np.minimum(right, sums.num_included)
    tables, member = np.unique(
        np.stack([least, most, right, sums.num_included, sums.num_heldout]), axis=1, return_inverse=True
    )
    chances = [_tail(*(int(number) for number in table)) for table in tables.T]
    return np.array(chances, np.float64)[member.ravel()]


def _tail(least: int, most: int, right: int, num_included: int, num_heldout: int) -> float:
    """The chance that from `least` to `most` of the right answers fall to included runs."""
    split = np.arange(least, most + 1)
    ways = _log_choose(num_included, split) + _log_choose(num_heldout, right - split)
    return min(1.0, float(np.exp(ways - _log_choose(num_included + num_heldout, np.array([right]))).sum()))


def _log_choose(total: int, chosen: np.ndarray) -> Float[np.ndarray, "*shape"]:
    return -np.log(total + 1) - special.betaln(total - chosen + 1, chosen + 1)


def _welch_p_value(scores: Scores, freedom: np.ndarray) -> Float[np.ndarray, "pair"]:
    """1 where a side has one run only, and nothing is known of the error."""
    statistic = _divided(scores.value, scores.se)
    return np.where(np.isnan(statistic * freedom), 1.0, special.stdtr(freedom, -np.nan_to_num(statistic)))


def _step_up(p_value: np.ndarray, num_compared: int, rate: float) -> Bool[np.ndarray, "pair"]:
    """Benjamini & Hochberg's rule, all other pairs having p = 1."""
    ordered = np.sort(p_value)
    passing = np.flatnonzero(ordered <= rate * np.arange(1, len(ordered) + 1) / num_compared)
    return p_value <= ordered[passing[-1]] if len(passing) else np.zeros(len(p_value), bool)


def _divided(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _check(
    inclusion: np.ndarray, correct_test: np.ndarray, memorisation: np.ndarray, false_discovery_rate: float | None
) -> None:
    if inclusion.dtype.kind != "b":
        raise TypeError(f"Expected a boolean mask of shape [run, example], got an array of {inclusion.dtype}.")
    if inclusion.ndim != 2 or correct_test.ndim != 2 or len(inclusion) != len(correct_test):
        raise ValueError(
            f"Expected two arrays with one row for each run, got shapes {inclusion.shape} and {correct_test.shape}."
        )
    if memorisation.shape != inclusion.shape[1:]:
        raise ValueError(
            f"Expected a memorisation score for each of {inclusion.shape[1]} examples, got shape {memorisation.shape}."
        )
    if false_discovery_rate is not None and not 0 < false_discovery_rate < 1:
        raise ValueError(f"Expected a false-discovery rate in (0, 1), got {false_discovery_rate!r}.")
