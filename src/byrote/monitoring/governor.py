"""How often to measure, so that measuring takes no more than its share of the time."""

from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

Kind = Literal["quick", "full"]
"""What is measured: what takes about one gradient of the probe, or everything."""

EARNED: dict[Kind, float] = {"quick": 1 / 3, "full": 2 / 3}
"""How what is earned is divided between the two."""
FULL: Kind = "full"
QUICK: Kind = "quick"


@final
class Governor:
    """Two accounts, of quick and of full measurements, into which training pays a share of its time.

    A measurement is made when its account can pay for it, so that the time spent never exceeds what was earned, but by
    what a measurement takes longer than the one before, and by the very first, which is on credit. An account holds no
    more than one measurement costs: after a long pause there is no burst of them.

    >>> governor = Governor(0.1)
    >>> governor.due()
    'quick'
    >>> governor.expect(1.0, quick=1.0, full=4.0)
    >>> governor.charge("quick", seconds=2.0)
    >>> governor.earn(59.0)
    >>> governor.due(), round(governor.wait(), 9)
    (None, 1.0)
    >>> governor.earn(1.5)
    >>> governor.due(), round(governor.share, 3)
    ('quick', 0.05)
    """

    def __init__(self, overhead: float) -> None:
        """Nothing is earned yet.

        Args:
            overhead: seconds of measuring for each second of training, above 0; infinite: everything at every step.

        Raises:
            ValueError: it is no number above 0.
        """
        if not isinstance(overhead, (int, float)) or not overhead > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"Expected an overhead above 0, such as 0.05 for 5 % of the time, got {overhead!r}.")
        self.overhead = overhead
        self.training = 0.0
        """Seconds that were not spent measuring."""
        self.measuring = 0.0
        """Seconds that were."""
        self._held: dict[Kind, float] = {QUICK: 0.0, FULL: 0.0}
        self._costs: dict[Kind, float] = {}
        self._known = False

    @property
    def share(self) -> float:
        """Seconds of measuring for each second of training; infinite before there is any training."""
        return self.measuring / self.training if self.training else float("inf")

    def earn(self, seconds: float) -> None:
        """Say that training went on."""
        self.training += seconds
        if self.overhead < float("inf"):
            for kind in self._held:
                self._held[kind] += EARNED[kind] * self.overhead * seconds

    def due(self) -> Kind | None:
        """What can be paid for now. The first measurement is a quick one, from which the cost of a full one follows."""
        if self.overhead == float("inf"):
            return FULL
        if not self._costs:
            return QUICK
        return next((kind for kind in (FULL, QUICK) if self._held[kind] >= self._costs[kind]), None)

    def wait(self) -> float:
        """Seconds of training until something can be paid for."""
        if self.due() is not None:
            return 0.0
        return min((self._costs[kind] - held) / (EARNED[kind] * self.overhead) for kind, held in self._held.items())

    def expect(self, paid: float, *, quick: float, full: float) -> None:
        """Say what measurements are expected to take, before any is known.

        Args:
            paid: seconds that it took to find out.
            quick: seconds of a quick measurement.
            full: seconds of a full one.
        """
        self._costs = {QUICK: quick, FULL: full}
        self._pay(paid)

    def charge(self, kind: Kind, *, seconds: float) -> None:
        """Pay for a measurement. A dearer one than expected raises what is expected at once, a cheaper one half-way.

        The first of all, which loads what is loaded once, says nothing of later ones, and both accounts pay for it.
        """
        if not self._known:
            self._known = True
            self._pay(seconds)
            return
        self.measuring += seconds
        self._costs[kind] = max(seconds, (self._costs[kind] + seconds) / 2)
        self._held[kind] -= seconds
        for each, held in self._held.items():
            self._held[each] = min(held, self._costs[each])

    def _pay(self, seconds: float) -> None:
        self.measuring += seconds
        for kind in self._held:
            self._held[kind] -= EARNED[kind] * seconds

    def state(self) -> Float[Tensor, "6"]:
        """All of it, to be stored."""
        costs = [self._costs.get(kind, float("nan")) for kind in (QUICK, FULL)]
        return torch.tensor(
            [self.training, self.measuring, self._held[QUICK], self._held[FULL], *costs], dtype=torch.float64
        )

    def restore(self, state: Float[Tensor, "6"]) -> None:
        """Go on from what `state` gave."""
        self.training, self.measuring, quick, full, *costs = state.tolist()
        self._held = {QUICK: quick, FULL: full}
        self._costs = {kind: cost for kind, cost in zip((QUICK, FULL), costs, strict=True) if cost == cost}
        self._known = bool(self._costs)
