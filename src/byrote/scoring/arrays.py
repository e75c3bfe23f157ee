"""Arrays as people have them: NumPy, torch, on any device, in any precision."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor


def as_tensor(values: Any, *, name: str) -> Shaped[Tensor, "..."]:
    """A tensor, detached, where it is; of anything else a tensor on the CPU, without a copy where that is possible.

    >>> as_tensor(np.array([1, 2]), name="ids")
    tensor([1, 2])

    Raises:
        TypeError: it is no array of numbers.
    """
    return values.detach() if isinstance(values, Tensor) else torch.from_numpy(_for_torch(as_array(values, name=name)))


def as_array(values: Any, *, name: str) -> Shaped[np.ndarray, "..."]:
    """A NumPy array of numbers; a precision that NumPy does not have becomes float32.

    >>> as_array(torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True), name="logits")
    array([0.5], dtype=float32)

    Raises:
        TypeError: it is no array of numbers.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TypeError(f"Expected {name} as an array of numbers, got rows that differ in length.") from error
    if array.dtype.kind not in "biufV" or (array.dtype.kind == "V" and array.dtype.names is not None):
        raise TypeError(f"Expected {name} as an array of numbers, got {_described(values, array)}.")
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _for_torch(array: np.ndarray) -> np.ndarray:
    """What torch can share: of its types, in its byte order, writable, strides ahead."""
    kind = {2: np.int32, 4: np.int64, 8: np.int64}.get(array.dtype.itemsize) if array.dtype.kind == "u" else None
    array = array if kind is None else array.astype(kind)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.writeable and all(stride >= 0 for stride in array.strides) else array.copy()


def _described(values: Any, array: np.ndarray) -> str:
    return f"{type(values).__name__} of {array.dtype}" if array.ndim else f"{values!r}"[:80]
