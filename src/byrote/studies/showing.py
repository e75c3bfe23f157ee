"""Training examples as a table and a person see them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from byrote.data import Task, content
from byrote.records import GalleryItem


def target_text(part: Task, position: int) -> str:
    """A training example's class, or its number."""
    value = part.train.y[position]
    return f"{value:.6g}" if part.regression else part.classes[value]


def shown(part: Task, position: int, *, notes: tuple[tuple[str, str], ...], suggested: str = "") -> GalleryItem:
    """A training example with what is said of it.

    Args:
        part: the task, or the part of it that was looked at.
        position: of the training example.
        notes: names and values.
        suggested: what its target may be instead; left out where it is the target.
    """
    given = target_text(part, position)
    item = GalleryItem(
        id=str(part.train.ids[position]),
        content=content(part, part.train, position=position),
        target=given,
        notes=notes,
    )
    return item if suggested == given else replace(item, suggested=suggested)


def identified(task: Task) -> dict[str, pa.Array]:
    """The columns `id` and `target` of every training example."""
    targets = task.train.y if task.regression else [task.classes[code] for code in task.train.y]
    return {"id": pa.array(task.train.ids), "target": pa.array(targets)}


def spread(values: Float[np.ndarray, "example"], *, positions: Int[np.ndarray, "example"], number: int) -> pa.Array:
    """A column for all of the task's examples, from scores of those that were looked at; null elsewhere and for NaN.

    >>> spread(np.array([0.5, np.nan]), positions=np.array([2, 0]), number=3).to_pylist()
    [None, None, 0.5]
    """
    whole = np.full(number, np.nan)
    whole[positions] = values
    return pa.array(whole, from_pandas=True)
