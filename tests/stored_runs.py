"""Runs and fits with every kind of thing that a store keeps."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

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
    ProbeResult,
    Recipe,
    Run,
    RunCurves,
    RunSpec,
    Sample,
    Trace,
)


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


def make_probe(seed: int = 0) -> ProbeResult:
    rng = np.random.default_rng(100 + seed)
    values = {
        "gram": rng.standard_normal((2, 6, 6)).astype(np.float32)[:, ::-1],
        "layer.0.count": np.arange(2),
        "mask": np.array([True, False]),
        "nothing": np.zeros((2, 0, 3)),
    }
    return ProbeResult(
        name="gram", settings={"steps": [0, 7], "share": 0.5}, steps=np.array([0, 7]), values=values, seconds=0.25
    )


def make_weights() -> dict[str, np.ndarray]:
    """With a strided view and a buffer of no dimension, as BatchNorm has one."""
    rng = np.random.default_rng(7)
    return {"0.weight": rng.standard_normal((4, 3)).T, "1.num_batches_tracked": np.asarray(12)}


GRAM, FEATURES = "gram-00c0ffee", "features-1234abcd"


def with_extras(run: Run, *keys: str, weights: bool = False) -> Run:
    probes = {key: make_probe(index) for index, key in enumerate(keys)}
    return replace(run, probes=probes, weights=make_weights() if weights else None)


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


def inside(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def assert_equal(one: Any, two: Any) -> None:
    """Field by field, arrays bit by bit."""
    assert type(one) is type(two)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        np.testing.assert_array_equal(one, two)
    elif isinstance(one, (Run, RunCurves, Trace, Fit, ProbeResult)):
        for part in fields(one):
            assert_equal(getattr(one, part.name), getattr(two, part.name))
    elif isinstance(one, Mapping):
        assert set(one) == set(two)
        for name in one:
            assert_equal(one[name], two[name])
    else:
        assert one == two
