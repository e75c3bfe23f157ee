"""Small tasks, and the runs that tests train on them."""

from typing import Any

import numpy as np
import torch

from byrote.data import Examples, Task
from byrote.records import (
    SGD,
    AllExamples,
    BalancedSubset,
    CorruptedLabels,
    Labels,
    Learner,
    Recipe,
    RunSpec,
    Subset,
    TrueInputs,
    TrueLabels,
)
from byrote.training import DTYPES, Method, Path, TrainingData, training_data

CPU = torch.device("cpu")
ALONE = Path("single")
FOREIGN = Path("single", foreign=True)

TRUE, ALL = TrueLabels(), AllExamples()
CORRUPTED = CorruptedLabels(fraction=0.4, draw=5)
SUBSET = BalancedSubset(fraction=0.7, draw=3, index=2)


def stacked(num_runs: int, method: Method = "stacked") -> Path:
    """A path of which this many runs go together, untimed."""
    return Path("single" if num_runs == 1 and method == "stacked" else method, num_runs)


def classes(*, num_train: int = 37, shape: tuple[int, ...] = (5,), num_classes: int = 3, seed: int = 0) -> Task:
    """Gaussian inputs in float64, with labels that depend on them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num_train + 11, *shape))
    y = (x.reshape(len(x), -1)[:, :num_classes] + 0.3 * rng.standard_normal((len(x), num_classes))).argmax(1)
    return Task(train=Examples(x[:num_train], y[:num_train]), test=Examples(x[num_train:], y[num_train:]))


def numbers(*, num_train: int = 37, num_features: int = 5, seed: int = 0) -> Task:
    """Gaussian inputs in float64, with a noisy linear target far from mean 0 and variance 1."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num_train + 11, num_features))
    y = 40 + 7 * (x @ rng.standard_normal(num_features) + 0.2 * rng.standard_normal(len(x)))
    return Task(train=Examples(x[:num_train], y[:num_train]), test=Examples(x[num_train:], y[num_train:]))


def recipe(**changed: Any) -> Recipe:
    """50 steps in float64: 10 epochs of 5."""
    return Recipe(**{"optimiser": SGD(lr=0.1), "batch_size": 8, "epochs": 10, "dtype": "float64", **changed})


def spec(
    task: Task,
    model: Any,
    *,
    seed: int = 0,
    order: int = 0,
    labels: Labels = TRUE,
    subset: Subset = ALL,
    **changed: Any,
) -> RunSpec:
    """One run; further arguments change its recipe."""
    learner = Learner(model=model, recipe=recipe(**changed))
    return RunSpec(task=task.fingerprint, learner=learner, seed=seed, order=order, labels=labels, subset=subset)


def population(task: Task, model: Any, **changed: Any) -> list[RunSpec]:
    """Five runs that can be trained together, with other seeds, orders, labels and subsets."""
    return [
        spec(
            task,
            model,
            seed=index,
            order=index // 2,
            labels=(TrueLabels(), CORRUPTED)[index % 2],
            subset=BalancedSubset(fraction=0.7, draw=3, index=index),
            **changed,
        )
        for index in range(5)
    ]


def data_of(task: Task, one: RunSpec) -> TrainingData:
    """What a run reads."""
    return training_data(
        task, inputs=TrueInputs(), sample=one.sample, device=CPU, dtype=DTYPES[one.learner.recipe.dtype]
    )


def numbers_of(run: Any) -> dict[str, np.ndarray]:
    """Every number a run left behind, by name; not the time it took."""
    return {**vars(run.curves), **vars(run.trace)}


def assert_same(one: Any, two: Any, *, tolerance: float = 1e-10) -> None:
    """Two runs have equal specs, statuses and numbers."""
    assert (one.spec, one.status, one.message) == (two.spec, two.status, two.message)
    for name, values in numbers_of(one).items():
        np.testing.assert_allclose(numbers_of(two)[name], values, rtol=tolerance, atol=tolerance, err_msg=name)
