"""Does anything leak from the targets or the test set into training?"""

import math
from collections.abc import Iterator
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float
from scipy import special

from byrote.data import Task
from byrote.measures import (
    TargetColumn,
    coincidence_rate,
    exact_duplicates,
    nearest,
    proportion_interval,
    repeated,
    target_columns,
)
from byrote.records import Finding, Verdict
from byrote.studies.alarm import ALARM_LEVEL, PROVING, Alarm
from byrote.studies.claims import claim
from byrote.studies.papers import KAPOOR, RUCKER
from byrote.studies.wording import counted, listed, p_text, percent

LARGEST_HARMLESS_SHARE = 0.01
"""Duplicates in a larger share of the test set than this move the held-out score."""
FEWEST_DUPLICATES = 3
"""Fewer than this may be an accident of sampling."""
MOST_COINCIDENCES = 0.01
"""Where a row is expected to meet more equal ones than this by chance alone, equal rows say nothing."""
UNLIKELY = 0.001
"""… unless there are so many that chance alone would give them this rarely."""
NEAR = 0.1
"""A near-duplicate is closer than this share of the typical distance between nearest neighbours …"""
RARE = 3e-4
"""… and closer than this share of new examples would be by chance, which matters where there are few features."""
MOST_NEIGHBOURS = 2000
"""Training examples whose nearest neighbour is looked up to know what is typical."""
SURELY = 0.9
"""A column is suspected when its held-out score is surely above this, given how many test examples there are."""


@final
class Leaks(NamedTuple):
    """What was found in the data themselves."""

    num_exact: int
    """Test examples that are also training examples, to the bit."""
    num_near: int
    """Test examples that are nearly training examples, the exact ones apart."""
    coarse: bool
    """As many equal rows are to be expected by chance."""
    ambiguous: bool
    """Equal rows are as common within the training set, and columns that go together could explain them."""
    columns: tuple[TargetColumn, ...]
    num_groups: int
    """Groups that have examples on both sides of the split."""


@final
class Evidence(NamedTuple):
    """Clauses on what was found."""

    proofs: tuple[str, ...]
    """What proves a leak."""
    doubts: tuple[str, ...]
    """What leaves it open."""


def find_leaks(task: Task, *, distance: Float[np.ndarray, "test_example"]) -> Leaks:
    """Look for duplicates across the split, columns that are the target, and groups that were split.

    Args:
        task: where to look.
        distance: of each test example to its nearest training example.
    """
    train = task.normalise(task.train.x).reshape(len(task.train), -1)
    exact = exact_duplicates(task.train.x, task.test.x) >= 0
    near = distance < near_reach(train)
    coincidences = coincidence_rate(task.train.x)
    as_common = repeated(task.train.x).mean() >= exact.mean() / 2
    return Leaks(
        num_exact=int(exact.sum()),
        num_near=int((near & ~exact).sum()),
        coarse=coincidences > MOST_COINCIDENCES and _as_expected(int(exact.sum()), len(exact), rate=coincidences),
        ambiguous=bool(coincidences > float(len(train)) ** -3 and as_common),
        columns=_columns(task),
        num_groups=_num_split_groups(task),
    )


def _as_expected(num_equal: int, num_test: int, *, rate: float) -> bool:
    """Whether so many test rows may equal training rows by chance, each with the probability 1 − e^−rate."""
    return float(special.bdtrc(num_equal - 1, num_test, -math.expm1(-rate))) >= UNLIKELY


def near_reach(train: Float[np.ndarray, "example feature"]) -> float:
    """Say how close a new example must be to a training example to be taken for a copy of it.

    min(0.1, (−log₂(1 − ρ))^(1/d)) times the median distance r to the nearest neighbour. Where examples are spread
    evenly in d dimensions, P(distance ≤ s) = 1 − 2^(−(s/r)^d), so a share ρ = 0.0003 is that close by chance; d is what
    the quartile and the median of these distances say. Training examples that repeat exactly are left out.

    Args:
        train: inputs as the network sees them.

    Returns:
        A distance; 0 where training examples only repeat.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:MOST_NEIGHBOURS])
    found = nearest(train, train[chosen], num_neighbours=2)
    distance = np.where(found.index[:, 0] == chosen, found.distance[:, 1], found.distance[:, 0])
    if not (distance > 0).any():
        return 0.0
    quartile, median = np.quantile(distance[distance > 0], [0.25, 0.5])
    if quartile == median:
        return float(NEAR * median)
    dimension = math.log(math.log(2) / math.log(4 / 3)) / math.log(median / quartile)
    return float(median * min(NEAR, (-math.log2(1 - RARE)) ** (1 / dimension)))


def leak_finding(task: Task, leaks: Leaks, alarm: Alarm | None) -> Finding:
    """State what leaks, or that nothing does: duplicates, groups, copies of the target, and the alarm of the runs on
    random labels.
    """
    num_twins = 0 if leaks.coarse else leaks.num_exact + leaks.num_near
    evidence = _evidence(task, leaks, alarm, num_twins=num_twins)
    verdict: Verdict = "does not hold" if evidence.proofs else "inconclusive" if evidence.doubts else "holds"
    return claim(
        "no-leak",
        _statement(task, leaks, alarm, evidence),
        study="random-data",
        paper=KAPOOR if evidence.proofs or alarm is None else RUCKER,
        interval=proportion_interval(num_twins, len(task.test)),
        unit="share of test examples with a twin in training",
        null=0.0,
        p_value=None if alarm is None else alarm.test.p_value,
        num_runs=0 if alarm is None else alarm.num_runs,
        verdict=verdict,
    )


def _columns(task: Task) -> tuple[TargetColumn, ...]:
    """Copies of the target, and columns that surely predict it too well on so many test examples."""
    names = _feature_names(task)
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    train, test = (task.normalise(x).reshape(len(x), -1) for x in (task.train.x, task.test.x))
    found = target_columns(
        train,
        task.train.y,
        test,
        task.test.y,
        columns=tuple(number[name] for name in names),
        regression=bool(task.regression),
    )
    return tuple(column for column in found if column.is_copy or _is_sure(column, len(test)))


def _is_sure(column: TargetColumn, num_test: int) -> bool:
    right = round(min(1.0, max(0.0, column.heldout_score)) * num_test)
    return proportion_interval(right, num_test).low > SURELY


def _feature_names(task: Task) -> tuple[str, ...]:
    """For each feature the raw column it comes from."""
    number = math.prod(task.train.x.shape[1:])
    return task.feature_columns or task.feature_names or tuple(f"number {place}" for place in range(number))


def _num_split_groups(task: Task) -> int:
    if task.train.groups is None or task.test.groups is None:
        return 0
    return len(np.intersect1d(task.train.groups, task.test.groups))


def _evidence(task: Task, leaks: Leaks, alarm: Alarm | None, *, num_twins: int) -> Evidence:
    proofs, doubts, random = list[str](), list[str](), _random_targets(task)
    if num_twins > LARGEST_HARMLESS_SHARE * len(task.test):
        sure = num_twins >= FEWEST_DUPLICATES and not (leaks.ambiguous and leaks.num_near < FEWEST_DUPLICATES)
        (proofs if sure else doubts).append(_describe_twins(task, leaks, ambiguous=leaks.ambiguous and not sure))
    for copies, clauses in ((True, proofs), (False, doubts)):
        clauses.extend(_describe_columns(task, [column for column in leaks.columns if column.is_copy == copies]))
    if leaks.num_groups:
        number = counted(leaks.num_groups, one="group has", many="groups have")
        proofs.append(f"{number} examples in both the training and the test set")
    if alarm is None:
        doubts.append(f"no run on {random} was finished, so the alarm could not ring")
    elif alarm.rings and not alarm.proves:
        doubts.append(
            f"{counted(alarm.num_runs, one='network', many='networks')} trained on {random} "
            f"{'does' if alarm.num_runs == 1 else 'do'} better than chance on held-out examples "
            f"({p_text(alarm.test.p_value)}), which is too few to be sure: {PROVING} or more tell "
            f"(--runs {PROVING}, or a larger --budget)"
        )
    elif alarm.rings:
        proofs.append(
            f"networks trained on {random} do better than chance on held-out examples "
            f"({p_text(alarm.test.p_value)}), so the true ones reach them in some other way"
        )
    elif alarm.least_p >= ALARM_LEVEL:
        runs = counted(alarm.num_runs, one="run", many="runs")
        examples = counted(len(task.test), one="test example", many="test examples")
        doubts.append(
            f"with {runs} on {random} and {examples} the alarm could not have rung (p could not fall below "
            f"{alarm.least_p:.2g})"
        )
    return Evidence(tuple(proofs), tuple(doubts))


def _random_targets(task: Task) -> str:
    return "random targets" if task.regression else "random labels"


def _describe_twins(task: Task, leaks: Leaks, *, ambiguous: bool) -> str:
    number = leaks.num_exact + leaks.num_near
    words = (
        f"{number:,} of {counted(len(task.test), one='test example', many='test examples')} "
        f"({percent(number / len(task.test))}) {'is' if number == 1 else 'are'} in the training set too "
        f"({leaks.num_exact:,} exactly, {leaks.num_near:,} nearly)"
    )
    if ambiguous:
        return f"{words}, which columns of so few values may give by chance: rows repeat in the training set as often"
    return words


def _describe_columns(task: Task, columns: list[TargetColumn]) -> Iterator[str]:
    names = list(dict.fromkeys(_feature_names(task)))
    quoted = bool(task.feature_columns or task.feature_names)
    for column in columns:
        name = repr(names[column.column]) if quoted else names[column.column]
        if column.is_copy:
            yield f"the column {name} is the target in other words"
        else:
            score = f"an R² of {column.heldout_score:.3f}" if task.regression else percent(column.heldout_score)
            yield f"the column {name} alone scores {score} on test examples: would it be known before the target?"


def _statement(task: Task, leaks: Leaks, alarm: Alarm | None, evidence: Evidence) -> str:
    if evidence.proofs:
        return f"It leaks: {'; '.join(evidence.proofs)}."
    if evidence.doubts:
        return f"No leak is proven, but it stays open: {'; '.join(evidence.doubts)}."
    twins = leaks.num_exact + leaks.num_near
    if leaks.coarse and leaks.num_exact:
        number = counted(leaks.num_exact, one="test row equals a training row", many="test rows equal training rows")
        duplicates = f"{number}, which is to be expected where rows take so few values,"
    elif twins and not leaks.coarse:
        number = f"{twins:,} of {len(task.test):,} test examples {'has' if twins == 1 else 'have'}"
        duplicates = f"{number} a twin in the training set, too few to matter"
    else:
        duplicates = "no test example is repeated in the training set"
    groups = [] if task.train.groups is None or task.test.groups is None else ["no group is on both sides of the split"]
    p = "" if alarm is None else f" ({p_text(alarm.test.p_value)})"
    return (
        f"Nothing leaks: trained on {_random_targets(task)} the network does no better than chance{p}, "
        f"{listed([duplicates, *groups, 'no column gives the target away'])}."
    )
