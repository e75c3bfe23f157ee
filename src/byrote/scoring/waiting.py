"""Batches that wait to be looked at together, which costs a fraction of looking at each."""

from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from byrote.scoring.tally import wide_type

MOST_VISITS = 8192
MOST_NUMBERS = 2**19
"""Outputs that wait at the most: two megabytes in single precision."""


class Batch(NamedTuple):
    """Outputs of some visits, outputs first."""

    outputs: Float[Tensor, "output visit"]
    rows: Int[Tensor, "visit"]
    targets: Num[Tensor, "visit"]


@final
class Waiting:
    """Copies of batches, since loops reuse their tensors."""

    def __init__(self, *, num_outputs: int, regression: bool, device: torch.device) -> None:
        """Nothing waits yet.

        Args:
            num_outputs: of the model.
            regression: whether targets are numbers.
            device: where the model is.
        """
        self.num_outputs, self.device, self.count = num_outputs, device, 0
        self._most = max(1, min(MOST_VISITS, MOST_NUMBERS // max(1, num_outputs)))
        self._regression = regression
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(
        self, outputs: Shaped[Tensor, "visit output"], rows: Int[Tensor, "visit"], targets: Shaped[Tensor, "visit"]
    ) -> bool:
        """Copy a batch. Returns whether it is time to look."""
        self._batches.append((outputs.clone(), rows.clone(), targets.clone()))
        self.count += rows.shape[0]
        return self.count >= self._most

    def take(self) -> Batch:
        """All that waits, where the model is: in double precision where that is the outputs' or for a regression."""
        outputs, rows, targets = (torch.cat(parts) for parts in zip(*self._batches, strict=True))
        self._batches, self.count = [], 0
        wide = wide_type(self.device)
        precise = self._regression or outputs.dtype == torch.float64
        return Batch(
            outputs.T.to(wide if precise else torch.float32).contiguous(),
            rows.to(self.device, torch.int64),
            targets.to(self.device, wide if self._regression else torch.int64),
        )
