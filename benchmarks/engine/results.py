"""Raw figures: what was measured, on which machine, by which command."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, final


@final
@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and when."""

    processor: str
    num_cores: int
    python: str
    packages: dict[str, str]
    commit: str
    date: str
    device: str
    load: float
    """Processes that wanted a core in the minute before; beside a busy neighbour figures mean little."""


@final
@dataclass(frozen=True, kw_only=True)
class Way:
    """How byrote chose to train a population."""

    case: str
    population: int
    method: str
    """What the engine calls it, and how many at once."""
    num_together: int
    cpu_seconds: float
    """What it cost to choose, once per machine and architecture."""


@final
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One contender on one case, once."""

    round: int
    case: str
    contender: str
    population: int | None
    """None: at every population the same."""
    num_runs: int
    cpu_seconds: float
    """Per run."""
    wall_seconds: float
    """Per run."""
    peak_mb: float
    operations: int
    """Floating-point operations of matrix products, per run."""
    machine_peak: float
    """Operations a second of a large matrix product, measured in the same round."""
    accuracies: list[float]


@final
@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything a table is made of."""

    machine: Machine
    command: str
    repeats: int
    seconds: float
    """Wall time of the whole."""
    ways: list[Way] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Contenders that are not installed."""

    @property
    def by_wall(self) -> bool:
        """On a GPU cost is wall time; on a CPU it is CPU time."""
        return self.machine.device != "cpu"

    def cost(self, one: Measurement) -> float:
        """Seconds a run."""
        return one.wall_seconds if self.by_wall else one.cpu_seconds

    def of(self, case: str, contender: str, population: int | None = None) -> list[Measurement]:
        """The repeats, in the order of their rounds."""
        asked = (case, contender, population)
        return [one for one in self.measurements if (one.case, one.contender, one.population) == asked]

    def times(self, slow: list[Measurement], fast: list[Measurement]) -> "Spread":
        """How many times the second's cost the first's is, round by round."""
        return spread(self.cost(one) / self.cost(two) for one, two in zip(slow, fast, strict=True))

    def share(self, measured: list[Measurement]) -> "Spread":
        """Of the machine's matrix-product peak, in percent."""
        return spread(100 * one.operations / self.cost(one) / one.machine_peak for one in measured)


class Spread(NamedTuple):
    """Of the repeats."""

    median: float
    least: float
    most: float


def spread(values: Iterable[float]) -> Spread:
    """Median, least and most."""
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values))


def write(results: Results, path: Path) -> None:
    """As JSON."""
    path.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Results:
    """What `write` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    raw["machine"] = Machine(**raw["machine"])
    raw["ways"] = [Way(**way) for way in raw["ways"]]
    raw["measurements"] = [Measurement(**one) for one in raw["measurements"]]
    return Results(**raw)


def this_machine(device: str) -> Machine:
    """Processor, versions, commit and date."""
    return Machine(
        processor=_processor(),
        num_cores=os.cpu_count() or 1,
        python=platform.python_version(),
        packages={name: _version(name) for name in ("torch", "lightning", "skorch", "byrote")},
        commit=_commit(),
        date=datetime.now(UTC).date().isoformat(),
        device=device,
        load=os.getloadavg()[0],
    )


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if sys.platform == "linux" and cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    return (names[0] if names else platform.processor()) + (" with AVX-512" if "avx512f" in flags else "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip()
