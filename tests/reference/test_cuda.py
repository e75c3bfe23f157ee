"""The same numbers on a GPU. Skipped, with the reason, where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import byrote
from byrote.models import cnn, mlp
from byrote.records import (
    SGD,
    AdamW,
    BalancedSubset,
    CorruptedLabels,
    Learner,
    ModelSpec,
    Recipe,
    RunSpec,
    TrueInputs,
    custom,
)
from byrote.training import Path, choose_path, train, training_data

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch sees none"),
]


def _run(model: ModelSpec, optimiser: SGD | AdamW, device: str, path: Path):
    task = byrote.load("digits")
    learner = Learner(model=model, recipe=Recipe(optimiser=optimiser, batch_size=64, epochs=2, dtype="float64"))
    base = RunSpec(task=task.fingerprint, learner=learner, seed=0, order=0)
    specs = [
        replace(
            base,
            seed=seed,
            labels=CorruptedLabels(fraction=0.2, draw=seed),
            subset=BalancedSubset(fraction=0.7, draw=0, index=seed),
        )
        for seed in range(4)
    ]
    data = training_data(task, inputs=TrueInputs(), sample=None, device=torch.device(device), dtype=torch.float64)
    return train(specs, data, path=path)


@pytest.mark.parametrize("model", [mlp(width=32), cnn(width=4)], ids=str)
@pytest.mark.parametrize("optimiser", [SGD(lr=0.05), AdamW()], ids=lambda o: o.kind)
@pytest.mark.parametrize("num_stacked", [1, 4])
def test_cuda_trains_what_the_cpu_trains(model: ModelSpec, optimiser: SGD | AdamW, num_stacked: int) -> None:
    path = Path("stacked" if num_stacked > 1 else "single", num_stacked)
    for cpu, gpu in zip(_run(model, optimiser, "cpu", path), _run(model, optimiser, "cuda", path), strict=True):
        np.testing.assert_allclose(gpu.trace.loss, cpu.trace.loss, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(gpu.trace.test_outputs, cpu.trace.test_outputs, rtol=1e-7, atol=1e-8)


def _dropout() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(32, 10)
    )


def test_dropout_on_cuda_repeats_itself_and_leaves_the_generators_alone() -> None:
    path = Path("single")
    before = torch.cuda.get_rng_state()
    first, second = (_run(custom(_dropout), SGD(lr=0.05), "cuda", path) for _ in range(2))
    assert torch.equal(before, torch.cuda.get_rng_state())
    for one, two in zip(first, second, strict=True):
        np.testing.assert_allclose(one.trace.loss, two.trace.loss, rtol=1e-7, atol=1e-9)


def test_a_path_is_chosen_on_cuda() -> None:
    task = byrote.load("digits")
    learner = Learner(model=mlp(width=32), recipe=Recipe(epochs=1))
    data = training_data(task, inputs=TrueInputs(), sample=None, device=torch.device("cuda"), dtype=torch.float32)
    spec = RunSpec(task=task.fingerprint, learner=learner, seed=0, order=0)
    path = choose_path(data, spec, num_runs=16)
    assert path.num_stacked > 1, path
    assert path.num_threads is None
