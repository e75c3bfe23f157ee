"""byrote's engine: a population at once, and a trace of every example besides."""

from collections.abc import Sequence
from functools import partial

import torch
from benchmarks.engine.work import Train, Work

from byrote.records import Learner, RunSpec, TrueInputs
from byrote.training import Path, TrainingData, choose_path, train, training_data


def prepare(work: Work) -> Train:
    """Every network in an order of its own: the default."""
    return partial(_train, work, _data(work), shared_order=False)


def prepare_shared(work: Work) -> Train:
    """All networks in one order, so that they see the same batches."""
    return partial(_train, work, _data(work), shared_order=True)


def choose(work: Work, *, population: int) -> Path:
    """How byrote trains so many of these networks."""
    return choose_path(_data(work), _spec(work, 0), num_runs=population)


def _data(work: Work) -> TrainingData:
    return training_data(
        work.task, inputs=TrueInputs(), sample=None, device=torch.device(work.device), dtype=torch.float32
    )


def _train(work: Work, data: TrainingData, seeds: Sequence[int], *, shared_order: bool) -> list[float]:
    specs = [_spec(work, seed, order=0 if shared_order else seed) for seed in seeds]
    runs = train(specs, data, path=work.path)
    failed = [run.message for run in runs if run.status != "completed"]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(runs)} runs did not complete: {failed[0]}")
    return [float(run.curves.test_score[-1]) for run in runs]


def _spec(work: Work, seed: int, *, order: int = 0) -> RunSpec:
    learner = Learner(model=work.case.make, recipe=work.case.recipe)
    return RunSpec(task=work.task.fingerprint, learner=learner, seed=seed, order=order)
