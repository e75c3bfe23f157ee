"""Batches that wait to be looked at together, which costs a fraction of looking at each."""

from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from byrote.scoring.shapes import both
from byrote.scoring.tally import wide_type
from byrote.scoring.visits import class_visits, number_visits

MOST_VISITS = 8192
"""Visits that wait: so many are sorted and summed together."""
MOST_NUMBERS = 2**17
"""Outputs that wait: half a megabyte in single precision, which stays in a processor's cache."""
FEW_OUTPUTS = 64
"""Below, reductions are faster over a first axis; from there on, over a last one."""


class Visits(NamedTuple):
    """Some visits, in the order in which they came."""

    numbers: Float[Tensor, "3 visit"]
    """What they say: see `byrote.scoring.visits`."""
    rows: Int[Tensor, "visit"]
    targets: Num[Tensor, "visit"]
    wrong: Bool[Tensor, "visit"]
    """Whether the target is no class of the model."""


@final
class Waiting:
    """Copies of batches, since loops reuse their tensors; then the few numbers that are left of each visit."""

    def __init__(self, *, num_outputs: int, regression: bool, device: torch.device) -> None:
        """Nothing waits yet.

        Args:
            num_outputs: of the model.
            regression: whether targets are numbers.
            device: where the model is.
        """
        self.num_outputs, self.device = num_outputs, device
        self._regression = regression
        self._batches: list[tuple[Tensor, ...]] = []
        self._visits: list[Visits] = []
        self._num_outputs, self._num_visits = 0, 0

    def add(
        self, outputs: Shaped[Tensor, "visit output"], rows: Int[Tensor, "visit"], targets: Shaped[Tensor, "visit"]
    ) -> bool:
        """Copy a batch. Returns whether enough waits to be taken."""
        self._batches.append((outputs.clone(), rows.clone(), targets.clone()))
        self._num_outputs += outputs.numel()
        self._num_visits += rows.shape[0]
        enough = self._num_visits >= MOST_VISITS
        if self._num_outputs >= MOST_NUMBERS and not enough:
            self._look()
        return enough

    def take(self) -> Visits | None:
        """All that waits, where the model is; None: nothing."""
        if self._batches:
            self._look()
        visits, self._visits, self._num_visits = self._visits, [], 0
        if len(visits) < 2:
            return visits[0] if visits else None
        numbers, rows, targets, wrong = zip(*visits, strict=True)
        return Visits(torch.cat(numbers, 1), torch.cat(rows), torch.cat(targets), torch.cat(wrong))

    def _look(self) -> None:
        """Leave of the outputs what they say: in double precision where they are, and for a regression."""
        parts = self._batches[0] if len(self._batches) == 1 else map(torch.cat, zip(*self._batches, strict=True))
        outputs, rows, targets = parts
        self._batches, self._num_outputs = [], 0
        wide = wide_type(self.device)
        columns = outputs.T.to(wide if self._regression or outputs.dtype == torch.float64 else torch.float32)
        columns = columns.contiguous() if self.num_outputs < FEW_OUTPUTS else columns
        made = self._numbers if self._regression else self._classes
        self._visits.append(made(columns, rows.to(self.device, torch.int64), targets.to(self.device)))

    def _numbers(self, outputs: Tensor, rows: Tensor, targets: Tensor) -> Visits:
        numbers = targets.to(wide_type(self.device))
        return Visits(number_visits(outputs, numbers), rows, numbers, torch.zeros_like(rows, dtype=torch.bool))

    def _classes(self, outputs: Tensor, rows: Tensor, targets: Tensor) -> Visits:
        logits, codes = both(outputs), targets.to(torch.int64)
        wrong = (codes < 0) | (codes >= len(logits))
        codes = codes.clamp(0, len(logits) - 1)
        return Visits(class_visits(logits, codes), rows, codes, wrong)
