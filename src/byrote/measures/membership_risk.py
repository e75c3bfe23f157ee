"""What an attack's scores say of the risk: for all examples together, for each, and for each group.

Scores and membership are [run, example]: every run is a target. Such scores are not independent: all examples of a run
share its network, and an example is the same in every run. What an interval assumes of that is said by `clusters`.
"""

import math
from bisect import bisect_left
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from byrote.records import Interval, Scores

Clusters = Literal["none", "runs", "both"]
"""Which scores may depend on one another: none; those of one run; those of one run, and those of one example."""

RATES = (0.001, 0.01)
"""The false-positive rates that membership attacks are reported at."""
KNOWN = "known"
TOO_FEW = "too few runs"
"""The status of an example that no target run, or every target run, was trained on."""
RESOLVED = "resolved"
UNRESOLVED = "too few non-members"
"""The status of a rate at which no threshold is known to keep the false positives."""


class Roc(NamedTuple):
    """What an attack catches for what it wrongly accuses, from the strictest threshold to the loosest."""

    false_positive_rate: Float[np.ndarray, "point"]
    true_positive_rate: Float[np.ndarray, "point"]
    threshold: Float[np.ndarray, "point"]
    """Accused is who scores at least this."""


class Catch(NamedTuple):
    """The share of the members that an attack catches at a false-positive rate."""

    false_positive_rate: float
    true_positive_rate: Interval
    """Its value is NaN unless the status is `resolved`; the interval holds either way. Its count is of members."""
    num_nonmembers: int
    status: str
    """`resolved` or `too few non-members`."""


class MembershipRisk(NamedTuple):
    """How well an attack tells, of one example at a time, runs that were trained on it from runs that were not."""

    auc: Scores
    """½: not at all; 1: always."""
    status: Shaped[np.ndarray, "example"]
    """`known` or `too few runs`."""


class GroupRisk(NamedTuple):
    """The mean membership risk of each group of examples."""

    group: Shaped[np.ndarray, "group"]
    """Their codes, sorted."""
    auc: Scores
    """`count` is the number of target runs, which are what varies."""
    low: Float[np.ndarray, "group"]
    high: Float[np.ndarray, "group"]
    num_examples: Shaped[np.ndarray, "group"]
    """Examples with a known risk."""
    status: Shaped[np.ndarray, "group"]
    """`known` or `too few runs`."""


class _Comparison(NamedTuple):
    """Members against non-members, column by column."""

    auc: Float[np.ndarray, "column"]
    deviation: Float[np.ndarray, "row column"]
    """What each score adds to the error of its column's AUC; they sum to 0."""
    num_members: Shaped[np.ndarray, "column"]
    num_nonmembers: Shaped[np.ndarray, "column"]


def roc(score: Float[np.ndarray, "*shape"], member: Bool[np.ndarray, "*shape"]) -> Roc:
    """Draw the curve of pooled scores.

    One point for each different score: the shares of the members and of the non-members that score at least as much.

    >>> curve = roc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
    >>> curve.false_positive_rate, curve.true_positive_rate
    (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))

    Args:
        score: the larger, the likelier a member; NaN is left out.
        member: the truth.

    Returns:
        From (0, 0) to (1, 1); ties make a sloping piece.

    Raises:
        TypeError: member is not a mask.
        ValueError: the shapes differ, or there are no members or no non-members.

    Fawcett 2006, An Introduction to ROC Analysis
    """
    _check(score, member)
    known = ~np.isnan(score)
    values, truth = score[known].astype(np.float64), member[known]
    order = np.argsort(-values, kind="stable")
    values, truth = values[order], truth[order]
    last = np.append(values[1:] != values[:-1], True)
    caught, accused = np.cumsum(truth)[last], np.cumsum(~truth)[last]
    return Roc(
        false_positive_rate=np.append(0.0, accused / accused[-1]),
        true_positive_rate=np.append(0.0, caught / caught[-1]),
        threshold=np.append(np.inf, values[last]),
    )


def pooled_auc(
    score: Float[np.ndarray, "run example"],
    member: Bool[np.ndarray, "run example"],
    *,
    clusters: Clusters = "both",
    groups: Shaped[np.ndarray, "example"] | None = None,
    level: float = 0.95,
) -> Interval:
    """Bound the chance that a random member outscores a random non-member, ties counting half.

    logit(AUC) ± t·√V/(AUC(1 − AUC)), taken back (an AUC of 1 has the band 1 − t·√V to 1, one of 0 likewise), with V
    from each score's part in the error, ψ = (share of the other kind that it beats − AUC)/(number of its own kind):
    V_runs = R/(R − 1)·Σ_r(Σ_i ψ_ri)², V_examples likewise over examples, V_none = Σψ², and for `both`
    V = V_runs + V_examples − V_none (the largest of the three where that is more).

    >>> print(pooled_auc(np.array([[3.0, 1.0], [2.0, 4.0]]), np.array([[True, False], [False, True]]), clusters="none"))
    1.000 (0.438 to 1.000)

    Args:
        score: the larger, the likelier a member; NaN is left out.
        member: the truth.
        clusters: `both` bounds what would be found with other runs and other examples, `runs` with other runs on these
            examples, `none` takes every score for an independent draw.
        groups: each example's code, where examples of one group may depend on one another, as those that are in or
            out together do: groups are then what the examples are drawn in. None: every example by itself.
        level: the interval's coverage, about.

    Returns:
        The interval within [0, 1]; its count is of the rarer kind, and t has one degree of freedom less than there are
        clusters. The error is never below what so many independent scores would have (Hanley & McNeil 1982, with one
        more member and non-member that beat nobody and lose to nobody), so that a perfect AUC is not a certain one.

    Raises:
        TypeError: member is not a mask.
        ValueError: shapes differ, there are no members or non-members, fewer than two runs (or examples, or groups)
            where they are clusters, or a level outside (0, 1).

    DeLong et al. 1988; Obuchowski 1997 (clusters); Cameron, Gelbach & Miller 2011 (two ways)
    """
    _check(score, member, clusters=clusters, level=level)
    compared = _compare(score.reshape(-1, 1), member.reshape(-1, 1))
    auc = float(compared.auc[0])
    codes = _codes(groups, score, clusters)
    variance = _clustered(compared.deviation.reshape(score.shape), clusters, codes)
    se = max(math.sqrt(variance), float(_least_error(compared)[0]))
    reach = _quantile((1 + level) / 2, _freedom(score, clusters, codes)) * se
    low, high = _area_interval(compared.auc, np.array([reach]))
    count = int(min(compared.num_members[0], compared.num_nonmembers[0]))
    return Interval(value=auc, low=float(low[0]), high=float(high[0]), se=se, count=count)


def caught_at(
    score: Float[np.ndarray, "run example"],
    member: Bool[np.ndarray, "run example"],
    *,
    rates: tuple[float, ...] = RATES,
    clusters: Clusters = "both",
    groups: Shaped[np.ndarray, "example"] | None = None,
    level: float = 0.95,
) -> tuple[Catch, ...]:
    """Bound the share of members that an attack catches when it may wrongly accuse few: TPR at low FPR.

    Two things are uncertain: the share of members above a threshold, for which Clopper and Pearson's bounds l and u
    are exact, and the threshold, which the highest of N non-members decide. The one that j of them exceed has a true
    rate distributed as Beta(j + 1, N − j); let L and U be the shares caught at the loosest threshold that surely (to
    (1 − level)/2) keeps the rate and at the strictest one that surely does not. Squares add (Newcombe 1998):

    p − √((p − l)² + (p − L)²)  to  p + √((u − p)² + (U − p)²).

    Clopper and Pearson's band alone takes the threshold for known and covers far less than it says.

    Dependent scores count as fewer: both numbers are divided by the design effect, the clustered variance of p over
    that of independent scores (at least 1), and by (t/z)² for the number of clusters (Korn & Graubard 1998). The design
    effect is taken where there is at least one false positive per run on average.

    A rate is resolved when a threshold exists that surely keeps it: at level 0.95 that takes 3,688 independent
    non-members for 0.1 %, and 368 for 1 %. Otherwise the value is NaN and the band starts at 0.

    >>> score = np.arange(1000.0).reshape(2, 500)
    >>> for catch in caught_at(score, score >= 500, rates=(0.01, 0.001), clusters="none"):
    ...     print(catch.false_positive_rate, catch.true_positive_rate, catch.status)
    0.01 1.000 (0.993 to 1.000) resolved
    0.001 nan (0.000 to 1.000) too few non-members

    Args:
        score: the larger, the likelier a member; NaN is left out.
        member: the truth.
        rates: false-positive rates in (0, 1).
        clusters: as in `pooled_auc`.
        groups: as in `pooled_auc`.
        level: the band's coverage, about.

    Returns:
        One for each rate: the share of members above the threshold that at most rate·N non-members exceed.

    Raises:
        TypeError: member is not a mask.
        ValueError: as in `pooled_auc`, or a rate outside (0, 1).

    Carlini et al. 2022, https://arxiv.org/abs/2112.03570; Clopper & Pearson 1934;
    Newcombe 1998, Interval Estimation for the Difference; Korn & Graubard 1998
    """
    _check(score, member, clusters=clusters, level=level)
    for rate in rates:
        if not 0 < rate < 1:
            raise ValueError(f"Expected false-positive rates in (0, 1), got {rate!r}.")
    codes = _codes(groups, score, clusters)
    return tuple(_caught_at(score, member, rate, clusters, codes, level) for rate in rates)


def membership_risk(score: Float[np.ndarray, "run example"], member: Bool[np.ndarray, "run example"]) -> MembershipRisk:
    """Measure for each example how well an attack tells the runs that were trained on it from the others.

    risk(i) = P(score of a run with i > score of a run without) + ½P(equal), over the pairs of runs.

    The standard error is DeLong's, from how the runs of either side differ in how many of the other they beat, and at
    least Hanley & McNeil's, A(1 − A)/(mn)·(1 + (N/2 − 1)·((1 − A)/(2 − A) + A/(1 + A))) with N = m + n (Newcombe
    2006), at A from one run more on each side that beats nobody and loses to nobody: three runs that agree do not claim
    certainty. Runs are taken for independent, so the score of a run must not depend on the others: give the statistic
    that an attack looks at, such as `log_odds` or `closeness`. Scores of `lira` and `rmia`, whose references are the
    other runs, compare here with AUCs below ½ where nothing leaks, as every leave-one-out prediction does when it is
    ranked within one example (Airola et al. 2011).

    >>> score, member = np.array([[5.0], [4.0], [3.0], [4.0]]), np.array([[True], [True], [False], [False]])
    >>> membership_risk(score, member).auc.value
    array([0.875])

    Args:
        score: the larger, the likelier a member, each run's by itself; NaN is left out.
        member: the truth.

    Returns:
        AUCs in [0, 1], ½ where nothing leaks; `count` is the number of runs on the smaller side.

    Raises:
        TypeError: member is not a mask.
        ValueError: the shapes differ.

    DeLong et al. 1988, Comparing the Areas under Two or More Correlated ROC Curves; Hanley & McNeil 1982; Newcombe
    2006; Airola et al. 2011, An Experimental Comparison of Cross-Validation Techniques for Estimating the AUC
    """
    _check(score, member, both_kinds=False)
    compared = _compare(score, member)
    count = np.minimum(compared.num_members, compared.num_nonmembers)
    se = np.fmax(_least_error(compared), _delong_error(compared, member))
    return MembershipRisk(
        auc=Scores(value=compared.auc, se=se, count=count),
        status=np.where(count > 0, KNOWN, TOO_FEW),
    )


def group_risk(
    score: Float[np.ndarray, "run example"],
    member: Bool[np.ndarray, "run example"],
    *,
    groups: Shaped[np.ndarray, "example"],
    level: float = 0.95,
) -> GroupRisk:
    """Average the membership risk over each group of examples, such as each class.

    risk(g) = mean of `membership_risk` over the examples of g.

    The runs are independent, not the examples of a run: the variance is R/(R − 1)·Σ_r(Σ_{i in g} ψ_ri)², ψ_ri being
    what run r adds to the error of i's AUC. The interval is that of `pooled_auc` with R − 1 degrees of freedom, and
    speaks of other runs on these examples. Where a group's AUC is 1 or 0 nothing shows how its examples depend on one
    another: its error is then that of a single one.

    >>> score, member = np.array([[5.0, 1.0], [3.0, 1.0]]), np.array([[True, True], [False, False]])
    >>> group_risk(score, member, groups=np.array(["cat", "dog"])).auc.value
    array([1. , 0.5])

    Args:
        score: as in `membership_risk`.
        member: the truth.
        groups: each example's code: class, source, patient.
        level: the intervals' coverage, about.

    Returns:
        For each group, sorted by code; NaN where no example has runs of both kinds.

    Raises:
        TypeError: member is not a mask.
        ValueError: shapes differ, fewer than two runs, or a level outside (0, 1).
    """
    _check(score, member, both_kinds=False, clusters="runs", level=level)
    if groups.shape != score.shape[1:]:
        raise ValueError(f"Expected a group for each of {score.shape[1]} examples, got shape {groups.shape}.")
    codes, code = np.unique(groups, return_inverse=True)
    compared = _compare(score, member)
    known = np.isfinite(compared.auc)
    belongs = (np.equal.outer(code, np.arange(len(codes))) & known[:, None]).astype(np.float64)
    size = belongs.sum(0)
    share = _divided(belongs, np.broadcast_to(size, belongs.shape))
    share[:, size == 0] = np.nan
    zeroed = np.where(known, compared.auc, 0.0)
    error = np.where(known, _least_error(compared), 0.0)
    num_runs = len(score)
    per_run = np.where(known, compared.deviation, 0.0) @ share
    variance = (per_run**2).sum(0) * num_runs / (num_runs - 1)
    value, least = zeroed @ share, np.where(variance > 0, error**2 @ share**2, (error @ share) ** 2)
    se = np.sqrt(np.maximum(variance, least))
    low, high = _area_interval(value, _quantile((1 + level) / 2, num_runs - 1) * se)
    return GroupRisk(
        group=codes,
        auc=Scores(value=value, se=se, count=np.where(size > 0, num_runs, 0)),
        low=low,
        high=high,
        num_examples=size.astype(np.int64),
        status=np.where(size > 0, KNOWN, TOO_FEW),
    )


def _caught_at(
    score: np.ndarray, member: np.ndarray, rate: float, clusters: Clusters, codes: np.ndarray | None, level: float
) -> Catch:
    known = ~np.isnan(score)
    inside, outside = known & member, known & ~member
    members, others = np.sort(score[inside]), np.sort(score[outside])[::-1]
    num_others, error = len(others), (1 - level) / 2
    allowed = int(rate * num_others * (1 + np.finfo(float).eps))
    few = (_quantile(1 - error, np.inf) / _quantile(1 - error, _freedom(score, clusters, codes))) ** 2
    few /= _design_effect(score, inside, outside, allowed=max(allowed, len(score)), clusters=clusters, codes=codes)
    effective_others = num_others * few
    hits = score > others[min(allowed, num_others - 1)]
    share, effective = float(hits[inside].mean()), len(members) * few

    def excess(exceeding: int) -> float:
        """The chance that the threshold which so many exceed has a true rate above the asked one."""
        scaled = exceeding * effective_others / num_others
        return float(special.betaincc(scaled + 1, effective_others - scaled, rate))

    keeps = bisect_left(range(num_others), error, key=excess) - 1
    exceeds = bisect_left(range(num_others), 1 - error, key=excess)
    least = float((members > others[keeps]).mean()) if keeps >= 0 else 0.0
    most = float((members >= others[exceeds]).mean()) if exceeds < num_others else 1.0
    caught = Interval(
        value=share if keeps >= 0 else math.nan,
        low=max(0.0, share - math.hypot(share - _lower(share, effective, error), share - least)) if keeps >= 0 else 0.0,
        high=min(1.0, share + math.hypot(_upper(share, effective, error) - share, most - share)),
        se=math.sqrt(_clustered(_residuals(hits, inside), clusters, codes)) if keeps >= 0 else math.nan,
        count=len(members),
    )
    return Catch(rate, caught, num_others, RESOLVED if keeps >= 0 else UNRESOLVED)


def _lower(share: float, trials: float, error: float) -> float:
    """Clopper and Pearson's, for a number of trials that need not be whole."""
    return 0.0 if share == 0 else float(special.betaincinv(share * trials, trials - share * trials + 1, error))


def _upper(share: float, trials: float, error: float) -> float:
    return 1.0 - _lower(1.0 - share, trials, error)


def _residuals(hits: np.ndarray, kind: np.ndarray) -> Float[np.ndarray, "run example"]:
    """What each score of a kind adds to the error of the share that hits."""
    return np.where(kind, hits - hits[kind].mean(), 0.0) / kind.sum()


def _design_effect(
    score: np.ndarray,
    inside: np.ndarray,
    outside: np.ndarray,
    *,
    allowed: int,
    clusters: Clusters,
    codes: np.ndarray | None,
) -> float:
    """How many times its variance with independent scores that of the share caught is, where so many are accused.

    To first order its error is that of the share of members above the threshold, less the curve's slope times that of
    the non-members: what lifts all scores of a run lifts both, and cancels.
    """
    members, others = np.sort(score[inside]), np.sort(score[outside])
    away = max(1, math.isqrt(allowed))
    strict, threshold, loose = (
        others[max(0, len(others) - 1 - count)] for count in (max(0, allowed - away), allowed, allowed + away)
    )
    between = float(((members > loose) & (members <= strict)).mean())
    slope = between / (2 * away / len(others))
    accused = score > threshold
    error = _residuals(accused, inside) - slope * _residuals(accused, outside)
    alone = _clustered(error, "none", None)
    return max(1.0, _clustered(error, clusters, codes) / alone) if alone > 0 else 1.0


def _codes(groups: np.ndarray | None, score: np.ndarray, clusters: Clusters) -> Int[np.ndarray, "example"] | None:
    """Groups from 0 on; None where each example is one by itself, or examples are no clusters."""
    if groups is None or clusters != "both":
        return None
    if groups.shape != score.shape[1:]:
        raise ValueError(f"Expected a group for each of {score.shape[1]} examples, got shape {groups.shape}.")
    codes = np.unique(groups, return_inverse=True)[1]
    if codes.max(initial=0) == 0:
        raise ValueError('Expected at least two groups to see how they differ, got one; use clusters="runs".')
    return codes


def _clustered(deviations: np.ndarray, clusters: Clusters, codes: np.ndarray | None) -> float:
    """The variance of a sum of deviations [run, example] of which those in one cluster may depend on one another."""
    if clusters == "none":
        return float((deviations**2).sum())
    if codes is not None:
        deviations = np.stack([np.bincount(codes, weights=row) for row in deviations])
    alone = float((deviations**2).sum())
    num_runs, num_units = deviations.shape
    runs = float((deviations.sum(1) ** 2).sum()) * num_runs / (num_runs - 1)
    if clusters == "runs":
        return runs
    units = float((deviations.sum(0) ** 2).sum()) * num_units / (num_units - 1)
    return max(runs + units - alone, runs, units, alone)


def _freedom(score: np.ndarray, clusters: Clusters, codes: np.ndarray | None) -> float:
    if clusters == "none":
        return np.inf
    num_runs, num_units = len(score), score.shape[1] if codes is None else int(codes.max()) + 1
    return float(num_runs - 1 if clusters == "runs" else min(num_runs, num_units) - 1)


def _compare(score: np.ndarray, member: np.ndarray) -> _Comparison:
    """By ranks: a member's rank among all less its rank among members is how many non-members it beats."""
    known = ~np.isnan(score)
    inside, outside = known & member, known & ~member
    num_members, num_others = inside.sum(0), outside.sum(0)
    among_all = _midranks(np.where(known, score, np.inf))
    beaten = among_all - _midranks(np.where(inside, score, np.inf))
    lost_to = num_members - (among_all - _midranks(np.where(outside, score, np.inf)))
    both = (num_members > 0) & (num_others > 0)
    per_member = _divided(beaten, np.broadcast_to(np.where(both, num_others, 0), score.shape))
    per_other = _divided(lost_to, np.broadcast_to(np.where(both, num_members, 0), score.shape))
    auc = _divided(np.where(inside, per_member, 0.0).sum(0), np.where(both, num_members, 0))
    deviation = np.where(inside, (per_member - auc) / np.maximum(num_members, 1), 0.0)
    deviation += np.where(outside, (per_other - auc) / np.maximum(num_others, 1), 0.0)
    return _Comparison(auc, deviation, num_members, num_others)


def _midranks(values: np.ndarray) -> Float[np.ndarray, "row column"]:
    """Ranks from 1 in each column; equal values share the mean of theirs."""
    order = np.argsort(values, axis=0)
    in_order = np.take_along_axis(values, order, axis=0)
    position = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
    starts = np.ones(values.shape, bool)
    starts[1:] = in_order[1:] != in_order[:-1]
    ends = np.ones(values.shape, bool)
    ends[:-1] = starts[1:]
    first = np.maximum.accumulate(np.where(starts, position, 0), axis=0)
    last = np.minimum.accumulate(np.where(ends, position, len(values))[::-1], axis=0)[::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=0)
    return ranks


def _area_interval(
    auc: np.ndarray, reach: np.ndarray
) -> tuple[Float[np.ndarray, "column"], Float[np.ndarray, "column"]]:
    """Symmetric in log-odds, within which an area near 1 errs more evenly; one-sided at the ends."""
    spread = auc * (1 - auc)
    inner = spread > 0
    middle, step = special.logit(np.where(inner, auc, 0.5)), reach / np.where(inner, spread, 1.0)
    low, high = special.expit(middle - step), special.expit(middle + step)
    return (
        np.where(inner, low, np.maximum(auc - reach, 0.0)),
        np.where(inner, high, np.minimum(auc + reach, 1.0)),
    )


def _delong_error(compared: _Comparison, member: np.ndarray) -> Float[np.ndarray, "column"]:
    """The AUC's standard error from how far the scores' parts in it scatter; NaN with one score on a side."""
    parts = ((member, compared.num_members), (~member, compared.num_nonmembers))
    squares = [(np.where(kind, compared.deviation, 0.0) ** 2).sum(0) for kind, _ in parts]
    inflated = [_divided(total * count, count - 1) for total, (_, count) in zip(squares, parts, strict=True)]
    return np.sqrt(inflated[0] + inflated[1])


def _least_error(compared: _Comparison) -> Float[np.ndarray, "column"]:
    """What the AUC's standard error is if all scores are independent."""
    members, others = compared.num_members.astype(np.float64), compared.num_nonmembers.astype(np.float64)
    pairs = members * others
    auc = (compared.auc * pairs + (members + others + 1) / 2) / ((members + 1) * (others + 1))
    tied_up = (members + others) / 2 - 1
    inflation = 1 + tied_up * ((1 - auc) / (2 - auc) + auc / (1 + auc))
    return np.sqrt(_divided(auc * (1 - auc) * inflation, pairs))


def _quantile(probability: float, freedom: float) -> float:
    return float(special.ndtri(probability) if np.isinf(freedom) else special.stdtrit(freedom, probability))


def _divided(numerator: np.ndarray, denominator: np.ndarray) -> Float[np.ndarray, "*shape"]:
    """NaN where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _check(
    score: np.ndarray,
    member: np.ndarray,
    *,
    both_kinds: bool = True,
    clusters: Clusters = "none",
    level: float = 0.95,
) -> None:
    if member.dtype.kind != "b":
        raise TypeError(f"Expected a boolean mask of members, got an array of {member.dtype}.")
    if score.shape != member.shape:
        raise ValueError(f"Expected scores and a mask of one shape, got {score.shape} and {member.shape}.")
    if not 0 < level < 1:
        raise ValueError(f"Expected a level in (0, 1), got {level!r}.")
    known = ~np.isnan(score)
    if both_kinds and not ((known & member).any() and (known & ~member).any()):
        raise ValueError("Expected scores of members and of non-members, got one kind only. Pool more target runs.")
    if clusters != "none" and len(score) < 2:
        raise ValueError(
            'Expected at least two target runs to see how they differ, got one; clusters="none" ignores it.'
        )
    if clusters == "both" and score.shape[1] < 2:
        raise ValueError('Expected at least two examples to see how they differ, got one; use clusters="runs".')
