"""Compare byrote's engine with the loops people write, on one core with one thread.

    pip install -r benchmarks/engine/requirements.txt
    python -m benchmarks.engine --raw engine.json --page docs/performance.md

Every measurement is a fresh process pinned to one core; repeats go round by round over all cases and contenders.
--quick is a smoke run of under a minute; its figures mean nothing.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from benchmarks.engine.agreement import disagreements
from benchmarks.engine.cases import CASES
from benchmarks.engine.compare import Options, compare
from benchmarks.engine.results import Results, read, write
from benchmarks.engine.tables import page_with, tables


def main() -> int:
    """Measure, write, and complain if contenders did not learn the same."""
    options = _arguments()
    results = read(options.figures) if options.figures else compare(_plan(options), say=_say)
    if options.raw:
        write(results, options.raw)
    text = tables(results)
    if options.page:
        options.page.write_text(page_with(options.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text)
    return _verdict(results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    parser.add_argument("--page", type=Path, help="write the tables into this page, between its two markers")
    parser.add_argument("--from", dest="figures", type=Path, help="measure nothing: tables of an earlier --raw")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="least time of one measurement")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="on cuda, cost is wall time")
    parser.add_argument("--core", type=int, help="the core to use; the last one unless given (Linux)")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args()
    if options.quick and options.page:
        parser.error("A smoke run's figures mean nothing and do not belong in a page: leave out --quick or --page.")
    return options


def _plan(options: argparse.Namespace) -> Options:
    core = options.core
    if core is None and sys.platform == "linux" and options.device == "cpu":
        core = max(os.sched_getaffinity(0))
    cases = tuple(case for case in CASES if options.only in case.name)
    if not cases:
        raise SystemExit(f"No case contains {options.only!r}. There are: {'; '.join(case.name for case in CASES)}.")
    if options.quick:
        kinds = {(case.kind, case.recipe_name): case for case in reversed(cases)}
        cases = tuple(case.shortened() for case in cases if case in kinds.values())
    return Options(
        cases=cases,
        repeats=1 if options.quick else options.repeats,
        seconds=0.05 if options.quick else options.seconds,
        core=core,
        device=options.device,
        command=f"python -m benchmarks.engine {shlex.join(sys.argv[1:])}".strip(),
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _verdict(results: Results) -> int:
    found = disagreements(results)
    for line in found:
        _say(f"Not the same work: {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
