"""How far it is."""

from collections.abc import Callable
from typing import NamedTuple, final

TELLING = 0.02
"""Less than this share of the work says too little about the rest."""


class Progress(NamedTuple):
    """How far it is."""

    stage: str
    """What is being done, in words."""
    done: float
    """Of the total: predicted seconds of training, or baselines fitted. Never falls within a stage."""
    total: float
    """Reached when all is there."""

    @property
    def kind(self) -> str:
        """`fitting` of `fitting nearest neighbour`: what shares one bar and one estimate of the time left."""
        return self.stage.split(" ")[0]

    def how_far(self, *, seconds: float) -> str:
        """The share that is done and, once that says something, the time left.

        >>> Progress("training", 30.0, 120.0).how_far(seconds=20.0)
        '25%, about 60 s left'

        Args:
            seconds: since the stage began.
        """
        share = self.done / self.total if self.total else 0.0
        left = f", about {seconds * (1 - share) / share:.0f} s left" if TELLING < share < 1 else ""
        return f"{share:.0%}{left}"


OnProgress = Callable[[Progress], None]
"""Told how far it is. What it raises ends the work; what was kept before stays kept."""

OnShard = Callable[[], None]
"""Told after every shard that is whole in the store. What it raises ends the work."""


def silent(progress: Progress) -> None:
    """Show nothing."""


def unheard() -> None:
    """Nobody asked to be told of shards."""


@final
class Tally:
    """Adds up what is done, in whole shards and in parts of those under way, and never goes back."""

    def __init__(self, total: float, *, on_progress: OnProgress) -> None:
        """Begin at nothing."""
        self._total, self._on_progress = total, on_progress
        self._settled, self._told = 0.0, 0.0
        self._parts: dict[int, float] = {}

    def advance(self, number: int, part: float) -> None:
        """So much more of the shard of that number is done."""
        self._parts[number] = self._parts.get(number, 0.0) + part

    def take_back(self, number: int) -> None:
        """Forget the parts of a shard, which is no longer under way. What was told stays told."""
        self._parts.pop(number, None)

    def settle(self, part: float) -> None:
        """So much is done for good, or will not be done."""
        self._settled += part

    def tell(self, stage: str) -> None:
        """Say how far it is."""
        now = self._settled + sum(self._parts.values())
        self._told = min(self._total, max(self._told, now))
        self._on_progress(Progress(stage, self._told, self._total))
