"""Training where the answer is known on paper."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    StepLR,
)

from byrote.data import Task, inclusion, randomise_targets
from byrote.measures import el2n
from byrote.models import build, linear, mlp
from byrote.records import (
    SAM,
    SGD,
    AllExamples,
    BalancedSubset,
    Constant,
    Cosine,
    Linear,
    Optimiser,
    Regularisers,
    Run,
    Schedule,
    Step,
    Switch,
    WarmUp,
)
from byrote.training import Method, Path, batches, train
from byrote.training.draws import narrow, normal, run_keys
from byrote.training.learn import DRAWN_LABELS, Lesson, learn
from byrote.training.nature import networks_of
from byrote.training.networks import Pass
from byrote.training.optimise import OptimiserState, norms
from byrote.training.population import epoch_order
from byrote.training.rules import Batch, Clock, Rulebook, batch_size, learning_rate
from small_networks import Zero
from small_tasks import ALONE, CORRUPTED, CPU, SUBSET, classes, data_of, numbers, recipe, spec, stacked


class Quadratic(NamedTuple):
    """Least squares: the loss mean((Xθ − y)²) has the Hessian A = 2/n XᵀX and its minimum at A θ* = b."""

    task: Task
    design: np.ndarray
    hessian: np.ndarray
    moment: np.ndarray
    """b = 2/n Xᵀy."""
    start: np.ndarray
    """θ_0: the engine's initial weights."""

    @property
    def top(self) -> float:
        """The largest curvature."""
        return float(np.linalg.eigvalsh(self.hessian)[-1])

    def outputs(self, theta: np.ndarray) -> np.ndarray:
        return self.design @ theta * self.task.train.y.std() + self.task.train.y.mean()


def quadratic() -> Quadratic:
    task = numbers()
    design = np.column_stack([task.train.x, np.ones(len(task.train))])
    y = (task.train.y - task.train.y.mean()) / task.train.y.std()
    affine = build(linear(), task=task, seed=0, dtype=torch.float64)
    start = np.concatenate([weight.detach().numpy().ravel() for weight in affine.parameters()])
    return Quadratic(task, design, 2 / len(y) * design.T @ design, 2 / len(y) * design.T @ y, start)


def descended(around: Quadratic, optimiser: Optimiser, *, num_steps: int, path: Path = ALONE) -> Run:
    """Full-batch descent by the engine."""
    one = spec(around.task, linear(), optimiser=optimiser, batch_size="all", epochs=num_steps)
    return train([one], data_of(around.task, one), path=path)[0]


STEPS = pytest.mark.parametrize(
    ("num_steps", "path"), [(1, ALONE), (2, stacked(1, "dense")), (100, ALONE), (100, stacked(1, "dense"))], ids=str
)


@STEPS
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("eta_times_top", [0.3, 1.99, 2.01])
def test_gradient_descent_on_a_quadratic_is_a_matrix_power(
    num_steps: int, path: Path, eta_times_top: float, weight_decay: float
) -> None:
    """θ_t = θ* + (I − ηA)^t (θ_0 − θ*); weight decay λ adds λ to every curvature."""
    around = quadratic()
    values, vectors = np.linalg.eigh(around.hessian + weight_decay * np.eye(len(around.start)))
    eta = eta_times_top / values[-1]
    descent = SGD(lr=float(eta), momentum=0.0, weight_decay=weight_decay)
    best = vectors @ (vectors.T @ around.moment / values)
    after = best + vectors @ ((1 - eta * values) ** num_steps * (vectors.T @ (around.start - best)))
    run = descended(around, descent, num_steps=num_steps, path=path)
    np.testing.assert_allclose(run.trace.train_outputs[:, 0], around.outputs(after), rtol=1e-10)


@STEPS
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_momentum_on_a_quadratic_is_a_matrix_power(num_steps: int, path: Path, momentum: float, nesterov: bool) -> None:
    """With e = θ − θ*: v ← μv + Ae; e ← e − ηv, or with Nesterov's e ← e − η(Ae + μv)."""
    around = quadratic()
    size, decay = len(around.start), 0.05
    a = around.hessian + decay * np.eye(size)
    eta = 0.7 / np.linalg.eigvalsh(a)[-1]
    same, none = np.eye(size), np.zeros((size, size))
    to_velocity = np.block([[a, momentum * same]])
    direction = np.block([[a, none]]) + momentum * to_velocity if nesterov else to_velocity
    once = np.vstack([np.block([[same, none]]) - eta * direction, to_velocity])
    best = np.linalg.solve(a, around.moment)
    state = np.linalg.matrix_power(once, num_steps) @ np.concatenate([around.start - best, np.zeros(size)])
    descent = SGD(lr=float(eta), momentum=momentum, weight_decay=decay, nesterov=nesterov)
    run = descended(around, descent, num_steps=num_steps, path=path)
    np.testing.assert_allclose(run.trace.train_outputs[:, 0], around.outputs(best + state[:size]), rtol=1e-9)


@pytest.mark.parametrize(
    ("momentum", "nesterov", "limit"),
    [(0.0, False, 2.0), (0.5, False, 3.0), (0.9, False, 3.8), (0.5, True, 3 / 2), (0.9, True, 3.8 / 2.8)],
)
def test_descent_converges_just_below_the_edge_of_stability_and_not_above(
    momentum: float, nesterov: bool, limit: float
) -> None:
    """η·λ_max < 2(1 + μ), and with Nesterov's momentum 2(1 + μ)/(1 + 2μ)."""
    around = quadratic()
    below, above = (
        descended(
            around,
            SGD(lr=factor * limit / around.top, momentum=momentum, nesterov=nesterov),
            num_steps=160,
        ).curves.train_loss
        for factor in (1.99 / 2, 2.01 / 2)
    )
    assert below[120:].max() < below[80:120].max() < below[:80].max()
    assert above[120:].max() > above[80:120].max() > above[40:80].max()


def test_sharpness_aware_descent_on_a_quadratic_is_its_formula() -> None:
    """θ ← θ − η·A(θ + ρ·g/‖g‖ − θ*) with g = A(θ − θ*)."""
    around, eta, rho = quadratic(), 0.1, 0.3
    theta = around.start
    for _ in range(20):
        gradient = around.hessian @ theta - around.moment
        ahead = theta + rho * gradient / np.linalg.norm(gradient)
        theta = theta - eta * (around.hessian @ ahead - around.moment)
    run = descended(around, SAM(base=SGD(lr=eta, momentum=0.0), rho=rho), num_steps=20)
    np.testing.assert_allclose(run.trace.train_outputs[:, 0], around.outputs(theta), rtol=1e-10)


@pytest.mark.parametrize("method", ["single", "dense", "stacked"])
def test_sam_looks_at_a_distance_of_rho_and_comes_back(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    task = classes()
    radii = (0.05, 0.7) if method != "single" else (0.7,)
    specs = [spec(task, mlp(width=7), seed=seed, epochs=2) for seed in range(len(radii))]
    data = data_of(task, specs[0])
    modules = [build(one.learner.model, task=task, seed=one.seed, dtype=torch.float64) for one in specs]
    networks = networks_of(method, modules, device=CPU)
    seen: list[list[torch.Tensor]] = []
    forward = networks.forward

    def watched(x: torch.Tensor, about: Pass) -> torch.Tensor:
        seen.append([weight.clone() for weight in networks.weights])
        assert about.again == (len(seen) == 2)
        return forward(x, about)

    monkeypatch.setattr(networks, "forward", watched)
    sharp = [recipe(optimiser=SAM(base=SGD(lr=1e-300, momentum=0.0), rho=rho)) for rho in radii]
    targets = data.task.train.y
    learn(
        networks,
        Lesson(
            x=data.train_x.take(torch.arange(8)).expand(len(specs), 8, 5),
            targets=torch.as_tensor(targets[:8]).expand(len(specs), 8),
            included=torch.ones(len(specs), 8, dtype=torch.bool),
            shares=torch.full((len(specs), 8), 1 / 8, dtype=torch.float64),
            keys=run_keys(range(len(specs)), "draws", device=CPU),
            step=0,
        ),
        rules=Rulebook(sharp, total=1, device=CPU).at(Batch(0, 0, 0, 8, 0)),
        state=OptimiserState(),
        regression=False,
    )
    here, there = seen
    apart = norms([two - one for one, two in zip(here, there, strict=True)])
    np.testing.assert_allclose(apart, radii, rtol=1e-10)
    for before, after in zip(here, networks.weights, strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("limit", [1e-3, 0.1, 1e3])
def test_a_clipped_step_is_as_long_as_the_limit_in_the_gradients_direction(limit: float) -> None:
    """One step of θ ← θ − g·min(1, c/‖g‖) from θ_0 on the quadratic."""
    around = quadratic()
    gradient = around.hessian @ around.start - around.moment
    factor = min(1.0, limit / (np.linalg.norm(gradient) + 1e-6))
    clipped = spec(
        around.task,
        linear(),
        optimiser=SGD(lr=0.5, momentum=0.0),
        batch_size="all",
        epochs=1,
        regularisers=Regularisers(clip_norm=limit),
    )
    (run,) = train([clipped], data_of(around.task, clipped), path=stacked(1))
    after = around.start - 0.5 * factor * gradient
    np.testing.assert_allclose(run.trace.train_outputs[:, 0], around.outputs(after), rtol=1e-10)
    assert (factor == 1) == (limit > np.linalg.norm(gradient))


def test_a_step_with_the_fisher_penalty_goes_down_twice_the_curvature_times_the_gradient_of_drawn_numbers() -> None:
    """On the quadratic g̃ = −(2/n)·Xᵀε with ε ~ N(0, ½), whatever θ is, and ∇‖g̃‖² = 2·A·g̃: no rounding but float64's."""
    around, amount = quadratic(), 0.3
    penalised = spec(
        around.task,
        linear(),
        optimiser=SGD(lr=0.5, momentum=0.0),
        batch_size="all",
        epochs=1,
        regularisers=Regularisers(fisher_penalty=amount),
    )
    data = data_of(around.task, penalised)
    (run,) = train([penalised], data, path=stacked(1))
    order = epoch_order(penalised.order, epoch=0, num_examples=len(around.design))
    key = narrow(narrow(run_keys([penalised.seed], "draws", device=CPU)[0], 0), DRAWN_LABELS)
    noise = np.empty(len(order))
    noise[order] = normal(key, torch.zeros(len(order), dtype=torch.float64)).numpy() / math.sqrt(2)
    drawn = -2 / len(order) * around.design.T @ noise
    gradient = around.hessian @ around.start - around.moment + amount * 2 * around.hessian @ drawn
    np.testing.assert_allclose(run.trace.train_outputs[:, 0], around.outputs(around.start - 0.5 * gradient), rtol=1e-8)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_equal_logits_cost_ln_k_leave_no_margin_and_err_by_el2n_of_uniform_predictions(num_classes: int) -> None:
    task = classes(num_classes=num_classes, shape=(12,))
    one = spec(task, Zero, batch_size=1000, epochs=10)
    (run,) = train([one], data_of(task, one), path=stacked(1))
    np.testing.assert_allclose(run.trace.loss[0], math.log(num_classes), rtol=1e-12)
    np.testing.assert_array_equal(run.trace.margin[0], 0)
    np.testing.assert_allclose(run.trace.early_error, math.sqrt((num_classes - 1) / num_classes), rtol=1e-12)
    assert run.curves.train_score[0] == 0  # a tie is no right answer


@pytest.mark.parametrize("epochs", [10, 11])
def test_the_early_error_is_el2n_of_the_epoch_a_tenth_of_the_way(epochs: int) -> None:
    """With one batch an epoch and no schedule, the visit in epoch ⌈T/10⌉ is the end of a run one epoch shorter."""
    task = classes()
    early = math.ceil(epochs / 10)
    options = {"batch_size": 1000, "labels": CORRUPTED}
    whole, short = (spec(task, mlp(width=7), epochs=number, **options) for number in (epochs, max(1, early - 1)))
    (run,) = train([whole], data_of(task, whole), path=ALONE)
    if early == 1:
        module = build(mlp(width=7), task=task, seed=0, dtype=torch.float64)
        logits = module(torch.as_tensor(task.train.x)).detach().numpy()
    else:
        logits = train([short], data_of(task, short), path=ALONE)[0].trace.train_outputs
    targets = randomise_targets(task, CORRUPTED).targets
    np.testing.assert_allclose(run.trace.early_error, el2n(logits[None], targets).value, rtol=1e-10)


def test_the_early_error_of_a_regression_is_the_standardised_residual() -> None:
    task = numbers()
    one = spec(task, linear(), batch_size=1000)
    (run,) = train([one], data_of(task, one), path=ALONE)
    module = build(linear(), task=task, seed=0, dtype=torch.float64)
    predicted = module(torch.as_tensor(task.train.x)).detach().numpy()[:, 0]
    standard = (task.train.y - task.train.y.mean()) / task.train.y.std()
    np.testing.assert_allclose(run.trace.early_error, np.abs(predicted - standard), rtol=1e-10)


def test_predictions_of_a_regression_are_in_the_targets_own_unit() -> None:
    """Least squares, solved: full-batch descent ends at the normal equations' answer."""
    task = numbers()
    one = spec(task, linear(), batch_size=1000, epochs=150, optimiser=SGD(lr=0.4, momentum=0.0))
    (run,) = train([one], data_of(task, one), path=stacked(1))
    design, test = (np.column_stack([x, np.ones(len(x))]) for x in (task.train.x, task.test.x))
    solution = np.linalg.lstsq(design, task.train.y)[0]
    np.testing.assert_allclose(run.trace.train_outputs[:, 0], design @ solution, rtol=1e-8)
    np.testing.assert_allclose(run.trace.test_outputs[:, 0], test @ solution, rtol=1e-8)
    residual = task.train.y - design @ solution
    explained = 1 - residual.var() / task.train.y.var()
    np.testing.assert_allclose(run.curves.train_score[-1], explained, rtol=1e-8)
    np.testing.assert_allclose(run.curves.train_loss[-1], (residual**2).mean() / task.train.y.var(), rtol=1e-8)


def test_regression_has_no_margin() -> None:
    task = numbers()
    one = spec(task, linear(), epochs=1)
    (run,) = train([one], data_of(task, one), path=ALONE)
    assert np.isnan(run.trace.margin).all()


@pytest.mark.parametrize(
    ("fraction", "shared", "steps"), [(None, 32, 45), (0.7, 46, 32), (0.5, 64, 23), (0.9, 36, 40), (0.01, 1437, 1)]
)
def test_a_shared_batch_holds_the_recipes_batch_of_examples_trained_on(
    fraction: float | None, shared: int, steps: int
) -> None:
    subset = AllExamples() if fraction is None else BalancedSubset(fraction=fraction, draw=0, index=0)
    one = spec(classes(), linear(), batch_size=32, subset=subset)
    assert batch_size(one, num_examples=1437) == shared
    assert len(batches(one, num_examples=1437)[0]) == steps


def test_steps_are_counted_on_the_curve() -> None:
    task = classes()
    one = spec(task, linear(), subset=SUBSET)  # batches of ⌊8/0.7⌉ = 11: four of them for 37 examples
    (run,) = train([one], data_of(task, one), path=ALONE)
    assert run.curves.step.tolist() == [4.0 * epoch for epoch in range(1, 11)]


def test_every_epoch_visits_every_example_once_in_an_order_of_its_own() -> None:
    orders = [epoch_order(3, epoch=epoch, num_examples=37) for epoch in range(6)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(37))
    assert len({tuple(order.tolist()) for order in orders}) == 6
    assert epoch_order(4, epoch=0, num_examples=37).tolist() != orders[0].tolist()


def test_accuracy_counts_included_training_examples_and_all_test_examples() -> None:
    task = classes()
    one = spec(task, mlp(width=7), subset=SUBSET, labels=CORRUPTED, optimiser=SGD(lr=1e-300))
    (run,) = train([one], data_of(task, one), path=ALONE)
    included, targets = inclusion(task, SUBSET), randomise_targets(task, CORRUPTED).targets
    right = run.trace.train_outputs.argmax(1) == targets
    assert run.curves.train_score.tolist() == pytest.approx([right[included].mean()] * 10)
    assert run.curves.test_score.tolist() == pytest.approx(
        [(run.trace.test_outputs.argmax(1) == task.test.y).mean()] * 10
    )


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [
        (Cosine(), 0, 1.0),
        (Cosine(), 25, 0.5 + math.sqrt(0.125)),
        (Cosine(), 50, 0.5),
        (Cosine(), 99, 0.5 * (1 - math.cos(math.pi / 100))),
        (Linear(), 0, 1.0),
        (Linear(), 50, 0.5),
        (Linear(), 99, 0.01),
        (Step(every=3, factor=0.1), 29, 1.0),
        (Step(every=3, factor=0.1), 30, 0.1),
        (Step(every=3, factor=0.1), 60, 0.01),
    ],
)
def test_schedules_start_at_the_learning_rate_and_fall_as_they_say(
    schedule: Schedule, step: int, factor: float
) -> None:
    assert rate(schedule, step=step) == pytest.approx(0.4 * factor, rel=1e-12)


def rate(schedule: Schedule, *, step: int) -> float:
    """Of 10 epochs of 10 steps at 0.4."""
    return learning_rate(SGD(lr=0.4), schedule, Clock(step=step, epoch=step // 10, total=100))


def torchs_rates(make: Callable[[torch.optim.Optimizer], Any], *, every: int = 1) -> list[float]:
    """What a scheduler of torch says at each of 100 steps, told after every so many of them."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    scheduler, rates = make(optimiser), []
    for step in range(100):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return rates


TORCHS: list[tuple[Schedule, Any, int]] = [
    (Constant(), lambda o: ConstantLR(o, factor=1.0), 1),
    (Step(every=3, factor=0.1), lambda o: StepLR(o, step_size=3, gamma=0.1), 10),
    (Cosine(), lambda o: CosineAnnealingLR(o, T_max=100), 1),
    (Linear(), lambda o: LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=100), 1),
    (WarmUp(steps=20), lambda o: LinearLR(o, start_factor=1 / 20, end_factor=1.0, total_iters=19), 1),
]


@pytest.mark.parametrize(
    ("schedule", "make", "every"), TORCHS, ids=lambda part: "torch" if callable(part) else str(part)[:40]
)
def test_schedules_are_those_of_torch(schedule: Schedule, make: Any, every: int) -> None:
    expected = torchs_rates(make, every=every)
    assert [rate(schedule, step=step) for step in range(100)] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("then", [Constant(), Step(every=3, factor=0.1), Cosine(), Linear()], ids=str)
def test_a_warm_up_multiplies_another_schedule_and_reaches_it(then: Any) -> None:
    for step in range(100):
        share = min(1, (step + 1) / 25)
        assert rate(WarmUp(steps=25, then=then), step=step) == pytest.approx(share * rate(then, step=step), rel=1e-12)


def test_a_switch_goes_by_the_progress_of_the_whole_training() -> None:
    """From step 60 of 100 on, half the cosine that began at 0 is long over."""
    one = recipe(
        optimiser=SGD(lr=0.4),
        switches=(
            Switch(step=60, optimiser=SGD(lr=0.2), schedule=Cosine(), batch_size=8),
            Switch(step=80, optimiser=SGD(lr=0.2), schedule=WarmUp(steps=81), batch_size=8),
        ),
    )
    book = Rulebook([one], total=100, device=CPU)
    rates = [book.at(Batch(step, step // 10, 0, 8, (step >= 60) + (step >= 80))).lr for step in (59, 60, 79, 80, 99)]
    assert rates == pytest.approx(
        [0.4, 0.1 * (1 + math.cos(0.6 * math.pi)), 0.1 * (1 + math.cos(0.79 * math.pi)), 0.2, 0.2], rel=1e-12
    )


def test_steps_are_planned_through_switches_of_the_batch_size() -> None:
    """37 examples: two batches of 8, one of 16, the rest at once; then all at once."""
    one = spec(
        classes(),
        linear(),
        epochs=2,
        switches=(
            Switch(step=2, batch_size=16),
            Switch(step=3, batch_size="all"),
        ),
    )
    first, second = batches(one, num_examples=37)
    assert [(batch.begin, batch.end, batch.phase) for batch in first] == [
        (0, 8, 0),
        (8, 16, 0),
        (16, 32, 1),
        (32, 37, 2),
    ]
    assert [(batch.step, batch.epoch, batch.begin, batch.end) for batch in second] == [(4, 1, 0, 37)]
