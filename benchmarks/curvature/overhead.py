"""Measure what share of a training loop's processor time byrote.Monitor takes, beside the share that it was allowed.

    python -m benchmarks.curvature.overhead --raw overhead.json --page docs/performance.md

Each loop is a process of its own with one thread. --quick is a smoke run; its figures mean nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from benchmarks.curvature.eigenvalues import NETWORKS
from benchmarks.engine.results import Machine, this_machine
from benchmarks.memorisation.page import markers, page_with
from sklearn.datasets import load_digits  # pyright: ignore[reportMissingTypeStubs]

MARKERS = markers("overhead", module="benchmarks.curvature.overhead")
CHILD = "benchmarks.curvature.overhead_child"
ASKED = (0.02, 0.05, 0.1)
MORE = 1.2
"""Times what was asked that is aimed at as the most."""


@final
@dataclass(frozen=True, kw_only=True)
class Loop:
    """One training, watched."""

    network: str
    asked: float
    """Seconds of measuring for each second of training."""
    seed: int
    share: float
    """Of the same, in processor time around the monitor."""
    believed: float
    """What the monitor says."""
    steps: int
    quick: int
    """Measurements of what is cheap."""
    full: int
    """Of everything."""


def main() -> int:
    """Measure and write."""
    options = _arguments()
    machine, loops = this_machine("cpu"), list[Loop]()
    for seed in range(options.repeats):
        for network in options.networks:
            for asked in ASKED:
                loops.append(_measured(network, asked, seed, seconds=options.seconds))
                print(loops[-1], file=sys.stderr, flush=True)
                if options.raw:
                    raw = {"machine": asdict(machine), "loops": [asdict(loop) for loop in loops]}
                    options.raw.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    text = _table(loops, machine, options)
    if options.page:
        page = page_with(options.page.read_text(encoding="utf-8"), text, between=MARKERS)
        options.page.write_text(page, encoding="utf-8")
    else:
        print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curvature.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    parser.add_argument("--page", type=Path, help="write the table into this page, between its two markers")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=5, help="loops of each, with seeds of their own")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each loop")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args()
    if options.quick and options.page:
        parser.error("A smoke run's figures mean nothing and do not belong in a page: leave out --quick or --page.")
    if options.quick:
        options.repeats, options.seconds = 1, 2.0
    return options


def _measured(network: str, asked: float, seed: int, *, seconds: float) -> Loop:
    """One loop, in a process of its own."""
    digits: Any = load_digits()
    x = ((digits.images - digits.images.mean()) / digits.images.std()).astype(np.float32)[:, None]
    job = {"network": network, "overhead": asked, "seed": seed, "seconds": seconds}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "data.npz"), x=x, y=digits.target.astype(np.int64))
        Path(folder, "job.json").write_text(json.dumps(job), encoding="utf-8")
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", CHILD, folder], capture_output=True, text=True, check=True, env=alone
        )
    return Loop(network=network, asked=asked, seed=seed, **json.loads(done.stdout))


def _table(loops: list[Loop], machine: Machine, options: argparse.Namespace) -> str:
    lines = [
        f"Measured {machine.date} on {machine.processor}, one thread, torch {machine.packages['torch']}, "
        f"{options.repeats} loops of {options.seconds:.0f} s each; load of the machine at the beginning "
        f"{machine.load:.1f}.",
        "",
        "| network | asked | taken, median (from, to) | what the monitor says | rows a loop: quick, full | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for network in dict.fromkeys(loop.network for loop in loops):
        for asked in ASKED:
            own = [loop for loop in loops if (loop.network, loop.asked) == (network, asked)]
            shares = [100 * loop.share for loop in own]
            lines.append(
                f"| {network} | {100 * asked:g} % | {statistics.median(shares):.2f} ({min(shares):.2f}, "
                f"{max(shares):.2f}) % | {100 * statistics.median(loop.believed for loop in own):.2f} % | "
                f"{statistics.median(loop.quick for loop in own):.0f}, "
                f"{statistics.median(loop.full for loop in own):.0f} | "
                f"{'kept' if max(shares) <= 100 * MORE * asked else 'more than a fifth too much'} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
