"""One epoch of visits, kept apart until it ends, so that an example counts once."""

from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from byrote.scoring.tally import InOrder, once_each, wide_type


class Visited(NamedTuple):
    """The first visit of every example that was seen in an epoch, sorted by row."""

    rows: Int[Tensor, "visit"]
    visits: Float[Tensor, "3 visit"]
    targets: Num[Tensor, "visit"]


@final
class Epoch:
    """Each example's first visit in the epoch that is under way; those that follow are left out."""

    def __init__(self, num_examples: int, *, regression: bool, device: torch.device) -> None:
        wide = wide_type(device)
        with torch.inference_mode(False):
            self._visits = torch.zeros(3, num_examples + 1, dtype=wide if regression else torch.float32, device=device)
            self._targets = torch.zeros(num_examples + 1, dtype=wide if regression else torch.int64, device=device)
            self._repeated = torch.zeros((), dtype=torch.int64, device=device)
            self._seen = torch.zeros(num_examples + 1, dtype=torch.bool, device=device)

    def add(self, visits: Float[Tensor, "3 visit"], *, at: InOrder, targets: Num[Tensor, "visit"]) -> None:
        """Keep what is an example's first.

        Args:
            visits: sorted as `at` says.
            at: whose they are.
            targets: sorted, too.
        """
        spare = len(self._seen) - 1
        new = at.starts & ~self._seen[at.row]
        self._repeated += (~new & (at.row != spare)).sum()
        rows = torch.where(new, at.row, spare)
        self._visits[:, rows] = visits.to(self._visits.dtype)
        self._targets[rows] = targets.to(self._targets.dtype)
        self._seen.index_fill_(0, rows, True)

    def add_visited(self, visited: Visited) -> None:
        """Keep what another process saw, where nobody before it did."""
        rows, visits, targets = (part.to(self._seen.device) for part in visited)
        self.add(visits, at=once_each(rows), targets=targets)

    def visited(self) -> Visited:
        """What is kept."""
        rows = self._seen[:-1].nonzero()[:, 0]
        return Visited(rows, self._visits[:, rows], self._targets[rows])

    @property
    def num_repeated(self) -> int:
        """How many visits were left out."""
        return int(self._repeated)

    def clear(self) -> None:
        """Begin the next."""
        self._seen.zero_()
        self._repeated.zero_()
