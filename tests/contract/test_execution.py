"""What every executor does: train what is missing, in order of importance, in time, and keep what is done."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from byrote.baselines import fit_baseline
from byrote.core import ModelError, StoreError
from byrote.data import Task, inclusion, randomise_targets, sample_positions
from byrote.execution import (
    AbstractExecutor,
    Deadline,
    Keeper,
    LocalExecutor,
    ProcessExecutor,
    Progress,
    alone,
    deadline,
    desk,
    forecast,
    processes,
    session,
)
from byrote.execution.shards import Shard, Way, cut_shards
from byrote.models import linear, mlp
from byrote.records import (
    NOTHING,
    Baseline,
    CorruptedLabels,
    ExactMatch,
    Extras,
    Fit,
    FitSpec,
    Forest,
    GaussianInputs,
    KernelMachine,
    NearestNeighbours,
    Run,
    RunCurves,
    RunSpec,
    Sample,
    ShuffledInputs,
    Trace,
)
from byrote.store import AbstractStore, FolderStore, MemoryStore
from byrote.training import Checkpoint, Given, Remembered, batchmates, train, training_data
from byrote.training import Path as TrainingPath
from deadly import Greedy, deadly, quarrelsome
from small_networks import Dropping, FailsOnBatches, Restless
from small_tasks import ALONE, CPU, SUBSET, assert_same, classes, numbers, numbers_of, population, spec, stacked
from stillborn import stillborn

CLASSES, NUMBERS = classes(), numbers()
Make = Callable[..., AbstractExecutor]


@pytest.fixture(scope="module")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> Remembered:
    """Timings of a model are taken once for all tests."""
    return Remembered(tmp_path_factory.mktemp("timings"))


@pytest.fixture(scope="module")
def workers() -> Iterator[Callable[[Task], processes.Processes]]:
    """Worker processes for each task, the same for all tests: it takes seconds to start one."""
    crews: dict[str, processes.Processes] = {}

    def workers_of(task: Task) -> processes.Processes:
        if task.fingerprint not in crews:
            number = 2 if task is CLASSES else 1
            crews[task.fingerprint] = processes.Processes(task, device=CPU, num_workers=number, num_threads=1)
        return crews[task.fingerprint]

    yield workers_of
    for crew in crews.values():
        crew.close()
    assert multiprocessing.active_children() == []


@pytest.fixture
def with_workers(
    workers: Callable[[Task], processes.Processes], remembered: Remembered, monkeypatch: pytest.MonkeyPatch
) -> Make:
    def make(task: Task, store: Keeper | None = None) -> AbstractExecutor:
        made = ProcessExecutor(task, store=store or MemoryStore(), device=CPU, workers=2, remembered=remembered)
        monkeypatch.setattr(made, "_processes", workers(task))
        return made

    return make


@pytest.fixture
def in_process(remembered: Remembered) -> Make:
    def make(task: Task, store: Keeper | None = None) -> AbstractExecutor:
        return LocalExecutor(task, store=store or MemoryStore(), device=CPU, remembered=remembered)

    return make


@pytest.fixture(params=["in_process", "with_workers"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.getfixturevalue(request.param)


def executor(task: Task, store: AbstractStore | None = None) -> LocalExecutor:
    return LocalExecutor(task, store=store or MemoryStore(), device=CPU)


def many(task: Task, num_runs: int, **changed: Any) -> list[RunSpec]:
    return [spec(task, mlp(width=3), seed=seed, epochs=2, **changed) for seed in range(num_runs)]


def mixed(task: Task) -> list[RunSpec]:
    """Runs of several groups, interleaved: other models, orders, inputs, subsets and samples."""
    groups = [
        population(task, mlp(width=3), epochs=2)[:3],
        [spec(task, linear(), seed=seed, epochs=2) for seed in range(3)],
        [spec(task, Dropping, seed=seed, epochs=2) for seed in range(3)],
        [replace(one, inputs=GaussianInputs()) for one in many(task, 3)],
        [replace(one, sample=Sample(train=20, test=6, draw=1)) for one in many(task, 3)],
        [replace(one, order=8) for one in many(task, 3)],
        [replace(one, inputs=ShuffledInputs(draw=2)) for one in many(task, 3)],
    ]
    return [group[index] for index in range(3) for group in groups]


# --- what is trained -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_it_trains_everything_that_is_asked_for_as_the_engine_does(make: Make, task: Task) -> None:
    store, specs = MemoryStore(), mixed(task)
    assert make(task, store).train(specs)
    for one in specs:
        data = training_data(task, inputs=one.inputs, sample=one.sample, device=CPU, dtype=torch.float64)
        path = ALONE._replace(foreign=one.learner.model.name.endswith("Dropping"))
        assert_same(train([one], data, path=path)[0], store.read_run(one))


def test_what_is_stored_is_not_trained_again(make: Make, tmp_path: Path) -> None:
    specs = many(CLASSES, 3)
    first = make(CLASSES, FolderStore(tmp_path))
    assert first.train(specs)
    assert first.num_trained == 3
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = make(CLASSES, FolderStore(tmp_path))
    assert again.missing(specs) == []
    assert again.train(specs)
    assert again.trained == frozenset()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps


def test_runs_added_to_an_old_list_are_trained_alone(make: Make) -> None:
    store = MemoryStore()
    make(CLASSES, store).train(many(CLASSES, 3))
    later = make(CLASSES, store)
    assert later.missing(many(CLASSES, 5)) == many(CLASSES, 5)[3:]
    assert later.train(many(CLASSES, 5))
    assert later.num_trained == 2


def test_a_spec_asked_for_twice_is_trained_once(make: Make) -> None:
    one = many(CLASSES, 1)
    twice = make(CLASSES)
    assert twice.missing(one + one) == one
    assert twice.train(one + one)
    assert twice.num_trained == 1


def test_the_order_of_the_specs_does_not_change_a_run(make: Make) -> None:
    forwards, backwards, specs = MemoryStore(), MemoryStore(), mixed(CLASSES)
    assert make(CLASSES, forwards).train(specs)
    assert make(CLASSES, backwards).train(specs[::-1])
    for one in specs:
        assert_same(forwards.read_run(one), backwards.read_run(one))


def test_specs_of_another_task_are_refused(make: Make) -> None:
    strangers = many(classes(seed=1), 1)
    with pytest.raises(ValueError, match=f"with the fingerprint {CLASSES.fingerprint}, got {strangers[0].task}"):
        make(CLASSES).train(strangers)
    with pytest.raises(ValueError, match="Expected specs of the task"):
        make(CLASSES).fit([FitSpec(task="0", baseline=ExactMatch(), seed=0)])


def test_a_model_that_would_be_silently_wrong_is_refused_before_anything_is_trained(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="evaluation mode"):
        make(CLASSES, FolderStore(tmp_path)).train([*many(CLASSES, 1), spec(CLASSES, Restless)])
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_says_so(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreError, match="Could not write"):
        make(CLASSES, FolderStore(tmp_path / "file")).train(many(CLASSES, 1))


def test_prediction_is_above_zero_and_grows_with_epochs() -> None:
    one = executor(CLASSES)
    short, long = (spec(CLASSES, linear(), epochs=epochs) for epochs in (2, 20))
    assert 0 < one.predicted_seconds(short) < one.predicted_seconds(long) < 10 * one.predicted_seconds(short)
    assert one.seconds_per_run(short, num_runs=4) > 0


def test_predictions_know_how_many_workers_can_be_busy(monkeypatch: pytest.MonkeyPatch, remembered: Remembered) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(os.cpu_count()))
    here, one = executor(CLASSES), many(CLASSES, 1)[0]
    many_workers = ProcessExecutor(CLASSES, store=MemoryStore(), device=CPU, workers=64, remembered=remembered)
    assert many_workers.num_workers == 64
    seconds = many_workers.predicted_seconds(one, num_runs=1)
    assert many_workers.predicted_seconds(one) == pytest.approx(seconds / min(64, os.cpu_count() or 1))
    assert here.predicted_seconds(one) == here.predicted_seconds(one, num_runs=1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Populations that were timed: of at most 16 runs at once, four times as fast together as alone."""
    sizes: list[int] = []

    def choose_path(data: Any, one: RunSpec, *, num_runs: int, **others: Any) -> TrainingPath:
        sizes.append(num_runs)
        return stacked(min(num_runs, 16))._replace(seconds_per_visit=1.0 if num_runs == 1 else 0.25)

    monkeypatch.setattr(forecast, "choose_path", choose_path)
    return sizes


def planned() -> forecast.Forecast:
    return forecast.Forecast(desk.Desk(CLASSES, device=CPU), num_workers=1, num_threads=None, remembered=None)


def test_few_runs_first_do_not_keep_many_from_being_trained_together(asked: list[int]) -> None:
    one, made = many(CLASSES, 1)[0], planned()
    sizes = [made.way(one, number).path.num_stacked for number in (1, 2, 64, 3, 1, 40, 100, 9)]
    assert sizes == [1, 2, 16, 4, 1, 16, 16, 16]
    assert asked == [1, 2, 64, 4]  # One size says enough about others; none is timed twice.


def test_a_prediction_does_not_decide_how_many_are_trained_together(asked: list[int]) -> None:
    one, made = spec(CLASSES, mlp(width=3), epochs=1), planned()
    assert made.predicted_seconds(one) > 0
    assert asked == [forecast.MANY]
    assert made.way(one, 64).path.num_stacked == 16


def test_what_was_learnt_of_one_way_holds_for_another_in_proportion(asked: list[int]) -> None:
    one, made = many(CLASSES, 1)[0], planned()
    alone, together = made.way(one, 1), made.way(one, 16)
    assert together.seconds == pytest.approx(alone.seconds / 4)
    made.learn(one, path=alone.path, seconds=8.0)
    assert (made.way(one, 1).seconds, made.way(one, 16).seconds) == (8.0, pytest.approx(2.0))
    made.learn(one, path=alone.path._replace(seconds_per_visit=float("inf")), seconds=3.0)  # timed in vain
    assert made.way(one, 16).seconds == 3.0


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": 2, "threads_per_worker": -1}])
def test_fewer_than_one_worker_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected (workers|threads_per_worker) at least 1, got"):
        ProcessExecutor(CLASSES, store=MemoryStore(), device=CPU, **wrong)


def test_what_is_asked_besides_training_is_there_and_makes_old_runs_be_trained_again(make: Make) -> None:
    store, specs, probe = MemoryStore(), many(CLASSES, 3), Checkpoint(at=Given(steps=(0, 3)))
    made = make(CLASSES, store)
    assert made.train(specs[:1])
    assert made.train(specs, probes=[probe], keep_weights=True)
    assert made.trained == set(specs)
    for one in specs:
        run = store.read_run(one)
        assert run.probes[probe.key].steps.tolist() == [0, 3]
        assert run.weights is not None
    extras = Extras(probes=(probe.key,), weights=True)
    assert made.missing(specs, extras=extras) == []
    assert made.train(specs)
    assert made.num_trained == 3


def test_every_shard_that_is_kept_is_told_of(make: Make) -> None:
    store, kept = MemoryStore(), [0]
    specs = mixed(CLASSES)

    def look() -> None:
        kept.append(sum(one in store for one in specs))

    assert make(CLASSES, store).train(specs, on_shard=look)
    assert kept == sorted(set(kept))
    assert len(kept) > 7
    assert kept[-1] == len(specs)


# --- how work is cut -------------------------------------------------------------------------------------------------


def cut(specs: Sequence[RunSpec], *, num_workers: int) -> list[list[RunSpec]]:
    """Eight stacked at once, a second each."""
    way = Way(stacked(8), 1.0)
    shards = cut_shards(specs, way=lambda one, num_runs: way, num_workers=num_workers)
    assert all(shard.cost == len(shard.specs) for shard in shards)
    return [list(shard.specs) for shard in shards]


def test_many_runs_are_cut_alike_for_every_number_of_workers() -> None:
    specs = many(CLASSES, 64)
    assert cut(specs, num_workers=1) == cut(specs, num_workers=2) == cut(specs, num_workers=8)
    assert cut(specs, num_workers=8) == [specs[begin : begin + 8] for begin in range(0, 64, 8)]


@pytest.mark.parametrize("num_workers", [1, 2, 3, 7, 40])
def test_no_shard_takes_longer_than_a_fair_share_of_the_work(num_workers: int) -> None:
    specs = mixed(CLASSES)
    shards = cut(specs, num_workers=num_workers)
    assert sorted(one.key for shard in shards for one in shard) == sorted(one.key for one in specs)
    assert max(map(len, shards)) <= max(1, len(specs) / num_workers)
    for shard in shards:
        assert len({batchmates(one) for one in shard}) == 1


@pytest.mark.parametrize(("seconds_left", "most"), [(1000.0, 8), (35.0, 3), (4.0, 1), (-1.0, 1)])
def test_before_a_deadline_no_shard_of_a_worker_is_a_large_part_of_the_time_left(
    seconds_left: float, most: int
) -> None:
    specs, way = many(CLASSES, 64), Way(stacked(8), 1.0)
    alone, aside = (
        [
            list(shard.specs)
            for shard in cut_shards(specs, way=lambda *_: way, num_workers=number, seconds_left=seconds_left)
        ]
        for number in (1, 2)
    )
    assert max(map(len, aside)) == most
    assert [one for shard in aside for one in shard] == specs
    assert max(map(len, alone)) == 8


def test_a_shard_that_is_cut_short_is_trained_as_so_few_are() -> None:
    """Of three each takes twice as long as of 64."""
    ways = {number: Way(stacked(number), {64: 1.0, 3: 2.0}[number]) for number in (64, 3)}
    shards = cut_shards(many(CLASSES, 64), way=lambda one, number: ways[number], num_workers=2, seconds_left=35.0)
    assert {(shard.path.num_stacked, shard.cost / len(shard.specs)) for shard in shards} == {(3, 2.0)}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_same_path_gives_the_same_bits_with_and_without_workers(
    num_workers: int, in_process: Make, with_workers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "choose_path", lambda data, one, **asked: TrainingPath("dense", 4, num_threads=1))
    here, there = MemoryStore(), MemoryStore()
    specs = many(CLASSES, 12, dtype="float32")
    assert in_process(CLASSES, here).train(specs)
    executor = with_workers(CLASSES, there)
    monkeypatch.setattr(executor, "num_workers", num_workers)
    assert executor.train(specs)
    for one in specs:
        expected = numbers_of(here.read_run(one))
        for name, values in numbers_of(there.read_run(one)).items():
            np.testing.assert_array_equal(values, expected[name], err_msg=name)


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_what_a_model_raises_is_the_same_with_and_without_workers(in_process: Make, with_workers: Make) -> None:
    words: list[str] = []
    for make in (in_process, with_workers):
        with pytest.raises(ModelError, match="five is not my number") as caught:
            make(CLASSES).train([spec(CLASSES, FailsOnBatches, dtype="float32")])
        words.append(str(caught.value))
    assert words[0] == words[1]
    assert "in forward" in str(caught.value.__cause__)  # where in the worker


def test_an_error_that_cannot_travel_arrives_in_words(with_workers: Make) -> None:
    with pytest.raises(ModelError, match="QuarrelError: nobody talks to everybody"):
        with_workers(CLASSES).train([spec(CLASSES, quarrelsome)])


def test_a_model_that_cannot_travel_is_refused(with_workers: Make) -> None:
    def locked(task: Task, lock: Any = threading.Lock()) -> torch.nn.Module:  # noqa: B008
        return torch.nn.Linear(task.input_shape[0], task.num_outputs)

    with pytest.raises(ModelError, match=r"cannot be taken to a worker process: TypeError: cannot pickle"):
        with_workers(CLASSES).train([spec(CLASSES, locked)])


def test_a_model_from_a_module_that_workers_cannot_import_is_refused(
    with_workers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghost = types.ModuleType("ghost")
    exec("from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(5, 3)", vars(ghost))
    monkeypatch.setitem(sys.modules, "ghost", ghost)
    with pytest.raises(ModelError, match=r"could not be taken to a worker process.*No module named 'ghost'"):
        with_workers(CLASSES).train([spec(CLASSES, ghost.Net)])


def test_what_does_not_fit_into_memory_is_trained_fewer_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def narrow(specs: Sequence[RunSpec], data: Any, **asked: Any) -> list[Run]:
        sizes.append(len(specs))
        if len(specs) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return train(specs, data, **asked)

    monkeypatch.setattr(desk, "train", narrow)
    monkeypatch.setattr(forecast, "choose_path", lambda data, one, **asked: TrainingPath("dense", 8))
    store, specs, heard = MemoryStore(), many(CLASSES, 16), list[Progress]()
    made = executor(CLASSES, store)
    assert made.train(specs, on_progress=heard.append)
    assert sizes == [8, 4, *[2] * 8]
    assert made.failures == []
    assert_progress(heard)
    for one in specs:
        assert store.read_run(one).spec == one


def test_what_does_not_fit_even_alone_is_given_up_and_told(make: Make) -> None:
    store, ordinary = MemoryStore(), many(CLASSES, 3)
    greedy = [spec(CLASSES, Greedy, seed=seed, epochs=2) for seed in range(2)]
    made = make(CLASSES, store)
    assert not made.train([greedy[0], *ordinary, greedy[1]])
    assert made.missing([*ordinary, *greedy]) == greedy
    assert len(made.failures) == 2
    for told in made.failures:
        assert "Out of memory" in told
        assert "five is too much" in told
        assert "Greedy" in told


def test_a_worker_that_dies_costs_its_shard_once_and_only_its_own(with_workers: Make, tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    (tmp_path / "always").mkdir()
    dies_once = functools.partial(deadly, folder=str(tmp_path / "once"), times=1)
    dies_always = functools.partial(deadly, folder=str(tmp_path / "always"), times=99, status=3)
    once, always = (spec(CLASSES, model, epochs=2) for model in (dies_once, dies_always))
    store, ordinary, heard = MemoryStore(), many(CLASSES, 6), list[Progress]()
    made = with_workers(CLASSES, store)
    assert not made.train([once, always, *ordinary], on_progress=heard.append)
    assert made.missing([once, always, *ordinary]) == [always]
    assert len(list((tmp_path / "always").iterdir())) == 2
    assert_progress(heard)
    assert sorted("killed (SIGKILL" in told for told in made.failures) == [False, False, True]
    assert sum("ended by itself (exit status 3)" in told for told in made.failures) == 2
    assert sum("given up" in told for told in made.failures) == 1
    expected = MemoryStore()
    executor(CLASSES, expected).train([once])
    assert_same(expected.read_run(once), store.read_run(once))
    assert not made.train([always])  # It has had its chances.
    assert len(list((tmp_path / "always").iterdir())) == 2


def test_workers_that_never_come_to_life_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "work", stillborn)
    with (
        ProcessExecutor(CLASSES, store=MemoryStore(), device=CPU, workers=1) as made,
        pytest.raises(ChildProcessError, match=r"2 in a row, the last one ended by itself \(exit status 7\)"),
    ):
        made.train(many(CLASSES, 1))


# --- several processes on one store ----------------------------------------------------------------------------------


@dataclass
class Neighbour:
    """A store at which another process holds specs, until so much else is kept and it has been looked at again."""

    held: list[RunSpec | FitSpec]
    finishes: bool
    """Then it has finished; otherwise it has died."""
    until: int
    """Records kept by others."""
    looks: int = 3
    store: MemoryStore = field(default_factory=MemoryStore)

    def has(self, one: RunSpec | FitSpec, /, *, extras: Extras = NOTHING) -> bool:
        return self.store.has(one, extras=extras)

    @contextmanager
    def claim(self, specs: Sequence[RunSpec | FitSpec], /) -> Iterator[tuple[RunSpec | FitSpec, ...]]:
        self.looks -= self.until <= 0 and any(one in self.held for one in specs)
        if self.looks == 0:
            for one in self.held if self.finishes else []:
                if isinstance(one, RunSpec):
                    self.store.write_run(fake_run(one))
                else:
                    few = np.zeros((1, 1))
                    self.store.write_fit(Fit(spec=one, train_outputs=few, test_outputs=few, note="", seconds=1.0))
            self.held.clear()
        with self.store.claim([one for one in specs if one not in self.held]) as mine:
            yield mine

    def write_run(self, run: Run, /) -> None:
        self.until -= 1
        self.store.write_run(run)

    def write_fit(self, fit: Fit, /) -> None:
        self.until -= 1
        self.store.write_fit(fit)


@pytest.mark.parametrize("finishes", [True, False], ids=["it finishes", "it dies"])
def test_runs_of_another_process_are_waited_for_or_taken_over(
    finishes: bool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PATIENCE", 0.01)
    specs, heard = many(CLASSES, 6), list[Progress]()
    others = [specs[1], specs[4]]
    store = Neighbour(held=[*others], finishes=finishes, until=4)
    made = make(CLASSES, store)
    assert made.train(specs, on_progress=heard.append)
    assert made.trained == {one for one in specs if not finishes or one not in others}
    assert_progress(heard)
    assert "training in another process" in {progress.stage for progress in heard}


@pytest.mark.parametrize("finishes", [True, False], ids=["it finishes", "it dies"])
def test_fits_of_another_process_are_waited_for_or_taken_over(
    finishes: bool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PATIENCE", 0.01)
    specs, heard = fits(), list[Progress]()
    store = Neighbour(held=[specs[1]], finishes=finishes, until=3)
    assert make(CLASSES, store).fit(specs, on_progress=heard.append)
    assert_progress(heard)
    assert "fitting nearest neighbour in another process" in {progress.stage for progress in heard}
    assert (store.store.read_fit(specs[1]).seconds == 1.0) == finishes


def test_nobody_is_waited_for_after_the_deadline(make: Make) -> None:
    specs = many(CLASSES, 2)
    store, now = Neighbour(held=[*specs], finishes=True, until=1), time.monotonic()
    assert not make(CLASSES, store).train(specs, deadline=Deadline(began=now, ends=now + 0.6))
    assert time.monotonic() - now < 2.0


# --- interruption ----------------------------------------------------------------------------------------------------


def test_an_interruption_keeps_what_is_done_and_leaves_nothing_else(tmp_path: Path) -> None:
    groups = [replace(one, inputs=ShuffledInputs(draw=draw)) for draw in range(4) for one in many(CLASSES, 2)]
    heard = 0

    def interrupt(progress: Progress) -> None:
        nonlocal heard
        heard += 1
        if len(list((tmp_path / "runs").glob("*"))) >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor(CLASSES, FolderStore(tmp_path)).train(groups, on_progress=interrupt)
    assert heard > 0
    kept = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert kept == sorted(one.key for one in groups[:4])
    later = executor(CLASSES, FolderStore(tmp_path))
    assert later.train(groups)
    assert later.num_trained == 4
    uninterrupted = MemoryStore()
    executor(CLASSES, uninterrupted).train(groups)
    for one in groups:
        assert_same(uninterrupted.read_run(one), FolderStore(tmp_path).read_run(one))


@pytest.mark.parametrize("how", ["interrupted", "no claims"])
def test_a_finished_shard_is_kept_though_the_next_cannot_be_handed_out(
    how: str, with_workers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finished goes on before its records are written."""
    store, num_handed_out, begin = MemoryStore(), 0, session.Session._begin
    monkeypatch.setattr(forecast, "choose_path", lambda data, one, **asked: TrainingPath("single", num_threads=1))

    def refuse(work: session.Session, shard: Shard) -> None:
        nonlocal num_handed_out
        num_handed_out += 1
        if num_handed_out == 3:
            raise KeyboardInterrupt if how == "interrupted" else StoreError("no claim can be made")
        begin(work, shard)

    monkeypatch.setattr(session.Session, "_begin", refuse)
    made, specs = with_workers(CLASSES, store), many(CLASSES, 4)
    with pytest.raises(KeyboardInterrupt if how == "interrupted" else StoreError):
        made.train(specs)
    assert sum(one in store for one in specs) == made.num_trained == 1


# --- progress --------------------------------------------------------------------------------------------------------


def assert_progress(heard: list[Progress]) -> None:
    done = [progress.done for progress in heard]
    assert done == sorted(done)
    assert len({progress.total for progress in heard}) == 1
    assert done[0] >= 0
    assert done[-1] == pytest.approx(heard[-1].total)


def test_progress_never_falls_and_ends_at_the_total(make: Make) -> None:
    heard: list[Progress] = []
    assert make(CLASSES).train(mixed(CLASSES), on_progress=heard.append)
    assert_progress(heard)
    assert {progress.stage for progress in heard} == {"training"}
    assert len(heard) >= 2 * 7  # seven groups of two epochs


def test_workers_tell_how_far_they_are_while_they_train(with_workers: Make) -> None:
    heard: list[Progress] = []
    specs = [spec(CLASSES, mlp(width=3), seed=seed, epochs=600) for seed in range(2)]
    assert with_workers(CLASSES).train(specs, on_progress=heard.append)
    assert_progress(heard)
    assert len({progress.done for progress in heard} - {0.0, heard[-1].total}) >= 4


# --- time, on a clock of our own -------------------------------------------------------------------------------------


def fake_run(one: RunSpec) -> Run:
    nothing = np.zeros(one.learner.recipe.epochs)
    curves = RunCurves(
        step=nothing,
        train_loss=nothing,
        train_score=nothing,
        test_loss=nothing,
        test_score=nothing,
        weight_norm=nothing,
    )
    few = np.zeros((1, 1))
    trace = Trace(loss=few, margin=few, early_error=few[0], train_outputs=few, test_outputs=few)
    return Run(spec=one, status="completed", message="", curves=curves, trace=trace, seconds=1.0)


@dataclass
class World:
    """Trainings that take as long as they are told, on a clock that only they move."""

    predicted: float
    actual: Callable[[RunSpec], float]
    num_stacked: int = 4
    now: float = 1000.0
    shards: list[list[RunSpec]] = field(default_factory=list)

    def train(
        self, specs: Sequence[RunSpec], data: Any, *, path: TrainingPath, on_epoch: Any, **asked: Any
    ) -> list[Run]:
        self.shards.append(list(specs))
        assert len(specs) <= path.num_stacked
        for _ in range(specs[0].learner.recipe.epochs):
            self.now += sum(self.actual(one) / one.learner.recipe.epochs for one in specs)
            on_epoch(len(specs))
        return [fake_run(one) for one in specs]

    def choose_path(self, data: Any, one: RunSpec, **asked: Any) -> TrainingPath:
        num_train, num_test = len(data.train_x), len(data.test_x)
        evaluated = forecast.TEST_COST * (num_train + num_test)
        visits = one.learner.recipe.epochs * (num_train + forecast.TEST_COST * num_test) + evaluated
        return TrainingPath("stacked", self.num_stacked, seconds_per_visit=self.predicted / visits)

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(began=self.now, ends=self.now + seconds)


MakeWorld = Callable[..., World]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> MakeWorld:
    def make(**options: Any) -> World:
        made = World(**options)
        monkeypatch.setattr(desk, "train", made.train)
        monkeypatch.setattr(forecast, "choose_path", made.choose_path)
        monkeypatch.setattr(forecast, "UNREHEARSED", forecast.Speed(1.0, 0.0))
        clock = SimpleNamespace(monotonic=lambda: made.now, perf_counter=lambda: made.now)
        for module in (alone, deadline, forecast, session):
            monkeypatch.setattr(module, "time", clock)
        return made

    return make


def test_a_deadline_is_filled_and_kept(world: MakeWorld) -> None:
    made, store, specs = world(predicted=1.0, actual=lambda one: 1.0), MemoryStore(), many(CLASSES, 12)
    deadline = made.deadline(10.5)
    assert not executor(CLASSES, store).train(specs, deadline=deadline)
    assert [one for one in specs if one in store] == specs[:10]
    assert made.now == 1010.0


def test_a_deadline_is_kept_within_a_tenth_when_the_prediction_was_too_fast(world: MakeWorld) -> None:
    """Four runs are predicted to take 4 s of 10 s, and take 40 s: they are dropped at 11 s, give or take an epoch."""
    made, store = world(predicted=1.0, actual=lambda one: 10.0), MemoryStore()
    specs = [spec(CLASSES, mlp(width=3), seed=seed, epochs=80) for seed in range(4)]
    assert not executor(CLASSES, store).train(specs, deadline=made.deadline(10.0))
    assert 1011.0 < made.now <= 1011.0 + 0.5
    assert not any(one in store for one in specs)


def test_a_later_shard_is_predicted_from_an_earlier_one(world: MakeWorld) -> None:
    """Twice as slow as predicted: after four runs in 8 s, one of 2 s fits into the 3 s that are left."""
    made, store, specs = world(predicted=1.0, actual=lambda one: 2.0), MemoryStore(), many(CLASSES, 12)
    assert not executor(CLASSES, store).train(specs, deadline=made.deadline(11.0))
    assert [one for one in specs if one in store] == specs[:5]
    assert made.now == 1010.0


def test_nothing_is_begun_without_time(world: MakeWorld) -> None:
    made = world(predicted=1.0, actual=lambda one: 1.0)
    late = Deadline(began=900.0, ends=990.0)
    assert not executor(CLASSES).train(many(CLASSES, 3), deadline=late)
    assert made.shards == []
    assert late.left == -10.0
    assert late.length == 90.0


def test_everything_in_time_is_everything(world: MakeWorld) -> None:
    made = world(predicted=1.0, actual=lambda one: 1.0)
    heard: list[Progress] = []
    assert executor(CLASSES).train(many(CLASSES, 3), deadline=made.deadline(3.0), on_progress=heard.append)
    assert_progress(heard)
    assert heard[-1].total == pytest.approx(3.0)


@pytest.mark.parametrize("seconds", [0.1, 1 / 3, 0.7, 1.1, 2.3, 1e-9])
def test_progress_never_falls_by_a_rounding_error(world: MakeWorld, seconds: float) -> None:
    world(predicted=seconds, actual=lambda one: 1.0, num_stacked=3)
    heard: list[Progress] = []
    specs = [spec(CLASSES, mlp(width=3), seed=seed, epochs=7) for seed in range(12)]
    assert executor(CLASSES).train(specs, on_progress=heard.append)
    assert_progress(heard)


def test_shards_follow_importance_and_are_of_a_size(world: MakeWorld) -> None:
    made = world(predicted=1.0, actual=lambda one: 1.0)
    early, late = many(CLASSES, 9), [replace(one, inputs=GaussianInputs()) for one in many(CLASSES, 2)]
    assert executor(CLASSES).train([*early[:3], *late, *early[3:]])
    assert made.shards == [early[:3], late, early[3:6], early[6:]]
    for shard in made.shards:
        assert len({batchmates(one) for one in shard}) == 1


# --- baselines -------------------------------------------------------------------------------------------------------


FITS: list[Baseline] = [ExactMatch(), NearestNeighbours(), NearestNeighbours(num_neighbours=5), Forest(num_trees=3)]


@pytest.mark.parametrize("baseline", [*FITS, KernelMachine()], ids=lambda baseline: baseline.kind)
@pytest.mark.parametrize("task", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_a_fit_is_the_baseline_on_the_runs_own_examples(make: Make, task: Task, baseline: Baseline) -> None:
    store, labels = MemoryStore(), CorruptedLabels(fraction=0.3, draw=1)
    one = FitSpec(task=task.fingerprint, baseline=baseline, seed=4, labels=labels, subset=SUBSET)
    assert make(task, store).fit([one])
    kept, x = inclusion(task, SUBSET), task.train.x
    expected = fit_baseline(
        baseline,
        x=x[kept],
        y=randomise_targets(task, labels).targets[kept],
        queries=np.concatenate([task.test.x, x]),
        num_classes=task.num_classes,
        seed=4,
    )
    fit = store.read_fit(one)
    np.testing.assert_array_equal(fit.test_outputs, expected.outputs[:11])
    np.testing.assert_array_equal(fit.train_outputs, expected.outputs[11:])
    assert (fit.note, fit.spec) == (expected.note, one)


def test_a_fit_looks_at_the_sample_only_and_leaves_out_what_is_not_asked_for(make: Make) -> None:
    store, sample = MemoryStore(), Sample(train=15, test=4, draw=2)
    one = FitSpec(task=CLASSES.fingerprint, baseline=ExactMatch(), seed=0, sample=sample, evaluate_train=False)
    assert make(CLASSES, store).fit([one])
    fit = store.read_fit(one)
    assert fit.train_outputs is None
    assert fit.test_outputs.shape == (4, 3)
    shares = np.bincount(CLASSES.train.y[sample_positions(CLASSES, sample).train], minlength=3)
    assert fit.test_outputs.argmax(1).tolist() == [int(shares.argmax())] * 4


def fits() -> list[FitSpec]:
    return [FitSpec(task=CLASSES.fingerprint, baseline=one, seed=0) for one in FITS]


def test_fits_are_kept_and_not_made_again(make: Make, tmp_path: Path) -> None:
    heard: list[Progress] = []
    assert make(CLASSES, FolderStore(tmp_path)).fit(fits(), on_progress=heard.append)
    assert_progress(heard)
    assert list(dict.fromkeys(progress.stage for progress in heard)) == [
        "fitting exact match",
        "fitting nearest neighbour",
        "fitting 5 nearest neighbours",
        "fitting forest",
        "fitting",
    ]
    heard.clear()
    assert make(CLASSES, FolderStore(tmp_path)).fit(fits(), on_progress=heard.append)
    assert [(progress.done, progress.total) for progress in heard] == [(0, 0)]


def test_no_fit_is_begun_after_the_deadline(world: MakeWorld) -> None:
    made, store = world(predicted=1.0, actual=lambda one: 1.0), MemoryStore()
    assert not executor(CLASSES, store).fit(fits(), deadline=Deadline(began=0.0, ends=made.now))
    assert not any(one in store for one in fits())
    assert executor(CLASSES, store).fit(fits(), deadline=made.deadline(1.0))


# --- the ends of workers ---------------------------------------------------------------------------------------------


def test_workers_are_abandoned_in_time(with_workers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit of minutes at the deadline; training that was predicted to take no time when the grace is over."""
    store, endless = MemoryStore(), FitSpec(task=CLASSES.fingerprint, baseline=Forest(num_trees=10**6), seed=0)
    made = with_workers(CLASSES, store)
    assert made.train(many(CLASSES, 2))
    began = time.monotonic()
    assert not made.fit([*fits(), endless], deadline=Deadline(began=began, ends=began + 2.0))
    assert 2.0 <= time.monotonic() - began < 3.0
    assert made.missing([*fits(), endless]) == [endless]
    monkeypatch.setattr(
        forecast, "choose_path", lambda data, one, **asked: TrainingPath("single", seconds_per_visit=1e-12)
    )
    long = spec(CLASSES, mlp(width=4), epochs=100_000)
    began = time.monotonic()
    assert not made.train([long], deadline=Deadline(began=began, ends=began + 2.0))
    assert 2.2 <= time.monotonic() - began < 3.2
    assert long not in store


def test_a_worker_that_was_stopped_at_a_fit_is_replaced_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting takes seconds, which go by while the training is planned, and which it is told of."""
    monkeypatch.setattr(forecast, "choose_path", lambda *_, **__: TrainingPath("single", seconds_per_visit=1e-12))
    endless = FitSpec(task=CLASSES.fingerprint, baseline=Forest(num_trees=10**6), seed=0)
    with ProcessExecutor(CLASSES, store=MemoryStore(), device=CPU, workers=1) as made:
        crew: Any = made._crew
        assert crew.seconds_to_start == 0.0  # Nobody knows yet.
        began = time.monotonic()
        assert made.fit(fits()[:1])
        to_start = time.monotonic() - began
        assert crew.seconds_to_start == 0.0
        first = [worker.process.pid for worker in crew._workers]
        assert not made.fit([endless], deadline=ends_in(0.5))
        second = [worker.process.pid for worker in crew._workers]
        assert len(second) == len(first) == 1
        assert second != first
        soon = ends_in(0.5 * crew.seconds_to_start)
        assert 0 < soon.length < to_start
        assert not made.train(many(CLASSES, 1), deadline=soon)
        assert soon.left > 0
        assert made.train(many(CLASSES, 1))
        assert [worker.process.pid for worker in crew._workers] == second
        assert not made.train([spec(CLASSES, mlp(width=3), epochs=10**6)], deadline=ends_in(0.5))
        assert crew._workers == []
        assert 0 < crew.seconds_to_start < to_start


def ends_in(seconds: float) -> Deadline:
    now = time.monotonic()
    return Deadline(began=now, ends=now + seconds)


SCRIPT = """
import multiprocessing, os, sys
from pathlib import Path
import numpy as np
import torch
from torch import nn
from byrote.data import Examples, Task
from byrote.execution import ProcessExecutor
from byrote.records import SGD, Learner, Recipe, RunSpec
from byrote.store import FolderStore

class Net(nn.Linear):
    def __init__(self):
        print("made by", os.getpid())
        super().__init__(5, 3)

x = np.random.default_rng(0).standard_normal((40, 5))
y = x[:, :3].argmax(1)
task = Task(train=Examples(x[:30], y[:30]), test=Examples(x[30:], y[30:]))
specs = [
    RunSpec(
        task=task.fingerprint,
        learner=Learner(model=Net, recipe=Recipe(optimiser=SGD(lr=0.1), batch_size=8, epochs=epochs, dtype="float64")),
        seed=0,
        order=0,
    )
    for epochs in (1, 100_000)
]
store = FolderStore(Path(sys.argv[1]))

def tell(progress):
    if store.has(specs[0]) and multiprocessing.active_children():
        print("under way", os.getpid(), *(child.pid for child in multiprocessing.active_children()), flush=True)

ProcessExecutor(task, store=store, device=torch.device("cpu"), workers=1).train(specs, on_progress=tell)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither process groups nor SIGKILL")
@pytest.mark.parametrize("how", ["ctrl-c", "kill -9"])
def test_no_worker_outlives_its_work(how: str, tmp_path: Path) -> None:
    """A script with a model of its own, stopped in the middle of a long training."""
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "script.py", "store"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed: list[str] = []
    for line in process.stdout:
        printed.append(line)
        if line.startswith("under way"):
            break
    assert printed, process.communicate()
    parent, *workers = map(int, printed[-1].split()[2:])
    assert parent == process.pid
    assert set(printed[:-1]) == {f"made by {parent}\n"}  # What a worker prints is not among the results.
    assert len(workers) == 1
    assert running(workers[0])
    if how == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, signal.SIGKILL)
    began = time.monotonic()
    _, told = process.communicate(timeout=20)
    while running(workers[0]) and time.monotonic() < began + 5:
        time.sleep(0.01)
    assert not running(workers[0])
    assert told.count("Traceback") == told.count("KeyboardInterrupt") == (1 if how == "ctrl-c" else 0), told
    assert "made by" in told
    assert [path.name for path in (tmp_path / "store" / "runs").iterdir() if not path.name.startswith(".")] != []


def running(process: int) -> bool:
    """Whether a process is alive, and not only waiting for somebody to ask how it ended."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")
        return not state.exists() or state.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
