"""Does anything leak from the targets or the test set into training?"""

from typing import NamedTuple, final

import numpy as np

from byrote.data import Task
from byrote.measures import (
    PermutationTest,
    TargetColumn,
    coincidence_rate,
    exact_duplicates,
    proportion_interval,
    target_columns,
    typical_distance,
)
from byrote.records import Finding, Interval, Verdict
from byrote.studies.papers import KAPOOR, RUCKER
from byrote.studies.study import Results, p_text, percent

LARGEST_HARMLESS_SHARE = 0.01
"""Duplicates in a larger share of the test set than this move the held-out score."""
FEWEST_DUPLICATES = 3
"""Fewer than this may be an accident of sampling."""
MOST_COINCIDENCES = 0.01
"""Where a row is expected to meet more equal ones than this by chance alone, equal rows say nothing."""
NEAR = 0.1
"""A near-duplicate is closer than this share of the typical distance between nearest neighbours."""


@final
class Alarm(NamedTuple):
    """The verdict of runs on random labels about the true ones."""

    test: PermutationTest
    least_p: float
    """The smallest p-value that so many runs can give."""
    num_runs: int

    def interval_around(self, value: float) -> Interval:
        """The 95 % interval that the test's null distribution, moved to the value, would give."""
        half = (self.test.null_high - self.test.null_low) / 2
        return Interval(value=value, low=value - half, high=value + half, se=half / 1.96, count=self.num_runs)


@final
class Leaks(NamedTuple):
    """What was found in the data themselves."""

    num_exact: int
    """Test examples that are also training examples, to the bit."""
    num_near: int
    """Test examples that are nearly training examples, the exact ones apart."""
    coarse: bool
    """Equal rows are to be expected by chance."""
    columns: tuple[TargetColumn, ...]
    num_groups: int
    """Groups that have examples on both sides of the split."""


def find_leaks(results: Results) -> Leaks:
    """Look for duplicates across the split, columns that are the target, and groups that were split."""
    task = results.task
    train, test = (task.normalise(x).reshape(len(x), -1) for x in (task.train.x, task.test.x))
    exact = exact_duplicates(task.train.x, task.test.x) >= 0
    near = results.nearest.distance[:, 0] < NEAR * typical_distance(train, seed=0)
    names = task.feature_columns or task.feature_names or tuple(map(str, range(train.shape[1])))
    raw = {name: number for number, name in enumerate(dict.fromkeys(names))}
    columns = target_columns(
        train,
        task.train.y,
        test,
        task.test.y,
        columns=tuple(raw[name] for name in names),
        regression=bool(task.regression),
    )
    groups = (
        0
        if task.train.groups is None or task.test.groups is None
        else len(np.intersect1d(task.train.groups, task.test.groups))
    )
    return Leaks(
        num_exact=int(exact.sum()),
        num_near=int((near & ~exact).sum()),
        coarse=coincidence_rate(task.train.x) > MOST_COINCIDENCES,
        columns=columns,
        num_groups=groups,
    )


def leak_finding(results: Results, alarm: Alarm | None, *, level: float) -> Finding:
    """State what leaks, or that nothing does: duplicates, groups, copies of the target, and the alarm of the runs on
    random labels.
    """
    task, leaks = results.task, find_leaks(results)
    num_twins = 0 if leaks.coarse else leaks.num_exact + leaks.num_near
    share = proportion_interval(num_twins, len(task.test))
    proofs, doubts = _evidence(task, leaks, alarm, num_twins=num_twins, level=level)
    verdict: Verdict = "does not hold" if proofs else "inconclusive" if doubts else "holds"
    return Finding(
        study="random-data",
        claim="no-leak",
        statement=_statement(task, leaks, alarm, proofs=proofs, doubts=doubts),
        value=share.value,
        low=share.low,
        high=share.high,
        unit="share of test examples with a twin in training",
        null=0.0,
        p_value=None if alarm is None else alarm.test.p_value,
        num_runs=0 if alarm is None else alarm.num_runs,
        verdict=verdict,
        paper=KAPOOR if proofs or alarm is None else RUCKER,
    )


def _evidence(
    task: Task, leaks: Leaks, alarm: Alarm | None, *, num_twins: int, level: float
) -> tuple[list[str], list[str]]:
    """What proves a leak, and what leaves it open."""
    proofs: list[str] = []
    doubts: list[str] = []
    if num_twins:
        words = (
            f"{num_twins:,} of {len(task.test):,} test examples ({percent(num_twins / len(task.test))}) are in the "
            f"training set too ({leaks.num_exact:,} exactly, {leaks.num_near:,} nearly)"
        )
        if num_twins >= FEWEST_DUPLICATES and num_twins > LARGEST_HARMLESS_SHARE * len(task.test):
            proofs.append(words)
        elif num_twins > LARGEST_HARMLESS_SHARE * len(task.test):
            doubts.append(words)
    names = list(dict.fromkeys(task.feature_columns or task.feature_names))
    for found in leaks.columns:
        name = repr(names[found.column]) if names else f"number {found.column}"
        if found.is_copy:
            proofs.append(f"the column {name} is the target in other words")
        else:
            doubts.append(
                f"the column {name} alone predicts the target with a held-out score of {found.heldout_score:.3f}: "
                f"would it be known before the target?"
            )
    if leaks.num_groups:
        proofs.append(f"{leaks.num_groups:,} groups have examples in both the training and the test set")
    if alarm is None:
        doubts.append("no run on random labels was finished")
    elif alarm.test.p_value < level:
        proofs.append(
            f"networks trained on random labels do better than chance on held-out ones ({p_text(alarm.test.p_value)}): "
            f"true labels reach the training in some other way"
        )
    elif alarm.least_p >= level:
        doubts.append(
            f"{alarm.num_runs} runs on random labels are too few for the alarm to ring (p could not fall below "
            f"{alarm.least_p:.2g})"
        )
    return proofs, doubts


def _statement(task: Task, leaks: Leaks, alarm: Alarm | None, *, proofs: list[str], doubts: list[str]) -> str:
    if proofs:
        return f"It leaks: {'; '.join(proofs)}."
    if doubts:
        return f"No leak is proven, but: {'; '.join(doubts)}."
    twins = leaks.num_exact + leaks.num_near
    if leaks.coarse and leaks.num_exact:
        duplicates = f"{leaks.num_exact:,} equal rows across the split, as many as such coarse inputs give by chance"
    elif twins:
        duplicates = f"{twins:,} of {len(task.test):,} test examples have a twin in training, too few to matter"
    else:
        duplicates = "no duplicates across the split"
    p = "" if alarm is None else f"{p_text(alarm.test.p_value)}, "
    return f"Nothing leaks ({p}{duplicates}, no column is the target)."
