"""From when on the learning rate may fall without another basin being reached."""

from collections.abc import Mapping

import numpy as np

from byrote.data import Task
from byrote.records import Bars, Finding, Interval, Run
from byrote.studies.bars_and_bands import bar
from byrote.studies.claims import NOTHING, claim
from byrote.studies.connectivity import Way, ways
from byrote.studies.early_conditions import END, NAME, Design, probes_of
from byrote.studies.papers import FRANKLE
from byrote.studies.watching import difference, judged, mean_of, within_bounds
from byrote.studies.wording import decimal

Barriers = Mapping[int, Mapping[int, Way]]
"""By the step at which the learning rate fell, and by seed."""


def barriers(task: Task, made: Design, runs: Mapping[str, Mapping[int, Run]], *, number: int) -> tuple[Barriers, str]:
    """How high the way is from every branch's end to that of the last branch of the same seed.

    Args:
        task: the whole task.
        made: what was trained.
        runs: by condition and seed.
        number: of training examples.

    Returns:
        The barriers, and why there are none, where there is a reason.
    """
    *steps, last = made.branches
    if not steps:
        return {}, ""
    reference, found, reason = runs[made.branches[last].name], dict[int, dict[int, Way]](), ""
    for step in steps:
        kind = made.branches[step]
        own = runs[kind.name]
        pairs = {seed: (run, reference[seed]) for seed, run in own.items() if seed in reference}
        first, second = (probes_of(made, made.branches[at], number=number)[END] for at in (step, last))
        found[step], why = ways(task, pairs, probes=(first, second))
        reason = reason or why
    return {step: own for step, own in found.items() if own}, reason


def branching_finding(made: Design, found: Barriers) -> Finding:
    """The way from the first branch to the last is higher than that from the one before it."""
    *steps, _ = made.branches
    falls = NOTHING
    if len(steps) > 1 and {steps[0], steps[-1]} <= set(found):
        falls = difference(_losses(found[steps[0]]), _losses(found[steps[-1]]), level=0.95)
    return claim(
        "barrier-falls",
        _statement(made, found, falls),
        study=NAME,
        paper=FRANKLE,
        unit="difference of barriers, in loss",
        interval=falls,
        null=0.0,
        num_runs=3 * falls.count,
        verdict=judged(falls, null=0.0),
    )


def _statement(made: Design, found: Barriers, falls: Interval) -> str:
    if not falls.count:
        return "How high the way is between branches of a training is unknown: too few of them were finished."
    first, *_, latest, last = made.branches
    one, other = (mean_of(_losses(found[step])) for step in (first, latest))
    return (
        f"Trained at {made.slow.name} from step {first:,} on, a network ends behind a barrier of {one.value:.3f} in "
        f"loss from where it ends when the rate falls at step {last:,}; when it falls at step {latest:,}, of "
        f"{other.value:.3f}: {decimal(falls)} less."
    )


def _losses(ways: Mapping[int, Way]) -> dict[int, float]:
    return {seed: way.loss for seed, way in ways.items()}


def barrier_bars(made: Design, found: Barriers, *, regression: bool) -> list[Bars]:
    """In loss, and for classes in wrong answers."""
    *_, last = made.branches
    figures: list[Bars] = []
    for label, read in (("training loss", _losses), ("share of wrong answers", _errors)):
        if not found or (regression and read is _errors):
            continue
        figures.append(
            Bars(
                title=f"Barrier to the branch of step {last:,}, in {label}",
                x_label=f"barrier, {label}",
                bars=tuple(
                    bar(f"from step {step:,}", within_bounds(mean_of(read(own)), 0.0, np.inf), group="barrier")
                    for step, own in found.items()
                ),
                caption=f"Trained at the recipe's own rate, from a step on at {made.slow.name}; then the straight line "
                f"to the end of the training of the same seed whose rate falls at step {last:,}. The two share "
                "everything until the earlier of their steps.",
                reference=0.02 if read is _errors else None,
                reference_label="stable below" if read is _errors else "",
            )
        )
    return figures


def _errors(ways: Mapping[int, Way]) -> dict[int, float]:
    return {seed: way.error for seed, way in ways.items()}
