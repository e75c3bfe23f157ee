"""See a list of shards through: hand them out, keep what comes back, put up with what goes wrong."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import final

from byrote.execution.crew import AbstractCrew, Died, Done, Event, Raised
from byrote.execution.deadline import OutOfTimeError
from byrote.execution.keeper import Keeper, is_kept
from byrote.execution.mishaps import forget_frames, told_of_death, told_of_memory
from byrote.execution.progress import OnShard, Tally
from byrote.execution.shards import RunShard, Shard, part
from byrote.records import Extras, Fit, FitSpec, Run, RunSpec
from byrote.training import batchmates

PATIENCE = 0.25
"""Seconds between two looks at the clock, or at what other processes have finished."""
ELSEWHERE = "in another process"
WRITERS = 8
"""Records written at once."""
ATTEMPTS = 2
"""How many workers a shard may cost."""


@final
class Ledger:
    """What an executor remembers from one session to the next."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.trained: set[RunSpec] = set()
        self.failures: list[str] = []
        self.given_up: set[RunSpec | FitSpec] = set()


@final
@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a session keeps to."""

    extras: Extras
    """Asked of every run."""
    affordable: Callable[[Shard], int]
    """How many of a shard's specs, the first ones, are predicted to end in time."""
    is_over: Callable[[], bool]
    """Whether there is no time left to begin anything, nor to wait."""
    is_too_late: Callable[[], bool]
    """Whether even what is under way has to stop."""
    stage: Callable[[Shard], str]
    """What is being done, in words."""
    learn: Callable[[Shard, float], None]
    """Told how many seconds a shard took."""
    on_shard: OnShard


@final
@dataclass(frozen=True, kw_only=True)
class _Work:
    """A shard under way, and the claim on its specs."""

    shard: Shard
    claim: ExitStack


@final
class Session:
    """One list of shards."""

    def __init__(
        self, shards: Sequence[Shard], *, crew: AbstractCrew, store: Keeper, ledger: Ledger, tally: Tally, terms: Terms
    ) -> None:
        """Nothing is begun yet; earlier shards go first."""
        self._crew, self._store, self._ledger, self._tally, self._terms = crew, store, ledger, tally, terms
        self._queue = deque(shards)
        self._elsewhere: list[Shard] = []
        self._looked = time.monotonic()
        self._under_way: dict[int, _Work] = {}
        self._numbers = itertools.count()
        self._deaths: dict[RunSpec | FitSpec, int] = {}
        self._most: dict[RunSpec, int] = {}

    def run(self) -> None:
        """Work until all is done, given up or out of time. What is not kept when this ends is not under way either."""
        try:
            while not self._terms.is_too_late():
                self._hand_out()
                if self._under_way:
                    for event in self._crew.hear(seconds=PATIENCE, on_epochs=self._on_epochs):
                        self._take(event)
                elif self._elsewhere and not self._terms.is_over():
                    self._tally.tell(f"{self._terms.stage(self._elsewhere[0])} {ELSEWHERE}")
                    time.sleep(PATIENCE)
                else:
                    break
        except OutOfTimeError:
            pass
        finally:
            self._crew.abandon()
            for work in self._under_way.values():
                work.claim.close()

    def _hand_out(self) -> None:
        while self._queue and self._crew.num_free:
            shard = self._fitting(self._queue.popleft())
            if self._terms.affordable(shard):
                self._begin(shard)
            else:
                self._settle(shard, shard.cost)
        if not self._queue and self._elsewhere and time.monotonic() - self._looked >= PATIENCE:
            self._look_again()

    def _look_again(self) -> None:
        """What others were at work on may be finished, or left behind by one that died."""
        self._looked = time.monotonic()
        awaited, self._elsewhere = self._elsewhere, []
        for shard in awaited:
            if self._crew.num_free:
                self._begin(shard)
            else:
                self._elsewhere.append(shard)

    def _fitting(self, shard: Shard) -> Shard:
        """What of a shard fits into memory, as far as is known; the rest is next."""
        most = self._most.get(batchmates(shard.specs[0])) if isinstance(shard, RunShard) else None
        if most is None or len(shard.specs) <= most:
            return shard
        self._queue.appendleft(part(shard, shard.specs[most:]))
        return part(shard, shard.specs[:most])

    def _begin(self, shard: Shard) -> None:
        """Begin what of a shard is neither here, nor elsewhere under way, nor too long for the time left."""
        with ExitStack() as claim:
            mine = set(claim.enter_context(self._store.claim(shard.specs)))
            there = [spec for spec in shard.specs if is_kept(self._store, spec, extras=self._terms.extras)]
            held = [spec for spec in shard.specs if spec not in mine and spec not in there]
            free = [spec for spec in shard.specs if spec in mine and spec not in there]
            if held:
                self._elsewhere.append(part(shard, held))
            chosen = free[: self._terms.affordable(part(shard, free))] if free else []
            settled = len(there) + len(free) - len(chosen)
            if settled:
                self._settle(shard, shard.cost * settled / len(shard.specs))
            if chosen:
                number, begun = next(self._numbers), part(shard, chosen)
                self._tell(begun)
                self._crew.begin(number, begun)
                self._under_way[number] = _Work(shard=begun, claim=claim.pop_all())

    def _on_epochs(self, number: int, num_runs: int) -> None:
        shard = self._under_way[number].shard
        if isinstance(shard, RunShard):
            epochs = len(shard.specs) * shard.specs[0].learner.recipe.epochs
            self._tally.advance(number, shard.cost * num_runs / epochs)
        self._tell(shard)
        if self._terms.is_too_late():
            raise OutOfTimeError

    def _settle(self, shard: Shard, cost: float) -> None:
        """So much of a shard is done, or will not be done."""
        self._tally.settle(cost)
        self._tell(shard)

    def _tell(self, shard: Shard) -> None:
        self._tally.tell(self._terms.stage(shard))

    def _take(self, event: Event) -> None:
        work = self._under_way.pop(event.number)
        with work.claim:
            match event:
                case Done():
                    self._finish(work.shard, event)
                case Raised():
                    self._tally.take_back(event.number)
                    self._relieve(work.shard, event)
                case Died():
                    self._tally.take_back(event.number)
                    self._bury(work.shard, event)

    def _finish(self, shard: Shard, event: Done) -> None:
        """Keep a shard. Whoever made it goes on with another meanwhile."""
        if self._crew.alongside:
            self._terms.learn(shard, event.seconds)
            try:
                self._hand_out()
            finally:
                self._keep(event.records)
        else:
            began = time.monotonic()
            self._keep(event.records)
            self._terms.learn(shard, event.seconds + time.monotonic() - began)
        self._tally.take_back(event.number)
        self._settle(shard, shard.cost)
        self._terms.on_shard()

    def _keep(self, records: Sequence[Run | Fit]) -> None:
        """Several at once: a store waits for the disk most of the time."""
        with ThreadPoolExecutor(min(len(records), WRITERS)) as writers:
            for written in [writers.submit(self._write, record) for record in records]:
                written.result()

    def _write(self, record: Run | Fit) -> None:
        if isinstance(record, Fit):
            self._store.write_fit(record)
        else:
            self._store.write_run(record)
            self._ledger.trained.add(record.spec)

    def _relieve(self, shard: Shard, event: Raised) -> None:
        """Half as many at once, if memory was short; any other exception is the caller's."""
        if not event.out_of_memory:
            raise event.error
        forget_frames(event.error)
        if isinstance(shard, RunShard) and len(shard.specs) > 1:
            self._most[batchmates(shard.specs[0])] = len(shard.specs) // 2
            self._queue.appendleft(shard)
        else:
            self._give_up(shard, told_of_memory(shard, error=event.error))

    def _bury(self, shard: Shard, event: Died) -> None:
        """Once more, unless the shard has cost enough workers."""
        if not event.begun:
            self._queue.appendleft(shard)
            return
        first = shard.specs[0]
        self._deaths[first] = self._deaths.get(first, 0) + 1
        if self._deaths[first] < ATTEMPTS:
            self._ledger.failures.append(told_of_death(shard, reason=event.reason, again=False))
            self._queue.appendleft(shard)
        else:
            self._give_up(shard, told_of_death(shard, reason=event.reason, again=True))

    def _give_up(self, shard: Shard, told: str) -> None:
        self._ledger.failures.append(told)
        self._ledger.given_up.update(shard.specs)
        self._settle(shard, shard.cost)
