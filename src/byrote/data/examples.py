"""Inputs, targets and stable ids."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Num, Shaped
from numpy.typing import ArrayLike

from byrote.core import DataError


@final
@dataclass(frozen=True, init=False, eq=False)
class Examples:
    """Inputs `[n, ...]`, targets `[n]`, ids `[n]`, and optionally groups `[n]` of examples that must stay together.

    >>> examples = Examples([[0.0], [1.0]], ["cat", "dog"])
    >>> len(examples), examples.ids.tolist()
    (2, [0, 1])
    """

    x: Num[np.ndarray, "example *feature"]
    """uint8 stays uint8; everything else becomes float32 or stays float64."""
    y: Shaped[np.ndarray, "example"]
    """Class labels (strings, integers, booleans) or numbers."""
    ids: Shaped[np.ndarray, "example"]
    """Unique; 0, 1, 2 … unless given."""
    groups: Shaped[np.ndarray, "example"] | None
    """Equal values stay together in every split and subset."""
    rows: pa.Table | None
    """The rows as the user knows them, for display."""

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        ids: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        rows: pa.Table | None = None,
    ) -> None:
        """Check and keep the arrays.

        Raises:
            DataError: nothing there, lengths differ, an input is not a finite number, an id comes twice.
        """
        inputs = _as_inputs(x)
        targets = _as_array(y, "y")
        labels = np.arange(len(inputs)) if ids is None else _as_array(ids, "ids")
        grouping = None if groups is None else _as_array(groups, "groups")
        for name, column in (("y", targets), ("ids", labels), ("groups", grouping), ("rows", rows)):
            if column is not None and len(column) != len(inputs):
                raise DataError(f"Expected one of {name} for each of the {len(inputs)} inputs, got {len(column)}.")
        unique, counts = np.unique(labels.astype(str), return_counts=True)
        if len(unique) != len(labels):
            twice = ", ".join(unique[counts > 1][:3])
            raise DataError(
                f"Expected unique ids, got {len(labels) - len(unique)} repeated (for instance {twice}). "
                f"Leave ids out to number the examples."
            )
        if targets.dtype.kind == "f" and not np.isfinite(targets).all():
            raise DataError(
                f"Expected finite targets, got {int((~np.isfinite(targets)).sum())} NaN or infinite ones. "
                f"Drop those examples."
            )
        for name, value in (("x", inputs), ("y", targets), ("ids", labels), ("groups", grouping), ("rows", rows)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: np.ndarray) -> "Examples":
        """The examples at these positions, ids and groups with them."""
        return Examples(
            self.x[index],
            self.y[index],
            ids=self.ids[index],
            groups=None if self.groups is None else self.groups[index],
            rows=None if self.rows is None else self.rows.take(pa.array(index)),
        )

    def with_targets(self, y: Shaped[np.ndarray, "example"]) -> "Examples":
        """The same examples with other targets."""
        return Examples(self.x, y, ids=self.ids, groups=self.groups, rows=self.rows)


def _as_inputs(x: ArrayLike) -> Num[np.ndarray, "example *feature"]:
    array = _as_array(x, "x")
    if array.dtype.kind not in "fiub":
        raise DataError(f"Expected numeric inputs, got an array of {array.dtype}. Encode text and categories first.")
    if array.dtype not in (np.uint8, np.float64):
        array = array.astype(np.float32)
    if array.ndim == 1:
        array = array[:, None]
    if array.shape[0] == 0 or array.size == 0:
        raise DataError(f"Expected at least one example with at least one feature, got inputs of shape {array.shape}.")
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            bad = int((~finite.reshape(len(array), -1).all(1)).sum())
            raise DataError(
                f"Expected finite inputs, got NaN or infinity in {bad} of {len(array)} examples. "
                f"Impute or drop them (a CSV or Parquet table is imputed for you)."
            )
    return array


def _as_array(values: Any, name: str) -> np.ndarray:
    """NumPy arrays, lists, and whatever has `.numpy()` or `__array__`, torch tensors included."""
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim == 0:
        raise DataError(f"Expected {name} to be an array with one entry per example, got a single {type(values)}.")
    if array.dtype.kind == "O":
        array = array.astype(str)
    if name != "x" and array.ndim != 1:
        squeezed = array.reshape(len(array), -1)
        if squeezed.shape[1] != 1:
            raise DataError(f"Expected {name} of shape [n], got {array.shape}.")
        array = squeezed[:, 0]
    return array
