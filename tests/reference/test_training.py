"""The population engine against the loop that everyone writes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import derive
from byrote.data import Task, inclusion, randomise_targets
from byrote.models import build, cnn, linear, mlp
from byrote.records import (
    SGD,
    AdamW,
    BalancedSubset,
    Constant,
    Cosine,
    Linear,
    Optimiser,
    Recipe,
    RunSpec,
    Schedule,
    Step,
)
from byrote.training import train
from small_networks import (
    Buffered,
    Convolutional,
    Dropping,
    Frozen,
    Normed,
    Recurrent,
    Scalar,
    Secret,
    Tied,
    TwoBiases,
    Unused,
)
from small_tasks import (
    ALONE,
    CORRUPTED,
    MODES,
    SUBSET,
    assert_same,
    classes,
    data_of,
    numbers,
    numbers_of,
    population,
    spec,
    stacked,
)

TOLERANCE = 1e-10

CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(2, 6, 6))
TASKS = {"classes": CLASSES, "numbers": NUMBERS, "images": IMAGES}
CASES: list[tuple[str, Any]] = [
    ("classes", mlp(width=7, depth=2)),
    ("classes", linear()),
    ("numbers", mlp(width=7)),
    ("numbers", linear()),
    ("images", cnn(width=2)),
    ("images", mlp(width=7)),
    ("classes", Frozen),
    ("classes", Tied),
    ("numbers", Tied),
    ("classes", Buffered),
    ("classes", Unused),
    ("classes", TwoBiases),
    ("numbers", Scalar),
    ("images", Convolutional),
]
OPTIMISERS = [
    SGD(lr=0.1, momentum=0.0),
    SGD(lr=0.05, momentum=0.9),
    SGD(lr=0.05, momentum=0.8, weight_decay=0.05),
    AdamW(lr=0.02, weight_decay=0.0),
    AdamW(lr=0.02, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1),
]
SCHEDULES = [Constant(), Step(every=3, factor=0.3), Cosine(), Linear()]


def plain_optimiser(module: nn.Module, optimiser: Optimiser) -> torch.optim.Optimizer:
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    if isinstance(optimiser, SGD):
        return torch.optim.SGD(
            weights, lr=optimiser.lr, momentum=optimiser.momentum, weight_decay=optimiser.weight_decay
        )
    betas = (optimiser.beta1, optimiser.beta2)
    return torch.optim.AdamW(
        weights, lr=optimiser.lr, betas=betas, eps=optimiser.eps, weight_decay=optimiser.weight_decay
    )


def plain_rate(recipe: Recipe, step: int, num_steps: int, epoch: int) -> float:
    lr = recipe.optimiser.lr
    if isinstance(recipe.schedule, Step):
        for finished in range(1, epoch + 1):
            lr *= recipe.schedule.factor if finished % recipe.schedule.every == 0 else 1.0
    elif isinstance(recipe.schedule, Cosine):
        lr *= 0.5 + 0.5 * math.cos(step * math.pi / num_steps)
    elif isinstance(recipe.schedule, Linear):
        lr *= (num_steps - step) / num_steps
    return lr


def judge(task: Task, output: Tensor, target: Tensor) -> tuple[Tensor, float, float]:
    """Loss, margin and error norm of one example."""
    seen = output.detach()
    if task.regression:
        return (output[0] - target) ** 2, math.nan, abs(float(seen[0] - target))
    y = int(target)
    loss = torch.logsumexp(output, 0) - output[y]
    others = [float(z) for c, z in enumerate(seen) if c != y]
    errors = [float(p) - (c == y) for c, p in enumerate(torch.exp(seen) / torch.exp(seen).sum())]
    return loss, float(seen[y]) - max(others), math.sqrt(sum(e * e for e in errors))


def plain_run(task: Task, one: RunSpec) -> dict[str, np.ndarray]:
    """Train one network the obvious way, one example at a time where that is obvious."""
    recipe = one.learner.recipe
    y = randomise_targets(task, one.labels).targets
    mean, scale = (task.train.y.mean(), task.train.y.std()) if task.regression else (0, 1)
    targets = torch.as_tensor((y - mean) / scale if task.regression else y)
    test_targets = torch.as_tensor((task.test.y - mean) / scale if task.regression else task.test.y)
    x, test_x = torch.as_tensor(task.train.x), torch.as_tensor(task.test.x)
    included = inclusion(task, one.subset)
    module = build(one.learner.model, task=task, seed=one.seed, dtype=torch.float64).eval()
    optimiser = plain_optimiser(module, recipe.optimiser)
    fraction = one.subset.fraction if isinstance(one.subset, BalancedSubset) else 1
    size = round(recipe.batch_size / fraction)
    n, per_epoch = len(x), math.ceil(len(x) / size)
    loss, margin = np.full((recipe.epochs + 1, n), np.nan), np.full((recipe.epochs + 1, n), np.nan)
    early = np.full(n, np.nan)
    curves: dict[str, list[float]] = {name: [] for name in ("step", "train_loss", "train_score", "test_loss")}
    curves |= {"test_score": [], "weight_norm": []}
    for epoch in range(recipe.epochs):
        order = np.random.default_rng(derive(one.order, "order", epoch)).permutation(n)
        for number in range(per_epoch):
            step = epoch * per_epoch + number
            chosen = order[number * size : (number + 1) * size]
            outputs = module(x[chosen]).reshape(len(chosen), -1)
            learnt = []
            for i, output in zip(chosen, outputs, strict=True):
                value, margin[epoch, i], norm = judge(task, output, targets[i])
                loss[epoch, i] = float(value.detach())
                if epoch == math.ceil(recipe.epochs / 10) - 1:
                    early[i] = norm
                if included[i]:
                    learnt.append(value)
            for group in optimiser.param_groups:
                group["lr"] = plain_rate(recipe, step, recipe.epochs * per_epoch, epoch)
            optimiser.zero_grad()
            (torch.stack(learnt).sum() / len(learnt)).backward()
            optimiser.step()
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        test = [
            judge(task, z, t)
            for z, t in zip(module(test_x).detach().reshape(-1, task.num_outputs), test_targets, strict=True)
        ]
        point = {
            "step": (epoch + 1) * per_epoch,
            "train_loss": loss[epoch, included].mean(),
            "train_score": plain_score(task, loss[epoch, included], margin[epoch, included], targets[included]),
            "test_loss": np.mean([float(value) for value, _, _ in test]),
            "test_score": plain_score(task, [float(v) for v, _, _ in test], [m for _, m, _ in test], test_targets),
            "weight_norm": math.sqrt(sum(float((weight.detach() ** 2).sum()) for weight in weights)),
        }
        for name, value in point.items():
            curves[name].append(float(value))
    outputs = [module(part).reshape(len(part), -1).detach() for part in (x, test_x)]
    for i in range(n):
        value, margin[-1, i], _ = judge(task, outputs[0][i], targets[i])
        loss[-1, i] = float(value)
    train_outputs, test_outputs = (np.asarray(part) * scale + mean for part in outputs)
    traced = {"loss": loss, "margin": margin, "early_error": early}
    answers = {"train_outputs": train_outputs, "test_outputs": test_outputs}
    return {**{name: np.array(values) for name, values in curves.items()}, **traced, **answers}


def plain_score(task: Task, losses: Any, margins: Any, targets: Tensor) -> float:
    if task.regression:
        return 1 - np.mean(losses) / float(targets.var(unbiased=False))
    return float(np.mean(np.asarray(margins) > 0))


def assert_plain(task: Task, one: RunSpec, run: Any) -> None:
    assert run.spec == one
    assert (run.status, run.message) == ("completed", "")
    for name, expected in plain_run(task, one).items():
        got = numbers_of(run)[name]
        np.testing.assert_allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)
@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=str)
def test_every_optimiser_and_schedule_stacked_is_the_plain_loop(optimiser: Optimiser, schedule: Schedule) -> None:
    specs = [
        spec(CLASSES, mlp(width=7), seed=7, optimiser=optimiser, schedule=schedule),
        spec(CLASSES, mlp(width=7), seed=8, labels=CORRUPTED, optimiser=optimiser, schedule=schedule),
    ]
    for one, run in zip(specs, train(specs, data_of(CLASSES, specs[0]), path=stacked(2)), strict=True):
        assert_plain(CLASSES, one, run)


@pytest.mark.parametrize("optimiser", [OPTIMISERS[2], OPTIMISERS[4]], ids=lambda optimiser: optimiser.kind)
@pytest.mark.parametrize(("kind", "model"), CASES, ids=str)
def test_every_model_stacked_and_alone_is_the_plain_loop(kind: str, model: Any, optimiser: Optimiser) -> None:
    task = TASKS[kind]
    specs = population(task, model, optimiser=optimiser, schedule=Cosine())
    data = data_of(task, specs[0])
    together, alone = train(specs, data, path=stacked(5)), train(specs, data, path=ALONE)
    for one, two in zip(together, alone, strict=True):
        assert_same(one, two, tolerance=TOLERANCE)
    for index in (1, 2):
        assert_plain(task, specs[index], together[index])


@pytest.mark.parametrize("task", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_runs_on_all_examples_are_the_plain_loop(task: Task) -> None:
    specs = [spec(task, mlp(width=7), seed=seed, labels=CORRUPTED, order=11) for seed in range(2)]
    for one, run in zip(specs, train(specs, data_of(task, specs[0]), path=stacked(2)), strict=True):
        assert_plain(task, one, run)


@pytest.mark.parametrize(("model", "task"), [(Recurrent, CLASSES), (Secret, CLASSES)])
def test_a_model_that_cannot_be_stacked_is_the_plain_loop_one_at_a_time(model: Any, task: Task) -> None:
    one = spec(task, model, subset=SUBSET)
    (run,) = train([one], data_of(task, one), path=ALONE)
    assert_plain(task, one, run)


def test_batch_norm_learns_from_included_examples_and_is_judged_on_running_averages() -> None:
    one = spec(CLASSES, Normed, subset=SUBSET, labels=CORRUPTED, optimiser=SGD(lr=0.1, momentum=0.5))
    (run,) = train([one], data_of(CLASSES, one), path=MODES)
    targets = torch.as_tensor(randomise_targets(CLASSES, CORRUPTED).targets)
    x, included = torch.as_tensor(CLASSES.train.x), torch.as_tensor(inclusion(CLASSES, SUBSET))
    module = build(one.learner.model, task=CLASSES, seed=one.seed, dtype=torch.float64)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    losses = torch.empty(10, len(x), dtype=torch.float64)
    for epoch in range(10):
        order = torch.as_tensor(np.random.default_rng(derive(0, "order", epoch)).permutation(len(x)))
        for chosen in order.split(round(8 / 0.7)):
            module.eval()
            losses[epoch, chosen] = nn.functional.cross_entropy(module(x[chosen]), targets[chosen], reduction="none")
            kept = chosen[included[chosen]]
            assert len(kept) > 1
            module.train()
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x[kept]), targets[kept]).backward()
            optimiser.step()
    np.testing.assert_allclose(run.trace.loss[:-1], losses.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE)
    outputs = module.eval()(x).detach().numpy()
    np.testing.assert_allclose(run.trace.train_outputs, outputs, rtol=TOLERANCE, atol=TOLERANCE)


def test_dropout_draws_from_a_seed_for_every_run_and_step() -> None:
    one = spec(CLASSES, Dropping, seed=4, epochs=2)
    (run,) = train([one], data_of(CLASSES, one), path=MODES)
    x, y = torch.as_tensor(CLASSES.train.x), torch.as_tensor(CLASSES.train.y)
    module = build(one.learner.model, task=CLASSES, seed=4, dtype=torch.float64)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    step = 0
    with torch.random.fork_rng(devices=[]):
        for epoch in range(2):
            order = torch.as_tensor(np.random.default_rng(derive(0, "order", epoch)).permutation(len(x)))
            for chosen in order.split(8):
                torch.default_generator.manual_seed(derive(4, "step", step))
                optimiser.zero_grad()
                nn.functional.cross_entropy(module.train()(x[chosen]), y[chosen]).backward()
                optimiser.step()
                step += 1
    outputs = module.eval()(x).detach().numpy()
    np.testing.assert_allclose(run.trace.train_outputs, outputs, rtol=TOLERANCE, atol=TOLERANCE)
