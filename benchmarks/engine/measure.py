"""What one child process does: one contender on one case, pinned to one core, with one thread."""

import os
import resource
import sys
import time
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from benchmarks.engine.contenders import Contender
from benchmarks.engine.population import choose
from benchmarks.engine.work import Work

from byrote.training import Path

PEAK_SIZE = 2048
"""Rows and columns of the matrices that the peak is measured with."""
PEAK_SECONDS = 0.6
MEGABYTE = 1024**2


@final
@dataclass(frozen=True, kw_only=True)
class Cost:
    """What so many runs cost, together."""

    num_runs: int
    cpu_seconds: float
    """User and system time of the process, all threads."""
    wall_seconds: float
    peak_mb: float
    """Most memory held at a time, beyond what was held before: interpreter, libraries, data, a warmed-up loop."""
    accuracies: list[float]
    """Share of held-out examples each run got right in the end."""


class Chosen(NamedTuple):
    """A path, and what it cost to choose it."""

    path: Path
    cpu_seconds: float
    wall_seconds: float


def measure(work: Work, contender: Contender, *, core: int | None, seconds: float, first_seed: int) -> Cost:
    """Warm up, then train until so many seconds have passed, and two networks at least.

    Args:
        work: the case, and how many networks are handed over at once.
        contender: who trains.
        core: where.
        seconds: the least wall time.
        first_seed: seeds count from here.
    """
    pin(core)
    contender.ready(work.first_steps())(range(min(work.num_together, 2)))
    train, before = contender.ready(work), _resident()
    accuracies: list[float] = []
    began, cpu_began = time.perf_counter(), time.process_time()
    while len(accuracies) < 2 or time.perf_counter() - began < seconds:
        first = first_seed + len(accuracies)
        accuracies += train(range(first, first + work.num_together))
    cpu, wall = time.process_time() - cpu_began, time.perf_counter() - began
    return Cost(
        num_runs=len(accuracies),
        cpu_seconds=cpu,
        wall_seconds=wall,
        peak_mb=max(0.0, _most_resident() - before) / MEGABYTE,
        accuracies=accuracies,
    )


def choose_timed(work: Work, *, population: int, core: int | None) -> Chosen:
    """Let byrote choose how to train a population, as in a process that has never done so."""
    pin(core)
    began, cpu_began = time.perf_counter(), time.process_time()
    path = choose(work, population=population)
    return Chosen(path, time.process_time() - cpu_began, time.perf_counter() - began)


def matrix_product_peak(*, core: int | None, device: str) -> float:
    """Floating-point operations a second of a large float32 matrix product: the fastest of those in `PEAK_SECONDS`.

    Seconds are CPU time, as costs are, so that a busy neighbour does not lower the peak; on a GPU they are wall time.
    """
    pin(core)
    one, two = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device) for _ in range(2))
    product = torch.mm(one, two)
    clock = time.process_time if device == "cpu" else time.perf_counter
    fastest, end = float("inf"), clock() + PEAK_SECONDS
    while clock() < end:
        began = clock()
        torch.mm(one, two, out=product)
        if device == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, clock() - began)
    return 2 * PEAK_SIZE**3 / fastest


def pin(core: int | None) -> None:
    """One thread, on this core where the system lets us choose one."""
    torch.set_num_threads(1)
    if core is not None and sys.platform == "linux":
        os.sched_setaffinity(0, {core})


def _resident() -> float:
    """Bytes in memory now; where the system does not say, the most until now."""
    if sys.platform != "linux":
        return _most_resident()
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _most_resident() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
