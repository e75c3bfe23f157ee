"""How many times as many steps one kind of data takes as another."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float

from byrote.measures import log_ratio_interval
from byrote.records import Interval, Verdict, above
from byrote.studies.claims import NOTHING
from byrote.studies.wording import times


@final
class Arrival(NamedTuple):
    """When a run got somewhere."""

    seed: int
    at: float
    """Optimiser steps; infinite when it never did."""
    first: float
    """Steps of the first epoch: what happened within it is not told apart."""
    last: float
    """Steps taken in all."""


@final
class Slowdown(NamedTuple):
    """How many times as many steps the slow runs take as the fast ones, seed by seed."""

    interval: Interval
    num_never: int
    """Slow runs that never got there: they take at least the steps that they had."""
    from_below: bool
    """The ratio is only known to be at least the value."""
    unknown: str
    """Why there is no ratio; empty when there is one."""

    @property
    def verdict(self) -> Verdict:
        """Whether the ratio is above 1. One that is only known from below can be found large, never small."""
        if self.from_below:
            return "holds" if math.isfinite(self.interval.low) and self.interval.low > 1 else "inconclusive"
        return above(low=self.interval.low, high=self.interval.high, null=1.0)

    def __str__(self) -> str:
        return f"{'at least ' if self.from_below else ''}{times(self.interval)}"


def arrival(
    step: Float[np.ndarray, "epoch"], rising: Float[np.ndarray, "epoch"], *, level: float, seed: int
) -> Arrival:
    """Find when a curve first reaches a level, along straight lines between epochs.

    >>> arrival(np.array([10.0, 20.0]), np.array([0.5, 1.0]), level=0.75, seed=0).at
    15.0

    Args:
        step: optimiser steps after each epoch.
        rising: the curve at these steps.
        level: what it has to reach.
        seed: the run's.
    """
    first, last = float(step[0]), float(step[-1])
    reached = np.flatnonzero(rising >= level)
    if len(reached) == 0:
        return Arrival(seed, math.inf, first, last)
    here = int(reached[0])
    if here == 0:
        return Arrival(seed, first, first, last)
    below, above_it = float(rising[here - 1]), float(rising[here])
    part = (level - below) / (above_it - below)
    return Arrival(seed, float(step[here - 1] + part * (step[here] - step[here - 1])), first, last)


def slowdown(
    fast: Sequence[Arrival], slow: Sequence[Arrival], *, fast_name: str = "the one", slow_name: str = "the other"
) -> Slowdown:
    """Compare when runs of one seed arrive: exp of the mean of log(slow/fast).

    A slow run that never arrives counts with all the steps that it took, and a fast run that arrives within the first
    epoch with that epoch's steps: both make the ratio too small, so it is reported as a least one.

    >>> print(slowdown([Arrival(0, 10, 5, 90), Arrival(1, 20, 5, 90)], [Arrival(0, 40, 5, 90), Arrival(1, 80, 5, 90)]))
    4.0 (4.0 to 4.0) times

    Args:
        fast: arrivals on one kind of data.
        slow: arrivals on the other.
        fast_name: for the reason why there is no ratio.
        slow_name: likewise.
    """
    partners = {own.seed: own for own in slow}
    pairs = [(own, partners[own.seed]) for own in fast if own.seed in partners]
    unknown = _why_unknown(pairs, fast_name=fast_name, slow_name=slow_name)
    if unknown:
        return Slowdown(NOTHING, 0, False, unknown)
    never = sum(math.isinf(other.at) for _, other in pairs)
    early = any(own.at <= own.first for own, _ in pairs)
    interval = log_ratio_interval(
        np.array([float(min(other.at, other.last)) for _, other in pairs]),
        np.array([float(own.at) for own, _ in pairs]),
    )
    from_below = never > 0 or early
    if len(pairs) < 2:
        interval = replace(NOTHING, value=interval.value, count=len(pairs))
    elif from_below:
        interval = replace(interval, high=math.inf)
    return Slowdown(interval, never, from_below, "")


def _why_unknown(pairs: list[tuple[Arrival, Arrival]], *, fast_name: str, slow_name: str) -> str:
    if not pairs:
        return f"no pair of runs on {fast_name} and {slow_name} was finished"
    if any(math.isinf(own.at) for own, _ in pairs):
        return f"not every run on {fast_name} gets there"
    if any(other.at <= other.first for _, other in pairs):
        return f"runs on {slow_name} get there within the first epoch, where steps are not told apart"
    return ""
