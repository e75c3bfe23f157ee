"""The crew of one that is this process."""

import time
from collections.abc import Iterable
from typing import final

from typing_extensions import override

from byrote.execution.crew import AbstractCrew, Done, Event, OnEpochs, Raised
from byrote.execution.desk import Desk
from byrote.execution.mishaps import is_out_of_memory
from byrote.execution.shards import Shard


@final
class Alone(AbstractCrew):
    """Does a shard while it is asked for news of it."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk
        self._given: tuple[int, Shard] | None = None

    @property
    @override
    def num_free(self) -> int:
        return int(self._given is None)

    @property
    @override
    def alongside(self) -> bool:
        return False

    @property
    @override
    def seconds_to_start(self) -> float:
        return 0.0

    @override
    def begin(self, number: int, shard: Shard) -> None:
        self._given = number, shard

    @override
    def hear(self, *, seconds: float, on_epochs: OnEpochs) -> Iterable[Event]:
        if self._given is None:
            return []
        (number, shard), self._given = self._given, None
        began = time.monotonic()
        try:
            records = self._desk.do(shard, on_epoch=lambda num_runs: on_epochs(number, num_runs))
        except Exception as error:
            return [Raised(number, error, is_out_of_memory(error))]
        return [Done(number, records, time.monotonic() - began)]

    @override
    def abandon(self) -> None:
        self._given = None

    @override
    def call_back(self) -> None:
        """Nobody was sent home."""

    @override
    def close(self) -> None:
        self._given = None
