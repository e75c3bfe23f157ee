"""What probes said along some runs: a row for each seed, a column for each moment."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from byrote.measures import log_ratio_interval, mean_interval
from byrote.records import Interval, Run, Series, Verdict, above
from byrote.studies.bars_and_bands import band
from byrote.studies.claims import NOTHING
from byrote.training import AbstractProbe, Given, reason_of

FIRST = 0.05
"""Of an epoch, after which the first moment is that is not the start."""


class Watched(NamedTuple):
    """What one probe said of runs that differ in their seed alone."""

    seeds: tuple[int, ...]
    epochs: Float[np.ndarray, "moment"]
    """Passes over the data before each moment."""
    steps: Int[np.ndarray, "moment"]
    values: Mapping[str, Float[np.ndarray, "seed moment ..."]]
    """By name."""
    reason: str
    """Why there is nothing; empty where there is something, or nothing was asked for."""

    def of(self, name: str) -> dict[int, Float[np.ndarray, "moment ..."]]:
        """One of the values, by seed."""
        return dict(zip(self.seeds, self.values[name], strict=True)) if name in self.values else {}


UNSEEN = Watched((), np.zeros(0), np.zeros(0, np.int64), {}, "")


def moments(total: int, *, epochs: int, number: int) -> Given:
    """The start, and about evenly on a logarithmic scale from a twentieth of an epoch to the end.

    >>> moments(1000, epochs=10, number=12).steps
    (0, 5, 8, 14, 25, 42, 71, 120, 204, 347, 589, 1000)

    Args:
        total: steps of the training.
        epochs: of the training.
        number: of moments, the start and the end among them; fewer where steps coincide.
    """
    spaced = np.geomspace(min(FIRST, epochs / 2), epochs, number - 1) / epochs * total
    return Given(steps=tuple(sorted({0, total, *np.maximum(1, spaced.round()).astype(int).tolist()})))


def watched(runs: Sequence[Run], probe: AbstractProbe | None) -> Watched:
    """What a probe said along runs of one kind; those that it said nothing of are left out."""
    if probe is None:
        return UNSEEN
    found = [(run, run.probes[probe.key]) for run in runs if probe.key in run.probes]
    reasons = [reason_of(result.values) for _, result in found]
    told = [pair for pair, reason in zip(found, reasons, strict=True) if not reason]
    if not told:
        return UNSEEN._replace(reason=next(iter(reasons), ""))
    first, result = told[0]
    steps = np.asarray(result.steps, np.int64)
    told = [(run, one) for run, one in told if np.array_equal(one.steps, steps)]
    return Watched(
        seeds=tuple(run.spec.seed for run, _ in told),
        epochs=steps / float(first.curves.step[-1]) * len(first.curves.step),
        steps=steps,
        values={
            name: np.stack([np.asarray(one.values[name], np.float64) for _, one in told]) for name in result.values
        },
        reason="",
    )


def highest(curves: Mapping[int, Float[np.ndarray, "moment"]], *, until: int | None = None) -> dict[int, float]:
    """The largest finite value of each seed's curve; a seed without one is left out.

    >>> highest({3: np.array([1.0, np.nan, 2.0]), 4: np.array([np.nan])})
    {3: 2.0}

    Args:
        curves: by seed.
        until: so many of the first moments are looked at; None: all.
    """
    finite = {seed: own[:until][np.isfinite(own[:until])] for seed, own in curves.items()}
    return {seed: float(own.max()) for seed, own in finite.items() if len(own)}


def paired(
    one: Mapping[int, float], other: Mapping[int, float]
) -> tuple[Float[np.ndarray, "seed"], Float[np.ndarray, "seed"]]:
    """Finite values of the seeds that both have.

    >>> paired({1: 2.0, 2: 3.0}, {2: 5.0})
    (array([3.]), array([5.]))
    """
    both = [seed for seed in one if seed in other and math.isfinite(one[seed]) and math.isfinite(other[seed])]
    return np.array([one[seed] for seed in both]), np.array([other[seed] for seed in both])


def ratio(one: Mapping[int, float], other: Mapping[int, float], *, level: float) -> Interval:
    """How many times as large the one is as the other, seed by seed; no ends from a single seed."""
    above, below = paired(one, other)
    known = (above > 0) & (below > 0)
    if not known.any():
        return NOTHING
    return _known(log_ratio_interval(above[known], below[known], level=level))


def difference(one: Mapping[int, float], other: Mapping[int, float], *, level: float) -> Interval:
    """By how much the one exceeds the other, seed by seed."""
    first, second = paired(one, other)
    return mean_interval(first - second, level=level) if len(first) else NOTHING


def mean_of(values: Mapping[int, float], *, level: float = 0.95) -> Interval:
    """Over seeds; of what is finite."""
    known = np.array([value for value in values.values() if math.isfinite(value)])
    return mean_interval(known, level=level) if len(known) else NOTHING


def judged(interval: Interval, *, null: float) -> Verdict:
    """Whether a value is above another one. Where every seed says exactly the same as nothing at all would, as of
    networks that no training has changed yet, that is open.

    >>> judged(Interval(value=1.0, low=1.0, high=1.0, se=0.0, count=3), null=1.0)
    'inconclusive'
    """
    if interval.se == 0 and interval.value == null:
        return "inconclusive"
    return above(low=interval.low, high=interval.high, null=null)


def within_bounds(interval: Interval, least: float = 0.0, most: float = 1.0) -> Interval:
    """Its ends, if it has any, no further than what can be; its value stays.

    >>> within_bounds(Interval(value=0.9, low=0.7, high=1.1, se=0.1, count=3)).high
    1.0
    """
    if not math.isfinite(interval.low):
        return interval
    return replace(interval, low=max(least, interval.low), high=min(most, interval.high))


def line(name: str, seen: Watched, value: str, *, positive: bool = True) -> Series:
    """A curve with its band over seeds: geometric means of what is positive; a moment at which some seed has no finite
    value is a gap, and the start is left out, which a logarithmic scale of epochs has no place for.

    Args:
        name: of the curve.
        seen: what a probe said.
        value: which of its values.
        positive: whether it has a logarithmic scale, and what is not above 0 is a gap.
    """
    rows = seen.values[value]
    own = [_over_seeds(rows[:, place], positive=positive) for place in range(rows.shape[1]) if seen.steps[place] > 0]
    x = [float(epoch) for epoch, step in zip(seen.epochs, seen.steps, strict=True) if step > 0]
    drawn = band(name, x, own)
    gaps = [None if math.isnan(point.value) else point.value for point in own]
    if any(gap is None for gap in gaps):
        return Series(name=name, x=drawn.x, y=tuple(gaps))
    return drawn


def _over_seeds(values: Float[np.ndarray, "seed"], *, positive: bool) -> Interval:
    if not np.isfinite(values).all() or (positive and not (values > 0).all()):
        return NOTHING
    return _known(log_ratio_interval(values, np.ones_like(values))) if positive else mean_interval(values)


def _known(interval: Interval) -> Interval:
    """Without ends where there is one seed."""
    return interval if interval.count > 1 else replace(interval, low=-math.inf, high=math.inf, se=math.nan)
