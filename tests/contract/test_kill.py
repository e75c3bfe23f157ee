"""Killed at any moment, an audit loses what was in flight and nothing else, and never takes half a run for a whole one.

Every trial is a process that ends itself or is ended with SIGKILL. They are forked by a process of their own, which
has imported everything and has no threads.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
import torch.fx.experimental.symbolic_shapes  # Autograd does at the first gradient: better once than in every child.

import byrote
import byrote.store
from byrote.execution import LocalExecutor, forecast
from byrote.records import Extras, Fit, Run, RunSpec
from byrote.store import FolderStore, list_runs, sweep
from byrote.training import Path as TrainingPath
from small_tasks import CPU, classes, spec
from stored_runs import FEATURES, GRAM, assert_equal, inside, make_fit, make_run, with_extras

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")

NUM_KILLS = 50
NUM_RUNS = 8
SEED = 20250817
WEIGHTS = Extras(weights=True)
STORE_CODE = str(Path(byrote.store.__file__).parent)
STRIDE = 11
"""Of the lines of the store's code, before every so many-th the process dies: a prime, so that loops are hit evenly."""


# --- in a process of its own -----------------------------------------------------------------------------------------


def forked(work: Callable[[], None]) -> int:
    """The number of a child that does this and ends."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def finish(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def was_killed(child: int) -> bool:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def die_before_line(number: int) -> Callable[[], int]:
    """From now on count the lines of the store's code that are run, and die before one of them."""
    seen = 0

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.startswith(STORE_CODE):
            return None
        if event == "line":
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)
    return lambda: seen


def without_waiting_for_the_disk() -> None:
    """What has been written is there for other processes, if not for a power cut."""
    os.fsync = lambda handle: None


def write(folder: Path, record: Run | Fit) -> None:
    store = FolderStore(folder)
    with store.claim([record.spec]):
        store.write_run(record) if isinstance(record, Run) else store.write_fit(record)


def read(folder: Path, record: Run | Fit) -> Run | Fit | None:
    """What is there under the same spec, whole; None when a store says that there is nothing."""
    store = FolderStore(folder)
    if record.spec not in store:
        return None
    return store.read_run(record.spec) if isinstance(record, Run) else store.read_fit(record.spec)


def count_lines(folder: Path, record: Run | Fit) -> int:
    reader, writer = os.pipe()

    def work() -> None:
        lines = die_before_line(0)
        write(folder, record)
        sys.settrace(None)
        os.write(writer, str(lines()).encode())

    finish(forked(work))
    return int(os.read(reader, 20))


def die_while_writing(place: Path, record: Run | Fit, before: Callable[[Path], Run | Fit | None]) -> dict[str, int]:
    """Die before many a line while a record is written to a folder that is prepared by `before`.

    Returns:
        How often something was as before and as after, and how often something half written was left.
    """
    without_waiting_for_the_disk()
    base, folder = place / "base", place / "trial"
    there = before(base)
    shutil.copytree(base, folder)
    num_lines = count_lines(folder, record)
    assert_equal(read(folder, record), record)
    told = {"before": 0, "after": 0, "half": 0}
    for number in range(1, num_lines + 1, STRIDE):
        shutil.rmtree(folder)
        shutil.copytree(base, folder)

        def work(number: int = number) -> None:
            die_before_line(number)
            write(folder, record)

        assert was_killed(forked(work))
        found = read(folder, record)
        is_new = found is not None and _extras(found) == _extras(record)
        assert_equal(found, record if is_new else there)
        told["after" if is_new else "before"] += 1
        told["half"] += any(stored.status == "interrupted" for stored in list_runs(folder))
        write(folder, record)
        assert_equal(read(folder, record), record)
        assert [name for name in inside(folder) if ".writing" in name or name.startswith("claims/")] == [
            "claims/gate.lock"
        ]
    return told


def _extras(record: Run | Fit) -> Extras | None:
    return Extras(probes=tuple(record.probes), weights=record.weights is not None) if isinstance(record, Run) else None


def nothing(base: Path) -> None:
    FolderStore(base).write_run(make_run(1))


def without_extras(base: Path) -> Run:
    FolderStore(base).write_run(with_extras(make_run(), GRAM))
    return with_extras(make_run(), GRAM)


def damaged(base: Path) -> None:
    FolderStore(base).write_run(make_run())
    path = base / "runs" / make_run().spec.key / "trace.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


SCENES: dict[str, tuple[Callable[[], Run | Fit], Callable[[Path], Run | Fit | None]]] = {
    "run": (lambda: with_extras(make_run(), GRAM, weights=True), nothing),
    "fit": (make_fit, nothing),
    "extras": (lambda: with_extras(make_run(), GRAM, FEATURES, weights=True), without_extras),
    "damaged": (make_run, damaged),
}


def scenes(place: Path) -> dict[str, dict[str, int]]:
    return {name: die_while_writing(place / name, record(), before) for name, (record, before) in SCENES.items()}


def tiny_runs() -> list[RunSpec]:
    task = classes()
    return [spec(task, byrote.models.linear(), seed=seed, order=seed, epochs=2) for seed in range(NUM_RUNS)]


def train_all(folder: Path, *, device: torch.device = CPU) -> int:
    """Train what is missing, one run at a time, so that its numbers do not depend on what else is missing, bit by bit.

    Returns:
        How many were trained.
    """
    torch.set_num_threads(1)
    forecast.choose_path = lambda *_, **__: TrainingPath("single", seconds_per_visit=1e-6, num_threads=1)
    with LocalExecutor(classes(), store=FolderStore(folder), device=device) as executor:
        assert executor.train(tiny_runs(), keep_weights=True)
        return executor.num_trained


def table(folder: Path) -> dict[str, Any]:
    """All that is whole in a store, byte by byte, but for the seconds that training took."""
    paths = [path for kind in ("runs", "fits") for path in folder.glob(f"{kind}/[!.]*/**/*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    rows: dict[str, Any] = {name: path.read_bytes() for name, path in files.items() if path.suffix != ".json"}
    for name, path in files.items():
        if path.suffix == ".json":
            rows[name] = {**json.loads(path.read_text(encoding="utf-8")), "seconds": None}
    return rows


def train_and_be_killed(place: Path) -> dict[str, list[float]]:
    """50 times train in a child, kill it at a random moment, counted in runs and parts of one, and start again.

    Returns:
        For every kill, how many runs were there and how many half-written ones were left.
    """
    finish(forked(lambda: print_to(place / "number", train_all(place / "undisturbed"))))
    began = time.monotonic()
    finish(forked(lambda: print_to(place / "number", train_all(place / "timed"))))
    duration = time.monotonic() - began
    wanted, specs = table(place / "undisturbed"), tiny_runs()
    assert table(place / "timed") == wanted
    moments = np.random.default_rng(SEED).uniform(0, NUM_RUNS, NUM_KILLS)
    told: dict[str, list[float]] = {"there": [], "half": [], "trained": []}
    for number, moment in enumerate(moments):
        folder = place / f"{number}"
        child = forked(lambda folder=folder: print_to(place / "number", train_all(folder)))
        until(lambda folder=folder, moment=moment: len(list(folder.glob("runs/[!.]*"))) >= int(moment))
        time.sleep(moment % 1 * duration / NUM_RUNS)
        os.kill(child, signal.SIGKILL)
        was_killed(child)
        store = FolderStore(folder)
        there = [one for one in specs if store.has(one, extras=WEIGHTS)]
        assert not [one for one in specs if one in store and one not in there]
        for one in there:
            kept = {name: rows for name, rows in wanted.items() if one.key in name}
            assert {name: rows for name, rows in table(folder).items() if name in kept} == kept
            store.read_run(one)
        listed = [stored.status for stored in list_runs(folder)] if folder.exists() else []
        assert listed.count("completed") == len(there)
        assert set(listed) <= {"completed", "interrupted"}
        finish(forked(lambda folder=folder: print_to(place / "number", train_all(folder))))
        assert table(folder) == wanted
        sweep(folder)  # A process that finds all there does not write, and so tidies nothing.
        assert inside(folder) == inside(place / "undisturbed")
        told["there"].append(len(there))
        told["half"].append(listed.count("interrupted"))
        told["trained"].append(float((place / "number").read_text()))
        shutil.rmtree(folder)
    return told


def until(is_so: Callable[[], bool]) -> None:
    latest = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < latest
        time.sleep(0.001)


def print_to(path: Path, value: object) -> None:
    path.write_text(str(value), encoding="utf-8")


def train_side_by_side(place: Path) -> dict[str, list[float]]:
    """Two processes on one store, five times over.

    Returns:
        How many runs each trained.
    """
    finish(forked(lambda: print_to(place / "number", train_all(place / "undisturbed"))))
    wanted = table(place / "undisturbed")
    told: dict[str, list[float]] = {"first": [], "second": []}
    for number in range(5):
        folder, gate = place / f"{number}", time.monotonic() + 0.05

        def work(name: str, folder: Path = folder, gate: float = gate) -> None:
            time.sleep(max(0.0, gate - time.monotonic()))
            print_to(place / name, train_all(folder))

        children = [forked(lambda name=name: work(name)) for name in told]
        for child in children:
            finish(child)
        assert table(folder) == wanted
        for name, numbers in told.items():
            numbers.append(float((place / name).read_text()))
    return told


def one_of_two_is_killed(place: Path) -> dict[str, list[float]]:
    """Two processes on one store, of which one dies while it holds a run; the other takes that over.

    Returns:
        How many runs the other trained, and how many were there when the one died.
    """
    finish(forked(lambda: print_to(place / "number", train_all(place / "undisturbed"))))
    wanted, folder, store = table(place / "undisturbed"), place / "shared", FolderStore(place / "shared")
    reader, writer = os.pipe()

    def hold() -> None:
        with store.claim(tiny_runs()[2:4]):
            os.write(writer, b"x")
            signal.pause()

    holder = forked(hold)
    os.read(reader, 1)
    other = forked(lambda: print_to(place / "number", train_all(folder)))
    until(lambda: sum(one in store for one in tiny_runs()) == NUM_RUNS - 2)
    assert os.waitpid(other, os.WNOHANG) == (0, 0)  # It waits for what is held.
    before = sum(one in store for one in tiny_runs())
    os.kill(holder, signal.SIGKILL)
    was_killed(holder)
    finish(other)
    assert table(folder) == wanted
    return {"before": [before], "trained": [float((place / "number").read_text())]}


def audit_and_be_killed(place: Path) -> dict[str, list[float]]:
    """An audit that is killed three times over ends with the tables of one that was not."""
    ask = {"studies": ["memorisation"], "runs": NUM_RUNS, "seed": 3}
    task = classes(num_train=60)
    learner = byrote.Learner(model=byrote.models.linear(), recipe=tiny_runs()[0].learner.recipe)

    def work(folder: Path) -> None:
        torch.set_num_threads(1)
        forecast.choose_path = lambda *_, **__: TrainingPath("single", seconds_per_visit=1e-6, num_threads=1)
        byrote.audit(task, learner=learner, out=folder, **ask).save(folder)

    began = time.monotonic()
    finish(forked(lambda: work(place / "undisturbed")))
    duration = time.monotonic() - began
    folder, there = place / "killed", list[float]()
    for share in (0.2, 0.4, 0.6):
        child = forked(lambda: work(folder))
        time.sleep(share * duration)
        os.kill(child, signal.SIGKILL)
        was_killed(child)
        there.append(len(list((folder / "runs").glob("[!.]*"))))
    finish(forked(lambda: work(folder)))
    for name in ("findings.json", "findings.parquet", "examples.parquet"):
        assert (folder / name).read_bytes() == (place / "undisturbed" / name).read_bytes()
    assert table(folder) == table(place / "undisturbed")
    return {"there": there}


# --- here ------------------------------------------------------------------------------------------------------------


def told_by(work: str, place: Path) -> dict[str, Any]:
    """What a function of this file returns in a process of its own."""
    here = Path(__file__).parent
    code = f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]\nimport json, test_kill\n"
    code += f"from pathlib import Path\nprint(json.dumps(test_kill.{work.format(place=f'Path({str(place)!r})')}))"
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_dying_before_any_line_of_the_stores_code_leaves_all_or_nothing(tmp_path: Path) -> None:
    told = told_by("scenes({place})", tmp_path)
    assert set(told) == set(SCENES)
    assert [name for name, counts in told.items() if min(counts.values()) == 0] == []


def test_killed_at_fifty_random_moments_and_started_again_training_ends_with_the_same_tables(tmp_path: Path) -> None:
    told = told_by("train_and_be_killed({place})", tmp_path)
    assert len(told["there"]) == NUM_KILLS
    assert [there + trained for there, trained in zip(told["there"], told["trained"], strict=True)] == [
        NUM_RUNS
    ] * NUM_KILLS
    assert len(set(told["there"])) > NUM_RUNS // 2


def test_processes_on_one_store_train_every_run_once_between_them(tmp_path: Path) -> None:
    told = told_by("train_side_by_side({place})", tmp_path)
    assert [one + two for one, two in zip(told["first"], told["second"], strict=True)] == [NUM_RUNS] * 5
    assert min(sum(told["first"]), sum(told["second"])) > 0


def test_what_a_dead_process_held_is_taken_over(tmp_path: Path) -> None:
    assert told_by("one_of_two_is_killed({place})", tmp_path) == {"before": [NUM_RUNS - 2], "trained": [NUM_RUNS]}


def test_an_audit_killed_again_and_again_ends_with_the_tables_of_one_that_was_not(tmp_path: Path) -> None:
    there = told_by("audit_and_be_killed({place})", tmp_path)["there"]
    assert there == sorted(there)
