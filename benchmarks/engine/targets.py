"""What the engine promises, and whether these figures keep it."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.engine.cases import CASES, JUDGED, Case
from benchmarks.engine.contenders import BYROTE, LIGHTNING, PLAIN, SHARED
from benchmarks.engine.results import Measurement, Results, Spread

SMALL = 50_000
"""Parameters of a network that counts as small."""


class Target(NamedTuple):
    """At least so much, for each of these cases."""

    wanted: float
    unit: str
    """What follows the number."""
    meaning: str
    applies: Callable[[Case], bool]
    against: str = ""
    """The contender that byrote is compared with; empty: the machine's matrix-product peak."""


class Judged(NamedTuple):
    """A target on a case."""

    target: Target
    case: str
    population: int
    own: Spread
    """Every network in an order of its own, as byrote trains unless told otherwise."""
    shared: Spread | None
    """All networks in one order; None where that was not measured."""

    @property
    def met(self) -> bool:
        """By the median, in own orders."""
        return self.own.median >= self.target.wanted

    @property
    def verdict(self) -> str:
        """In words."""
        if self.met:
            return "met"
        shared = self.shared is not None and self.shared.median >= self.target.wanted
        return "**missed**" + (", met with a shared order" if shared else "")


CPU = (
    Target(4, "×", "the plain loop, networks under 50k parameters", lambda c: c.num_parameters < SMALL, PLAIN.name),
    Target(
        2,
        "×",
        "the plain loop, MLPs under 300k parameters",
        lambda c: c.kind == "mlp" and c.num_parameters < 300_000,
        PLAIN.name,
    ),
    Target(1.5, "×", "the plain loop, CNNs", lambda c: c.kind == "cnn", PLAIN.name),
    Target(
        80,
        " %",
        "of the matrix-product peak, MLPs above 100k parameters",
        lambda c: c.kind == "mlp" and c.num_parameters > 100_000,
    ),
    Target(10, "×", "Lightning, networks under 50k parameters", lambda c: c.num_parameters < SMALL, LIGHTNING.name),
)
CUDA = (
    Target(
        40,
        "×",
        "the plain loop, MLPs under 300k parameters",
        lambda c: c.kind == "mlp" and c.num_parameters < 300_000,
        PLAIN.name,
    ),
    Target(10, "×", "the plain loop, CNNs", lambda c: c.kind == "cnn", PLAIN.name),
)
NEVER_SLOWER = Target(1, "×", "the plain loop, everywhere", lambda case: True, PLAIN.name)


def judge(results: Results) -> list[Judged]:
    """Every target on every case it speaks of, in the judged population; then, of all cases and populations, the one
    where byrote gains least on the plain loop.
    """
    cases = {case.name: case for case in CASES}
    largest = {way.case: way.population for way in results.ways if way.population <= JUDGED}
    judged = [
        _judge(results, target, name, population)
        for target in (CUDA if results.by_wall else CPU)
        if not target.against or target.against not in results.left_out
        for name, population in largest.items()
        if target.applies(cases[name])
    ]
    everywhere = [_judge(results, NEVER_SLOWER, way.case, way.population) for way in results.ways]
    return [*judged, min(everywhere, key=lambda one: one.own.median)]


def _judge(results: Results, target: Target, case: str, population: int) -> Judged:
    shared = results.of(case, SHARED.name, population)
    return Judged(
        target,
        case,
        population,
        own=_got(results, target, results.of(case, BYROTE.name, population)),
        shared=_got(results, target, shared) if shared else None,
    )


def _got(results: Results, target: Target, measured: list[Measurement]) -> Spread:
    if not target.against:
        return results.share(measured)
    return results.times(results.of(measured[0].case, target.against), measured)
