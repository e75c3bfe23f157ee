"""The fast path: every way a population can be trained is timed for a few steps, and the fastest is taken."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from byrote.core import ModelError
from byrote.records import RunSpec
from byrote.training.draws import run_keys
from byrote.training.learn import Lesson, learn
from byrote.training.memory import free_bytes, step_bytes
from byrote.training.nature import Method, Nature, inspect_model, networks_of
from byrote.training.optimise import OptimiserState
from byrote.training.population import DTYPES, TrainingData, make_network, run_targets
from byrote.training.remembered import Remembered, situation
from byrote.training.rules import Batch, Rulebook, batch_size

STACKS = (1, 2, 4, 8, 16, 32, 64)
"""Runs stacked at once that are tried; more gain nothing and delay the first result."""
SHARE = 0.5
"""Of the memory that is free, what a stack may take."""
INSPECTED = 8
"""Inputs that are put through a model to see how it may be trained."""
TIMED_STEPS = 4
HOPELESS = 1.7
"""A way that takes this many times as long as the best so far is not timed further."""
LONG = 1.0
"""Seconds after which one way has been timed enough; half as long, and the first step counts as well."""
LARGEST = 512
"""Examples of a timed step at most: in larger batches one example takes about as long."""


class Path(NamedTuple):
    """How to train a population."""

    method: Method = "single"
    num_stacked: int = 1
    """Runs trained at once; 1 is one at a time."""
    foreign: bool = False
    """Whether layers other than the engine's behave differently while training."""
    seconds_per_visit: float = math.inf
    """Measured: one run, one example, forward and backward."""
    reason: str = ""
    """Why it is not stacked; empty when it is."""
    channels_last: bool = False
    """Images and convolutions with their channels innermost in memory: the same numbers, often sooner on a CPU."""
    num_threads: int | None = None
    """Threads within an operation; None leaves torch's setting. Tiny networks are faster with one."""
    bytes_per_run: int = 0
    """Measured: what a run takes while it trains, its trace included."""


def choose_path(
    data: TrainingData,
    spec: RunSpec,
    *,
    num_runs: int,
    remembered: Remembered | None = None,
    num_workers: int = 1,
) -> Path:
    """Inspect the model, time a few steps every way it can be trained and take the fastest.

    Args:
        data: what the runs read.
        spec: one of the runs; the others differ from it in seed, order, labels, subset index and numbers of the recipe.
        num_runs: how many there will be.
        remembered: where timings are looked up and kept; None times again.
        num_workers: processes that train at the same time and share the memory.

    Raises:
        ModelError: the model cannot be built, or what it left behind would be silently wrong.
    """

    def make(seed: int) -> nn.Module:
        return make_network(spec, data, seed=seed)

    nature = inspect_model(make, data.train_x.take(_first(data, INSPECTED)))
    if spec.learner.recipe.autocast and len(nature.methods) > 1:
        reason = "in bfloat16 networks trained together would round otherwise than alone"
        nature = Nature(("single",), nature.foreign, reason)
    measured = step_bytes(lambda number: _step(Path(_stacking(nature), number), make, data, spec), nature.methods)
    per_run = math.ceil(measured * _batch_size(data, spec) / _timed_size(data, spec)) + _trace_bytes(data, spec)
    most = max(1, min(num_runs, int(SHARE * free_bytes(data.train_x.device) / num_workers / per_run)))
    candidates = list(_candidates(make(0), data, nature, most=most))
    key = situation(make(0), data, spec, candidates=[_label(path) for path in candidates])
    times = remembered.get(key) if remembered is not None else None
    if times is None or set(times) != {_label(path) for path in candidates}:
        times = _race(candidates, make, data, spec)
        if remembered is not None:
            remembered.put(key, spec=spec, times=times)
    timed = [path._replace(seconds_per_visit=times[_label(path)], bytes_per_run=per_run) for path in candidates]
    best = _best(timed, nature)
    with threads(best.num_threads):  # By the clock on the wall, which what else the machine does is a part of.
        now = _seconds(best._replace(num_threads=None), make, data, spec, best=math.inf)
    return best._replace(seconds_per_visit=max(best.seconds_per_visit, now))


def _best(timed: list[Path], nature: Nature) -> Path:
    best = min(timed, key=lambda path: path.seconds_per_visit)
    if best.num_stacked > 1:
        return best
    stacked = [path.seconds_per_visit for path in timed if path.num_stacked > 1]
    ratio = min(stacked, default=math.inf) / best.seconds_per_visit
    faster = f"one at a time is {ratio:.1f} times as fast" if stacked else "there is only one run, or room for one"
    return best._replace(reason=nature.reason or faster)


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """So many threads within an operation, for a while."""
    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)


def _first(data: TrainingData, number: int) -> torch.Tensor:
    return torch.arange(min(number, len(data.train_x)), device=data.train_x.device)


def _stacking(nature: Nature) -> Method:
    """The way that is tried first for many runs."""
    return nature.methods[1] if len(nature.methods) > 1 else "single"


def _label(path: Path) -> str:
    """`dense x16, 1 thread`."""
    layout = " channels-last" if path.channels_last else ""
    count = "" if path.num_threads is None else f", {path.num_threads} thread{'s' * (path.num_threads > 1)}"
    return f"{path.method}{layout} x{path.num_stacked}{count}"


def _candidates(module: nn.Module, data: TrainingData, nature: Nature, *, most: int) -> Iterator[Path]:
    """Every way worth timing, the surest first."""
    device = data.train_x.device
    convolves = data.train_x.values.ndim == 4 and any(isinstance(layer, nn.Conv2d) for layer in module.modules())
    on_cpu = device.type == "cpu"
    layouts = (False, True) if convolves and on_cpu else (False,)
    counts = sorted({1, torch.get_num_threads()}) if on_cpu else [None]
    for number in counts:
        for layout in layouts:
            yield Path("single", foreign=nature.foreign, channels_last=layout, num_threads=number)
        for method in nature.methods[1:]:
            for size in sorted({min(size, most) for size in STACKS}):
                if size > 1 or method == "dense":
                    yield Path(method, size, num_threads=number)


def _batch_size(data: TrainingData, spec: RunSpec) -> int:
    return batch_size(spec, num_examples=len(data.train_x))


def _timed_size(data: TrainingData, spec: RunSpec) -> int:
    """Examples of a timed step. What it takes in memory grows at most in proportion to these."""
    return min(LARGEST, _batch_size(data, spec))


def _trace_bytes(data: TrainingData, spec: RunSpec) -> int:
    """Loss and margin of every epoch; outputs, and what is made of them."""
    trace = 2 * spec.learner.recipe.epochs + 4 * data.task.num_outputs
    return len(data.train_x) * trace * DTYPES[spec.learner.recipe.dtype].itemsize


def _race(
    candidates: list[Path], make: Callable[[int], nn.Module], data: TrainingData, spec: RunSpec
) -> dict[str, float]:
    """Seconds per visit of every candidate: the least over a few steps; infinite for one that fails or is hopeless.

    Candidates come in order of size. Larger stacks are not tried where smaller ones were far behind, or where doubling
    twice gained nothing.
    """
    times: dict[str, float] = {}
    tried: dict[tuple[Method, int | None], list[float]] = {}
    for path in candidates:
        best = min(times.values(), default=math.inf)
        before = tried.setdefault((path.method, path.num_threads), [])
        hopeless = bool(before) and path.num_stacked > 1 and (before[-1] > HOPELESS * best or _is_rising(before))
        seconds = math.inf if hopeless else _seconds(path, make, data, spec, best=best)
        before.append(seconds)
        times[_label(path)] = seconds
    return times


def _is_rising(seconds: list[float]) -> bool:
    return len(seconds) > 2 and min(seconds[-2:]) > min(seconds[:-2])


def _seconds(path: Path, make: Callable[[int], nn.Module], data: TrainingData, spec: RunSpec, *, best: float) -> float:
    """The least time of a step, per run and example; infinite when the path fails. The first step, which takes longer,
    does not count unless it is a long one.

    Of one thread the processor's time is taken, which other work on the machine does not lengthen.
    """
    visits = path.num_stacked * _timed_size(data, spec)
    clock = time.thread_time if path.num_threads == 1 else time.perf_counter
    least, began = math.inf, time.perf_counter()
    with threads(path.num_threads):
        try:
            step = _step(path, make, data, spec)
            for number in range(1 + TIMED_STEPS):
                begins = clock()
                step()
                if data.train_x.device.type == "cuda":
                    torch.cuda.synchronize(data.train_x.device)
                taken = clock() - begins
                if not number and taken < LONG / 2:
                    continue
                least = min(least, taken / visits)
                if least > HOPELESS * best or time.perf_counter() - began > LONG:
                    break
        except (ModelError, MemoryError, torch.OutOfMemoryError):
            if path == Path("single", foreign=path.foreign, num_threads=path.num_threads):
                raise
            return math.inf  # A module that calls view() may need its channels where they were.
    return least


def _step(path: Path, make: Callable[[int], nn.Module], data: TrainingData, spec: RunSpec) -> Callable[[], object]:
    """A training step that can be taken again and again."""
    number, recipe, device = path.num_stacked, spec.learner.recipe, data.train_x.device
    modules = [make(seed) for seed in range(number)]
    networks = networks_of(
        path.method,
        modules,
        device=device,
        foreign=path.foreign,
        channels_last=path.channels_last,
        autocast=recipe.autocast,
    )
    size = _timed_size(data, spec)
    drawn = run_targets([spec], data)
    targets, included = (part[:, :size].expand(number, -1) for part in drawn)
    order = _first(data, size).expand(number, -1)
    rules = Rulebook([recipe] * number, total=1, device=device).at(Batch(0, 0, 0, size, 0))
    state = OptimiserState()
    keys = run_keys(range(number), "draws", device=device)

    shares = included.to(data.train_x.dtype) / size

    def step() -> object:
        lesson = Lesson(data.train_x.take(order), targets, included, shares, keys, 0)
        return learn(networks, lesson, rules=rules, state=state, regression=bool(data.task.regression))

    return step
