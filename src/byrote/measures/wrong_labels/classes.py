"""Wrong labels among classes."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from byrote.measures.wrong_labels.evidence import Evidence, gather, of, votes_against
from byrote.measures.wrong_labels.found import (
    JUDGED,
    REASONS,
    LabelErrors,
    check_mask,
    conflicting,
    deviation,
    mean_over,
    ranked,
    reconciled,
    status_of,
    unsaid,
    wrong_share,
)
from byrote.measures.wrong_labels.mixture import (
    FIRST_SHARE,
    Binned,
    Bins,
    Shape,
    Shares,
    binned,
    fit,
    log_normalised,
    log_odds_of,
    shares,
)
from byrote.records import Scores

ROUNDS = 10
"""How often share, confusions and training are estimated anew from what was found wrong."""
KNOTS = (0.0, -1.0)
"""Where the log-odds of a right label bend, in standard deviations of the doubt."""
STEEPEST = 20.0
"""How fast they may fall, in one standard deviation."""
START = np.array([2.0, *[0.0] * len(KNOTS), log_odds_of(FIRST_SHARE)])
"""Where fitting begins: how steeply right labels become rare, how much less so before each knot, and the share."""
BOUNDS = [(0.0, STEEPEST), *[(-STEEPEST, STEEPEST)] * len(KNOTS)]
MOST_INVENTED = 100_000
"""Invented labels that are looked at, evenly spaced among all."""
NUM_STRATA = 40
"""Into so many strata of equal evidence invented labels are sorted to be given a training."""
FEWEST_DONORS = 50
"""From at least so many real labels of about its evidence an invented label is given its training."""
LEAST_WEIGHT = 0.02
"""What a label that is surely right weighs among donors, in mean probabilities."""
GOLDEN = (5**0.5 - 1) / 2
"""Its multiples modulo 1 fill the unit interval evenly: draws without chance."""


class _Invented(NamedTuple):
    """Labels that examples were not given."""

    gap: Float[np.ndarray, "invented"]
    """What is held against them by label."""
    pair: Int[np.ndarray, "invented"]
    """The example's given label times the number of classes, plus the invented one."""
    example: Int[np.ndarray, "invented"]
    likeliest: Bool[np.ndarray, "invented"]
    """Whether it is the best other label: the right one, if the given one is wrong."""


def label_errors(
    inclusion: Bool[np.ndarray, "run example"],
    logits: Float[np.ndarray, "run example class"],
    targets: Int[np.ndarray, "example"],
    *,
    csl: Float[np.ndarray, "run example"] | None = None,
    aum: Float[np.ndarray, "run example"] | None = None,
    neighbours: Int[np.ndarray, "example neighbour"] | None = None,
    duplicates: Int[np.ndarray, "example"] | None = None,
) -> LabelErrors:
    """Estimate how likely each label is wrong, without knowing a single one that is.

    The doubt of a label is the sum of what speaks against it, each kind in its own standard deviations: the held-out
    networks' evidence for the best other class, log p(best other) − log p(label), the mean margin of the training while
    it was held out, its loss and margin while it was trained on, and its neighbours' votes. Evidence is taken against
    its class's own level, so that a label is not doubted for being rare.

    What a wrong label looks like is known without any: held-out evidence can be had for labels that the example was not
    given. Their doubts c(s) make the mixture

        f(s) = (1 − π)·c(s)·e^{−g(s)}/Z + π·c_T(s),

    in which right labels' log-odds against invented ones fall with the doubt (g bends at `KNOTS`; it is straight for a
    calibrated network), and wrong ones are drawn like invented ones, between classes as often as confusions T say,
    which are estimated from what is found wrong. The probability is the second term's share of f.

    So it assumes that a wrong label does not depend on the input other than through its class. Labels that are wrong
    where an annotator is unsure look like right ones that are hard; then the probability is too low, not too high.

    Nothing is said, and the status says why, when held-out networks know labels no better than chance (exchanged labels
    agree with their mean probabilities almost as well), or when it is not settled whether many labels are wrong or
    none: shares from none to half fit about as well, or none is found though answers that the networks are surest of
    are contradicted. So it is where classes are labelled wrongly so often that the networks learn to be unsure.

    >>> rng = np.random.default_rng(0)
    >>> true = rng.integers(3, size=900)
    >>> given = np.where(rng.random(900) < 0.1, (true + 1) % 3, true)
    >>> runs = rng.normal(3 * np.eye(3)[true], 1.0, (8, 900, 3))
    >>> found = label_errors(np.arange(8)[:, None] % 4 != np.arange(900) % 4, runs, given)
    >>> bool(abs(found.probability.value - (given != true)).mean() < 0.02)
    True

    Args:
        inclusion: which examples each run was trained on.
        logits: each run's logits after training, or logarithms of probabilities.
        targets: the given labels, class codes in [0, k).
        csl: the trace's sum or mean of losses, per run.
        aum: the trace's mean margin, per run.
        neighbours: positions of each example's nearest others, from inputs or features.
        duplicates: a number for each example, the same for identical inputs.

    Returns:
        Probabilities with their errors and counts of held-out runs, suggestions, ranks and reasons; the share that is
        wrong with its interval, and a status.

    Raises:
        TypeError: inclusion is not a mask, or targets are not whole numbers.
        ValueError: shapes differ, a target is not a class, a logit is not finite, there are fewer than two classes, or
            no example was ever held out.

    Northcutt et al. 2021, Confident Learning, https://arxiv.org/abs/1911.00068 (what held-out networks say); Pleiss et
    al. 2020, https://arxiv.org/abs/2001.10528 (margins over training); Efron 2008, Microarrays, Empirical Bayes and the
    Two-Groups Model, Statistical Science 23 (the mixture)
    """
    _check(inclusion, logits, targets)
    _check_extras(inclusion, csl=csl, aum=aum, neighbours=neighbours, duplicates=duplicates)
    known = ~inclusion.all(0)
    num_classes = logits.shape[2]
    votes = None if neighbours is None else votes_against(neighbours, targets, num_classes=num_classes)[known]
    evidence = gather(
        inclusion[:, known],
        logits[:, known],
        targets[known],
        csl=None if csl is None else csl[:, known],
        aum=None if aum is None else aum[:, known],
        votes=votes,
    )
    doubt, value, se = (np.full(len(targets), np.nan) for _ in range(3))
    doubt[known] = evidence.against(targets[known])
    found = _shares(evidence, targets[known])
    odds = found.best
    value[known] = odds.of(doubt[known])
    se[known] = (odds.of(doubt[known] + evidence.se) - odds.of(doubt[known] - evidence.se)) / 2
    if duplicates is not None:
        value = reconciled(value, targets, duplicates)
    wrong = wrong_share(value[known], doubt[known], found, most=evidence.most_wrong)
    status = status_of(found, wrong, lead=evidence.lead)
    if status != JUDGED:
        value, se, wrong = *np.full((2, len(targets)), np.nan), unsaid(wrong.count)
    suggested = targets.astype(np.int64)
    suggested[known] = evidence.by_label.argmin(1)
    return LabelErrors(
        probability=Scores(value=value, se=se, count=(~inclusion).sum(0)),
        suggested=suggested,
        rank=ranked(value, doubt),
        doubt=doubt,
        reason=_reason(inclusion, logits, targets, neighbours=neighbours, duplicates=duplicates),
        status=status,
        wrong=wrong,
    )


def _check(inclusion: np.ndarray, logits: np.ndarray, targets: np.ndarray) -> None:
    check_mask(inclusion)
    if logits.ndim != 3 or logits.shape[:2] != inclusion.shape:
        raise ValueError(
            f"Expected a mask [run, example] and logits [run, example, class], got {inclusion.shape} and "
            f"{logits.shape}."
        )
    num_classes = logits.shape[2]
    if targets.dtype.kind not in "iu":
        raise TypeError(
            f"Expected targets that are class codes, whole numbers from 0, got an array of {targets.dtype}."
        )
    if targets.shape != inclusion.shape[1:]:
        raise ValueError(f"Expected one target for each of {inclusion.shape[1]} examples, got shape {targets.shape}.")
    if num_classes < 2:
        raise ValueError(f"Expected logits of at least two classes, got {num_classes}. For numbers: residual_errors.")
    if len(targets) and not (targets.min() >= 0 and targets.max() < num_classes):
        raise ValueError(f"Expected targets in [0, {num_classes}), got {targets.min()} to {targets.max()}.")
    if not np.isfinite(logits).all():
        raise ValueError("Expected finite logits, got NaN or infinite ones. Leave out runs that diverged.")


def _check_extras(
    inclusion: np.ndarray,
    *,
    csl: np.ndarray | None,
    aum: np.ndarray | None,
    neighbours: np.ndarray | None,
    duplicates: np.ndarray | None,
) -> None:
    for name, values in (("csl", csl), ("aum", aum)):
        if values is not None and values.shape != inclusion.shape:
            raise ValueError(f"Expected {name} of shape {inclusion.shape} [run, example], got {values.shape}.")
        if values is not None and not np.isfinite(values).all():
            raise ValueError(f"Expected finite {name}, got NaN or infinite ones. Leave out runs that diverged.")
    num_examples = inclusion.shape[1]
    for name, values in (("neighbours", neighbours), ("duplicates", duplicates)):
        if values is not None and len(values) != num_examples:
            raise ValueError(f"Expected {name} for each of {num_examples} examples, got {len(values)}.")


def _shares(evidence: Evidence, targets: np.ndarray) -> Shares:
    """Fit the mixture; confusions and the training of wrong labels are those of what the fit before found wrong."""
    num_classes = int(evidence.by_label.shape[1])
    doubt = evidence.against(targets)
    others = np.where(np.eye(num_classes, dtype=bool)[targets], np.inf, evidence.by_label)
    best = others.argmin(1)
    invented = _invent(evidence.by_label, targets, best=best)

    def sort(found: np.ndarray, confusions: np.ndarray) -> Binned:
        invented_doubt = invented.gap + _training_of(invented.gap, evidence, targets, weight=found)
        still_wrong = 1 - invented.likeliest * found[invented.example]
        return binned(doubt, invented_doubt, weight=confusions[invented.pair] * still_wrong)

    scale, pair = deviation(doubt), best * num_classes + targets
    bins = sort(np.zeros(len(targets)), np.ones(num_classes**2))
    odds = fit(bins, _right(bins, scale=scale), start=START, bounds=BOUNDS)
    for _ in range(ROUNDS - 1):
        found = odds.of(doubt)
        bins = sort(found, _confusions(found, pair, num_classes=num_classes))
        odds = fit(bins, _right(bins, scale=scale), start=odds.parameters, bounds=BOUNDS)
    return shares(odds, bins, _right(bins, scale=scale), start=START, bounds=BOUNDS, num_invented=len(invented.gap))


def _invent(by_label: np.ndarray, targets: np.ndarray, *, best: np.ndarray) -> _Invented:
    num_examples, num_classes = by_label.shape
    step = max(1, num_examples * (num_classes - 1) // MOST_INVENTED)
    drawn: Int[np.ndarray, "invented"] = np.arange(0, num_examples * (num_classes - 1), step, dtype=np.int64)
    example, other = np.divmod(drawn, num_classes - 1)
    label = other + (other >= targets[example])
    pair = targets[example] * num_classes + label
    return _Invented(by_label[example, label], pair, example, label == best[example])


def _training_of(
    gap: np.ndarray, evidence: Evidence, targets: np.ndarray, *, weight: np.ndarray
) -> Float[np.ndarray, "invented"]:
    """How training might have gone with invented labels: as it went with real ones of about their evidence, the more
    often the likelier they are wrong.
    """
    if not evidence.by_training.any():
        return np.zeros(len(gap))
    real = of(evidence.by_label, targets)
    order = np.argsort(real, kind="stable")
    invented_order = np.argsort(gap, kind="stable")
    drawn = np.empty(len(gap))
    for stratum in np.array_split(invented_order, NUM_STRATA):
        if not len(stratum):
            continue
        begin, end = np.searchsorted(real[order], [gap[stratum[0]], gap[stratum[-1]]])
        middle = (begin + end) // 2
        begin = max(0, min(begin, middle - FEWEST_DONORS // 2))
        donors = order[begin : max(end, middle + FEWEST_DONORS // 2)]
        chances = np.cumsum(weight[donors] + LEAST_WEIGHT * (weight.mean() or 1.0))
        ticks: Float[np.ndarray, "invented"] = np.arange(len(stratum), dtype=np.float64) * GOLDEN % 1.0
        drawn[stratum] = evidence.by_training[donors[np.searchsorted(chances[:-1], ticks * float(chances[-1]))]]
    return drawn


def _confusions(weight: np.ndarray, pair: np.ndarray, *, num_classes: int) -> Float[np.ndarray, "pair"]:
    """How often a class is labelled as another, for each of its examples; the surest errors say it loudest. Before
    anything is found all other classes are equally likely.
    """
    found = np.bincount(pair, weight**2, num_classes**2).reshape(num_classes, num_classes)
    found += 1 / (num_classes - 1)
    return (found / found.sum(1, keepdims=True)).ravel()


def _right(bins: Binned, *, scale: float) -> Shape:
    """Right labels: log-odds against invented ones that fall with the doubt, straight but for the knots."""
    scaled = bins.middle / scale
    bends = np.stack([scaled, *[np.minimum(scaled - knot, 0) for knot in KNOTS]], axis=1)

    def right(slopes: np.ndarray) -> Bins:
        return log_normalised(bins.invented - bends @ slopes)

    return right


def _reason(
    inclusion: np.ndarray,
    logits: np.ndarray,
    targets: np.ndarray,
    *,
    neighbours: np.ndarray | None,
    duplicates: np.ndarray | None,
) -> Shaped[np.ndarray, "example"]:
    """The most telling of what can be held against each label."""
    correct = logits.argmax(2) == targets
    missed = mean_over(~correct, ~inclusion) > 0.5
    fitted = mean_over(correct, inclusion) >= 0.5
    outvoted = np.zeros(len(targets), bool)
    if neighbours is not None:
        outvoted = (targets[neighbours] != targets[:, None]).mean(1) > 0.5
    _, memorised, never, neighbourly, duplicate = REASONS
    return np.select(
        [conflicting(targets, duplicates), missed & ~fitted, missed, outvoted],
        [duplicate, never, memorised, neighbourly],
        REASONS[0],
    )
