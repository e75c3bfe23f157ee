"""How the fastest way is found and remembered: never slower than one at a time by its own timings, never in the way."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from torch import nn

from byrote.core import ModelError, derive
from byrote.data import Task
from byrote.models import cnn, linear, mlp
from byrote.records import SAM, SGD, Adam, AdamW, RunSpec
from byrote.training import Path, Remembered, choose_path, paths, remembered, threads, train
from byrote.training.memory import step_bytes
from byrote.training.remembered import situation
from small_networks import Normed, Recurrent
from small_tasks import classes, data_of, population, recipe, spec

CLASSES, IMAGES = classes(), classes(shape=(2, 6, 6))
ONE = spec(CLASSES, mlp(width=7))

Seconds = Callable[[Path], float]


def timed(monkeypatch: pytest.MonkeyPatch, seconds: Seconds) -> list[Path]:
    """Let every way take the time it is said to; tells which were timed."""
    tried: list[Path] = []

    def measure(path: Path, *_: Any, **__: Any) -> float:
        tried.append(path)
        return seconds(path)

    monkeypatch.setattr(paths, "_seconds", measure)
    return tried


# --- which way is taken ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("winner", "stacks"), [("single", False), ("stacked", True), ("dense", True)])
def test_the_fastest_is_taken(winner: str, stacks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = timed(monkeypatch, lambda path: 1.0 if (path.method, path.num_stacked > 1) == (winner, stacks) else 1.5)
    path = choose_path(data_of(CLASSES, ONE), ONE, num_runs=16)
    assert (path.method, path.num_stacked > 1) == (winner, stacks)
    assert path.seconds_per_visit == 1.0
    assert {one.method for one in tried} == {"single", "stacked", "dense"}
    assert (path.reason == "") == stacks


@pytest.mark.parametrize("shift", range(6))
def test_it_is_never_slower_than_one_at_a_time_by_its_own_timings(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the timings are. The last is of the one that was taken, by the clock on the wall."""

    def seconds(path: Path) -> float:
        place = f"{path.method} {path.num_stacked} {path.num_threads} {path.channels_last}"
        return 1e-3 * (1 + derive(shift, place) % 1000)

    tried = timed(monkeypatch, seconds)
    one = spec(IMAGES, cnn(width=2))
    path = choose_path(data_of(IMAGES, one), one, num_runs=16)
    alone = [seconds(other) for other in tried[:-1] if other.method == "single"]
    assert seconds(path) <= min(alone)
    assert seconds(path) == min(map(seconds, tried[:-1]))


def test_ways_that_fail_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = timed(monkeypatch, lambda path: math.inf if path.num_stacked > 1 else 1.0)
    path = choose_path(data_of(CLASSES, ONE), ONE, num_runs=16)
    assert path.num_stacked == 1
    assert any(other.num_stacked > 1 for other in tried)


@pytest.mark.parametrize("error", [MemoryError("too large"), torch.OutOfMemoryError("too large"), ModelError("no")])
def test_a_way_that_raises_is_passed_over(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    make = paths.networks_of

    def fails(method: Any, *given: Any, **named: Any) -> Any:
        if method != "single" and len(given[0]) > 4:
            raise error
        return make(method, *given, **named)

    monkeypatch.setattr(paths, "networks_of", fails)
    specs = population(CLASSES, mlp(width=7), epochs=1)
    data = data_of(CLASSES, specs[0])
    path = choose_path(data, specs[0], num_runs=16)
    assert path.num_stacked <= 4
    assert [run.status for run in train(specs, data, path=path)] == ["completed"] * 5


def test_a_model_that_fails_one_at_a_time_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any, **named: Any) -> Any:
        raise ModelError("no")

    monkeypatch.setattr(paths, "learn", fails)
    with pytest.raises(ModelError, match="no"):
        choose_path(data_of(CLASSES, ONE), ONE, num_runs=16)


def test_one_run_is_not_stacked_and_says_why() -> None:
    path = choose_path(data_of(CLASSES, spec(CLASSES, Normed)), spec(CLASSES, Normed), num_runs=1)
    assert (path.method, path.num_stacked) == ("single", 1)
    assert path.reason == "there is only one run, or room for one"


@pytest.mark.parametrize("num_runs", [1, 2, 5, 16])
def test_no_more_are_stacked_than_there_are(num_runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = timed(monkeypatch, lambda path: 1 / path.num_stacked)
    assert choose_path(data_of(CLASSES, ONE), ONE, num_runs=num_runs).num_stacked == num_runs
    assert max(path.num_stacked for path in tried) == num_runs


@pytest.mark.parametrize("num_workers", [1, 4])
def test_no_more_are_stacked_than_there_is_room_for(num_workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what is free, shared among the workers."""
    timed(monkeypatch, lambda path: 1 / path.num_stacked)
    data = data_of(CLASSES, ONE)
    per_run = choose_path(data, ONE, num_runs=64).bytes_per_run
    monkeypatch.setattr(paths, "free_bytes", lambda device: int(2 * 4 * 6.5 * per_run))
    assert choose_path(data, ONE, num_runs=64, num_workers=num_workers).num_stacked == {1: 26, 4: 6}[num_workers]
    monkeypatch.setattr(paths, "free_bytes", lambda device: 0)
    assert choose_path(data, ONE, num_runs=64, num_workers=num_workers).num_stacked == 1


def test_no_way_has_more_threads_than_torch_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = timed(monkeypatch, lambda path: 1.0)
    with threads(1):
        choose_path(data_of(CLASSES, ONE), ONE, num_runs=4, num_workers=2)
    assert {path.num_threads for path in tried} <= {1, None}


def test_a_step_on_a_whole_large_task_is_timed_on_a_part_and_needs_memory_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Full batches of 2,000 examples: 512 of them are put through the network, and four times as many need room."""
    sizes, large = set[int](), classes(num_train=2000)
    one = spec(large, mlp(width=7), batch_size="all")
    taught = paths.learn

    def learn(networks: Any, lesson: Any, **others: Any) -> Any:
        sizes.add(lesson.targets.shape[1])
        return taught(networks, lesson, **others)

    monkeypatch.setattr(paths, "learn", learn)
    whole = choose_path(data_of(large, one), one, num_runs=2)
    assert sizes == {512}
    half = spec(large, mlp(width=7), batch_size=1000)
    assert choose_path(data_of(large, half), half, num_runs=2).bytes_per_run < whole.bytes_per_run
    assert math.isfinite(whole.seconds_per_visit)


def test_bfloat16_is_trained_one_at_a_time() -> None:
    one = spec(CLASSES, mlp(width=7), dtype="float32", autocast=True)
    path = choose_path(data_of(CLASSES, one), one, num_runs=8)
    assert (path.method, path.num_stacked) == ("single", 1)
    assert "bfloat16" in path.reason
    with pytest.raises(ValueError, match="one at a time"):
        train([one], data_of(CLASSES, one), path=Path("dense", 1))


# --- what is remembered ----------------------------------------------------------------------------------------------


def a_situation(one: RunSpec = ONE, task: Task = CLASSES, module: nn.Module | None = None) -> Any:
    return situation(
        nn.Linear(5, 3) if module is None else module, data_of(task, one), one, candidates=["single x1", "dense x4"]
    )


TIMES = {"single x1": 2e-6, "dense x4": 1e-6, "stacked x4": math.inf}


def test_the_tests_remember_nothing_in_the_users_folder() -> None:
    assert Remembered.default().folder == FilePath(os.environ["BYROTE_CACHE"])
    assert FilePath.home() not in Remembered.default().folder.parents


def test_the_folder_is_where_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath) -> None:
    monkeypatch.setenv("BYROTE_CACHE", str(tmp_path / "mine"))
    assert Remembered.default().folder == tmp_path / "mine"
    monkeypatch.delenv("BYROTE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Remembered.default().folder == tmp_path / "cache" / "byrote"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Remembered.default().folder == FilePath.home() / ".cache" / "byrote"


def test_what_is_kept_is_found_again_until_it_is_forgotten(tmp_path: FilePath) -> None:
    memory = Remembered(tmp_path)
    assert (memory.get(a_situation()), memory.entries(), memory.forget()) == (None, [], 0)
    memory.put(a_situation(), spec=ONE, times=TIMES)
    assert Remembered(tmp_path).get(a_situation()) == TIMES
    (entry,) = memory.entries()
    assert (entry.path, entry.num_runs, dict(entry.times)) == ("dense x4", 4, TIMES)
    assert entry.model == "mlp(depth=1, width=7)"
    assert entry.batch == "8 of (5,), float64, sgd"
    assert entry.machine == remembered.machine(torch.device("cpu"))
    assert memory.forget() == 1
    assert (memory.get(a_situation()), memory.entries()) == (None, [])


def test_a_second_choice_is_made_without_timing(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, data = Remembered(tmp_path), data_of(CLASSES, ONE)
    tried = timed(monkeypatch, lambda path: 1 / path.num_stacked)
    first = choose_path(data, ONE, num_runs=16, remembered=memory)
    number = len(tried)
    assert number > 3
    second = choose_path(data, ONE, num_runs=16, remembered=memory)
    assert second == first
    assert len(tried) <= number + 2  # a prediction by the clock for each choice, and no race
    choose_path(data, ONE, num_runs=2, remembered=memory)  # other candidates
    assert len(memory.entries()) == 2


CHANGES: list[dict[str, Any]] = [
    {"batch_size": 9},
    {"batch_size": "all"},
    {"dtype": "float32"},
    {"dtype": "float32", "autocast": True},
    {"optimiser": Adam()},
    {"optimiser": AdamW()},
    {"optimiser": SAM()},
]


def test_other_circumstances_have_timings_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        a_situation(),
        a_situation(module=nn.Linear(5, 4)),
        a_situation(module=nn.Sequential(nn.Linear(5, 3))),
        a_situation(module=nn.Sequential(nn.Linear(5, 3), nn.ReLU())),
        a_situation(module=nn.Sequential(nn.Linear(5, 3), nn.Tanh())),
        *(a_situation(spec(CLASSES, mlp(width=7), **changed)) for changed in CHANGES),
        a_situation(spec(CLASSES, linear())),
        a_situation(task=classes(shape=(6,))),
        a_situation()._replace(candidates=("single x1",)),
    ]
    monkeypatch.setattr(remembered, "machine", lambda device: "another machine")
    others.append(a_situation())
    assert len({one.key for one in others}) == len(others)


def test_what_does_not_decide_shares_timings() -> None:
    same = [
        a_situation(),
        a_situation(spec(CLASSES, mlp(width=7), seed=3, order=4, epochs=99, optimiser=SGD(lr=0.5, momentum=0.1))),
        a_situation(task=classes(seed=5)),
    ]
    assert len({one.key for one in same}) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"3",
        b'{"schema": 0}',
        b'{"schema": 1, "machine": "m", "model": "m", "batch": "b", "when": 0, "times": {}}',
        b'{"schema": 1, "machine": "m", "model": "m", "batch": "b", "when": 0, "times": {"single x1": "fast"}}',
        b'{"schema": 1, "machine": "m", "model": "m", "batch": "b", "when": 0, "times": {"single": 1.0}}',
        b'{"schema": 1, "machine": "m", "model": "m", "batch": "b", "when": 0, "times": [1]}',
    ],
)
def test_a_broken_file_is_as_good_as_none_and_replaced(content: bytes, tmp_path: FilePath) -> None:
    memory = Remembered(tmp_path)
    memory.put(a_situation(), spec=ONE, times=TIMES)
    (place,) = (tmp_path / "paths").glob("*.json")
    assert json.loads(place.read_text())["schema"] == remembered.SCHEMA
    place.write_bytes(content)
    assert (memory.get(a_situation()), memory.entries()) == (None, [])
    memory.put(a_situation(), spec=ONE, times=TIMES)
    assert memory.get(a_situation()) == TIMES


def test_timings_of_other_ways_are_taken_again(tmp_path: FilePath) -> None:
    memory, data = Remembered(tmp_path), data_of(CLASSES, ONE)
    choose_path(data, ONE, num_runs=2, remembered=memory)
    (place,) = (tmp_path / "paths").glob("*.json")
    entry = json.loads(place.read_text())
    entry["times"] = {"somehow x2": 1e-12}
    place.write_text(json.dumps(entry))
    path = choose_path(data, ONE, num_runs=2, remembered=memory)
    assert 1e-9 < path.seconds_per_visit < 1
    assert memory.entries()[0].path != "somehow x2"


def test_a_folder_that_cannot_be_used_is_as_good_as_an_empty_one(tmp_path: FilePath) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    memory = Remembered(blocked)
    path = choose_path(data_of(CLASSES, ONE), ONE, num_runs=2, remembered=memory)
    assert path.seconds_per_visit > 0
    assert (memory.entries(), memory.forget()) == ([], 0)
    assert blocked.read_text() == "not a folder"


def test_nothing_half_written_is_left(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(remembered.os, "replace", full)
    Remembered(tmp_path).put(a_situation(), spec=ONE, times=TIMES)
    assert list((tmp_path / "paths").iterdir()) == []


# --- what it takes ---------------------------------------------------------------------------------------------------


def test_measured_memory_is_that_of_what_is_made() -> None:
    """Of each run 2 MB are kept and 3 MB come and go, of which 1 MB after the other two are gone."""

    def make(number: int) -> Callable[[], object]:
        kept = torch.zeros(number, 500_000)

        def step() -> float:
            first = kept + 1
            second = first[:, :250_000] * 2
            del first
            third = torch.zeros(number, 250_000)
            return float(second.sum() + third.sum())

        return step

    assert step_bytes(make, ["single", "stacked"]) == pytest.approx(5e6, rel=0.01)
    assert step_bytes(make, ["single"]) == pytest.approx(5e6, rel=0.01)


PEAK = """
import torch
from byrote.models import mlp
from byrote.records import {kind}
from small_networks import wide_normed
from byrote.training import Path, choose_path, train
from small_tasks import classes, data_of, spec

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

task = classes(num_train=256, shape=(784,), num_classes=10)
specs = [
    spec(task, {model}, seed=seed, dtype="float32", epochs=1, batch_size=64, optimiser={kind}(lr=0.01))
    for seed in range(24)
]
data = data_of(task, specs[0])
train(specs[:2], data, path=Path("{method}", 2))
path = choose_path(data, specs[0], num_runs=2)
before = resident("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
train(specs, data, path=Path("{method}", 24))
print(path.bytes_per_run, (resident("VmHWM") - before) / 24)
"""


@pytest.mark.skipif(not FilePath("/proc/self/clear_refs").exists(), reason="needs Linux to measure a peak")
@pytest.mark.parametrize(
    ("kind", "model", "method"), [("SGD", "mlp(width=512, depth=2)", "dense"), ("Adam", "wide_normed", "stacked")]
)
def test_predicted_memory_is_what_a_process_takes(kind: str, model: str, method: str) -> None:
    """Two thirds of a million weights: the resident memory that a stack of 24 adds, by the system's own count."""
    tests = FilePath(__file__).parent.parent
    code = PEAK.format(kind=kind, model=model, method=method)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tests, env=environment
    )
    predicted, taken = map(float, answer.stdout.split())
    assert predicted == pytest.approx(taken, rel=0.3)


def test_a_model_that_cannot_be_stacked_is_measured_too() -> None:
    one = spec(CLASSES, Recurrent)
    path = choose_path(data_of(CLASSES, one), one, num_runs=4)
    assert path.bytes_per_run >= 1 << 20
    assert recipe().dtype == "float64"
