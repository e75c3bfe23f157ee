"""An example as a person would look at it."""

import numpy as np
from jaxtyping import Num

from byrote.data.examples import Examples
from byrote.data.task import Task
from byrote.records import Content, ImageContent, RowContent

MOST_FEATURES = 12
"""A row shows no more of its values than this."""


def content(task: Task, examples: Examples, *, position: int) -> Content:
    """Show one example: an image as its pixels, a table's row as the user wrote it, a vector as numbered values.

    Args:
        task: whose training examples set the range of grey.
        examples: the training or test examples.
        position: which one.
    """
    x = examples.x[position]
    if task.modality == "image":
        return _image(x, low=float(task.train.x.min()), high=float(task.train.x.max()))
    if examples.rows is not None:
        row = examples.rows.slice(position, 1).to_pylist()[0]
        names, values = tuple(row), tuple(_plain(value) for value in row.values())
        return RowContent(names=names[:MOST_FEATURES], values=values[:MOST_FEATURES])
    names = task.feature_names or tuple(f"x{column}" for column in range(x.size))
    values = tuple(round(float(value), 4) for value in x.reshape(-1)[:MOST_FEATURES])
    return RowContent(names=names[:MOST_FEATURES], values=values)


def _image(x: Num[np.ndarray, "..."], *, low: float, high: float) -> ImageContent:
    grey = np.clip(255 * (x.astype(np.float64) - low) / max(high - low, 1e-12), 0, 255).round().astype(int)
    if grey.ndim == 2:
        grey = grey[None]
    planes = grey if len(grey) == 3 else grey[:1]
    pixels = np.moveaxis(planes, 0, -1)
    return ImageContent(
        height=pixels.shape[0],
        width=pixels.shape[1],
        channels=3 if pixels.shape[2] == 3 else 1,
        pixels=tuple(pixels.reshape(-1).tolist()),
    )


def _plain(value: object) -> str | float | int | None:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
