"""What every store does: whole or not at all, and what is in it reads back exactly."""

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from byrote.core import StoreError
from byrote.records import (
    Extras,
    FitSpec,
    ModelSpec,
    Run,
    RunCurves,
    RunSpec,
    Trace,
    encode,
)
from byrote.store import AbstractStore, FolderStore, MemoryStore, claims, list_runs, locks, sweep
from byrote.store import folder as folder_module
from stored_runs import (
    FEATURES,
    GRAM,
    assert_equal,
    inside,
    make_fit,
    make_probe,
    make_run,
    run_spec,
    with_extras,
)

PLACES = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
"""Where a process of its own finds this file and what it imports."""
MAKERS: dict[str, Callable[[Path], AbstractStore]] = {"memory": lambda path: MemoryStore(), "folder": FolderStore}


@pytest.fixture(params=MAKERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AbstractStore:
    return MAKERS[request.param](tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


# --- every store -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_run_reads_back_exactly(store: AbstractStore, dtype: type) -> None:
    run = make_run(dtype=dtype)
    store.write_run(run)
    assert_equal(store.read_run(run.spec), run)


@pytest.mark.parametrize("evaluate_train", [True, False])
def test_a_fit_reads_back_exactly(store: AbstractStore, evaluate_train: bool) -> None:
    fit = make_fit(evaluate_train=evaluate_train)
    store.write_fit(fit)
    assert_equal(store.read_fit(fit.spec), fit)


def test_arrays_that_are_views_read_back_exactly(store: AbstractStore) -> None:
    run = make_run()
    turned = replace(run, trace=replace(run.trace, loss=np.asfortranarray(run.trace.loss)[::-1]))
    store.write_run(turned)
    np.testing.assert_array_equal(store.read_run(run.spec).trace.loss, run.trace.loss[::-1])


def test_a_store_contains_what_was_written_and_nothing_else(store: AbstractStore) -> None:
    run, fit = make_run(0), make_fit(0)
    assert run.spec not in store
    assert fit.spec not in store
    store.write_run(run)
    assert run.spec in store
    assert run_spec(1) not in store
    assert fit.spec not in store
    store.write_fit(fit)
    assert fit.spec in store


def test_what_is_not_there_is_a_key_error(store: AbstractStore) -> None:
    store.write_run(make_run(0))
    with pytest.raises(KeyError, match=run_spec(1).key):
        store.read_run(run_spec(1))
    with pytest.raises(KeyError, match=make_fit(0).spec.key):
        store.read_fit(make_fit(0).spec)


def test_writing_again_changes_nothing(store: AbstractStore) -> None:
    run, fit = make_run(0), make_fit(0)
    for _ in range(2):
        store.write_run(run)
        store.write_fit(fit)
    store.write_run(replace(run, seconds=99.0))
    store.write_fit(replace(fit, seconds=99.0))
    assert_equal(store.read_run(run.spec), run)
    assert_equal(store.read_fit(fit.spec), fit)


def test_many_runs_keep_apart(store: AbstractStore) -> None:
    runs = [make_run(seed) for seed in range(5)]
    for run in runs:
        store.write_run(run)
    for run in reversed(runs):
        assert_equal(store.read_run(run.spec), run)


def test_a_users_factory_rides_along(store: AbstractStore) -> None:
    run = make_run()
    mine = replace(run.spec, learner=replace(run.spec.learner, model=ModelSpec(name="m:f", digest="d", factory=dict)))
    store.write_run(replace(run, spec=mine))
    assert store.read_run(mine).spec.learner.model.factory is dict


def test_probes_and_weights_read_back_exactly(store: AbstractStore) -> None:
    run = with_extras(make_run(), GRAM, FEATURES, weights=True)
    store.write_run(run)
    assert_equal(store.read_run(run.spec), run)


def test_only_the_extras_that_are_asked_for_are_read(store: AbstractStore) -> None:
    run = with_extras(make_run(), GRAM, FEATURES, weights=True)
    store.write_run(run)
    assert_equal(store.read_run(run.spec, extras=Extras()), make_run())
    some = store.read_run(run.spec, extras=Extras(probes=(FEATURES,)))
    assert_equal(some, replace(run, probes={FEATURES: run.probes[FEATURES]}, weights=None))
    assert_equal(store.read_run(run.spec, extras=Extras(weights=True)), replace(run, probes={}))


def test_extras_that_are_not_there_are_a_key_error(store: AbstractStore) -> None:
    store.write_run(with_extras(make_run(), GRAM))
    for extras in (Extras(weights=True), Extras(probes=(FEATURES,)), Extras(probes=(GRAM, FEATURES))):
        with pytest.raises(KeyError):
            store.read_run(run_spec(), extras=extras)


def test_a_store_says_which_extras_it_has(store: AbstractStore) -> None:
    run, fit = with_extras(make_run(), GRAM), make_fit()
    assert not store.has(run.spec)
    store.write_run(run)
    store.write_fit(fit)
    assert store.has(run.spec)
    assert store.has(run.spec, extras=Extras(probes=(GRAM,)))
    assert not store.has(run.spec, extras=Extras(probes=(GRAM, FEATURES)))
    assert not store.has(run.spec, extras=Extras(weights=True))
    assert store.has(fit.spec)
    assert not store.has(fit.spec, extras=Extras(weights=True))


def test_a_run_that_is_there_gets_the_extras_it_lacks_and_keeps_its_training(store: AbstractStore) -> None:
    first = with_extras(make_run(), GRAM)
    other = replace(first.probes[GRAM], seconds=9.0)
    later = replace(
        with_extras(make_run(), GRAM, FEATURES, weights=True), seconds=99.0, curves=make_run(5).curves, message="again"
    )
    later = replace(later, probes={GRAM: other, FEATURES: later.probes[FEATURES]})
    store.write_run(first)
    store.write_run(later)
    both = {GRAM: first.probes[GRAM], FEATURES: later.probes[FEATURES]}
    assert_equal(store.read_run(first.spec), replace(first, probes=both, weights=later.weights))
    store.write_run(make_run())
    assert_equal(store.read_run(first.spec), replace(first, probes=both, weights=later.weights))


def test_what_one_holds_nobody_else_gets(store: AbstractStore) -> None:
    specs = [*(run_spec(seed) for seed in range(4)), make_fit(0).spec]
    with store.claim(specs[:2]) as mine, store.claim(specs) as yours, store.claim(specs) as theirs:
        assert mine == tuple(specs[:2])
        assert yours == tuple(specs[2:])
        assert theirs == ()
    with store.claim([*specs, specs[0]]) as mine:
        assert mine == tuple(specs)


def test_a_claim_ends_with_its_work_however_that_ends(store: AbstractStore) -> None:
    with pytest.raises(RuntimeError, match="the training's own"), store.claim([run_spec()]):
        raise RuntimeError("the training's own")
    with pytest.raises(OSError, match="the training's own"), store.claim([run_spec()]):
        raise OSError("the training's own")
    with store.claim([run_spec()]) as mine:
        assert mine == (run_spec(),)


def test_what_is_there_may_be_claimed_for_its_extras(store: AbstractStore) -> None:
    store.write_run(make_run())
    with store.claim([run_spec()]) as mine:
        assert mine == (run_spec(),)
        store.write_run(with_extras(make_run(), GRAM))
    assert store.has(run_spec(), extras=Extras(probes=(GRAM,)))


def test_threads_share_out_what_they_claim(store: AbstractStore) -> None:
    specs, got = [run_spec(seed) for seed in range(8)], list[RunSpec | FitSpec]()
    all_have_claimed = threading.Barrier(6)

    def work(number: int) -> None:
        with ExitStack() as held:
            for place in range(len(specs)):
                got.extend(held.enter_context(store.claim([specs[(number + place) % len(specs)]])))
            all_have_claimed.wait(timeout=60)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(spec.key for spec in got) == sorted(spec.key for spec in specs)


def test_threads_may_write_at_once(store: AbstractStore) -> None:
    runs = [with_extras(make_run(number % 8), f"gram-{number:08x}") for number in range(24)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(store.write_run, runs))
    for seed in range(8):
        run = store.read_run(run_spec(seed))
        assert_equal(replace(run, probes={}), make_run(seed))
        assert set(run.probes) == {f"gram-{number:08x}" for number in range(seed, 24, 8)}


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_shared_by_whoever_opens_it(tmp_path: Path) -> None:
    run = make_run()
    FolderStore(tmp_path / "deep" / "store").write_run(run)
    assert_equal(FolderStore(tmp_path / "deep" / "store").read_run(run.spec), run)


def test_everything_can_be_read_without_byrote(folder: FolderStore) -> None:
    run, fit = with_extras(make_run(), GRAM, weights=True), make_fit()
    folder.write_run(run)
    folder.write_fit(fit)
    place = folder.folder / "runs" / run.spec.key
    files = ["curves.parquet", f"probes/{GRAM}.safetensors", "trace.safetensors", "weights.safetensors"]
    assert inside(place) == sorted(["probes", "spec.json", *files])
    about = json.loads((place / "spec.json").read_text(encoding="utf-8"))
    assert (about["schema"], about["kind"], about["status"], about["message"]) == (1, "run", "diverged", run.message)
    assert about["spec"]["learner"]["recipe"]["optimiser"]["lr"] == 0.3
    assert about["probes"] == {
        GRAM: {"name": "gram", "settings": {"steps": [0, 7], "share": 0.5}, "steps": [0, 7], "seconds": 0.25}
    }
    assert about["files"] == {
        name: {
            "bytes": (place / name).stat().st_size,
            "sha256": hashlib.sha256((place / name).read_bytes()).hexdigest(),
        }
        for name in files
    }
    gram = safetensors.numpy.load_file(place / "probes" / f"{GRAM}.safetensors")
    np.testing.assert_array_equal(gram["gram"], run.probes[GRAM].values["gram"])
    assert int(safetensors.numpy.load_file(place / "weights.safetensors")["1.num_batches_tracked"]) == 12
    curves = pq.read_table(place / "curves.parquet")
    assert curves.column_names == [part.name for part in fields(RunCurves)]
    assert curves["train_loss"].to_pylist() == run.curves.train_loss.tolist()
    trace = safetensors.numpy.load_file(place / "trace.safetensors")
    assert set(trace) == {part.name for part in fields(Trace)}
    np.testing.assert_array_equal(trace["loss"], run.trace.loss)
    about = json.loads((folder.folder / "fits" / fit.spec.key / "spec.json").read_text(encoding="utf-8"))
    assert (about["kind"], about["note"]) == ("fit", fit.note)
    outputs = safetensors.numpy.load_file(folder.folder / "fits" / fit.spec.key / "outputs.safetensors")
    np.testing.assert_array_equal(outputs["test_outputs"], fit.test_outputs)


def test_reading_needs_no_byrote_at_all(folder: FolderStore) -> None:
    run = make_run()
    folder.write_run(run)
    code = f"""if True:
        import json, sys, pyarrow.parquet, safetensors.numpy
        from pathlib import Path
        place = Path({str(folder.folder / "runs" / run.spec.key)!r})
        json.loads((place / "spec.json").read_text(encoding="utf-8"))
        pyarrow.parquet.read_table(place / "curves.parquet")
        print(float(safetensors.numpy.load_file(place / "trace.safetensors")["loss"].sum()))
        assert not [name for name in sys.modules if name.split(".")[0] in ("byrote", "torch")]
    """
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(answer.stdout) == float(run.trace.loss.sum())


def test_a_half_written_run_is_not_seen(folder: FolderStore) -> None:
    run = make_run()
    folder.write_run(run)
    place = folder.folder / "runs" / run.spec.key
    place.rename(place.parent / f".writing-{place.name}-1-abcd")
    assert run.spec not in folder
    with pytest.raises(KeyError):
        folder.read_run(run.spec)
    folder.write_run(run)
    assert_equal(folder.read_run(run.spec), run)


@pytest.mark.parametrize("name", ["spec.json", "curves.parquet", "trace.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_a_damaged_file_says_which_folder_to_delete(folder: FolderStore, name: str, damage: str) -> None:
    run, other = make_run(0), make_run(1)
    folder.write_run(run)
    folder.write_run(other)
    path = folder.folder / "runs" / run.spec.key / name
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "garbage": b"\xff\x00" * 99}[damage])
    with pytest.raises(StoreError, match="Delete that folder to have it made again") as caught:
        folder.read_run(run.spec)
    assert str(path.parent) in str(caught.value)
    assert_equal(folder.read_run(other.spec), other)


@pytest.mark.parametrize("name", ["curves.parquet", "trace.safetensors"])
def test_a_missing_file_says_which_folder_to_delete(folder: FolderStore, name: str) -> None:
    run = make_run()
    folder.write_run(run)
    (folder.folder / "runs" / run.spec.key / name).unlink()
    with pytest.raises(StoreError, match="Delete that folder"):
        folder.read_run(run.spec)


def test_a_run_that_lost_its_spec_is_not_there_and_is_made_again(folder: FolderStore) -> None:
    run = make_run()
    folder.write_run(run)
    (folder.folder / "runs" / run.spec.key / "spec.json").unlink()
    assert run.spec not in folder
    with pytest.raises(KeyError, match=run.spec.key):
        folder.read_run(run.spec)
    folder.write_run(run)
    assert_equal(folder.read_run(run.spec), run)


def change_spec(folder: FolderStore, run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder.folder / "runs" / run.spec.key / "spec.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    change(about)
    path.write_text(json.dumps(about), encoding="utf-8")


def test_a_newer_schema_is_refused(folder: FolderStore) -> None:
    run = make_run()
    folder.write_run(run)
    change_spec(folder, run, lambda about: about.update(schema=2))
    with pytest.raises(StoreError, match=r"has schema 2; this byrote reads 1\. Upgrade byrote"):
        folder.read_run(run.spec)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("status"),
        lambda about: about.pop("schema"),
        lambda about: about["spec"].pop("learner"),
        lambda about: about["spec"].update(lerner=1),
    ],
)
def test_a_spec_that_was_edited_into_nonsense_is_a_store_error(folder: FolderStore, change: Any) -> None:
    run = make_run()
    folder.write_run(run)
    change_spec(folder, run, change)
    with pytest.raises(StoreError, match="Delete that folder"):
        folder.read_run(run.spec)


def test_a_folder_under_another_runs_name_is_refused(folder: FolderStore) -> None:
    run = make_run()
    folder.write_run(run)
    (folder.folder / "runs" / run.spec.key).rename(folder.folder / "runs" / run_spec(1).key)
    with pytest.raises(StoreError, match="holds another spec than its name says"):
        folder.read_run(run_spec(1))


@contextmanager
def python(code: str, *arguments: object) -> "Iterator[subprocess.Popen[str]]":
    """A process of its own, which has said that it is ready. It is killed, with kill -9, at the end."""
    prelude = f"import sys; sys.path[:0] = {PLACES}; from test_stores import *\n"
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("strided", [False, True], ids=["contiguous", "strided"])
def test_a_trace_is_written_as_it_lies_in_memory_and_a_view_of_many_runs_is_copied_once(
    folder: FolderStore, strided: bool
) -> None:
    folder.write_run(make_run(1))
    many = np.random.default_rng(0).standard_normal(
        (2, 41, 3, 20_000), dtype=np.float32
    )  # [loss or margin, moment, run, example]
    loss, margin = many[:, :, 1] if strided else np.ascontiguousarray(many[:, :, 1])
    run = make_run()
    few = np.zeros((20_000, 1), np.float32)
    trace = Trace(loss=loss, margin=margin, early_error=few[:, 0], train_outputs=few, test_outputs=few)
    run = replace(run, trace=trace)
    tracemalloc.start()
    folder.write_run(run)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size, rest = loss.nbytes + margin.nbytes, 2**20
    assert peak < (size + rest if strided else rest) < 2 * size
    assert_equal(folder.read_run(run.spec), run)


# --- folders: damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["curves.parquet", "trace.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "longer", "missing"])
def test_what_is_not_whole_is_not_there_and_is_made_again(folder: FolderStore, name: str, damage: str) -> None:
    run = with_extras(make_run(), GRAM)
    folder.write_run(run)
    path = folder.folder / "runs" / run.spec.key / name
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"truncated": whole[:-1], "empty": b"", "longer": whole + b"\0"}[damage])
    assert run.spec not in folder
    folder.write_run(run)
    assert_equal(folder.read_run(run.spec), run)
    assert not [left for left in inside(folder.folder) if ".writing" in left]


def test_one_flipped_bit_is_noticed(folder: FolderStore) -> None:
    run = with_extras(make_run(), GRAM, weights=True)
    folder.write_run(run)
    place = folder.folder / "runs" / run.spec.key
    for name in ("curves.parquet", "trace.safetensors", "weights.safetensors", f"probes/{GRAM}.safetensors"):
        whole = (place / name).read_bytes()
        (place / name).write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(
            StoreError, match=f"the bytes of {name} are not those that were written.*Delete that folder"
        ):
            folder.read_run(run.spec)
        (place / name).write_bytes(whole)
    assert_equal(folder.read_run(run.spec), run)


@pytest.mark.parametrize("name", ["weights.safetensors", f"probes/{GRAM}.safetensors"])
def test_damaged_extras_are_not_there_and_are_made_again(folder: FolderStore, name: str) -> None:
    run = with_extras(make_run(), GRAM, weights=True)
    extras = Extras(probes=(GRAM,), weights=True)
    folder.write_run(run)
    path = folder.folder / "runs" / run.spec.key / name
    path.write_bytes(path.read_bytes()[:-1])
    assert not folder.has(run.spec, extras=extras)
    assert_equal(folder.read_run(run.spec, extras=Extras()), make_run())
    with pytest.raises(StoreError, match="Delete that folder"):
        folder.read_run(run.spec)
    folder.write_run(run)
    assert folder.has(run.spec, extras=extras)
    assert_equal(folder.read_run(run.spec), run)


def test_what_a_newer_byrote_wrote_is_not_made_again(folder: FolderStore) -> None:
    run = make_run()
    folder.write_run(run)
    change_spec(folder, run, lambda about: about.update(schema=2))
    before = (folder.folder / "runs" / run.spec.key / "spec.json").read_bytes()
    assert run.spec in folder
    folder.write_run(with_extras(run, GRAM))
    assert (folder.folder / "runs" / run.spec.key / "spec.json").read_bytes() == before


def test_a_probes_key_is_a_file_name(folder: FolderStore) -> None:
    with pytest.raises(ValueError, match=r"Expected a probe's key of letters.*got '../../up'"):
        folder.write_run(with_extras(make_run(), "../../up"))
    assert run_spec() not in folder
    assert not [left for left in inside(folder.folder) if ".writing" in left]


def write_as_0_1_0(folder: Path, run: Run) -> None:
    """A run as byrote 0.1.0 wrote it: no probes, no account of files, and a recipe without what came later."""
    place = folder / "runs" / run.spec.key
    place.mkdir(parents=True)
    pq.write_table(
        pa.table({part.name: getattr(run.curves, part.name) for part in fields(RunCurves)}), place / "curves.parquet"
    )
    trace = {part.name: np.ascontiguousarray(getattr(run.trace, part.name)) for part in fields(Trace)}
    safetensors.numpy.save_file(trace, place / "trace.safetensors")
    spec = encode(run.spec)
    for later in ("regularisers", "autocast", "switches"):
        del spec["learner"]["recipe"][later]
    del spec["learner"]["recipe"]["optimiser"]["nesterov"]
    about = {"schema": 1, "kind": "run", "status": run.status, "message": run.message, "seconds": run.seconds}
    (place / "spec.json").write_text(json.dumps({**about, "spec": spec}), encoding="utf-8")


def test_a_run_of_the_previous_version_reads_as_before_and_can_get_extras(folder: FolderStore) -> None:
    run = make_run()
    write_as_0_1_0(folder.folder, run)
    assert run.spec in folder
    assert not folder.has(run.spec, extras=Extras(weights=True))
    assert_equal(folder.read_run(run.spec), run)
    assert [(stored.status, stored.probes, stored.has_weights) for stored in list_runs(folder.folder)] == [
        ("diverged", (), False)
    ]
    more = with_extras(run, GRAM, weights=True)
    folder.write_run(replace(more, seconds=99.0))
    assert folder.has(run.spec, extras=Extras(probes=(GRAM,), weights=True))
    assert_equal(folder.read_run(run.spec), more)


@pytest.mark.parametrize("name", ["curves.parquet", "trace.safetensors"])
def test_an_empty_file_of_the_previous_version_is_noticed(folder: FolderStore, name: str) -> None:
    write_as_0_1_0(folder.folder, make_run())
    (folder.folder / "runs" / run_spec().key / name).write_bytes(b"")
    assert run_spec() not in folder


# --- folders: disks --------------------------------------------------------------------------------------------------


def refuse(*args: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def refuse_in_rust(*args: object, **options: object) -> None:
    raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")


STEPS: dict[str, tuple[Any, str, Callable[..., None]]] = {
    "folder": (Path, "mkdir", refuse),
    "curves": (folder_module.pq, "write_table", refuse),
    "trace": (folder_module, "save_file", refuse_in_rust),
    "text": (Path, "write_text", refuse),
    "sync": (os, "fsync", refuse),
    "rename": (os, "replace", refuse),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("there", [False, True], ids=["new", "extras"])
def test_a_full_disk_leaves_the_store_as_it_was(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch, step: str, there: bool
) -> None:
    run = make_run(0)
    folder.write_run(run)
    wanted = with_extras(make_run(0 if there else 1), GRAM, weights=True)
    before = contents(folder.folder)
    with monkeypatch.context() as patch:
        patch.setattr(*STEPS[step])
        with pytest.raises(StoreError, match=r"No space left on device\. What was stored.*intact\. Free some.*--out"):
            folder.write_run(wanted)
    assert contents(folder.folder) == before
    assert_equal(folder.read_run(run.spec), run)
    folder.write_run(wanted)
    assert_equal(folder.read_run(wanted.spec), wanted)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_quota_is_a_full_disk(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def over(*args: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", over)
    with pytest.raises(StoreError, match=r"Disk quota exceeded\..*Free some space\."):
        folder.write_run(make_run())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB. Only the superuser may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("needs mount, to have a file system that is small")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"may not mount a small file system: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run([umount, place], check=True)


def test_wherever_a_real_disk_fills_up_the_store_is_intact(disk: Path) -> None:
    store, ballast, page = FolderStore(disk / "store"), disk / "ballast", os.sysconf("SC_PAGE_SIZE")
    first, second = make_run(0), with_extras(make_run(1), GRAM, weights=True)
    store.write_run(first)
    before, outcomes = contents(store.folder), set[bool]()
    for num_pages in range(24):
        ballast.write_bytes(b"")
        free = shutil.disk_usage(disk).free
        ballast.write_bytes(b"x" * (free - num_pages * page))
        try:
            store.write_run(second)
            message = ""
        except StoreError as error:
            message = str(error)
        written = second.spec in store
        outcomes.add(written)
        assert written == (message == "")
        assert written or ("No space left" in message and "Free some space" in message)
        assert written or contents(store.folder) == before
        ballast.unlink()
        if written:
            assert_equal(store.read_run(second.spec), second)
            shutil.rmtree(store.folder / "runs" / second.spec.key)
        assert_equal(store.read_run(first.spec), first)
    assert outcomes == {True, False}


def test_a_disk_that_became_read_only_is_a_store_error_and_is_still_read(disk: Path) -> None:
    store, run = FolderStore(disk / "store"), make_run()
    store.write_run(run)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StoreError, match=r"Read-only file system\..*Make it writable\."):
        store.write_run(make_run(1))
    with pytest.raises(StoreError, match="Read-only"), FolderStore(store.folder).claim([run_spec(1)]):
        pass
    assert_equal(FolderStore(store.folder).read_run(run.spec), run)
    assert [stored.status for stored in list_runs(store.folder)] == ["diverged"]


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreError, match=r"Could not write to .*file.*A file is where a folder should be"):
        FolderStore(tmp_path / "file").write_run(make_run())
    with pytest.raises(StoreError, match="Could not write"):
        FolderStore(tmp_path / "file").write_fit(make_fit())
    with pytest.raises(StoreError, match="Could not write"), FolderStore(tmp_path / "file").claim([run_spec()]):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write into a read-only folder")
def test_a_read_only_folder_is_a_store_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StoreError, match=r"Permission denied.*Make it writable"):
            FolderStore(tmp_path).write_run(make_run())
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_that_is_removed_while_in_use_is_not_made_again(folder: FolderStore) -> None:
    folder.write_run(make_run())
    shutil.rmtree(folder.folder)
    with pytest.raises(StoreError, match="was removed while it was in use"):
        folder.write_run(make_run(1))
    with pytest.raises(StoreError, match="was removed while it was in use"), folder.claim([run_spec(1)]):
        pass
    assert not folder.folder.exists()


def test_a_folder_that_is_removed_while_claimed_ends_the_claim(folder: FolderStore) -> None:
    with folder.claim([run_spec()]):
        shutil.rmtree(folder.folder)
    with FolderStore(folder.folder).claim([run_spec()]) as mine:
        assert mine == (run_spec(),)


def test_an_interruption_while_writing_leaves_nothing_behind(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    folder.write_run(make_run(0))
    before = inside(folder.folder)
    monkeypatch.setattr(folder_module, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write_run(make_run(1))
    assert inside(folder.folder) == before


@pytest.mark.parametrize("there", [False, True], ids=["new", "extras"])
def test_all_is_on_the_disk_before_it_is_named_and_reported(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        folder.write_run(make_run())
    events: list[tuple[str, int]] = []
    sync, rename = os.fsync, os.replace

    def synced(handle: int) -> None:
        events.append(("synced", os.fstat(handle).st_ino))
        sync(handle)

    def renamed(one: Path, two: Path) -> None:
        events.append(("renamed", one.stat().st_ino))
        rename(one, two)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    folder.write_run(with_extras(make_run(), GRAM, weights=True))
    place = folder.folder / "runs" / run_spec().key
    named = [number for number, (what, _) in enumerate(events) if what == "renamed"]
    assert len(named) == (3 if there else 1)
    for number in named:
        assert ("synced", events[number][1]) in events[:number]
    early = {inode for what, inode in events[: named[0]] if what == "synced"}
    files = [place / name for name in inside(place) if (place / name).is_file()]
    added = [
        path for path in files if not there or path.name not in ("curves.parquet", "trace.safetensors", "spec.json")
    ]
    assert {path.stat().st_ino for path in added} <= early
    last = place if there else place.parent
    assert ("synced", last.stat().st_ino) in events[named[-1] :]


# --- folders: other processes ----------------------------------------------------------------------------------------


def test_a_slower_writer_finds_the_run_there_and_is_content(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    fill = folder_module.save_file

    def overtaken(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(folder_module, "save_file", fill)
        FolderStore(folder.folder).write_run(with_extras(run, GRAM))
        fill(*args, **options)

    monkeypatch.setattr(folder_module, "save_file", overtaken)
    folder.write_run(with_extras(run, FEATURES))
    both = folder.read_run(run.spec)
    assert set(both.probes) == {GRAM, FEATURES}
    assert_equal(replace(both, probes={}), run)
    assert not [name for name in inside(folder.folder) if ".writing" in name]


HOLD = """
with FolderStore(Path(sys.argv[1])).claim([run_spec(seed) for seed in range(3)]) as mine:
    assert len(mine) == 3
    print("ready", flush=True)
    sys.stdin.read()
"""
HOLD_BESIDE_CHILDREN = """
claim = FolderStore(Path(sys.argv[1])).claim([run_spec(0)])
assert claim.__enter__() == (run_spec(0),)
forked = os.fork()
if forked == 0:
    claim.__exit__(None, None, None)  # It is not the child's to give back.
    os.close(1)
    signal.pause()
started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False, stdout=2)
print("ready", flush=True)
print(forked, started.pid, flush=True)
sys.stdin.read()
"""


def test_what_another_process_holds_is_free_when_it_is_killed(folder: FolderStore) -> None:
    specs = [run_spec(seed) for seed in range(5)]
    with python(HOLD, folder.folder) as process:
        with folder.claim(specs) as mine:
            assert mine == tuple(specs[3:])
        process.send_signal(signal.SIGKILL)
        process.wait()
        with folder.claim(specs) as mine:
            assert mine == tuple(specs)
    assert inside(folder.folder / "claims") == ["gate.lock"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_children_do_not_hold_what_their_dead_parent_held(folder: FolderStore) -> None:
    with python(HOLD_BESIDE_CHILDREN, folder.folder) as process:
        assert process.stdout is not None
        children = [int(number) for number in process.stdout.readline().split()]
        try:
            with folder.claim([run_spec(0)]) as mine:
                assert mine == ()
            process.send_signal(signal.SIGKILL)
            process.wait()
            for child in children:
                os.kill(child, 0)  # They live.
            with folder.claim([run_spec(0)]) as mine:
                assert mine == (run_spec(0),)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


def test_claims_leave_no_files_behind(folder: FolderStore) -> None:
    for seed in range(10):
        with folder.claim([run_spec(seed)]), folder.claim([run_spec(seed)]):
            pass
    assert inside(folder.folder) == ["claims", "claims/gate.lock"]


def test_a_gate_that_stays_shut_is_a_store_error(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_run(make_run())
    monkeypatch.setattr(claims, "PATIENCE", 0.05)
    with claims.Claims(folder.folder).gate():
        with pytest.raises(StoreError, match=r"Another process has kept .*gate\.lock locked for 0\.05 s"):
            folder.write_run(make_run(1))
        assert_equal(folder.read_run(run_spec()), make_run())
    folder.write_run(make_run(1))


def test_who_looks_at_a_claim_while_it_is_made_does_not_undo_it(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking locks a file for a moment, and may come between the making of a file and its being locked."""
    looked, tried = list[Path](), locks._tried

    def look_first(handle: int, *, shared: bool) -> bool:
        made = [] if shared or looked else list((folder.folder / "claims").glob("*.json"))
        looked.extend(made)
        with ExitStack() as looking:
            for path in made:
                assert tried(looking.enter_context(open(path, "rb")).fileno(), shared=True)
            return tried(handle, shared=shared)

    monkeypatch.setattr(locks, "_tried", look_first)
    with folder.claim([run_spec()]) as mine:
        assert mine == (run_spec(),)
        assert len(looked) == 1
        with folder.claim([run_spec()]) as yours:
            assert yours == ()
        sweep(folder.folder)
        assert list((folder.folder / "claims").glob("*.json")) == looked
    assert inside(folder.folder / "claims") == ["gate.lock"]


def test_without_locks_everybody_gets_everything_and_nothing_is_swept(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*args: object, **options: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_lock", without)
    half = folder.folder / "runs" / f".writing-{run_spec(1).key}-1-abcd"
    half.mkdir(parents=True)
    with folder.claim([run_spec()]) as mine, folder.claim([run_spec()]) as yours:
        assert mine == yours == (run_spec(),)
    folder.write_run(make_run())
    folder.write_run(with_extras(make_run(), GRAM))
    assert_equal(folder.read_run(run_spec()), with_extras(make_run(), GRAM))
    assert sweep(folder.folder) == 0
    assert half.is_dir()
    assert [stored.status for stored in list_runs(folder.folder)] == ["diverged"]


WRITE_SLOWLY = """
def stop(*arguments, **options):
    print("ready", flush=True)
    sys.stdin.read()
folder_module.save_file = stop
FolderStore(Path(sys.argv[1])).write_run(make_run(0))
"""


def test_what_the_dead_left_half_written_is_swept_and_what_the_living_write_is_not(folder: FolderStore) -> None:
    folder.write_run(make_run(1))
    with python(WRITE_SLOWLY, folder.folder) as process:
        assert len([name for name in inside(folder.folder / "runs") if name.endswith("curves.parquet")]) == 2
        assert sweep(folder.folder) == 0
        FolderStore(folder.folder).write_run(make_run(2))
        assert [stored.status for stored in list_runs(folder.folder)] == ["diverged", "diverged"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        (half,) = [stored for stored in list_runs(folder.folder) if stored.status == "interrupted"]
        assert (half.key, half.kind, half.spec) == (run_spec(0).key, "run", None)
        assert half.bytes > 0
        assert "process died" in half.message
        assert sweep(folder.folder) == 1
    assert {stored.key for stored in list_runs(folder.folder)} == {run_spec(1).key, run_spec(2).key}
    assert inside(folder.folder / "claims") == ["gate.lock"]


def test_opening_a_store_for_writing_sweeps(folder: FolderStore) -> None:
    half = folder.folder / "fits" / f".writing-{run_spec(1).key}-99-0badcafe"
    half.mkdir(parents=True)
    (half / "spec.json").write_text("{", encoding="utf-8")
    assert [stored.status for stored in list_runs(folder.folder)] == ["interrupted"]
    assert run_spec() not in folder
    assert half.exists()
    folder.write_run(make_run())
    assert not half.exists()


def test_there_is_nothing_to_sweep_where_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Could not tidy up"):
        sweep(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


ADD_EXTRAS = """
store = FolderStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(15):
    store.write_run(with_extras(make_run(), f"gram-{sys.argv[2]}{number:07d}"))
"""


def test_readers_never_see_a_broken_run_while_two_processes_add_to_it(folder: FolderStore) -> None:
    folder.write_run(make_run())
    with python(ADD_EXTRAS, folder.folder, "a") as one, python(ADD_EXTRAS, folder.folder, "b") as two:
        seen: set[int] = set()
        while one.poll() is None or two.poll() is None:
            run = folder.read_run(run_spec())
            assert_equal(replace(run, probes={}), make_run())
            for probe in run.probes.values():
                assert_equal(probe, make_probe())
            assert folder.has(run_spec(), extras=Extras(probes=tuple(run.probes)))
            assert len(run.probes) >= max(seen, default=0)
            seen.add(len(run.probes))
        assert (one.returncode, two.returncode) == (0, 0)
    assert len(folder.read_run(run_spec()).probes) == 30
    assert len(seen) > 2


def write_them_all(folder: Path) -> None:
    for seed in range(20):
        FolderStore(folder).write_run(make_run(seed))


def test_two_processes_may_write_the_same_runs_at_once(folder: FolderStore) -> None:
    code = f"""if True:
        import sys
        from pathlib import Path
        sys.path[:0] = {PLACES}
        from test_stores import write_them_all
        write_them_all(Path({str(folder.folder)!r}))
    """
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    for seed in range(20):
        assert_equal(folder.read_run(run_spec(seed)), make_run(seed))
    assert len(list((folder.folder / "runs").iterdir())) == 20


# --- folders: lists --------------------------------------------------------------------------------------------------


def test_a_list_says_what_is_there(folder: FolderStore) -> None:
    run, fit = with_extras(make_run(), GRAM, weights=True), make_fit()
    folder.write_run(run)
    folder.write_fit(fit)
    one, two = list_runs(folder.folder)
    assert (one.key, one.kind, one.status, one.message) == (run.spec.key, "run", "diverged", run.message)
    assert (one.spec, one.seconds, one.probes, one.has_weights) == (run.spec, run.seconds, (GRAM,), True)
    assert one.probing_share == pytest.approx(run.probing_share) != 0
    assert (two.key, two.kind, two.status, two.message) == (fit.spec.key, "fit", "completed", fit.note)
    assert (two.spec, two.seconds, two.probes, two.has_weights) == (fit.spec, fit.seconds, (), False)
    for stored in (one, two):
        place = folder.folder / f"{stored.kind}s" / stored.key
        assert stored.bytes == sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        assert stored.written is not None
        assert abs(datetime.now(UTC) - stored.written) < timedelta(minutes=5)


def test_a_list_reads_no_arrays(folder: FolderStore) -> None:
    folder.write_run(make_run())
    path = folder.folder / "runs" / run_spec().key / "trace.safetensors"
    path.write_bytes(b"x" * path.stat().st_size)
    assert [stored.status for stored in list_runs(folder.folder)] == ["diverged"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda place: cut(place / "trace.safetensors"), r"trace\.safetensors has [\d,]+ bytes instead of [\d,]+"),
        (lambda place: (place / "curves.parquet").unlink(), r"curves\.parquet is not there"),
        (lambda place: (place / "spec.json").unlink(), r"spec\.json is not there"),
        (lambda place: cut(place / "spec.json"), r"spec\.json cannot be read"),
        (lambda place: (place / "spec.json").write_text("[]"), r"spec\.json cannot be read \(it is not an object\)"),
        (lambda place: (place / "spec.json").write_text('{"schema": 1}'), r"spec\.json has no 'spec'"),
        (lambda place: (place / "spec.json").write_text("{}"), r"spec\.json has no 'schema'"),
    ],
)
def test_a_list_says_what_cannot_be_read_and_why(
    folder: FolderStore, damage: Callable[[Path], object], reason: str
) -> None:
    for seed in range(2):
        folder.write_run(make_run(seed))
    damage(folder.folder / "runs" / run_spec().key)
    (broken,) = [stored for stored in list_runs(folder.folder) if stored.status == "unreadable"]
    assert broken.key == run_spec().key
    assert re.match(reason, broken.message)
    assert "Delete that folder to have it made again." in broken.message
    assert len(list(list_runs(folder.folder))) == 2


def test_a_list_says_what_a_newer_byrote_wrote(folder: FolderStore) -> None:
    folder.write_run(make_run())
    change_spec(folder, make_run(), lambda about: about.update(schema=2))
    (stored,) = list_runs(folder.folder)
    assert stored.status == "unreadable"
    assert "Upgrade byrote" in stored.message


def test_a_list_says_what_is_under_way_and_where(folder: FolderStore) -> None:
    folder.write_run(make_run())
    with folder.claim([run_spec(0), run_spec(1)]):
        one, two = list_runs(folder.folder)
        assert (one.key, one.status) == (run_spec(0).key, "diverged")
        assert (two.key, two.kind, two.spec, two.status) == (run_spec(1).key, None, None, "in progress")
        assert f"process {os.getpid()} " in two.message
    assert [stored.status for stored in list_runs(folder.folder)] == ["diverged"]


def test_a_list_of_a_folder_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"There is no folder .*missing"):
        list_runs(tmp_path / "missing")
    assert list(list_runs(tmp_path)) == []
    assert inside(tmp_path) == []
