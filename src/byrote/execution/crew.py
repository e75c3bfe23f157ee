"""Those who do shards, seen from the one who hands them out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from byrote.execution.shards import Shard
from byrote.records import Fit, Run


class Done(NamedTuple):
    """A shard is done."""

    number: int
    records: Sequence[Run | Fit]
    """In the order of the shard's specs."""
    seconds: float
    """What it took whoever did it."""


class Raised(NamedTuple):
    """A shard ended in an exception; whoever did it goes on."""

    number: int
    error: Exception
    out_of_memory: bool


class Died(NamedTuple):
    """Whoever did a shard ended without a word."""

    number: int
    reason: str
    """As in: a worker process <reason>."""
    begun: bool
    """Whether the shard had reached it."""


Event = Done | Raised | Died
OnEpochs = Callable[[int, int], None]
"""Told the number of a shard, and how many of its runs have finished one more epoch."""


class AbstractCrew(ABC):
    """One or more workers."""

    @property
    @abstractmethod
    def num_free(self) -> int:
        """How many shards could be begun now."""

    @property
    @abstractmethod
    def alongside(self) -> bool:
        """Whether shards are done while this process does something else."""

    @property
    @abstractmethod
    def seconds_to_start(self) -> float:
        """Until the next shard would be begun, as far as is known, when someone is free: workers may be starting."""

    @abstractmethod
    def begin(self, number: int, shard: Shard) -> None:
        """Give a shard to someone who is free."""

    @abstractmethod
    def hear(self, *, seconds: float, on_epochs: OnEpochs) -> Iterable[Event]:
        """Wait for news of the shards under way.

        Args:
            seconds: to wait at most, where waiting is all there is to do.
            on_epochs: told as epochs pass. What it raises goes through, and the shards under way are then to be
                abandoned.

        Returns:
            What has ended, as it comes; possibly nothing.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Let nothing stay under way."""

    @abstractmethod
    def call_back(self) -> None:
        """Call in others for those who were sent home with what they were at; they come while something else is done.

        They are not waited for.
        """

    @abstractmethod
    def close(self) -> None:
        """Send everybody home. Whoever begins something afterwards calls them again."""
