"""Populations on random subsets, networks that miss one example, and the plain loop to compare their cost with."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from benchmarks.memorisation.few_runs_cases import Case
from jaxtyping import Bool, Float, Int
from torch import nn
from torch.nn import functional

from byrote.core import derive
from byrote.data import Task, inclusion
from byrote.measures import aum
from byrote.records import SGD, BalancedSubset, Run, RunSpec, TrueInputs
from byrote.training import Path, choose_path, train, training_data

FRACTION = 0.7
TOGETHER = 80
"""Runs whose traces are held at a time."""


class Outcomes(NamedTuple):
    """What runs on subsets leave behind, and what they cost."""

    inclusion: Bool[np.ndarray, "run example"]
    margin: Float[np.ndarray, "run example"]
    aum: Float[np.ndarray, "run example"]
    late: Float[np.ndarray, "run example"]
    """The margin averaged over the second half of training."""
    cpu_seconds: Float[np.ndarray, ""]
    """Of one run."""

    @property
    def correct(self) -> Bool[np.ndarray, "run example"]:
        """After training."""
        return self.margin > 0

    def part(self, runs: slice) -> "Outcomes":
        """The same of some runs."""
        return Outcomes(
            inclusion=self.inclusion[runs],
            margin=self.margin[runs],
            aum=self.aum[runs],
            late=self.late[runs],
            cpu_seconds=self.cpu_seconds,
        )


def outcomes(case: Case, task: Task, *, num_runs: int, draw: int) -> Outcomes:
    """Train networks on balanced subsets of 70 %, each from a seed and in an order of its own.

    Args:
        case: what.
        task: of the case.
        num_runs: how many.
        draw: of subsets and seeds; others make other networks.
    """
    specs = [
        RunSpec(
            task=task.fingerprint,
            learner=case.learner,
            seed=derive(draw, "run", index),
            order=derive(draw, "run", index),
            subset=BalancedSubset(fraction=FRACTION, draw=draw, index=index),
        )
        for index in range(num_runs)
    ]
    data = training_data(task, inputs=TrueInputs(), sample=None, device=torch.device("cpu"), dtype=torch.float32)
    path = choose_path(data, specs[0], num_runs=min(num_runs, TOGETHER))
    began = time.process_time()
    kept = [
        _kept(task, run)
        for first in range(0, num_runs, TOGETHER)
        for run in train(specs[first : first + TOGETHER], data, path=path)
    ]
    seconds = (time.process_time() - began) / num_runs
    included, margin, area, late = (np.stack(each) for each in zip(*kept, strict=True))
    return Outcomes(included, margin, area, late, np.array(seconds))


def _kept(task: Task, run: Run) -> tuple[np.ndarray, ...]:
    if run.status != "completed":
        raise RuntimeError(f"A run did not complete: {run.message}")
    margin = run.trace.margin
    late = margin[len(margin) // 2 :]
    return inclusion(task, run.spec.subset), margin[-1], *(aum(part).astype(np.float32) for part in (margin, late))


class LeftOut(NamedTuple):
    """Networks trained on everything, and on everything but one example."""

    inclusion: Bool[np.ndarray, "run example"]
    correct: Bool[np.ndarray, "run example"]
    """Of a run that misses an example, that example's alone."""
    seeds: Int[np.ndarray, "run"]
    """Of weights and orders."""


def leave_each_out(case: Case, task: Task, *, num_seeds: int) -> LeftOut:
    """Train `num_seeds` networks on the whole task and on each task that misses one example."""
    number = len(task.train)
    everyone = np.arange(number)
    full = _margins(case, replace(task, test=task.train), num_seeds=num_seeds, path=None)
    included, correct = [np.ones((num_seeds, number), bool)], [full.margin > 0]
    for example in range(number):
        others, itself = np.delete(everyone, example), np.array([example])
        part = replace(task, train=task.train.take(others), test=task.train.take(itself))
        missed = _margins(case, part, num_seeds=num_seeds, path=full.path)
        included.append(np.tile(everyone != example, (num_seeds, 1)))
        correct.append(np.where(everyone == example, missed.margin > 0, False))
    return LeftOut(np.concatenate(included), np.concatenate(correct), np.tile(np.arange(num_seeds), number + 1))


class _Margins(NamedTuple):
    margin: Float[np.ndarray, "run test_example"]
    path: Path


def _margins(case: Case, task: Task, *, num_seeds: int, path: Path | None) -> _Margins:
    """On the task's test examples."""
    specs = [
        RunSpec(
            task=task.fingerprint, learner=case.learner, seed=derive(0, "full", index), order=derive(0, "full", index)
        )
        for index in range(num_seeds)
    ]
    data = training_data(task, inputs=TrueInputs(), sample=None, device=torch.device("cpu"), dtype=torch.float32)
    path = path or choose_path(data, specs[0], num_runs=num_seeds)
    logits = np.stack([run.trace.test_outputs for run in train(specs, data, path=path)])
    rows, examples = np.ix_(range(num_seeds), range(len(task.test)))
    right = logits[rows, examples, task.test.y]
    logits[rows, examples, task.test.y] = -np.inf
    return _Margins(right - logits.max(2), path)


def plain_seconds(case: Case, task: Task, *, seeds: Sequence[int]) -> float:
    """CPU seconds a run of the plain PyTorch loop on a random subset: no trace, one evaluation at the end."""
    x, y = torch.as_tensor(task.normalise(task.train.x)).float(), torch.as_tensor(task.train.y)
    x = x.reshape(len(x), -1)
    short = replace(case, recipe=replace(case.recipe, epochs=1))
    _plain_run(short, x, y, num_classes=task.num_classes, generator=torch.Generator().manual_seed(0))
    began = time.process_time()
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        _plain_run(case, x, y, num_classes=task.num_classes, generator=generator)
    return (time.process_time() - began) / len(seeds)


def _plain_run(
    case: Case, x: torch.Tensor, y: torch.Tensor, *, num_classes: int, generator: torch.Generator
) -> torch.Tensor:
    network = nn.Sequential(nn.Linear(x.shape[1], case.width), nn.ReLU(), nn.Linear(case.width, num_classes))
    recipe, size = case.recipe, case.recipe.batch_size
    optimiser = (
        torch.optim.SGD(network.parameters(), lr=recipe.optimiser.lr, momentum=recipe.optimiser.momentum)
        if isinstance(recipe.optimiser, SGD)
        else torch.optim.AdamW(network.parameters(), lr=recipe.optimiser.lr)
    )
    chosen = torch.randperm(len(x), generator=generator)[: round(FRACTION * len(x))]
    for _ in range(recipe.epochs):
        order = chosen[torch.randperm(len(chosen), generator=generator)]
        for batch in order.split(size if isinstance(size, int) else len(order)):
            optimiser.zero_grad()
            functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimiser.step()
    with torch.inference_mode():
        return network(x).argmax(1) == y
