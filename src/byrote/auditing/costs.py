"""What runs will cost, as the engine predicts it and as it turned out so far."""

from collections.abc import Callable, Sequence
from typing import final

from byrote.records import RunSpec

LEAST_SCALE, MOST_SCALE = 0.25, 10.0
"""However long the first runs took, the next ones are not believed to be further than this from their prediction."""


@final
class Costs:
    """Seconds that runs will take; nothing for those that are there. Each is looked up once, however often it is asked.

    What is predicted from a few timed steps is multiplied by how much longer than predicted the runs took that were
    trained since.
    """

    def __init__(
        self, *, missing: Callable[[Sequence[RunSpec]], Sequence[RunSpec]], predicted: Callable[[RunSpec], float]
    ) -> None:
        """Ask which runs are missing, and what one takes."""
        self._missing, self._predicted = missing, predicted
        self._seconds: dict[RunSpec, float] = {}
        self._expected, self._taken = 0.0, 0.0

    @property
    def scale(self) -> float:
        """Seconds taken for each second predicted, so far."""
        ratio = self._taken / self._expected if self._expected > 0 else 1.0
        return min(MOST_SCALE, max(LEAST_SCALE, ratio))

    def __call__(self, specs: Sequence[RunSpec]) -> float:
        """Of these runs together, each counted once."""
        return self.scale * self.predicted(specs)

    def predicted(self, specs: Sequence[RunSpec]) -> float:
        """As the engine predicts it, whatever was learnt since."""
        self._look_up(specs)
        return sum(self._seconds[spec] for spec in dict.fromkeys(specs))

    def learn(self, done: Sequence[RunSpec], *, seconds: float) -> None:
        """Training these took so long, what they computed on the way included. From now on they cost nothing."""
        expected = sum(self._seconds.get(spec, 0.0) for spec in dict.fromkeys(done))
        if expected > 0:
            self._expected += expected
            self._taken += seconds
        self._seconds.update(dict.fromkeys(done, 0.0))

    def _look_up(self, specs: Sequence[RunSpec]) -> None:
        new = [spec for spec in specs if spec not in self._seconds]
        absent = set(self._missing(new))
        self._seconds.update({spec: self._predicted(spec) if spec in absent else 0.0 for spec in new})
