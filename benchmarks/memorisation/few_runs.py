"""How many runs memorisation scores need: the published difference of means, a margin model, and byrote's.

    python -m benchmarks.memorisation.few_runs --raw few_runs.json --page docs/performance.md

On each task a reference of 2,000 networks, and others that scores are made from: five draws of up to 320. One process
on one core with one thread; networks trained once are kept in --runs and read the next time. --quick is a smoke run of
under a minute; its figures mean nothing.
"""

import argparse
import json
import math
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch
from benchmarks.engine.results import this_machine
from benchmarks.memorisation.few_runs_cases import CASES, LEAVE_ONE_OUT, Case, task_of
from benchmarks.memorisation.few_runs_training import Outcomes, leave_each_out, outcomes, plain_seconds
from benchmarks.memorisation.page import markers, page_with
from jaxtyping import Float
from scipy import special, stats

from byrote.measures import efficient_memorisation, leave_one_out, memorisation
from byrote.records import Scores

MARKERS = markers("memorisation", module="benchmarks.memorisation.few_runs")
PUBLISHED, OURS = "published", "efficient"
LEVEL_WANTED = (0.93, 0.97)
COVERS = 1.959964
"""Standard errors either way, for intervals of 95 %."""
EQUALLED, WITHIN = 160, 40
"""The published estimator's rank agreement with so many runs is wanted from so many."""
PLAIN_RUNS = 6
"""Networks that the plain loop is timed on."""


@final
@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much is trained."""

    reference: int = 2000
    draws: int = 5
    runs: tuple[int, ...] = (10, 20, 40, 80, 160, 320)
    seeds: int = 40
    """Networks on everything, and on everything but one example."""


QUICK = Amount(reference=20, draws=2, runs=(10,), seeds=2)


class Estimate(NamedTuple):
    """Scores and 95 % intervals."""

    value: Float[np.ndarray, "example"]
    low: Float[np.ndarray, "example"]
    high: Float[np.ndarray, "example"]


@final
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One estimator on one draw of runs."""

    case: str
    estimator: str
    num_runs: int
    draw: int
    pearson: float
    spearman: float
    rmse: float
    coverage: float
    """Of the reference, by intervals widened by its own standard error; NaN for an estimator without intervals."""
    width: float
    cpu_seconds: float
    """To make the scores from what the runs left."""


@final
@dataclass(frozen=True, kw_only=True)
class Cost:
    """What training costs on a case."""

    case: str
    plain: float
    """CPU seconds a run of the plain loop."""
    engine: float
    """CPU seconds a run of byrote's engine, with the trace."""


def main() -> int:
    """Train, score, write."""
    options = _arguments()
    torch.set_num_threads(1)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    amount = QUICK if options.quick else Amount()
    cases = [case.shortened() for case in CASES[:2]] if options.quick else list(CASES)
    costs: list[Cost] = []
    measured: list[Measurement] = []
    for case in cases:
        measured += _measure(case, amount, options.runs, costs)
    exact_case = LEAVE_ONE_OUT.shortened() if options.quick else LEAVE_ONE_OUT
    exact = list(_against_leave_one_out(exact_case, amount, options.runs))
    if options.raw:
        raw = {"costs": costs, "reference": measured, "leave_one_out": exact}
        plain = {name: [asdict(one) for one in each] for name, each in raw.items()}
        options.raw.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    text = _text(measured, costs, exact, amount)
    if options.page:
        page = page_with(options.page.read_text(encoding="utf-8"), text, between=MARKERS)
        options.page.write_text(page, encoding="utf-8")
    else:
        print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memorisation.few_runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--raw", type=Path, help="write the raw figures here, as JSON")
    parser.add_argument("--page", type=Path, help="write the tables into this page, between its two markers")
    parser.add_argument("--runs", type=Path, help="a folder to keep trained networks' margins in")
    parser.add_argument("--core", type=int, help="the core to use (Linux)")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    options = parser.parse_args()
    if options.quick and (options.page or options.runs):
        parser.error("A smoke run's figures mean nothing: leave out --quick, or --page and --runs.")
    return options


def _measure(case: Case, amount: Amount, folder: Path | None, costs: list[Cost]) -> Iterator[Measurement]:
    task, longest = task_of(case), max(amount.runs)
    reference = _kept(folder, f"{case.name} reference", lambda: outcomes(case, task, num_runs=amount.reference, draw=0))
    truth = memorisation(reference.inclusion, reference.correct)
    seconds: list[float] = []
    for draw in range(1, amount.draws + 1):
        train = _training(case, num_runs=longest, draw=draw)
        trained = _kept(folder, f"{case.name} {draw}", train)
        seconds.append(trained.cpu_seconds.item())
        for num_runs in amount.runs:
            yield from _judged(case.name, trained.part(slice(num_runs)), truth, draw)
        _say(f"{case.name}: draw {draw} of {amount.draws}")
    plain = plain_seconds(case, task, seeds=range(PLAIN_RUNS))
    costs.append(Cost(case=case.name, plain=plain, engine=statistics.median(seconds)))


def _training(case: Case, *, num_runs: int, draw: int) -> Callable[[], Outcomes]:
    return lambda: outcomes(case, task_of(case), num_runs=num_runs, draw=draw)


def _against_leave_one_out(case: Case, amount: Amount, folder: Path | None) -> Iterator[Measurement]:
    task, longest = task_of(case), max(amount.runs)
    left = _kept_arrays(
        folder, f"{case.name} left out", lambda: leave_each_out(case, task, num_seeds=amount.seeds)._asdict()
    )
    truth = leave_one_out(left["inclusion"], left["correct"], seeds=left["seeds"])
    for draw in range(1, amount.draws + 1):
        trained = _kept(folder, f"{case.name} {draw}", _training(case, num_runs=longest, draw=draw))
        for num_runs in amount.runs:
            yield from _judged(case.name, trained.part(slice(num_runs)), truth, draw)
    _say(f"{case.name}: against leave-one-out")


def _kept(folder: Path | None, name: str, make: Callable[[], Outcomes]) -> Outcomes:
    return Outcomes(**_kept_arrays(folder, name, lambda: make()._asdict()))


def _kept_arrays(folder: Path | None, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What was trained before, or now."""
    path = folder / f"{name.replace(' ', '_')}.npz" if folder else None
    if path and path.exists():
        with np.load(path) as stored:
            return dict(stored)
    made = make()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, allow_pickle=False, **made)
    return made


def _judged(case: str, runs: Outcomes, truth: Scores, draw: int) -> Iterator[Measurement]:
    known = np.isfinite(_published(runs).value) & np.isfinite(truth.value)
    wanted, blur = truth.value[known], COVERS * truth.se[known]
    for name, estimator in ESTIMATORS.items():
        began = time.process_time()
        value, low, high = (part[known] for part in estimator(runs))
        seconds = time.process_time() - began
        below, above = value - np.hypot(value - low, blur), value + np.hypot(high - value, blur)
        has_interval = bool(np.isfinite(low).all())
        yield Measurement(
            case=case,
            estimator=name,
            num_runs=len(runs.inclusion),
            draw=draw,
            pearson=float(np.corrcoef(value, wanted)[0, 1]),
            spearman=float(np.asarray(stats.spearmanr(value, wanted))[0]),
            rmse=float(np.sqrt(np.mean((value - wanted) ** 2))),
            coverage=float(((below <= wanted) & (wanted <= above)).mean()) if has_interval else math.nan,
            width=float((high - low).mean()),
            cpu_seconds=seconds,
        )


def _published(runs: Outcomes) -> Estimate:
    scores = memorisation(runs.inclusion, runs.correct)
    return Estimate(scores.value, scores.value - COVERS * scores.se, scores.value + COVERS * scores.se)


def _margin_model(runs: Outcomes) -> Estimate:
    """Φ(mean/spread) in training minus the same out of it, each spread mixed with five runs of the average example."""
    chances: list[np.ndarray] = []
    for mask in (runs.inclusion, ~runs.inclusion):
        number = mask.sum(0)
        mean = np.where(mask, runs.margin, 0).sum(0, dtype=np.float64) / np.maximum(number, 1)
        squares = np.where(mask, (runs.margin - mean) ** 2, 0).sum(0)
        freedom = np.maximum(number - 1, 0)
        spread = np.sqrt((squares + 5 * squares.sum() / freedom.sum()) / (freedom + 5))
        chances.append(special.ndtr(mean / spread))
    nothing = np.full(len(chances[0]), np.nan)
    return Estimate(chances[0] - chances[1], nothing, nothing)


def _from_outputs(runs: Outcomes) -> Estimate:
    scores = efficient_memorisation(runs.inclusion, runs.correct, margin=runs.margin)
    return Estimate(scores.value, scores.low, scores.high)


def _from_traces(runs: Outcomes) -> Estimate:
    scores = efficient_memorisation(runs.inclusion, runs.correct, margin=runs.margin, covariates=(runs.aum, runs.late))
    return Estimate(scores.value, scores.low, scores.high)


ESTIMATORS: dict[str, Callable[[Outcomes], Estimate]] = {
    PUBLISHED: _published,
    "margin model": _margin_model,
    "efficient, final outputs only": _from_outputs,
    OURS: _from_traces,
}


def _text(measured: list[Measurement], costs: list[Cost], exact: list[Measurement], amount: Amount) -> str:
    machine = this_machine("cpu")
    conditions = (
        f"Measured by `python -m benchmarks.memorisation.few_runs {shlex.join(sys.argv[1:])}` on {machine.date}, "
        f"commit {machine.commit}: one core, one thread of {machine.processor} (load {machine.load:.1f}), Python "
        f"{machine.python}, torch {machine.packages['torch']}. Medians of {amount.draws} draws of runs; the reference "
        f"is the published estimator from {amount.reference:,} other runs. *Coverage* is how many of the reference's "
        f"values 95 % intervals hold, widened by the reference's own standard error."
    )
    against = (
        f"Against exact leave-one-out on {LEAVE_ONE_OUT.name}: {LEAVE_ONE_OUT.num_examples} examples, each left out by "
        f"{amount.seeds} networks, beside {amount.seeds} trained on all. Subsets of 70 % are another question than all "
        f"but one, so no estimate can reach 1, and intervals are not theirs to cover."
    )
    return "\n\n".join(
        [
            conditions,
            _summary(measured, costs),
            _details(measured),
            against,
            _table(_HEAD_EXACT, _rows_exact(exact)),
            "",
        ]
    )


def _summary(measured: list[Measurement], costs: list[Cost]) -> str:
    head = (
        "task and recipe",
        f"Spearman of published, {EQUALLED} runs",
        "efficient reaches it with",
        f"efficient, {WITHIN} runs",
        "CPU ms a run, plain loop",
        "engine",
        "CPU seconds saved",
        "coverage",
    )
    rows: list[tuple[str, ...]] = []
    for cost in costs:
        wanted = _median(measured, cost.case, PUBLISHED, EQUALLED, "spearman")
        needed = _runs_for(measured, cost.case, wanted)
        saved = (
            EQUALLED * cost.plain / (needed * cost.engine + _median(measured, cost.case, OURS, WITHIN, "cpu_seconds"))
        )
        counts = _counts(measured, cost.case)
        covered = [_median(measured, cost.case, OURS, num_runs, "coverage") for num_runs in counts]
        rows.append(
            (
                cost.case,
                f"{wanted:.3f}",
                f"{needed:.0f} runs",
                f"{_median(measured, cost.case, OURS, WITHIN, 'spearman'):.3f}",
                f"{1000 * cost.plain:.0f}",
                f"{1000 * cost.engine:.0f}",
                f"{saved:.1f} ×",
                f"{100 * min(covered):.1f} to {100 * max(covered):.1f} %",
            )
        )
    return _table(head, rows)


def _runs_for(measured: list[Measurement], case: str, wanted: float) -> float:
    """Runs with which ours reaches a rank agreement, between two measured numbers by log-linear interpolation."""
    counts = _counts(measured, case)
    reached = [_median(measured, case, OURS, num_runs, "spearman") for num_runs in counts]
    if reached[0] >= wanted:
        return counts[0]
    for (fewer, lower), (more, higher) in zip(
        zip(counts, reached, strict=True), zip(counts[1:], reached[1:], strict=True), strict=False
    ):
        if higher >= wanted:
            return fewer * (more / fewer) ** ((wanted - lower) / (higher - lower))
    return math.inf


def _counts(measured: list[Measurement], case: str) -> list[int]:
    return sorted({one.num_runs for one in measured if one.case == case})


def _median(measured: list[Measurement], case: str, estimator: str, num_runs: int, figure: str) -> float:
    asked = (case, estimator, num_runs)
    found = [getattr(one, figure) for one in measured if (one.case, one.estimator, one.num_runs) == asked]
    return statistics.median(found) if found else math.nan


def _details(measured: list[Measurement]) -> str:
    head = (
        "task and recipe",
        "runs",
        "estimator",
        "Pearson",
        "Spearman",
        "RMSE",
        "coverage",
        "width",
        "CPU s to score",
    )
    rows = [
        (case, str(num_runs), name, *_figures(measured, case, name, num_runs))
        for case in dict.fromkeys(one.case for one in measured)
        for num_runs in _counts(measured, case)
        for name in ESTIMATORS
    ]
    return _table(head, rows)


def _figures(measured: list[Measurement], case: str, name: str, num_runs: int) -> tuple[str, ...]:
    pearson, spearman, rmse, coverage, width, seconds = (
        _median(measured, case, name, num_runs, figure)
        for figure in ("pearson", "spearman", "rmse", "coverage", "width", "cpu_seconds")
    )
    intervals = ("", "") if math.isnan(coverage) else (f"{100 * coverage:.1f} %", f"{width:.2f}")
    return f"{pearson:.3f}", f"{spearman:.3f}", f"{rmse:.3f}", *intervals, f"{seconds:.2f}"


_HEAD_EXACT = ("runs", "estimator", "Pearson", "Spearman", "RMSE")


def _rows_exact(exact: list[Measurement]) -> list[tuple[str, ...]]:
    case = exact[0].case
    return [
        (str(num_runs), name, *_figures(exact, case, name, num_runs)[:3])
        for num_runs in _counts(exact, case)
        for name in ESTIMATORS
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, tuple("---" for _ in head), *rows))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
