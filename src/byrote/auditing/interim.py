"""A report while it is still training, as often as it can be had for little."""

import time
from collections.abc import Callable
from typing import final

EVERY = 20.0
"""Seconds between two of them, at least."""
SHARE = 0.05
"""Of all the time so far that they may take."""


@final
class Interim:
    """Says what has been found so far whenever that costs no more than its share of the time.

    How long the first will take is guessed, later ones as long as the longest so far.
    """

    def __init__(
        self, tell: Callable[[], None], *, began: float, guess: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is told yet.

        Args:
            tell: summarises and tells; called after a shard.
            began: when the work began, by the clock.
            guess: seconds that the first will take.
            clock: seconds.
        """
        self._tell, self._began, self._cost, self._clock = tell, began, guess, clock
        self._last = began
        self._first = True
        self.seconds = 0.0
        """Taken so far."""

    def __call__(self) -> None:
        """A shard is whole: tell, if it is time."""
        now = self._clock()
        if now - self._last < EVERY or self.seconds + self._cost > SHARE * (now - self._began):
            return
        self._tell()
        self._last = self._clock()
        took = self._last - now
        self._cost = took if self._first else max(self._cost, took)
        self._first = False
        self.seconds += took
