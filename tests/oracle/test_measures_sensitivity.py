"""Loss-sensitivity against training again with moved inputs, and against closed forms; the Gini coefficient by hand."""

import copy
import inspect
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures import Heldout, gini, loss_sensitivity
from byrote.models import build
from byrote.records import SAM, SGD, Adam, AdamW, Learner, TrueLabels
from byrote.training import Answers, LogSpaced, batches, train
from byrote.training.population import epoch_order
from small_networks import Attentive, Dropped, Embedded, Normed, Recurrent, TwoBiases
from small_tasks import ALONE, classes, data_of, numbers, spec

CLASSES, NUMBERS = classes(num_train=12), numbers(num_train=12)
OPTIMISERS = [
    SGD(lr=0.2, momentum=0.0),
    SGD(lr=0.1, momentum=0.9, weight_decay=0.02),
    SGD(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.02),
    Adam(lr=0.02, weight_decay=0.03, eps=1e-4),
    AdamW(lr=0.02, weight_decay=0.1),
]
ORDER = [[0, 1, 2], [3, 4, 5], [0, 6, 3], [7, 8, 0], [1, 5, 2]]
SOME = [0, 2, 6, 8, 11]
"""Examples of three steps, two, one, one and none."""
BATCHES = [torch.tensor(batch) for batch in ORDER]
every_optimiser = pytest.mark.parametrize("optimiser", OPTIMISERS, ids=["sgd", "momentum", "nesterov", "adam", "adamw"])


class Smooth(nn.Module):
    """Two layers with a tanh, and a weight that no loss reaches."""

    def __init__(self, task):
        super().__init__()
        self.body, self.head = nn.Linear(task.input_shape[0], 4), nn.Linear(4, task.num_outputs)
        self.idle = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).tanh())


def network(task: Any, model: Any = Smooth) -> tuple[nn.Module, Tensor, Tensor]:
    module = build(Learner(model=model).model, task=task, seed=3, dtype=torch.float64)
    x, y = torch.as_tensor(task.train.x), torch.as_tensor(task.train.y)
    return module, x, (y - y.mean()) / y.std() if task.regression else y


def mean_loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    outputs = module(x)
    if y.is_floating_point():
        return nn.functional.mse_loss(outputs.reshape(len(y)), y)
    return nn.functional.cross_entropy(outputs, y)


def torch_optimiser(optimiser: Any, weights: Any) -> torch.optim.Optimizer:
    decay = {"lr": optimiser.lr, "weight_decay": optimiser.weight_decay}
    if isinstance(optimiser, SGD):
        return torch.optim.SGD(weights, momentum=optimiser.momentum, nesterov=optimiser.nesterov, **decay)
    kind = torch.optim.Adam if isinstance(optimiser, Adam) else torch.optim.AdamW
    return kind(weights, betas=(optimiser.beta1, optimiser.beta2), eps=optimiser.eps, **decay)


def trained_losses(
    module: nn.Module, x: Tensor, y: Tensor, optimiser: Any, rates: list[float], judged: Heldout | None
) -> np.ndarray:
    """L_0, L_1, … of an ordinary training by torch.optim."""
    module = copy.deepcopy(module).eval()
    stepper = torch_optimiser(optimiser, module.parameters())
    found = []
    for number in range(len(ORDER) + 1):
        found.append(mean_loss(module, *(judged or (x, y))).item())
        if number < len(ORDER):
            for group in stepper.param_groups:
                group["lr"] = rates[number]
            stepper.zero_grad()
            mean_loss(module, x[ORDER[number]], y[ORDER[number]]).backward()
            stepper.step()
    return np.array(found)


def differenced(
    module: nn.Module, x: Tensor, y: Tensor, optimiser: Any, *, rates: list[float], judged: Heldout | None = None
) -> np.ndarray:
    """‖∂L_t/∂x_i‖₁ for every t and some i, training anew for every coordinate moved up and down. [moment, example]"""
    h = 1e-5
    slopes = np.zeros((len(ORDER) + 1, len(SOME), x.shape[1]))
    for place, column in np.ndindex(*slopes.shape[1:]):
        row = SOME[place]
        ends = []
        for sign in (1, -1):
            moved = x.clone()
            moved[row, column] += sign * h
            ends.append(trained_losses(module, moved, y, optimiser, rates, judged))
        slopes[:, place, column] = (ends[0] - ends[1]) / (2 * h)
    return np.abs(slopes).sum(2)


@every_optimiser
@pytest.mark.parametrize("task", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_it_is_what_training_again_with_a_moved_input_says(task, optimiser):
    module, x, y = network(task)
    expected = differenced(module, x, y, optimiser, rates=[optimiser.lr] * 5)
    found = loss_sensitivity(module, x=x, targets=y, optimiser=optimiser, batches=BATCHES)
    np.testing.assert_allclose(found.scores.value[SOME], expected[1:].mean(0), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(
        found.losses, trained_losses(module, x, y, optimiser, [optimiser.lr] * 5, None)[1:], rtol=1e-12
    )
    assert found.moments.tolist() == [1, 2, 3, 4, 5]
    assert found.status.tolist() == ["measured"] * 12
    assert found.scores.count.tolist() == [5] * 12


def test_of_held_out_examples_it_is_only_through_the_weights():
    module, x, y = network(CLASSES)
    other = Heldout(torch.as_tensor(CLASSES.test.x), torch.as_tensor(CLASSES.test.y))
    rates = [0.3, 0.1, 0.2, 0.05, 0.4]
    expected = differenced(module, x, y, OPTIMISERS[1], rates=rates, judged=other)
    found = loss_sensitivity(
        module,
        x=x,
        targets=y,
        optimiser=OPTIMISERS[1],
        batches=BATCHES,
        learning_rates=rates,
        moments=[0, 2, 5],
        heldout=other,
    )
    visited = np.isin(np.arange(12), np.concatenate(ORDER))
    np.testing.assert_allclose(found.scores.value[SOME[:4]], expected[[0, 2, 5], :4].mean(0), rtol=1e-4)
    assert found.status.tolist() == ["measured" if own else "not visited" for own in visited]
    assert np.isnan(found.scores.value[~visited]).all()
    assert found.scores.count.tolist() == [3 if own else 0 for own in visited]
    assert found.losses[0] == pytest.approx(mean_loss(module.eval(), other.x, other.targets).item())


@pytest.mark.parametrize("model", [Recurrent, Attentive, Normed, Dropped, TwoBiases])
def test_unusual_layers_are_unrolled_too(model):
    module, x, y = network(CLASSES, model)
    options: dict[str, Any] = {"targets": y, "optimiser": OPTIMISERS[1], "batches": BATCHES, "moments": [5]}
    found = loss_sensitivity(module, x=x, **options)
    module.eval()
    np.testing.assert_allclose(
        found.losses, trained_losses(module, x, y, OPTIMISERS[1], [0.1] * 5, None)[5:], rtol=1e-9
    )
    row, h = 0, 1e-6
    slopes = []
    for column in range(x.shape[1]):
        ends = []
        for sign in (1, -1):
            moved = x.clone()
            moved[row, column] += sign * h
            ends.append(trained_losses(module, moved, y, OPTIMISERS[1], [0.1] * 5, None)[5])
        slopes.append((ends[0] - ends[1]) / (2 * h))
    assert found.scores.value[row] == pytest.approx(np.abs(slopes).sum(), rel=1e-4)


def test_without_steps_in_between_it_is_the_gradient_itself():
    module, x, y = network(CLASSES)
    found = loss_sensitivity(module, x=x, targets=y, optimiser=SGD(), batches=BATCHES, moments=[0])
    start = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mean_loss(module, start, y), start)
    np.testing.assert_allclose(found.scores.value, slope.abs().sum(1), rtol=1e-12)


def test_weights_that_no_gradient_has_reached_yet_leave_adam_finite():
    """A ReLU that is off for all examples has gradients that are exactly 0, under a root without a derivative."""
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    nn.init.constant_(module[0].bias, -1e3)  # pyright: ignore[reportArgumentType]
    _, x, y = network(CLASSES)
    found = loss_sensitivity(module, x=x, targets=y, optimiser=Adam(lr=0.01), batches=BATCHES)
    assert found.status.tolist() == ["measured"] * 12
    np.testing.assert_array_equal(found.scores.value, 0)


@pytest.mark.parametrize("optimiser", OPTIMISERS[1:], ids=["momentum", "nesterov", "adam", "adamw"])
def test_the_steps_are_those_of_the_engine(optimiser):
    """L_t of an unrolled training is that of the engine's, on its own batches."""
    own = spec(CLASSES, Smooth, seed=3, optimiser=optimiser, epochs=2, batch_size=5, labels=TrueLabels())
    probe = Answers(at=LogSpaced(number=100), num_examples=12)
    (run,) = train([own], data_of(CLASSES, own), path=ALONE, probes=[probe])
    module, x, y = network(CLASSES)
    order = [
        torch.as_tensor(epoch_order(own.order, epoch=batch.epoch, num_examples=12)[batch.begin : batch.end])
        for epoch in batches(own, num_examples=12)
        for batch in epoch
    ]
    found = loss_sensitivity(module, x=x, targets=y, optimiser=optimiser, batches=order, moments=range(len(order) + 1))
    outputs = torch.as_tensor(run.probes[probe.key].values["outputs"])
    expected = [nn.functional.cross_entropy(each, y).item() for each in outputs]
    np.testing.assert_allclose(found.losses, expected, rtol=1e-10)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"optimiser": SAM(base=SGD())}, TypeError, "Expected SGD, Adam or AdamW, got SAM"),
        ({"batches": []}, ValueError, "Expected at least one step"),
        ({"batches": [torch.tensor([0, 12])]}, ValueError, "Expected positions from 0 to 11, got 0 to 12"),
        ({"batches": [torch.zeros(0, dtype=torch.int64)]}, ValueError, "positions of one example or more"),
        ({"moments": [3, 2]}, ValueError, "Expected moments from 0 to 5"),
        ({"moments": [6]}, ValueError, "Expected moments from 0 to 5"),
        ({"learning_rates": [0.1]}, ValueError, "a learning rate for each of 5 steps, got 1"),
        ({"memory": 1000}, ValueError, r"Unrolling 5 steps with 42 weights and 5 moments on 12 inputs would keep"),
    ],
    ids=["sam", "no steps", "out of range", "empty batch", "order", "late", "rates", "memory"],
)
def test_settings_that_do_not_fit_are_refused(changed, error, words):
    module, x, y = network(CLASSES)
    options = {"x": x, "targets": y, "optimiser": SGD(), "batches": BATCHES, **changed}
    sensitivity: Any = inspect.unwrap(loss_sensitivity)
    with pytest.raises(error, match=words):
        sensitivity(module, **options)


def test_inputs_that_are_looked_up_have_no_sensitivity_but_steps_go_on():
    """Rounded inputs are constants to the loss: nothing depends on where exactly they are."""
    module, x, y = network(CLASSES, Embedded)
    found = loss_sensitivity(module, x=x, targets=y, optimiser=SGD(), batches=BATCHES)
    np.testing.assert_array_equal(found.scores.value, 0)


class Once(torch.autograd.Function):
    """The identity, with a derivative and no second one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return slope.clone()


def test_a_layer_without_second_derivatives_is_refused():
    class Fused(Smooth):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(Once.apply(self.body(x).tanh()))  # pyright: ignore[reportArgumentType]

    _, x, y = network(CLASSES)
    with pytest.raises(ModelError, match="has no second derivatives"):
        loss_sensitivity(Fused(CLASSES).double(), x=x, targets=y, optimiser=SGD(), batches=BATCHES)


# --- the Gini coefficient --------------------------------------------------------------------------------------------


def pairwise_gini(values: np.ndarray) -> float:
    """Half the mean absolute difference over all pairs, by the mean."""
    return float(np.abs(values[:, None] - values).mean() / (2 * values.mean()))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 1, 1, 1], 0.0), ([0, 0, 0, 5], 0.75), ([1, 3], 0.25), ([1, 2, 3, 4], 0.25), ([7], 0.0)],
    ids=str,
)
def test_gini_by_hand(values, expected):
    assert gini(np.array(values, float)).value == pytest.approx(expected, abs=1e-12)


def test_gini_is_half_the_mean_difference_over_the_mean_and_its_error_the_jackknifes():
    values = np.random.default_rng(0).gamma(0.7, size=60)
    found = gini(values)
    assert found.value == pytest.approx(pairwise_gini(values), rel=1e-12)
    left_out = np.array([pairwise_gini(np.delete(values, row)) for row in range(60)])
    assert found.se == pytest.approx((59 / 60 * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(
        (found.value - 1.96 * found.se, found.value + 1.96 * found.se), 1e-4
    )
    assert gini(1e-300 * values).value == pytest.approx(found.value, rel=1e-9)


def test_ginis_interval_covers_the_exponential_distributions_one_half():
    rng = np.random.default_rng(1)
    found = [gini(rng.exponential(size=200)) for _ in range(400)]
    covered = sum(each.low <= 0.5 <= each.high for each in found)
    assert 0.91 < covered / 400 < 0.98
    assert all(0 <= each.low <= each.value <= each.high <= 1 for each in found)


def test_more_unequal_shares_have_a_larger_gini():
    equal = np.ones(50)
    found = [gini(equal + tail * np.eye(50)[0]).value for tail in (0.0, 1.0, 10.0, 1e6)]
    assert all(one < two for one, two in pairwise(found))


@pytest.mark.parametrize("values", [[], [1.0, -0.5], [1.0, np.nan], [np.inf]], ids=str)
def test_what_cannot_be_shared_out_is_refused(values):
    with pytest.raises(ValueError, match="Expected"):
        gini(np.array(values, float))


def test_of_nothing_no_share_is_known():
    found = gini(np.zeros(4))
    assert np.isnan(found.value)
    assert (found.low, found.high, found.count) == (0.0, 1.0, 4)
