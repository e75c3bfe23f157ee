"""Which training examples decide which test examples: the pairs of high influence (Feldman & Zhang 2020)."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy import special, stats  # pyright: ignore[reportMissingTypeStubs]

from byrote.records import Scores

BLOCK_BYTES = 8 * 2**20
"""No block of influences takes more memory than this."""
LEAST_MEMORISATION = 0.25
LEAST_INFLUENCE = 0.15
"""The thresholds of Feldman & Zhang 2020."""
ROUNDING = 1e-9
"""An estimate this near below a threshold reaches it: 0.65 − 0.5 is 0.15."""
CAUTION = 1.0
"""Ties count half, but so much less in all. Over all orders of values with ties, p-values are then too small by 7 % at
most around 0.05, and never below 0.01, as far as they were counted out."""
EXACT = 5000
"""Up to so many pairs of a run with the example and one without, the rank-sum test's p-values are counted out."""
EDGES = np.geomspace(1e-300, 1.0, 8192)
"""P-values are counted between these: each is 9 % above the one before."""


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


class _Found(NamedTuple):
    """Some pairs."""

    train: Int[np.ndarray, "pair"]
    test: Int[np.ndarray, "pair"]
    included: Float[np.ndarray, "pair"]
    """What the values of the runs that were trained on the training example sum to."""
    squares: Float[np.ndarray, "pair"]
    """What their squares sum to."""
    p_value: Float[np.ndarray, "pair"]


class _Search(NamedTuple):
    """What is looked through."""

    inclusion: Bool[np.ndarray, "run example"]
    values: Float[np.ndarray, "run test_example"]
    rows: Int[np.ndarray, "usable"]
    """Training examples whose pairs are looked at."""
    least: float
    """Influence from which on a pair is found."""

    @property
    def num_included(self) -> Int[np.ndarray, "example"]:
        return self.inclusion.sum(0)


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
    that are returned are held.

    With few runs most such pairs are chance: of n·m estimates with standard error s, a share Φ(−0.15/s) passes the
    threshold where there is nothing. `false_discovery_rate` keeps only pairs that also pass Benjamini & Hochberg's
    step-up rule, p_(k) ≤ rate·k/(n·m), among *all* n·m pairs, those below the thresholds counting as p = 1; so choosing
    the pairs by the same runs biases nothing. The p-value of 0/1 values is Fisher's exact one: given how often j was
    answered right, is it right more often where i was trained on than if inclusion were drawn anew? Of other values it
    is that of the rank-sum test (Mann & Whitney 1947), which asks the same of

        U = number of (run r with i, run s without i) for which correct_test[r, j] > correct_test[s, j],

    whatever the values' distribution: exact without ties, of which half count, less one, which errs on the side of too
    large; where there are more than 5,000 such pairs of runs by the normal distribution, whose tails are heavier. So it
    is never below
    1/(runs choose runs with i): where there are many pairs to choose from, few runs say nothing. The rule holds for
    pairs that are independent or depend positively.

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
        ValueError: shapes do not fit, values are not finite, or the false-discovery rate is outside (0, 1).

    Feldman & Zhang 2020, What Neural Networks Memorize and Why, https://arxiv.org/abs/2008.03703;
    Benjamini & Hochberg 1995, Controlling the False Discovery Rate; Mann & Whitney 1947, On a Test of Whether one of
    Two Random Variables is Stochastically Larger than the Other
    """
    _check(inclusion, correct_test, memorisation, false_discovery_rate)
    num_included = inclusion.sum(0)
    usable = (memorisation >= least_memorisation) & (num_included > 0) & (num_included < len(inclusion))
    values = correct_test.astype(np.float64)
    binary = bool(((values == 0) | (values == 1)).all())
    if not binary:
        values -= values.mean(0)
    search = _Search(inclusion, values, np.flatnonzero(usable), least_influence - ROUNDING)
    look = partial(_look_exactly if binary else _look_by_ranks, search)
    num_compared, rate = inclusion.shape[1] * correct_test.shape[1], false_discovery_rate
    found = _together(look(1.0 if rate is None else _reach(look, search, num_compared=num_compared, rate=rate)))
    scores = _scores(search, found, binary=binary)
    kept = np.ones(len(found.train), bool) if rate is None else _step_up(found.p_value, num_compared, rate)
    places = np.flatnonzero(kept)
    order = places[np.lexsort((found.test[places], found.train[places], -scores.value[places]))]
    return InfluencePairs(
        train=found.train[order],
        test=found.test[order],
        influence=Scores(value=scores.value[order], se=scores.se[order], count=scores.count[order]),
        p_value=found.p_value[order],
        num_compared=num_compared,
    )


def _reach(look: Callable[[float], Iterator[_Found]], search: _Search, *, num_compared: int, rate: float) -> float:
    """A p-value that no pair which `_step_up` keeps exceeds, and few others fall below; negative if it keeps none.

    The largest that is kept has p ≤ rate·N(p)/num_compared, N(p) being how many pairs have a p-value up to p. So the
    edge below p is at most rate·N(edge above p)/num_compared, and the last edge of which this holds is p's or higher.
    Since N is at most the number of usable pairs, those above the p-value that this gives need not be counted.
    """
    highest = rate * len(search.rows) * search.values.shape[1] / num_compared if num_compared else 0.0
    number = np.zeros(len(EDGES), np.int64)
    for found in look(highest):
        number += np.bincount(np.searchsorted(EDGES, found.p_value), minlength=len(EDGES))
    up_to, below = number.cumsum(), np.concatenate([[0.0], EDGES[:-1]])
    passing = np.flatnonzero((up_to > 0) & (below <= rate * up_to / max(num_compared, 1)))
    return min(highest, float(EDGES[passing[-1]])) if len(passing) else -1.0


def _look_exactly(search: _Search, at_most: float) -> Iterator[_Found]:
    """Pairs of right or wrong answers with a p-value of at most so much, by Fisher's test.

    Both the influence and the p-value say how many right answers it takes from the runs that were trained on the
    training example, given how many there are of these and of right answers; so the product of the two matrices is
    compared with one number for each test example.
    """
    right, code = np.unique(search.values.sum(0).astype(np.int64), return_inverse=True)
    factor, number = search.values.astype(np.float32), search.num_included[search.rows]  # exact of 0 and 1
    num_runs, num_tests = factor.shape
    for count in sorted({int(each) for each in number}):
        split = np.arange(count + 1)
        chance = _tails(num_runs, count, right)
        enough = split / count - (right[:, None] - split) / (num_runs - count) >= search.least
        enough &= chance <= at_most
        if not enough.any():
            continue
        needed = np.where(enough.any(1), enough.argmax(1), np.inf).astype(np.float32)[code]
        for block in _blocks(search.rows[number == count], bytes_each=factor.itemsize * num_tests):
            included = search.inclusion[:, block].T.astype(np.float32) @ factor
            place = np.flatnonzero(included >= needed)
            row, column = np.divmod(place, num_tests)
            answers = included.ravel()[place].astype(np.int64)
            sums = answers.astype(np.float64)
            yield _Found(block[row], column, sums, sums, chance[code[column], answers])


def _look_by_ranks(search: _Search, at_most: float) -> Iterator[_Found]:
    """Pairs of numbers with a p-value of at most so much, by the rank-sum test.

    Middle ranks, which a product of matrices sums, give U and half of the ties: pairs for which this is enough are
    looked at further.
    """
    num_runs, num_tests = search.values.shape
    ranks, ties = _ranks(search.values, method="average"), _ranks(search.values, method="dense")
    total, powers, number = search.values.sum(0), search.values**2, search.num_included[search.rows]
    for count in sorted({int(each) for each in number}):
        chance = _rank_sum_tails(count, num_runs - count)
        if chance[-1] > at_most:
            continue
        needed = int((chance <= at_most).argmax()) + count * (count + 1) / 2
        for block in _blocks(search.rows[number == count], bytes_each=3 * search.values.itemsize * num_tests):
            mask = search.inclusion[:, block].T.astype(np.float64)
            included, ranked = mask @ search.values, mask @ ranks
            influence = included / count - (total - included) / (num_runs - count)
            row, column = np.nonzero((influence >= search.least) & (ranked >= needed))
            beaten = ranked[row, column] - count * (count + 1) / 2
            beaten -= np.minimum(_ties(search.inclusion[:, block[row]], ties[:, column]) / 2, CAUTION)
            p_value = chance[np.floor(beaten + ROUNDING).astype(np.int64)]
            found = _Found(block[row], column, included[row, column], (mask @ powers)[row, column], p_value)
            yield _Found(*(part[p_value <= at_most] for part in found))


def _ranks(values: Float[np.ndarray, "run test_example"], *, method: str) -> Float[np.ndarray, "run test_example"]:
    return np.asarray(stats.rankdata(values, method=method, axis=0), np.float64)  # pyright: ignore


def _ties(inclusion: Bool[np.ndarray, "run pair"], groups: Float[np.ndarray, "run pair"]) -> Float[np.ndarray, "pair"]:
    """How many runs with the example are in the same group as a run without it, each such two counted."""
    width, num_pairs = len(inclusion) + 1, inclusion.shape[1]
    step, ties = max(1, BLOCK_BYTES // (16 * width)), np.zeros(num_pairs)
    for start in range(0, num_pairs, step):
        part = slice(start, min(start + step, num_pairs))
        mask, number = inclusion[:, part], part.stop - part.start
        place = np.asarray(groups[:, part] + width * np.arange(number), np.int64)
        inside = np.bincount(place[mask], minlength=width * number)
        everywhere = np.bincount(place.reshape(-1), minlength=width * number)
        ties[part] = (inside * (everywhere - inside)).reshape(number, width).sum(1)
    return ties


def _blocks(rows: Int[np.ndarray, "usable"], *, bytes_each: int) -> Iterator[Int[np.ndarray, "block"]]:
    """The rows in parts that memory holds."""
    step = max(1, BLOCK_BYTES // max(bytes_each, 1))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _together(parts: Iterator[_Found]) -> _Found:
    nothing = np.empty(0, np.int64), np.empty(0, np.int64), *(np.empty(0) for _ in range(3))
    return _Found(*(np.concatenate(column) for column in zip(nothing, *parts, strict=True)))


def _scores(search: _Search, found: _Found, *, binary: bool) -> Scores:
    """Influences with their errors: of 0/1 values as Agresti & Caffo have them, of numbers as Welch has them."""
    num_included, included = search.num_included[found.train], found.included
    num_heldout, heldout = len(search.inclusion) - num_included, search.values.sum(0)[found.test] - included
    value, count = included / num_included - heldout / num_heldout, np.minimum(num_included, num_heldout)
    if binary:
        adjusted = (included + 1) / (num_included + 2), (heldout + 1) / (num_heldout + 2)
        variances = [p * (1 - p) / n for p, n in zip(adjusted, (num_included, num_heldout), strict=True)]
        return Scores(value=value, se=np.sqrt(sum(variances)), count=count)
    outside = (search.values**2).sum(0)[found.test] - found.squares
    parts = (found.squares, included, num_included), (outside, heldout, num_heldout)
    variances = [
        _divided(np.maximum(squares - total**2 / number, 0), (number - 1) * number) for squares, total, number in parts
    ]
    return Scores(value=value, se=np.sqrt(variances[0] + variances[1]), count=count)


@lru_cache(maxsize=256)
def _rank_sum_tails(num_included: int, num_heldout: int) -> Float[np.ndarray, "statistic"]:
    """The chance that U is 0, 1, … or more when every order of the runs is as likely.

    The largest of all is one with the example, which beats all those without it, or one without it, which beats none:
    P(n, m) = n/(n + m) · P(n − 1, m) shifted by m + m/(n + m) · P(n, m − 1). For many runs the normal distribution,
    whose tails are the heavier ones, takes its place.
    """
    most = num_included * num_heldout
    if most > EXACT:
        error = np.sqrt(most * (num_included + num_heldout + 1) / 12)
        tail = special.ndtr((most / 2 + 0.5 - np.arange(most + 1)) / error)
    else:
        tail = np.minimum(1.0, _rank_sum_chances(num_included, num_heldout)[::-1].cumsum()[::-1])
    tail.setflags(write=False)
    return tail


def _rank_sum_chances(num_included: int, num_heldout: int) -> Float[np.ndarray, "statistic"]:
    chances = [np.ones(1) for _ in range(num_heldout + 1)]
    for n in range(1, num_included + 1):
        chances[0] = np.ones(1)
        for m in range(1, num_heldout + 1):
            both = np.zeros(n * m + 1)
            both[m:] = n / (n + m) * chances[m]
            both[: len(chances[m - 1])] += m / (n + m) * chances[m - 1]
            chances[m] = both
    return chances[num_heldout]


def _tails(num_runs: int, count: int, right: Int[np.ndarray, "total"]) -> Float[np.ndarray, "total split"]:
    """Fisher's p-values: for each number of right answers in all runs, the hypergeometric chance that 0, 1, … of them
    or more fall to the `count` runs that were trained on the example.
    """
    factorial = special.gammaln(np.arange(num_runs + 1) + 1.0)
    split = np.arange(count + 1)
    missed = right[:, None] - split
    possible = (missed >= 0) & (missed <= num_runs - count)
    elsewhere = np.where(possible, missed, 0)
    ways = factorial[count] - factorial[split] - factorial[count - split]
    ways = ways + factorial[num_runs - count] - factorial[elsewhere] - factorial[num_runs - count - elsewhere]
    all_ways = factorial[num_runs] - factorial[right] - factorial[num_runs - right]
    chance = np.where(possible, np.exp(np.where(possible, ways - all_ways[:, None], 0.0)), 0.0)
    return np.minimum(1.0, chance[:, ::-1].cumsum(1)[:, ::-1])


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
    finite = np.isfinite(correct_test)
    if not finite.all():
        run, test = np.argwhere(~finite)[0]
        raise ValueError(
            f"Expected numbers that are finite, got {correct_test[run, test]} of run {run} and test example {test} "
            f"({int((~finite).sum()):,} such in all). Leave out these runs or test examples."
        )
    if memorisation.shape != inclusion.shape[1:]:
        raise ValueError(
            f"Expected a memorisation score for each of {inclusion.shape[1]} examples, got shape {memorisation.shape}."
        )
    if false_discovery_rate is not None and not 0 < false_discovery_rate < 1:
        raise ValueError(f"Expected a false-discovery rate in (0, 1), got {false_discovery_rate!r}.")
