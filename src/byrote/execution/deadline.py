"""When to stop."""

import time
from dataclasses import dataclass
from typing import final

GRACE = 1.1
"""Training that runs past the deadline is dropped when the whole took this many times as long as allowed."""


@final
@dataclass(frozen=True, kw_only=True)
class Deadline:
    """When to stop, in seconds of `time.monotonic`."""

    began: float
    """When the time that is allowed began."""
    ends: float
    """When it is over."""

    @property
    def length(self) -> float:
        """Seconds allowed in all."""
        return self.ends - self.began

    @property
    def left(self) -> float:
        """Seconds; negative when it has passed."""
        return self.ends - time.monotonic()

    @property
    def abandon(self) -> bool:
        """Whether it is so late that even training under way has to stop."""
        return time.monotonic() > self.began + GRACE * self.length


class OutOfTimeError(Exception):
    """Raised inside training that outlasts the deadline's grace."""
