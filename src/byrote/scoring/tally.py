"""Running sums over the visits of every example: constant memory, however many epochs there are."""

from dataclasses import dataclass, fields, replace
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from byrote.scoring.visits import ERROR, LOSS, MARGIN

COUNTS = ("visits", "early", "right", "forgotten", "first_epoch", "last_epoch")
NO_TARGET = -1
"""The target of an example that was never seen."""


@final
@dataclass(frozen=True, kw_only=True)
class Tally:
    """What is known of each example. Every tensor has one row more than there are examples, for what is left out.

    Tensors are changed in place.
    """

    sums: Float[Tensor, "5 row"]
    """Of loss, margin, early error, and of what confidence and variability are about: its value and its square."""
    visits: Int[Tensor, "row"]
    early: Int[Tensor, "row"]
    """Visits in the early epochs."""
    right: Int[Tensor, "row"]
    """Visits answered right."""
    forgotten: Int[Tensor, "row"]
    """Times a right answer was followed by a wrong one."""
    first_right: Bool[Tensor, "row"]
    last_right: Bool[Tensor, "row"]
    first_epoch: Int[Tensor, "row"]
    last_epoch: Int[Tensor, "row"]
    """0: never."""
    target: Num[Tensor, "row"]
    changed: Bool[Tensor, "row"]
    """Whether the target was not the same at every visit."""

    def clone(self) -> "Tally":
        """A copy that can be changed."""
        return Tally(**{name: value.clone() for name, value in self.tensors().items()})

    def to(self, device: torch.device) -> "Tally":
        """The same on another device."""
        return Tally(**{name: _moved(value, device) for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        """All of it, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@final
@dataclass(frozen=True, kw_only=True)
class Rule:
    """How visits are read."""

    regression: bool
    fitted_below: float | None
    """Regression: a visit is right when its squared error is below this."""
    early_epochs: int

    def right(self, rows: Float[Tensor, "3 visit"]) -> Bool[Tensor, "visit"]:
        """Whether each visit is answered right: the margin is above 0; for numbers, the squared error is small."""
        if self.regression:
            return rows[LOSS] < (-torch.inf if self.fitted_below is None else self.fitted_below)
        return rows[MARGIN] > 0

    def followed(self, rows: Float[Tensor, "3 visit"]) -> Float[Tensor, "visit"]:
        """What confidence and variability are about: the target's probability; for numbers, the residual's size."""
        return rows[ERROR] if self.regression else (-rows[LOSS]).exp()


def empty_tally(num_examples: int, *, regression: bool) -> Tally:
    """Nothing seen yet, on the CPU."""
    rows = num_examples + 1
    counts = {name: torch.zeros(rows, dtype=torch.int32) for name in COUNTS}
    masks = {name: torch.zeros(rows, dtype=torch.bool) for name in ("first_right", "last_right", "changed")}
    target = torch.full((rows,), NO_TARGET, dtype=torch.float64 if regression else torch.int64)
    return Tally(sums=torch.zeros(5, rows, dtype=torch.float64), target=target, **counts, **masks)


def wide_type(device: torch.device) -> torch.dtype:
    """Double precision, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


class InOrder(NamedTuple):
    """Visits sorted by row, those of one row in the order in which they came."""

    row: Int[Tensor, "visit"]
    order: Int[Tensor, "visit"]
    starts: Bool[Tensor, "visit"]
    """Whether it is the first visit of its row."""


def in_order(rows: Int[Tensor, "visit"]) -> InOrder:
    """Sort visits by row.

    >>> in_order(torch.tensor([7, 3, 7]))
    InOrder(row=tensor([3, 7, 7]), order=tensor([1, 0, 2]), starts=tensor([ True,  True, False]))
    """
    if rows.device.type == "cpu":  # NumPy sorts whole numbers several times as fast as torch does with their places.
        num = max(1, len(rows))
        keys = torch.from_numpy(np.sort((rows * num + torch.arange(len(rows))).numpy()))
        row = keys // num
        order = keys - row * num
    else:
        row, order = rows.sort(stable=True)
    starts = torch.ones_like(row, dtype=torch.bool)
    torch.ne(row[1:], row[:-1], out=starts[1:])
    return InOrder(row, order, starts)


def once_each(rows: Int[Tensor, "visit"]) -> InOrder:
    """Visits that are sorted, one a row."""
    return InOrder(rows, torch.arange(len(rows), device=rows.device), torch.ones_like(rows, dtype=torch.bool))


def absorb(
    tally: Tally,
    visits: Float[Tensor, "3 visit"],
    *,
    at: InOrder,
    targets: Num[Tensor, "visit"],
    rule: Rule,
    epoch: int | None,
) -> None:
    """Add visits to the sums.

    Args:
        tally: changed.
        visits: sorted as `at` says.
        at: whose they are.
        targets: sorted, too.
        rule: how visits are read.
        epoch: when; None: each visit is its example's next epoch.
    """
    row, _, starts = at
    before = tally.visits[row]
    known = before > 0
    if epoch is None:
        place = torch.arange(len(row), device=row.device, dtype=before.dtype)
        when = before + 1 + place - torch.where(starts, place, 0).cummax(0).values
    else:
        when = torch.full_like(before, epoch)
    right, spare = rule.right(visits), len(tally.visits) - 1
    previous = torch.where(starts, tally.last_right[row], right.roll(1))
    firsts = torch.where(starts & ~known, row, spare)
    lasts = torch.where(starts.roll(-1), row, spare)
    given = targets.to(tally.target.dtype)
    other = torch.where(starts, known & (tally.target[row] != given), given != given.roll(1))
    early = when <= rule.early_epochs
    wide = visits.to(tally.sums.dtype)
    followed = rule.followed(wide)
    values = [wide[LOSS], wide[MARGIN], torch.where(early, wide[ERROR], 0), followed, followed.square()]
    tally.sums.index_add_(1, row, torch.stack(values))
    tally.visits.index_add_(0, row, torch.ones_like(before))
    tally.early.index_add_(0, row, early.to(before.dtype))
    tally.right.index_add_(0, row, right.to(before.dtype))
    tally.forgotten.index_add_(0, row, (previous & ~right).to(before.dtype))
    tally.first_right[firsts] = right
    tally.first_epoch[firsts] = when
    tally.last_right[lasts] = right
    tally.last_epoch[lasts] = when
    tally.target[lasts] = given
    tally.changed.index_fill_(0, torch.where(other, row, spare), True)


class Joined(NamedTuple):
    """Two tallies in one, and the rows of which no sum could be formed."""

    tally: Tally
    clashes: Bool[Tensor, "row"]


def join(one: Tally, two: Tally, *, comparable: bool) -> Joined:
    """What one tally of all visits would hold, a visit that both saw counted once.

    Of each example: where only one saw it, that one's; where one saw it in every epoch from its first to its last and
    the other only then, that one's, since the other's visits are the same ones; where one saw it only after the other
    had, the sum of both. Anything else cannot be known from sums.

    Args:
        one: a tally.
        two: another, of the same examples.
        comparable: whether an epoch's number means the same in both.
    """
    take_one = (two.visits == 0) | (_covers(one, two) & comparable)
    take_two = ~take_one & ((one.visits == 0) | (_covers(two, one) & comparable))
    one_first, two_first = one.last_epoch < two.first_epoch, two.last_epoch < one.first_epoch
    both = ~take_one & ~take_two
    clashes = both & ~(comparable & (one_first | two_first))
    earlier = {name: torch.where(two_first, b, a) for name, a, b in _pairs(one, two)}
    later = {name: torch.where(two_first, a, b) for name, a, b in _pairs(one, two)}
    added = {name: earlier[name] + later[name] for name in ("sums", "visits", "early", "right", "forgotten")}
    added["forgotten"] += (earlier["last_right"] & ~later["first_right"]).to(one.visits.dtype)
    chained = earlier | {name: later[name] for name in ("last_right", "last_epoch", "target")} | added
    chained["changed"] = earlier["changed"] | later["changed"] | (earlier["target"] != later["target"])
    joined = {
        name: torch.where(take_one, a, torch.where(take_two, b, chained[name])) for name, a, b in _pairs(one, two)
    }
    return Joined(replace(one, **joined), clashes[:-1])


def _covers(one: Tally, two: Tally) -> Bool[Tensor, "row"]:
    """Whether one saw the example in every epoch from its first to its last, and two only within these."""
    whole = one.visits == one.last_epoch - one.first_epoch + 1
    return whole & (one.visits > 0) & (one.first_epoch <= two.first_epoch) & (one.last_epoch >= two.last_epoch)


def _pairs(one: Tally, two: Tally) -> list[tuple[str, Tensor, Tensor]]:
    others = two.tensors()
    return [(name, value, others[name]) for name, value in one.tensors().items()]


def _moved(value: Tensor, device: torch.device) -> Tensor:
    dtype = wide_type(device) if value.dtype.is_floating_point else value.dtype
    return value.to(device=device, dtype=dtype)
