"""Held-out examples that are answered because of one memorised training example (Feldman & Zhang 2020)."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from byrote.data import Task, content
from byrote.measures import InfluencePairs, influence_pairs
from byrote.records import Beside, Gallery, Run
from byrote.scoring import FALSE_PAIRS
from byrote.studies.showing import shown, spread
from byrote.studies.study import heldout_qualities
from byrote.studies.wording import counted, minus

NUM_SHOWN = 12
NUM_BESIDE = 2
"""Held-out examples shown beside each training example."""


def find_influence(
    part: Task,
    mask: Bool[np.ndarray, "run example"],
    runs: list[Run],
    *,
    memorisation: Float[np.ndarray, "example"],
) -> InfluencePairs:
    """The pairs of high influence that are not chance."""
    correct = heldout_qualities(part, runs)
    return influence_pairs(mask, correct, memorisation=memorisation, false_discovery_rate=FALSE_PAIRS)


def influence_gallery(part: Task, pairs: InfluencePairs) -> Gallery | None:
    """Training examples beside the held-out ones that are answered because of them; None where there are none."""
    strongest = list(dict.fromkeys(pairs.train.tolist()))[:NUM_SHOWN]
    if not strongest:
        return None
    items = [
        replace(
            shown(part, place, notes=(("held-out examples", f"{int((pairs.train == place).sum()):,}"),)),
            beside=tuple(
                _beside(part, int(pairs.test[pair]), float(pairs.influence.value[pair]))
                for pair in np.flatnonzero(pairs.train == place)[:NUM_BESIDE]
            ),
        )
        for place in strongest
    ]
    return Gallery(
        title="Held-out examples that are answered because of one training example",
        items=tuple(items),
        caption=f"{_counted(pairs)}. Influence is how much {_what(part)} when the training example was in. Thresholds "
        f"as published, 0.25 of memorisation and 0.15 of influence; at most about one pair in {round(1 / FALSE_PAIRS)} "
        "is chance. Where both are alike, look for duplicates across the split.",
    )


def _what(part: Task) -> str:
    if part.regression:
        return "smaller the held-out example's squared error is, in variances of the target,"
    return "more often networks answer the held-out example right"


def _counted(pairs: InfluencePairs) -> str:
    number = counted(len(pairs.train), one="pair", many="pairs")
    return f"{number}, of {pairs.num_compared:,} that were compared"


def _beside(part: Task, place: int, influence: float) -> Beside:
    y = part.test.y[place]
    return Beside(
        name=f"held out, influence {minus(f'{influence:.2f}')}",
        id=str(part.test.ids[place]),
        content=content(part, part.test, position=place),
        target=f"{y:.6g}" if part.regression else part.classes[y],
    )


def influence_columns(
    part: Task, pairs: InfluencePairs, *, positions: Int[np.ndarray, "example"], number: int
) -> dict[str, pa.Array]:
    """How many held-out examples each training example decides, and of the strongest its influence and identifier.

    Args:
        part: what was looked at.
        pairs: of it.
        positions: of its training examples in the task.
        number: of the task's training examples.
    """
    examples, strongest, counts = np.unique(pairs.train, return_index=True, return_counts=True)
    decided, largest, error = (
        np.zeros(len(part.train)),
        np.full(len(part.train), np.nan),
        np.full(len(part.train), np.nan),
    )
    decided[examples] = counts
    largest[examples], error[examples] = pairs.influence.value[strongest], pairs.influence.se[strongest]
    most = np.full(number, None, dtype=object)
    most[positions[examples]] = part.test.ids[pairs.test[strongest]].tolist()
    columns = {"num_influenced": decided, "largest_influence": largest, "largest_influence_se": error}
    return {
        **{name: spread(values, positions=positions, number=number) for name, values in columns.items()},
        "most_influenced": pa.array(most.tolist(), type=pa.array(part.test.ids).type),
    }
