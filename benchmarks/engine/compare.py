"""Everything interleaved: round by round, case by case, contender by contender, each in a fresh process."""

import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from typing import NamedTuple, ParamSpec, TypeVar, final

from benchmarks.engine.cases import Case, check_operations, task_of
from benchmarks.engine.contenders import BYROTE, CONTENDERS, SHARED, Contender
from benchmarks.engine.measure import Chosen, choose_timed, matrix_product_peak, measure
from benchmarks.engine.results import Measurement, Results, Way, this_machine
from benchmarks.engine.work import Work

P = ParamSpec("P")
T = TypeVar("T")
Say = Callable[[str], None]


@final
@dataclass(frozen=True, kw_only=True)
class Options:
    """How much is measured, and where."""

    cases: tuple[Case, ...]
    repeats: int
    seconds: float
    """Least time of a measurement."""
    core: int | None
    device: str
    command: str


class _Entry(NamedTuple):
    """One row of a round."""

    work: Work
    contender: Contender
    population: int | None


def compare(options: Options, *, say: Say) -> Results:
    """Measure everything `options.repeats` times.

    Args:
        options: what.
        say: told of every measurement.
    """
    began = time.perf_counter()
    machine = this_machine(options.device)
    contenders = [contender for contender in CONTENDERS if contender.installed]
    with ProcessPoolExecutor(1, mp_context=_forkserver(contenders), max_tasks_per_child=1) as pool:
        fresh = _Fresh(pool)
        ways: list[Way] = []
        entries = [list(_entries(case, contenders, options, fresh, ways, say)) for case in options.cases]
        measurements = [
            one
            for round_ in range(options.repeats)
            for case_entries in entries
            for one in _round(round_, case_entries, options, fresh, say)
        ]
    return Results(
        machine=machine,
        command=options.command,
        repeats=options.repeats,
        seconds=time.perf_counter() - began,
        ways=ways,
        measurements=measurements,
        left_out=[contender.name for contender in CONTENDERS if not contender.installed],
    )


def _forkserver(contenders: Sequence[Contender]) -> BaseContext:
    """Children are forked from a process that has imported everything and has done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*{contender.module for contender in contenders}, "benchmarks.engine.measure"])
    return context


class _Fresh(NamedTuple):
    """Runs a function in a process of its own and waits."""

    pool: ProcessPoolExecutor

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.pool.submit(function, *args, **kwargs).result()


def _entries(
    case: Case, contenders: Sequence[Contender], options: Options, fresh: _Fresh, ways: list[Way], say: Say
) -> Iterator[_Entry]:
    check_operations(case)
    work = Work(case=case, task=task_of(case), device=options.device)
    for contender in contenders:
        if not contender.populations:
            yield _Entry(work, contender, None)
    for population in case.populations:
        chosen = fresh(choose_timed, work, population=population, core=options.core)
        together = _together(chosen, case, population, options)
        way = Way(
            case=case.name,
            population=population,
            method=_method(chosen),
            num_together=together,
            cpu_seconds=chosen.cpu_seconds,
        )
        ways.append(way)
        say(f"{case.name}, {population} together: {way.method}, chosen in {way.cpu_seconds:.1f} s")
        trained = replace(work, path=chosen.path, num_together=together)
        yield _Entry(trained, BYROTE, population)
        if population == case.judged:
            yield _Entry(trained, SHARED, population)


def _together(chosen: Chosen, case: Case, population: int, options: Options) -> int:
    """The whole population where it is trained in about three times `seconds`; otherwise as many whole chunks as take
    about `seconds`. A longer population is more of the same chunks, at the same cost per run.
    """
    chunk = min(population, chosen.path.num_stacked)
    a_run = chosen.path.seconds_per_visit * case.num_train * case.epochs
    if population * a_run <= 3 * options.seconds:
        return population
    return min(population, chunk * max(1, math.ceil(options.seconds / (a_run * chunk))))


def _method(chosen: Chosen) -> str:
    path = chosen.path
    together = f"{path.num_stacked} at once" if path.num_stacked > 1 else ""
    layout = "channels last" if path.channels_last else ""
    return ", ".join(part for part in (path.method, together, layout) if part)


def _round(round_: int, entries: Sequence[_Entry], options: Options, fresh: _Fresh, say: Say) -> Iterator[Measurement]:
    machine_peak = fresh(matrix_product_peak, core=options.core, device=options.device)
    for work, contender, population in entries:
        cost = fresh(
            measure, work, contender, core=options.core, seconds=options.seconds, first_seed=1_000_000 * (round_ + 1)
        )
        one = Measurement(
            round=round_,
            case=work.case.name,
            contender=contender.name,
            population=population,
            num_runs=cost.num_runs,
            cpu_seconds=cost.cpu_seconds / cost.num_runs,
            wall_seconds=cost.wall_seconds / cost.num_runs,
            peak_mb=cost.peak_mb,
            operations=work.case.operations(num_test=len(work.task.test), traces=contender.populations),
            machine_peak=machine_peak,
            accuracies=cost.accuracies,
        )
        say(
            f"round {round_ + 1}: {one.case}, {one.contender}{f', {population}' if population else ''}: "
            f"{1000 * one.cpu_seconds:.1f} ms a run ({one.num_runs} runs)"
        )
        yield one
