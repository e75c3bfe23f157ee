"""What is claimed of the ends of trainings."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from byrote.data import Task
from byrote.measures import log_ratio_interval
from byrote.records import Finding, Interval, above
from byrote.studies.basins import STABLE, Basins
from byrote.studies.certainty import crossed_interval
from byrote.studies.claims import NOTHING, claim
from byrote.studies.endings import Ended, Endings, of_labels
from byrote.studies.ends import (
    ADAPTIVE,
    LAMBDA_MAX,
    MEASURES,
    SAM_GAP,
    score_by_seed,
    score_text,
    sharpness_by_seed,
    target_noun,
)
from byrote.studies.flatness import Association, association
from byrote.studies.papers import FORET, FRANKLE, KESKAR, ZHANG
from byrote.studies.recipes_around import has_sam
from byrote.studies.study import heldout_qualities, score_name, shift
from byrote.studies.wording import decimal, p_text, points, times

STUDY = "minima"
NOT_SHOWN = "flatter is not shown to be better"
"""What is said when the data show nothing."""
FITTED = 0.95
"""Training accuracy (R²) from which an end is called a minimum."""


def end_findings(part: Task, found: Endings, basins: Basins) -> tuple[Finding, ...]:
    """All that is claimed.

    Args:
        part: the task, or the part of it that was looked at.
        found: where training ended.
        basins: of the learner's own recipe on true labels.
    """
    return (
        _ranking_finding(part, found),
        _random_finding(part, found),
        *_sam_findings(part, found),
        *_basin_findings(part, basins),
    )


def associations(found: Endings) -> dict[str, Association]:
    """Over recipes on true labels. All but the one that decides are told with intervals that hold for all at once."""
    ends = {name: own.ends for name, own in of_labels(found, "true").items()}
    seeds = list(dict.fromkeys(end.seed for own in ends.values() for end in own))
    scores = score_by_seed(ends, seeds=seeds)
    others = len(MEASURES) - 1
    return {
        name: association(
            sharpness_by_seed(ends, measure=name, seeds=seeds),
            scores,
            level=0.95 if name == ADAPTIVE else 1 - 0.05 / others,
        )
        for name in MEASURES
    }


def _ranking_finding(part: Task, found: Endings) -> Finding:
    """Judged by the one measure that a rescaling of layers leaves as it is."""
    ranked = associations(found)[ADAPTIVE]
    verdict, score = ranked.verdict(), f"held-out {score_name(part)}"
    if not ranked.num_seeds:
        statement = f"Too few recipes have networks that end apart to be ranked: {NOT_SHOWN}."
    else:
        opening = (
            f"Over {ranked.num_recipes} recipes the rank correlation of {MEASURES[ADAPTIVE].title}, which survives a "
            f"rescaling of layers, with {score} is {decimal(possible(ranked.interval))}"
        )
        ending = {
            "holds": f"; {p_text(ranked.p_flatter)}: of these recipes those that end flatter test better, which says "
            "nothing of others and of no cause",
            "does not hold": f": {NOT_SHOWN}, here what ends sharper tests better ({p_text(ranked.p_sharper)})",
            "inconclusive": f": {NOT_SHOWN}",
        }[verdict]
        statement = f"{opening}{ending}."
    return claim(
        "sharpness-ranks-accuracy",
        statement,
        study=STUDY,
        paper=KESKAR,
        unit="rank correlation",
        interval=ranked.interval,
        null=0.0,
        p_value=ranked.p_flatter,
        num_runs=ranked.num_seeds * ranked.num_recipes,
        verdict=verdict,
        least=-1.0,
        most=1.0,
    )


def possible(interval: Interval) -> Interval:
    """A correlation's interval, within −1 and 1."""
    if not math.isfinite(interval.low):
        return interval
    return replace(interval, low=max(-1.0, interval.low), high=min(1.0, interval.high))


def _ratio(high: Ended, low: Ended, measure: str) -> Interval:
    """How many times as sharp, seed by seed."""
    pairs = [(high.by_seed[seed], end) for seed, end in low.by_seed.items() if seed in high.by_seed]
    known = np.array([(one.sharpness[measure], other.sharpness[measure]) for one, other in pairs]).reshape(-1, 2)
    known = known[(np.isfinite(known) & (known > 0)).all(1)]
    if not len(known):
        return NOTHING
    ratio = log_ratio_interval(known[:, 0], known[:, 1])
    return ratio if len(known) > 1 else replace(NOTHING, value=ratio.value, count=1)


def _random_finding(part: Task, found: Endings) -> Finding:
    """Zhang et al. find random labels fitted as well; whether their minima are sharper is asked here."""
    true, random, targets = found["own", "true"], found["own", "random"], target_noun(part)
    ratio, other = (_ratio(random, true, measure) for measure in (ADAPTIVE, LAMBDA_MAX))
    fits = [own.fit for own in (true, random)]
    fitted = all(fit >= FITTED for fit in fits)
    if not ratio.count:
        statement = f"Whether training ends sharper on random {targets} is unknown: no two ends could be compared."
    else:
        by_curvature = (
            f", by {MEASURES[LAMBDA_MAX].title} {times(other)}, which does not survive it" if other.count else ""
        )
        doubt = f". But these are no minima: training {score_name(part)} is {score_text(part, fits[1])} there"
        doubt += f" and {score_text(part, fits[0])} on true {targets}"
        statement = (
            f"By {MEASURES[ADAPTIVE].title}, which survives a rescaling of layers, training on random {targets} ends "
            f"{times(ratio)} as sharp as on true ones{by_curvature}{'' if fitted else doubt}."
        )
    verdict = above(low=ratio.low, high=ratio.high, null=1.0) if ratio.count and fitted else "inconclusive"
    return claim(
        "random-labels-end-sharper",
        statement,
        study=STUDY,
        paper=ZHANG,
        unit="ratio of sharpness",
        interval=ratio,
        null=1.0,
        num_runs=2 * ratio.count,
        verdict=verdict,
        least=0.0,
    )


def _sam_findings(part: Task, found: Endings) -> Iterator[Finding]:
    """By its own measure, and by what counts."""
    own, other = found["own", "true"], found["sam", "true"]
    plain, aware = (other, own) if has_sam(own.condition.variant.recipe) else (own, other)
    ratio = _ratio(plain, aware, SAM_GAP)
    yield claim(
        "sam-ends-flatter",
        "By its own measure, the rise of the loss within 0.05 of the weights, training without SAM ends "
        f"{times(ratio)} as sharp as with it; this measure does not survive a rescaling of layers."
        if ratio.count
        else "Whether SAM ends flatter is unknown: no two ends could be compared.",
        study=STUDY,
        paper=FORET,
        unit="ratio of the SAM gap",
        interval=ratio,
        null=1.0,
        num_runs=2 * ratio.count,
        verdict=above(low=ratio.low, high=ratio.high, null=1.0) if ratio.count else "inconclusive",
        least=0.0,
    )
    yield _sam_accuracy(part, plain, aware)


def _sam_accuracy(part: Task, plain: Ended, aware: Ended) -> Finding:
    partners = {run.spec.seed: run for run in plain.runs}
    pairs = [(run, partners[run.spec.seed]) for run in aware.runs if run.spec.seed in partners]
    gain, score = NOTHING, score_name(part)
    statement = "Whether SAM tests better is unknown: no two networks of one seed were finished."
    if pairs:
        with_it, without = (heldout_qualities(part, [pair[side] for pair in pairs]) for side in (0, 1))
        gain = crossed_interval(with_it - without, groups=part.test.groups, binary=not part.regression)
        levels = [score_text(part, float(own.mean()) + shift(part)) for own in (with_it, without)]
        gap = decimal(gain) if part.regression else points(gain)
        statement = f"With SAM held-out {score} is {levels[0]}, without it {levels[1]}: a difference of {gap}."
    return claim(
        "sam-tests-better",
        statement,
        study=STUDY,
        paper=FORET,
        unit=f"difference in {score}",
        interval=gain,
        null=0.0,
        num_runs=2 * len(pairs),
        verdict=above(low=gain.low, high=gain.high, null=0.0) if pairs else "inconclusive",
    )


def _basin_findings(part: Task, basins: Basins) -> Iterator[Finding]:
    """As they are but for the statistics that no average of two networks has, and with their units in one order."""
    plain, matched = (basins.of(matched=matched) for matched in (False, True))
    unknown = "Whether two seeds end in one basin is unknown: too few of their networks are there."
    yield _basin_finding(part, "seeds-share-a-basin", plain, basins, unknown=unknown)
    if basins.reason:
        unknown = f"Units of these networks could not be put in one order: {basins.reason.rstrip('.')}."
    yield _basin_finding(part, "matched-seeds-share-a-basin", matched, basins, unknown=unknown)


def _basin_finding(part: Task, name: str, kind: str, basins: Basins, *, unknown: str) -> Finding:
    barrier = _not_below_0(basins.barrier(kind))
    error = "squared error, standardised," if part.regression else "held-out error"
    shown, least = (
        (decimal(barrier), f"{STABLE:g}") if part.regression else (points(barrier), f"{100 * STABLE:g} points")
    )
    if barrier.count and not math.isfinite(barrier.value):
        unknown = f"On the straight way between the ends of two seeds, {kind}, the loss is no number."
    known = math.isfinite(barrier.value)
    return claim(
        name,
        f"On the straight way between the ends of two seeds, {kind}, {error} is up to {shown} above that of the ends; "
        f"less than {least} is one basin."
        if known
        else unknown,
        study=STUDY,
        paper=FRANKLE,
        unit="barrier",
        interval=barrier,
        null=STABLE,
        num_runs=barrier.count,
        verdict=above(low=-barrier.high, high=-barrier.low, null=-STABLE) if known else "inconclusive",
        least=0.0,
    )


def _not_below_0(barrier: Interval) -> Interval:
    """The highest point of a way is no lower than the mean of its ends."""
    return replace(barrier, low=max(0.0, barrier.low)) if math.isfinite(barrier.low) else barrier
