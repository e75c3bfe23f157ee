"""Training where the answer is known on paper."""

import math

import numpy as np
import pytest
import torch

from byrote.data import inclusion, randomise_targets
from byrote.measures import el2n
from byrote.models import build, linear, mlp
from byrote.records import SGD, AllExamples, BalancedSubset, Cosine, Linear, Recipe, Step
from byrote.training import steps_per_epoch, train
from byrote.training.rules import learning_rate
from byrote.training.population import batch_size, epoch_order
from small_networks import Zero
from small_tasks import ALONE, CORRUPTED, SUBSET, classes, data_of, numbers, spec, stacked


def descended(num_steps: int, *, eta_times_top: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient descent on least squares, by the engine and by the closed form: training outputs, and the loss curve.

    The loss mean((Xθ − y)²) has the Hessian A = 2/n XᵀX, so θ_t = θ* + (I − ηA)^t (θ_0 − θ*).
    """
    task = numbers()
    design = np.column_stack([task.train.x, np.ones(len(task.train))])
    mean, scale = task.train.y.mean(), task.train.y.std()
    y = (task.train.y - mean) / scale
    hessian = 2 / len(y) * design.T @ design
    values, vectors = np.linalg.eigh(hessian)
    eta = eta_times_top / values[-1]
    descent = SGD(lr=float(eta), momentum=0.0)
    one = spec(task, linear(), optimiser=descent, batch_size=len(y), epochs=num_steps)
    (run,) = train([one], data_of(task, one), path=stacked(1))
    affine = build(linear(), task=task, seed=one.seed, dtype=torch.float64)
    start = np.concatenate([weight.detach().numpy().ravel() for weight in affine.parameters()])
    best = np.linalg.solve(hessian, 2 / len(y) * design.T @ y)
    after = best + vectors @ ((1 - eta * values) ** num_steps * (vectors.T @ (start - best)))
    return run.trace.train_outputs[:, 0], design @ after * scale + mean, run.curves.train_loss


@pytest.mark.parametrize("num_steps", [1, 2, 50, 200])
@pytest.mark.parametrize("eta_times_top", [0.3, 1.0, 1.99, 2.01])
def test_gradient_descent_on_a_quadratic_is_a_matrix_power(num_steps: int, eta_times_top: float) -> None:
    outputs, expected, _ = descended(num_steps, eta_times_top=eta_times_top)
    np.testing.assert_allclose(outputs, expected, rtol=1e-10)


def test_gradient_descent_converges_just_below_two_over_the_largest_curvature_and_not_above() -> None:
    below, above = (descended(400, eta_times_top=product)[2] for product in (1.99, 2.01))
    assert below[-1] < below[200] < below[100]
    assert above[-1] > above[200] > above[100]


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
    one = spec(task, linear(), batch_size=1000, epochs=2000, optimiser=SGD(lr=0.2, momentum=0.0))
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
    assert steps_per_epoch(one, num_examples=1437) == steps


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
def test_schedules_start_at_the_learning_rate_and_fall_as_they_say(schedule: object, step: int, factor: float) -> None:
    recipe = Recipe(optimiser=SGD(lr=0.4), schedule=schedule, epochs=10)  # pyright: ignore[reportArgumentType]
    assert learning_rate(recipe, step=step, steps_per_epoch=10) == pytest.approx(0.4 * factor, rel=1e-12)
