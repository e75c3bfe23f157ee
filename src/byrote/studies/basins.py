"""Whether the ends of two seeds lie in one basin: how high the straight way between them goes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float
from torch import nn

from byrote.core import ModelError
from byrote.data import Task
from byrote.measures import combined_interval
from byrote.measures.curvature import Interpolation, PathHeights, interpolate, match_weights, right_class
from byrote.measures.curvature.batch_statistics import has_statistics
from byrote.probing import Examined, Restored, restored
from byrote.records import Interval, RunSpec
from byrote.studies.claims import NOTHING

NUM_POINTS = 11
MOST_NETWORKS = 5
"""Each with each."""
STABLE = 0.02
"""Of error; less is no barrier (Frankle et al. 2020)."""
PLAIN = "as they are"
RECOMPUTED = "BatchNorm statistics recomputed"
MATCHED = "units in one order"
MATCHED_RECOMPUTED = "units in one order and BatchNorm statistics recomputed"


@final
class Ways(NamedTuple):
    """Between every two of some networks."""

    alphas: Float[np.ndarray, "point"]
    heights: Float[np.ndarray, "pair point"]
    """Held-out error; for numbers the mean squared error in units of the target's variance."""
    barriers: Float[np.ndarray, "pair"]
    """Above the mean of both ends."""
    se: Float[np.ndarray, "pair"]
    """Over held-out examples."""
    pairs: tuple[tuple[int, int], ...]
    num_examples: int
    """Held-out examples."""

    def barrier(self) -> Interval:
        """Of two networks drawn anew.

        The variance over networks is the jackknife's, Σ_i (b̄₋ᵢ − b̄₋)²·(n − 1)/n with b̄₋ᵢ the mean of the pairs without
        network i; that over held-out examples is a single pair's, since all pairs share them.
        """
        value = float(self.barriers.mean())
        networks = sorted({one for pair in self.pairs for one in pair})
        if not math.isfinite(value) or len(networks) < 3:
            return Interval(value=value, low=-math.inf, high=math.inf, se=math.nan, count=len(networks))
        without = np.array([self.barriers[[gone not in pair for pair in self.pairs]].mean() for gone in networks])
        number = len(networks)
        own = float(np.square(without - without.mean()).sum() * (number - 1) / number)
        examples = float(np.square(self.se).mean())
        return combined_interval(value, variances=((own, number - 1), (examples, self.num_examples - 1)))


@final
class Basins(NamedTuple):
    """By what was done to the networks before."""

    ways: Mapping[str, Ways]
    reason: str
    """Why units could not be matched; empty where they were."""

    def of(self, *, matched: bool) -> str:
        """The kind that does most for the networks, with their units in one order or not; empty: there is none."""
        kinds = (MATCHED_RECOMPUTED, MATCHED) if matched else (RECOMPUTED, PLAIN)
        return next((kind for kind in kinds if kind in self.ways), "")

    def barrier(self, kind: str) -> Interval:
        """Of one kind; nothing where there is none."""
        return self.ways[kind].barrier() if kind in self.ways else NOTHING


def find_basins(runs: Sequence[tuple[RunSpec, Mapping[str, Any]]], *, task: Task, examined: Examined) -> Basins:
    """Walk from each network to each other, as they are and after what may bring them together.

    Args:
        runs: of one recipe and one kind of data, with their weights; the first five are taken.
        task: the whole task.
        examined: on how many examples.
    """
    networks = restored(runs[:MOST_NETWORKS], task=task, examined=examined)
    pairs = tuple(itertools.combinations(range(len(networks)), 2))
    if not pairs:
        return Basins({}, "")
    regression = bool(task.regression)
    normed = any(has_statistics(layer) for layer in networks[0].objective.model.modules())
    ways = {PLAIN: _ways(networks, pairs, regression=regression)}
    if normed:
        ways[RECOMPUTED] = _ways(networks, pairs, regression=regression, recompute=True)
    try:
        matched = _ways(networks, pairs, regression=regression, recompute=normed, match=True)
    except ModelError as error:
        return Basins(ways, str(error))
    return Basins({**ways, MATCHED_RECOMPUTED if normed else MATCHED: matched}, "")


def _ways(
    networks: Sequence[Restored],
    pairs: tuple[tuple[int, int], ...],
    *,
    regression: bool,
    recompute: bool = False,
    match: bool = False,
) -> Ways:
    found = [
        interpolate(
            networks[one].objective,
            end=_module(networks[other]),
            held_out=networks[one].held_out,
            correct=None if regression else right_class,
            statistics=networks[one].objective.batches if recompute else None,
            matching=match_weights if match else None,
            num_points=NUM_POINTS,
            stable=STABLE,
        )
        for one, other in pairs
    ]
    paths = [_path(way) for way in found]
    count = found[0].held_out.count if found[0].held_out is not None else 0
    return Ways(
        alphas=found[0].alphas,
        heights=np.stack([path.values for path in paths]),
        barriers=np.array([path.barrier_to_mean.value for path in paths]),
        se=np.array([path.barrier_to_mean.se for path in paths]),
        pairs=pairs,
        num_examples=count,
    )


def _module(network: Restored) -> nn.Module:
    return network.objective.model


def _path(way: Interpolation) -> PathHeights:
    assert way.held_out is not None
    return way.held_out.loss if way.held_out.error is None else way.held_out.error
