"""From the ids that a loader hands out to rows."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from byrote.scoring.arrays import as_tensor


@final
class Identifiers:
    """Which row each id has. Whole numbers are looked up as tensors, anything else in a dictionary.

    >>> Identifiers.named(["ant", "bee"]).rows(["bee", "bee", "ant"])
    tensor([1, 1, 0])
    >>> Identifiers.named([70, 30, 50]).rows(torch.tensor([50, 70]))
    tensor([2, 0])
    """

    def __init__(self, *, num_examples: int, names: Sequence[Hashable] | None, numbers: Tensor | None) -> None:
        self.num_examples = num_examples
        self._names, self._rows = names, {name: row for row, name in enumerate(names or ())}
        self._numbers = numbers
        self._sorted = None if numbers is None else numbers.sort()

    @classmethod
    def counted(cls, num_examples: int) -> "Identifiers":
        """Ids 0 to n − 1."""
        return cls(num_examples=num_examples, names=None, numbers=None)

    @classmethod
    def named(cls, ids: Iterable[Hashable]) -> "Identifiers":
        """Any ids, in the order of the table.

        Raises:
            ValueError: an id comes twice.
        """
        names = _listed(ids)
        times = Counter(names)
        if len(times) < len(names):
            twice = times.most_common(1)[0][0]
            raise ValueError(f"Expected unique ids, got {len(names) - len(times)} repeated, for instance {twice!r}.")
        if names and all(isinstance(name, int) and not isinstance(name, bool) for name in names):
            return cls(num_examples=len(names), names=None, numbers=torch.tensor(names, dtype=torch.int64))
        return cls(num_examples=len(names), names=names, numbers=None)

    @property
    def counts(self) -> bool:
        """Whether ids are 0 to n − 1."""
        return self._names is None and self._numbers is None

    @property
    def names(self) -> list[Hashable]:
        """All ids, in order."""
        if self._names is not None:
            return list(self._names)
        return list(range(self.num_examples)) if self._numbers is None else self._numbers.tolist()

    def rows(self, ids: Any) -> Int[Tensor, "visit"]:
        """The rows of a batch's ids; where ids are on another device than the CPU, an unknown one is row −1.

        Raises:
            TypeError: ids are not what they were said to be.
            ValueError: an id is unknown.
        """
        if self._names is not None:
            return self._looked_up(_listed(ids))
        numbers = as_tensor(ids, name="ids")
        numbers = numbers if numbers.numel() else numbers.long()
        if numbers.dtype.is_floating_point or numbers.dtype == torch.bool:
            raise TypeError(f"Expected ids as whole numbers, got {numbers.dtype}.")
        if numbers.ndim != 1:
            raise ValueError(f"Expected ids of shape [batch], got {tuple(numbers.shape)}.")
        if self._sorted is not None:
            return self._searched(numbers.long())
        if numbers.device.type == "cpu" and len(numbers):
            least, most = torch.aminmax(numbers)
            if int(least) < 0 or int(most) >= self.num_examples:
                raise ValueError(
                    f"Expected ids from 0 to {self.num_examples - 1}, got {int(least)} to {int(most)}. Ids that do not "
                    f"count the examples are told beforehand: Recorder(ids=…)."
                )
        return numbers

    def _looked_up(self, ids: Sequence[Hashable]) -> Int[Tensor, "visit"]:
        try:
            return torch.tensor([self._rows[name] for name in ids], dtype=torch.int64)
        except KeyError as error:
            raise ValueError(f"Expected ids that the recorder was told of, got {error.args[0]!r}.") from None

    def _searched(self, ids: Int[Tensor, "visit"]) -> Int[Tensor, "visit"]:
        if self._sorted is None or self._sorted.values.device != ids.device:
            assert self._numbers is not None
            self._sorted = self._numbers.to(ids.device).sort()
        values, order = self._sorted
        place = torch.searchsorted(values, ids).clamp_(max=len(values) - 1)
        known = values[place] == ids
        if ids.device.type == "cpu" and not bool(known.all()):
            raise ValueError(f"Expected ids that the recorder was told of, got {int(ids[~known][0])}.")
        return torch.where(known, order[place], -1)


def _listed(ids: Any) -> list[Hashable]:
    if isinstance(ids, str):
        raise TypeError(f"Expected a sequence of ids, got the text {ids!r}.")
    return ids.tolist() if isinstance(ids, (Tensor, np.ndarray)) else list(ids)
