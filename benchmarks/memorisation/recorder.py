"""What recording costs a training loop: byrote's recorder, the AUM package's, and a few lines by hand.

    python -m benchmarks.memorisation.recorder --peers PYTHON --raw recorder.json --page docs/performance.md

PYTHON is an interpreter that has torch and aum 1.0.2. Every measurement is a fresh process with one thread, the
contenders in turn; of each process the median epoch counts, without the first.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import torch

SCRIPT = Path(__file__).with_name("recording.py")
BEGIN = "<!-- recorder benchmark: begin (written by python -m benchmarks.memorisation.recorder --page) -->"
END = "<!-- recorder benchmark: end -->"
TARGET = 0.03
"""CPU seconds for 50,000 examples of 10 classes in batches of 128."""
RECORDS = {
    "byrote, epochs found": "CSL, AUM, EL2N, data map, forgetting",
    "byrote, epochs told": "the same, each example once an epoch",
    "aum": "AUM",
    "AUM by hand": "AUM",
}


@final
@dataclass(frozen=True, kw_only=True)
class Case:
    """What is recorded."""

    num_classes: int
    num_examples: int = 50_000
    batch_size: int = 128
    epochs: int = 6


CASES = (Case(num_classes=10), Case(num_classes=100), Case(num_classes=1000))
JUDGED = CASES[0]


@final
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One contender in one process."""

    contender: str
    version: str
    round: int
    case: Case
    seconds: float
    """Of the median epoch."""
    reading: float
    """What its scores cost in the end."""
    area: float
    """Sum over examples of the area under the margin."""


def main() -> int:
    """Measure, write, and complain where contenders did not do the same."""
    options = _arguments()
    measured = [
        one
        for round_ in range(options.repeats)
        for case in CASES
        for name in RECORDS
        if (one := _measure(name, case, round_, python=_python(name, options.peers))) is not None
    ]
    if options.raw:
        options.raw.write_text(json.dumps([asdict(one) for one in measured], indent=1), encoding="utf-8")
    text = _text(measured, options.repeats)
    if options.page:
        options.page.write_text(_page_with(options.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text)
    return _verdict(measured)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memorisation.recorder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", default="", help="an interpreter with torch and aum; without it aum is left out")
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    parser.add_argument("--page", type=Path, help="write the table into this page, between its two markers")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def _python(name: str, peers: str) -> str:
    return peers if name == "aum" else sys.executable


def _measure(name: str, case: Case, round_: int, *, python: str) -> Measurement | None:
    if not python:
        return None
    numbers = map(str, (case.num_examples, case.num_classes, case.batch_size, case.epochs))
    done = subprocess.run(
        [python, SCRIPT, name, *numbers],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    found = json.loads(done.stdout)
    one = Measurement(
        contender=name,
        version=found["version"],
        round=round_,
        case=case,
        seconds=statistics.median(found["seconds"][1:]),
        reading=found["reading"],
        area=found["area"],
    )
    print(f"round {round_ + 1}: {name}, {case.num_classes} classes: {one.seconds:.4f} s", file=sys.stderr, flush=True)
    return one


def _text(measured: list[Measurement], repeats: int) -> str:
    versions = {one.contender.split(",")[0]: one.version for one in measured if one.contender != "AUM by hand"}
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    left_out = "" if any(one.contender == "aum" for one in measured) else " aum was not installed and is left out."
    ours = _median(measured, "byrote, epochs found", JUDGED)
    rows = [
        f"| {' | '.join((f'{case.num_classes:,}', name, RECORDS[name], *_figures(measured, name, case)))} |"
        for case in CASES
        for name in RECORDS
        if _of(measured, name, case)
    ]
    return "\n".join(
        [
            f"Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()}, torch "
            f"{torch.__version__}, {named}; one thread, medians of {repeats} processes (least to most), load "
            f"{os.getloadavg()[0]:.1f}.{left_out} Target: at most {TARGET} s for 10 classes; reached: {ours:.3f} s "
            f"({'met' if ours <= TARGET else 'missed'}).",
            "",
            "| classes | recorder | records | CPU s per 50,000 examples | × byrote |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _of(measured: list[Measurement], name: str, case: Case) -> list[float]:
    return [one.seconds for one in measured if (one.contender, one.case) == (name, case)]


def _median(measured: list[Measurement], name: str, case: Case) -> float:
    return statistics.median(_of(measured, name, case))


def _figures(measured: list[Measurement], name: str, case: Case) -> tuple[str, str]:
    values, ours = _of(measured, name, case), _median(measured, "byrote, epochs found", case)
    spread = f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
    return spread, f"{statistics.median(values) / ours:.2g}"


def _page_with(page: str, text: str) -> str:
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"Expected {BEGIN!r} and {END!r} once each in the page. Add them where the table belongs.")
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{text}\n{END}", page, flags=re.DOTALL)


def _verdict(measured: list[Measurement]) -> int:
    """All saw the same logits, so all areas are one number, to single precision's rounding."""
    for case in CASES:
        areas = {one.contender: one.area for one in measured if one.case == case}
        if max(areas.values()) - min(areas.values()) > 1e-5 * abs(min(areas.values())):
            print(f"Not the same work, {case.num_classes} classes: {areas}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
