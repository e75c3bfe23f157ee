"""Time a whole `byrote` command, as a user waits for it.

    python benchmarks/whole_audit.py --repeats 3 -- audit digits
    python benchmarks/whole_audit.py --repeats 1 -- audit fashion-mnist --budget 5m

Every repeat starts from an empty folder. Prints wall and CPU seconds (median, least, most), peak memory, and what was
trained.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Timed(NamedTuple):
    """One repeat."""

    wall: float
    cpu: float
    peak_mb: float
    cost: dict[str, float]
    findings: list[dict[str, object]]


def main() -> None:
    """Repeat, and print a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("arguments", nargs="+", help="after --, what follows `byrote`")
    options = parser.parse_args()
    timed = [_once(options.arguments) for _ in range(options.repeats)]
    print(f"byrote {' '.join(options.arguments)}  ({options.repeats} repeats; median, least to most)")
    for name in ("wall", "cpu", "peak_mb"):
        values = [getattr(one, name) for one in timed]
        print(f"  {name:8} {statistics.median(values):8.1f}  ({min(values):.1f} to {max(values):.1f})")
    last = timed[-1]
    print("  trained  " + ", ".join(f"{key} {value:g}" for key, value in last.cost.items()))
    for finding in last.findings:
        print(f"  {finding['verdict']:14} {finding['claim']:34} {finding['statement']}")


def _once(arguments: list[str]) -> Timed:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [str(Path(sys.executable).with_name("byrote")), *arguments, "--out", str(out)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        cost = json.loads((out / "audit.json").read_text(encoding="utf-8"))["cost"]
        findings = json.loads((out / "findings.json").read_text(encoding="utf-8"))
        return Timed(wall, cpu, after.ru_maxrss / 1024, cost, findings)


if __name__ == "__main__":
    main()
