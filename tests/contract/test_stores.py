"""What every store does: whole or not at all, and what is in it reads back exactly."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from byrote.core import StoreError
from byrote.records import (
    SGD,
    BalancedSubset,
    CorruptedLabels,
    Cosine,
    Fit,
    FitSpec,
    GaussianInputs,
    KernelMachine,
    Learner,
    ModelSpec,
    Recipe,
    Run,
    RunCurves,
    RunSpec,
    Sample,
    Trace,
)
from byrote.store import AbstractStore, FolderStore, MemoryStore
from byrote.store import folder as folder_module

MAKERS: dict[str, Callable[[Path], AbstractStore]] = {"memory": lambda path: MemoryStore(), "folder": FolderStore}


@pytest.fixture(params=MAKERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AbstractStore:
    return MAKERS[request.param](tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def run_spec(seed: int = 0) -> RunSpec:
    learner = Learner(
        model=ModelSpec(name="mlp", arguments=(("depth", 1), ("width", 4))),
        recipe=Recipe(optimiser=SGD(lr=0.3), schedule=Cosine(), epochs=3),
    )
    return RunSpec(
        task="0123456789abcdef",
        learner=learner,
        seed=seed,
        order=2**62 + 1,
        labels=CorruptedLabels(fraction=0.1, draw=3),
        inputs=GaussianInputs(draw=1),
        subset=BalancedSubset(fraction=0.7, draw=1, index=2),
        sample=Sample(train=6, test=5, draw=0),
    )


def make_run(seed: int = 0, *, dtype: type = np.float32) -> Run:
    rng = np.random.default_rng(seed)
    curves = {part.name: rng.standard_normal(3) for part in fields(RunCurves)}
    trace = {
        "loss": rng.standard_normal((4, 6)).astype(dtype),
        "margin": np.full((4, 6), np.nan, dtype),
        "early_error": rng.standard_normal(6).astype(dtype),
        "train_outputs": rng.standard_normal((6, 2)).astype(dtype),
        "test_outputs": np.array([[np.inf, -np.inf], [np.nan, 0.0]], dtype),
    }
    return Run(
        spec=run_spec(seed),
        status="diverged",
        message="Loss or weights – “no longer” finite.\nLower it.",
        curves=RunCurves(**curves),
        trace=Trace(**trace),
        seconds=0.1 + 0.2,
    )


def make_fit(seed: int = 0, *, evaluate_train: bool = True) -> Fit:
    rng = np.random.default_rng(seed)
    spec = FitSpec(
        task="0123456789abcdef", baseline=KernelMachine(kernel="laplacian"), seed=seed, evaluate_train=evaluate_train
    )
    return Fit(
        spec=spec,
        train_outputs=rng.random((6, 2)) if evaluate_train else None,
        test_outputs=rng.random((5, 2)),
        note="Nyström with 3,000 landmarks",
        seconds=1.5,
    )


def assert_equal(one: Any, two: Any) -> None:
    """Field by field, arrays bit by bit."""
    assert type(one) is type(two)
    if isinstance(one, np.ndarray):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    elif isinstance(one, (Run, RunCurves, Trace, Fit)):
        for part in fields(one):
            assert_equal(getattr(one, part.name), getattr(two, part.name))
    else:
        assert one == two


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


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_shared_by_whoever_opens_it(tmp_path: Path) -> None:
    run = make_run()
    FolderStore(tmp_path / "deep" / "store").write_run(run)
    assert_equal(FolderStore(tmp_path / "deep" / "store").read_run(run.spec), run)


def test_everything_can_be_read_without_byrote(folder: FolderStore) -> None:
    run, fit = make_run(), make_fit()
    folder.write_run(run)
    folder.write_fit(fit)
    place = folder.folder / "runs" / run.spec.key
    assert sorted(path.name for path in place.iterdir()) == ["curves.parquet", "spec.json", "trace.safetensors"]
    about = json.loads((place / "spec.json").read_text(encoding="utf-8"))
    assert (about["schema"], about["kind"], about["status"], about["message"]) == (1, "run", "diverged", run.message)
    assert about["spec"]["learner"]["recipe"]["optimiser"]["lr"] == 0.3
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


def names(folder: FolderStore) -> list[str]:
    return sorted(str(path.relative_to(folder.folder)) for path in folder.folder.rglob("*"))


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


def refuse(*args: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


def refuse_in_rust(*args: object, **options: object) -> None:
    raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("step", ["curves", "trace", "spec", "rename"])
def test_a_full_disk_leaves_the_store_as_it_was(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run = make_run(0)
    folder.write_run(run)
    before = names(folder)
    with monkeypatch.context() as patch:
        match step:
            case "curves":
                patch.setattr(folder_module.pq, "write_table", refuse)
            case "trace":
                patch.setattr(folder_module, "save_file", refuse_in_rust)
            case "spec":
                patch.setattr(Path, "write_text", refuse)
            case _:
                patch.setattr(os, "replace", refuse)
        with pytest.raises(StoreError, match=r"No space left on device.*What was stored before is intact.*--out"):
            folder.write_run(make_run(1))
    assert names(folder) == before
    assert_equal(folder.read_run(run.spec), run)
    folder.write_run(make_run(1))
    assert_equal(folder.read_run(run_spec(1)), make_run(1))


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreError, match=r"Could not write to .*file.*A file is where a folder should be"):
        FolderStore(tmp_path / "file").write_run(make_run())
    with pytest.raises(StoreError, match="Could not write"):
        FolderStore(tmp_path / "file").write_fit(make_fit())


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write into a read-only folder")
def test_a_read_only_folder_is_a_store_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StoreError, match="Permission denied"):
            FolderStore(tmp_path).write_run(make_run())
    finally:
        tmp_path.chmod(0o755)


def test_an_interruption_while_writing_leaves_nothing_behind(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    folder.write_run(make_run(0))
    before = names(folder)
    monkeypatch.setattr(folder_module, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write_run(make_run(1))
    assert names(folder) == before


def test_a_slower_writer_finds_the_run_there_and_is_content(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    fill = folder_module.save_file

    def overtaken(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(folder_module, "save_file", fill)
        FolderStore(folder.folder).write_run(run)
        fill(*args, **options)

    monkeypatch.setattr(folder_module, "save_file", overtaken)
    folder.write_run(run)
    assert_equal(folder.read_run(run.spec), run)
    assert not [name for name in names(folder) if ".writing" in name]


def write_them_all(folder: Path) -> None:
    for seed in range(20):
        FolderStore(folder).write_run(make_run(seed))


def test_two_processes_may_write_the_same_runs_at_once(folder: FolderStore) -> None:
    code = f"""if True:
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_stores import write_them_all
        write_them_all(Path({str(folder.folder)!r}))
    """
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    for seed in range(20):
        assert_equal(folder.read_run(run_spec(seed)), make_run(seed))
    assert len(list((folder.folder / "runs").iterdir())) == 20
