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
from byrote.training.draws import bits, narrow, normal, run_keys

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


def _dropout() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(32, 10)
    )


def _normed() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout2d(0.2),
        torch.nn.Flatten(),
        torch.nn.Linear(144, 10),
    )


@pytest.mark.parametrize(
    ("model", "path"),
    [
        *(
            (model, path)
            for model in (mlp(width=32), custom(_dropout))
            for path in (Path("dense", 4), Path("stacked", 4))
        ),
        *((model, Path(method, 4)) for model in (cnn(width=4), custom(_normed)) for method in ("stacked", "unfolded")),
        *((model, Path("single")) for model in (mlp(width=32), cnn(width=4), custom(_dropout), custom(_normed))),
    ],
    ids=str,
)
@pytest.mark.parametrize("optimiser", [SGD(lr=0.05), AdamW(eps=1e-3)], ids=lambda o: o.kind)
def test_cuda_trains_what_the_cpu_trains(model: ModelSpec, optimiser: SGD | AdamW, path: Path) -> None:
    for cpu, gpu in zip(_run(model, optimiser, "cpu", path), _run(model, optimiser, "cuda", path), strict=True):
        np.testing.assert_allclose(gpu.trace.loss, cpu.trace.loss, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(gpu.trace.test_outputs, cpu.trace.test_outputs, rtol=1e-7, atol=1e-8)


def test_draws_on_cuda_are_those_on_the_cpu() -> None:
    here = run_keys(range(3), "draws", device=torch.device("cpu"))
    there = run_keys(range(3), "draws", device=torch.device("cuda"))
    assert torch.equal(narrow(here, 7), narrow(there, 7).cpu())
    for one, two in zip(here, there, strict=True):
        assert torch.equal(bits(one, (1000, 37)), bits(two, (1000, 37)).cpu())
        like = torch.empty(1000, dtype=torch.float64)
        torch.testing.assert_close(normal(one, like), normal(two, like.cuda()).cpu(), rtol=1e-12, atol=1e-12)


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
