"""Cut work into pieces that one worker does at a time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar, final

import numpy as np

from byrote.records import FitSpec, RunSpec
from byrote.training import AbstractProbe, Path, batchmates


@final
@dataclass(frozen=True, kw_only=True)
class RunShard:
    """Runs that train together, and how."""

    specs: tuple[RunSpec, ...]
    path: Path
    cost: float
    """Predicted seconds of all of them."""
    probes: tuple[AbstractProbe, ...] = ()
    keep_weights: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class FitShard:
    """One fit: nobody knows beforehand how long it takes, so each counts alike."""

    specs: tuple[FitSpec, ...]
    cost: float = 1.0


Shard = RunShard | FitShard
S = TypeVar("S", bound=RunShard | FitShard)


PART = 0.1
"""Of the time left, what a shard may take at most where workers may be stopped at a deadline."""


class Way(NamedTuple):
    """How a group of runs is trained."""

    path: Path
    seconds: float
    """Predicted, of one run."""


class _Placed(NamedTuple):
    position: int
    spec: RunSpec


def part(shard: S, specs: Sequence[RunSpec | FitSpec]) -> S:
    """The shard with only these of its specs, at their share of its cost."""
    return replace(shard, specs=tuple(specs), cost=shard.cost * len(specs) / len(shard.specs))


def cut_shards(
    specs: Sequence[RunSpec],
    *,
    way: Callable[[RunSpec, int], Way],
    num_workers: int,
    seconds_left: float | None = None,
    probes: Sequence[AbstractProbe] = (),
    keep_weights: bool = False,
) -> list[RunShard]:
    """Runs that train together, as many as are stacked at once; shards in the order of their runs' importance.

    A shard that would take longer than a worker's fair share of everything (the whole, over the number of workers) is
    cut into equal parts that do not, so that no worker is left with most of the work. With many more runs than
    workers nothing is that long, and the shards are the same for every number of workers.

    Args:
        specs: most important first.
        way: of one run among so many like it.
        num_workers: who will share the work.
        seconds_left: until work under way may be dropped: several workers get shards of a small part of it, so that
            little is lost; None: no limit.
        probes: asked of every run.
        keep_weights: asked of every run.
    """
    groups: dict[RunSpec, list[_Placed]] = {}
    for position, spec in enumerate(specs):
        groups.setdefault(batchmates(spec), []).append(_Placed(position, spec))
    ways = [way(members[0].spec, len(members)) for members in groups.values()]
    total = sum(chosen.seconds * len(members) for chosen, members in zip(ways, groups.values(), strict=True))
    longest = total / num_workers
    if seconds_left is not None and num_workers > 1:
        longest = min(longest, PART * max(0.0, seconds_left))
    shards: list[tuple[float, RunShard]] = []
    for chosen, members in zip(ways, groups.values(), strict=True):
        size = _most_together(chosen, len(members), longest=longest)
        if size < min(chosen.path.num_stacked, len(members)):
            chosen = way(members[0].spec, size)
            size = min(size, chosen.path.num_stacked)
        for indices in np.array_split(np.arange(len(members)), math.ceil(len(members) / size)):
            cut = [members[index] for index in indices]
            shard = RunShard(
                specs=tuple(member.spec for member in cut),
                path=chosen.path,
                cost=chosen.seconds * len(cut),
                probes=tuple(probes),
                keep_weights=keep_weights,
            )
            shards.append((float(np.mean([member.position for member in cut])), shard))
    return [shard for _, shard in sorted(shards, key=lambda placed: placed[0])]


def _most_together(way: Way, num_runs: int, *, longest: float) -> int:
    """Runs in a shard that stays within so many seconds."""
    within = num_runs if way.seconds * num_runs <= longest else int(longest / way.seconds)
    return max(1, min(way.path.num_stacked, within))
