"""What networks of one seed, trained differently, are worth on held-out examples."""

from collections.abc import Mapping

from byrote.data import Task
from byrote.records import Interval, Run
from byrote.studies.certainty import crossed_interval
from byrote.studies.claims import NOTHING
from byrote.studies.study import heldout_qualities, score_name, shift
from byrote.studies.wording import decimal, minus, percent, points


def heldout_difference(
    part: Task, one: Mapping[int, Run], other: Mapping[int, Run], *, level: float = 0.95
) -> Interval:
    """By how much the one's held-out score exceeds the other's, over the seeds that both have and over examples.

    Args:
        part: the task, or the part of it that was looked at.
        one: runs by seed.
        other: those that they are compared with.
        level: the interval's coverage.
    """
    both = [seed for seed in one if seed in other]
    if not both:
        return NOTHING
    first, second = (heldout_qualities(part, [runs[seed] for seed in both]) for runs in (one, other))
    return crossed_interval(first - second, groups=part.test.groups, binary=not part.regression, level=level)


def heldout_level(part: Task, runs: Mapping[int, Run]) -> Interval:
    """The mean held-out quality, to which `shift` belongs."""
    if not runs:
        return NOTHING
    found = heldout_qualities(part, list(runs.values()))
    return crossed_interval(found, groups=part.test.groups, binary=not part.regression)


def level_text(part: Task, level: Interval) -> str:
    """A held-out score as a sentence says it."""
    return minus(f"{level.value + shift(part):.3f}") if part.regression else percent(level.value)


def gap_text(part: Task, interval: Interval) -> str:
    """A difference of held-out scores as a sentence says it."""
    return decimal(interval) if part.regression else points(interval)


def heldout_name(part: Task) -> str:
    """What it is called."""
    return f"held-out {score_name(part)}"


def shared(one: Mapping[int, Run], other: Mapping[int, Run]) -> dict[int, Run]:
    """The runs of the one whose seed the other has, too."""
    return {seed: run for seed, run in one.items() if seed in other}
