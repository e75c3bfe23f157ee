"""What an executor does: train what is missing, in order of importance, in time, and keep what is done."""

from collections.abc import Callable, Sequence
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
from byrote.execution import Deadline, LocalExecutor, Progress, alone, deadline, desk, forecast, session
from byrote.models import linear, mlp
from byrote.records import (
    Baseline,
    CorruptedLabels,
    ExactMatch,
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
from byrote.training import Path as TrainingPath
from byrote.training import batchmates, train, training_data
from small_networks import Dropping, Restless
from small_tasks import ALONE, CPU, SUBSET, assert_same, classes, numbers, population, spec

CLASSES, NUMBERS = classes(), numbers()


def executor(task: Task, store: AbstractStore | None = None) -> LocalExecutor:
    return LocalExecutor(task, store=MemoryStore() if store is None else store, device=CPU)


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
def test_it_trains_everything_that_is_asked_for_as_the_engine_does(task: Task) -> None:
    store, specs = MemoryStore(), mixed(task)
    assert executor(task, store).train(specs)
    for one in specs:
        data = training_data(task, inputs=one.inputs, sample=one.sample, device=CPU, dtype=torch.float64)
        path = ALONE._replace(foreign=one.learner.model.name.endswith("Dropping"))
        assert_same(train([one], data, path=path)[0], store.read_run(one))


def test_what_is_stored_is_not_trained_again(tmp_path: Path) -> None:
    specs = many(CLASSES, 3)
    first = executor(CLASSES, FolderStore(tmp_path))
    assert first.train(specs)
    assert first.num_trained == 3
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = executor(CLASSES, FolderStore(tmp_path))
    assert again.missing(specs) == []
    assert again.train(specs)
    assert again.num_trained == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps


def test_runs_added_to_an_old_list_are_trained_alone() -> None:
    store = MemoryStore()
    executor(CLASSES, store).train(many(CLASSES, 3))
    later = executor(CLASSES, store)
    assert later.missing(many(CLASSES, 5)) == many(CLASSES, 5)[3:]
    assert later.train(many(CLASSES, 5))
    assert later.num_trained == 2


def test_a_spec_asked_for_twice_is_trained_once() -> None:
    one = many(CLASSES, 1)
    twice = executor(CLASSES)
    assert twice.missing(one + one) == one
    assert twice.train(one + one)
    assert twice.num_trained == 1


def test_the_order_of_the_specs_does_not_change_a_run() -> None:
    forwards, backwards, specs = MemoryStore(), MemoryStore(), mixed(CLASSES)
    assert executor(CLASSES, forwards).train(specs)
    assert executor(CLASSES, backwards).train(specs[::-1])
    for one in specs:
        assert_same(forwards.read_run(one), backwards.read_run(one))


def test_specs_of_another_task_are_refused() -> None:
    strangers = many(classes(seed=1), 1)
    with pytest.raises(ValueError, match=f"with the fingerprint {CLASSES.fingerprint}, got {strangers[0].task}"):
        executor(CLASSES).train(strangers)
    with pytest.raises(ValueError, match="Expected specs of the task"):
        executor(CLASSES).fit([FitSpec(task="0", baseline=ExactMatch(), seed=0)])


def test_a_model_that_would_be_silently_wrong_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="evaluation mode"):
        executor(CLASSES, FolderStore(tmp_path)).train([*many(CLASSES, 1), spec(CLASSES, Restless)])
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreError, match="Could not write"):
        executor(CLASSES, FolderStore(tmp_path / "file")).train(many(CLASSES, 1))


def test_prediction_is_above_zero_and_grows_with_epochs() -> None:
    one = executor(CLASSES)
    short, long = (spec(CLASSES, linear(), epochs=epochs) for epochs in (2, 20))
    assert 0 < one.predicted_seconds(short) < one.predicted_seconds(long) < 10 * one.predicted_seconds(short)
    assert one.seconds_per_run(short, num_runs=4) > 0


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


# --- progress --------------------------------------------------------------------------------------------------------


def assert_progress(heard: list[Progress]) -> None:
    done = [progress.done for progress in heard]
    assert done == sorted(done)
    assert len({progress.total for progress in heard}) == 1
    assert done[0] >= 0
    assert done[-1] == pytest.approx(heard[-1].total)


def test_progress_never_falls_and_ends_at_the_total() -> None:
    heard: list[Progress] = []
    assert executor(CLASSES).train(mixed(CLASSES), on_progress=heard.append)
    assert_progress(heard)
    assert {progress.stage for progress in heard} == {"training"}
    assert len(heard) > 2 * 7  # seven groups of two epochs


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

    def train(self, specs: Sequence[RunSpec], data: Any, *, path: TrainingPath, on_epoch: Any, **asked: Any) -> list[Run]:
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
def test_a_fit_is_the_baseline_on_the_runs_own_examples(task: Task, baseline: Baseline) -> None:
    store, labels = MemoryStore(), CorruptedLabels(fraction=0.3, draw=1)
    one = FitSpec(task=task.fingerprint, baseline=baseline, seed=4, labels=labels, subset=SUBSET)
    assert executor(task, store).fit([one])
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


def test_a_fit_looks_at_the_sample_only_and_leaves_out_what_is_not_asked_for() -> None:
    store, sample = MemoryStore(), Sample(train=15, test=4, draw=2)
    one = FitSpec(task=CLASSES.fingerprint, baseline=ExactMatch(), seed=0, sample=sample, evaluate_train=False)
    assert executor(CLASSES, store).fit([one])
    fit = store.read_fit(one)
    assert fit.train_outputs is None
    assert fit.test_outputs.shape == (4, 3)
    shares = np.bincount(CLASSES.train.y[sample_positions(CLASSES, sample).train], minlength=3)
    assert fit.test_outputs.argmax(1).tolist() == [int(shares.argmax())] * 4


def fits() -> list[FitSpec]:
    return [FitSpec(task=CLASSES.fingerprint, baseline=one, seed=0) for one in FITS]


def test_fits_are_kept_and_not_made_again(tmp_path: Path) -> None:
    heard: list[Progress] = []
    assert executor(CLASSES, FolderStore(tmp_path)).fit(fits(), on_progress=heard.append)
    assert_progress(heard)
    assert list(dict.fromkeys(progress.stage for progress in heard)) == [
        "fitting exact match",
        "fitting nearest neighbour",
        "fitting 5 nearest neighbours",
        "fitting forest",
        "fitting",
    ]
    heard.clear()
    assert executor(CLASSES, FolderStore(tmp_path)).fit(fits(), on_progress=heard.append)
    assert [(progress.done, progress.total) for progress in heard] == [(0, 0)]


def test_no_fit_is_begun_after_the_deadline(world: MakeWorld) -> None:
    made, store = world(predicted=1.0, actual=lambda one: 1.0), MemoryStore()
    assert not executor(CLASSES, store).fit(fits(), deadline=Deadline(began=0.0, ends=made.now))
    assert not any(one in store for one in fits())
    assert executor(CLASSES, store).fit(fits(), deadline=made.deadline(1.0))
