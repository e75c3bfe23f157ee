"""Compare byrote's KNN-Shapley with those of cleanlab and pyDVL, each in a process of its own with one thread.

    python -m benchmarks.memorisation.knn_shapley --raw knn_shapley.json --page docs/performance.md \\
        --cleanlab PYTHON --pydvl PYTHON

PYTHON is an interpreter that has the peer installed (pyDVL needs numpy below 2, so an environment of its own); a peer
that is not installed there is left out, and the table says so. --quick is a smoke run; its figures mean nothing.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
from benchmarks.engine.results import Machine, this_machine
from benchmarks.memorisation.knn_shapley_child import NUM_NEIGHBOURS
from scipy import stats

BEGIN = "<!-- KNN-Shapley benchmark: begin (written by python -m benchmarks.memorisation.knn_shapley --page) -->"
END = "<!-- KNN-Shapley benchmark: end -->"
CHILD = Path(__file__).with_name("knn_shapley_child.py")
NUM_FEATURES, NUM_CLASSES, SPREAD = 50, 10, 3.0


@final
@dataclass(frozen=True, kw_only=True)
class Case:
    """How many examples are valued, on how many test points."""

    num_examples: int
    num_tests: int
    """0: every example is the test point of all others."""

    @property
    def rounding(self) -> float:
        """What one pair of equally near neighbours of one test point may change, if rounding exchanges them."""
        return 1 / (NUM_NEIGHBOURS * (self.num_tests or self.num_examples))

    @property
    def name(self) -> str:
        """As the table says it."""
        return f"{self.num_examples:,} × {f'{self.num_tests:,}' if self.num_tests else 'each other'}"


@final
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One contender on one case and seed."""

    case: str
    contender: str
    seed: int
    cpu_seconds: float
    wall_seconds: float
    peak_mb: float
    difference: float
    """The largest difference of a value from byrote's."""
    rank_agreement: float
    """Spearman's, with byrote's values."""


CASES = (
    Case(num_examples=2_000, num_tests=300),
    Case(num_examples=20_000, num_tests=300),
    Case(num_examples=5_000, num_tests=0),
    Case(num_examples=20_000, num_tests=0),
)
VALUES = {"pydvl": lambda case: case.num_tests > 0, "cleanlab": lambda case: case.num_tests == 0}
"""pyDVL values examples on test points, cleanlab on each other."""


def main() -> int:
    """Measure, write, and complain if exact contenders disagree."""
    options = _arguments()
    cases = CASES if not options.quick else (Case(num_examples=400, num_tests=100), Case(num_examples=400, num_tests=0))
    pythons = {"cleanlab": options.cleanlab, "pydvl": options.pydvl}
    versions = {name: _installed(name, python) for name, python in pythons.items()}
    machine = replace(
        this_machine("cpu"),
        packages={"numpy": version("numpy"), "byrote": version("byrote"), **{n: v for n, v in versions.items() if v}},
    )
    measurements: list[Measurement] = []
    for seed in range(1 if options.quick else options.repeats):
        for case in cases:
            peers = [name for name, takes in VALUES.items() if takes(case) and versions[name]]
            own = dict.fromkeys(("byrote", "byrote, tolerance 0.01"), sys.executable)
            measurements += _measure(case, seed, {**own, **{name: pythons[name] for name in peers}})
    missing = [name for name in pythons if not versions[name]]
    command = f"python -m benchmarks.memorisation.knn_shapley {shlex.join(_without_paths(sys.argv[1:]))}".strip()
    if options.raw:
        raw = {"machine": asdict(machine), "command": command, "measurements": [asdict(one) for one in measurements]}
        options.raw.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    text = _tables(measurements, machine, command, missing)
    if options.page:
        options.page.write_text(_page_with(options.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text)
    allowed = {case.name: case.rounding for case in cases}
    wrong = [one for one in measurements if one.contender == "pydvl" and one.difference > allowed[one.case]]
    for one in wrong:
        print(f"Not the same values: {one.contender} on {one.case} differs by {one.difference:.2g}", file=sys.stderr)
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memorisation.knn_shapley",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    parser.add_argument("--page", type=Path, help="write the table into this page, between its two markers")
    parser.add_argument("--cleanlab", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--pydvl", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args()
    if options.quick and options.page:
        parser.error("A smoke run's figures mean nothing and do not belong in a page: leave out --quick or --page.")
    return options


def _without_paths(arguments: list[str]) -> list[str]:
    """As anybody would type it: interpreters and raw files by their role."""
    return [re.sub(r"^/.*?([^/]+)$", r"\1", argument) for argument in arguments]


def _installed(name: str, python: str) -> str:
    """The peer's version, empty if that interpreter does not have it."""
    asked = [python, "-c", f"from importlib.metadata import version; print(version({name!r}))"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _measure(case: Case, seed: int, pythons: dict[str, str]) -> list[Measurement]:
    """All contenders on the same points, byrote first."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "data.npz"), **_points(case, seed))  # pyright: ignore[reportArgumentType]
        found: list[Measurement] = []
        ours = np.empty(0)
        for name, python in pythons.items():
            cost, values = _run(name, python, Path(folder))
            ours = values if name == "byrote" else ours
            agreement = float(stats.spearmanr(ours, values)[0])  # pyright: ignore[reportArgumentType]
            difference = float(np.abs(values - ours).max())
            one = Measurement(
                case=case.name, contender=name, seed=seed, difference=difference, rank_agreement=agreement, **cost
            )
            print(f"{case.name}, {name}: {one.cpu_seconds:.2f} s, {one.peak_mb:.0f} MB", file=sys.stderr, flush=True)
            found.append(one)
    return found


def _run(name: str, python: str, folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    values = folder / f"{name}.npy"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1")
    asked = [python, str(CHILD), name, str(folder / "data.npz"), str(values)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env={**os.environ, **threads})
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1]), np.load(values)


def _points(case: Case, seed: int) -> dict[str, np.ndarray]:
    """Classes that overlap, a tenth of the labels wrong."""
    rng = np.random.default_rng(seed)
    number = case.num_examples + case.num_tests
    y = rng.integers(NUM_CLASSES, size=number)
    x = rng.normal(size=(number, NUM_FEATURES)) + SPREAD * rng.normal(size=(NUM_CLASSES, NUM_FEATURES))[y] / 3
    y[: number // 10] = rng.integers(NUM_CLASSES, size=number // 10)
    order = rng.permutation(number)
    x, y = x[order].astype(np.float32), y[order]
    parts = {"x": x[: case.num_examples], "y": y[: case.num_examples]}
    tests = {"test_x": x[case.num_examples :], "test_y": y[case.num_examples :]}
    return {**parts, **tests} if case.num_tests else parts


def _tables(measurements: list[Measurement], machine: Machine, command: str, missing: list[str]) -> str:
    head = (
        "examples × test points",
        "contender",
        "CPU",
        "memory",
        "CPU beside byrote",
        "Spearman with byrote",
        "largest difference",
    )
    rows = [_row(case, name, measurements) for case, name in dict.fromkeys((m.case, m.contender) for m in measurements)]
    lines = [head, tuple("---" for _ in head), *rows]
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    left_out = f" Not installed and left out: {', '.join(missing)}." if missing else ""
    seeds = len({one.seed for one in measurements})
    conditions = (
        f"Measured by `{command}` on {machine.date}, commit {machine.commit}: one thread of {machine.processor} "
        f"({machine.num_cores} cores, load {machine.load:.1f} before the run), Python {machine.python}, {packages}. "
        f"Medians of {seeds} seeds; {NUM_FEATURES} features, k = {NUM_NEIGHBOURS}.{left_out}"
    )
    return "\n".join([conditions, "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def _row(case: str, contender: str, measurements: list[Measurement]) -> tuple[str, ...]:
    mine = [one for one in measurements if (one.case, one.contender) == (case, contender)]
    ours = [one for one in measurements if (one.case, one.contender) == (case, "byrote")]
    ratio = statistics.median(one.cpu_seconds / own.cpu_seconds for one, own in zip(mine, ours, strict=True))
    peer = contender != "byrote"
    return (
        case,
        contender,
        f"{statistics.median(one.cpu_seconds for one in mine):.3g} s",
        f"{statistics.median(one.peak_mb for one in mine):,.0f} MB",
        f"{ratio:.3g} ×" if peer else "",
        f"{statistics.median(one.rank_agreement for one in mine):.3f}" if peer else "",
        f"{max(one.difference for one in mine):.1g}" if peer else "",
    )


def _page_with(page: str, text: str) -> str:
    """The page with the text between its markers."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"Expected {BEGIN!r} and {END!r} once each in the page. Add them where the table belongs.")
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{text}\n{END}", page, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
