"""Weight-gradient norms against closed forms and plain backward passes."""

import inspect

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures import gradient_norms, grand
from byrote.models import build, cnn, mlp
from byrote.records import Learner
from small_networks import (
    Attentive,
    Convolutional,
    Dropped,
    Embedded,
    Mixing,
    Normed,
    Recurrent,
    Restless,
    Scalar,
    Tied,
    Transformer,
    TwoBiases,
)
from small_tasks import classes, numbers

CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(2, 6, 6))


def network(task, model) -> tuple[nn.Module, Tensor, Tensor]:
    """A network with weights of its own and nine examples of the task."""
    module = build(Learner(model=model).model, task=task, seed=3, dtype=torch.float64)
    return module, torch.as_tensor(task.train.x[:9]), torch.as_tensor(task.train.y[:9])


def plain(module: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    """One backward pass for each example, on .grad, as anybody would write it."""
    found = []
    module.eval()
    for one, target in zip(x, y, strict=True):
        module.zero_grad()
        outputs = module(one[None])
        if target.is_floating_point():
            nn.functional.mse_loss(outputs.reshape(1), target[None]).backward()
        else:
            nn.functional.cross_entropy(outputs, target[None]).backward()
        squares = [float(w.grad.square().sum()) for w in module.parameters() if w.grad is not None]
        found.append(sum(squares) ** 0.5)
    return np.array(found)


def test_a_linear_model_has_norm_of_residual_times_input():
    """Softmax regression without bias: ∂ℓ/∂W = (p − onehot)xᵀ, of length ‖p − onehot‖‖x‖."""
    model = nn.Linear(4, 3, bias=False).double()
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).double()
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    error = (model(x).softmax(1) - nn.functional.one_hot(y, 3)).detach()
    found = gradient_norms(model, x=x, targets=y)
    np.testing.assert_allclose(found.scores.value, error.norm(dim=1) * x.norm(dim=1), rtol=1e-12)
    assert found.status.tolist() == ["measured"] * 7


class Borrowing(nn.Module):
    """A linear layer whose weight is used once more beside it, and activations in place."""

    def __init__(self, task) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(task.input_shape[0], 5, bias=False), nn.Linear(5, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu_() + nn.functional.linear(x.square(), self.body.weight))


def in_place(task) -> nn.Module:
    """Linear layers with and without biases, and activations that overwrite what they are given."""
    layers = (
        nn.Linear(task.input_shape[0], 6, bias=False),
        nn.ReLU(inplace=True),
        nn.Linear(6, 5),
        nn.SiLU(inplace=True),
    )
    return nn.Sequential(*layers, nn.Linear(5, task.num_outputs))


class Rows(nn.Module):
    """A linear layer on several rows for each example."""

    def __init__(self, task) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(1, 4), nn.Linear(4, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lift(x[..., None]).tanh().mean(1))


@pytest.mark.parametrize("memory", [1, 1 << 14, 1 << 28], ids=["one by one", "parts", "all"])
@pytest.mark.parametrize(
    ("task", "model"),
    [
        (CLASSES, mlp(width=5)),
        (NUMBERS, mlp(width=5)),
        (NUMBERS, Scalar),
        (CLASSES, in_place),
        (CLASSES, Borrowing),
        (CLASSES, Rows),
        (CLASSES, Tied),
        (CLASSES, TwoBiases),
        (CLASSES, Dropped),
        (CLASSES, Normed),
        (CLASSES, Embedded),
        (CLASSES, Recurrent),
        (CLASSES, Attentive),
        (CLASSES, Transformer),
        (IMAGES, Convolutional),
        (IMAGES, cnn(width=3)),
    ],
    ids=lambda part: getattr(part, "__name__", getattr(part, "name", None)),
)
def test_every_kind_of_layer_gives_what_a_backward_pass_for_each_example_gives(task, model, memory):
    module, x, y = network(task, model)
    found = gradient_norms(module, x=x, targets=y, memory=memory)
    np.testing.assert_allclose(found.scores.value, plain(module, x, y), rtol=1e-9)


@pytest.mark.parametrize(("model", "most"), [(mlp(width=5), 10), (cnn(width=3), 10), (Attentive, 10), (Recurrent, 60)])
def test_examples_go_together_where_their_gradients_can(model, most):
    task = IMAGES if model == cnn(width=3) else CLASSES
    module = build(Learner(model=model).model, task=task, seed=3, dtype=torch.float64)
    calls: list[int] = []
    module.register_forward_pre_hook(lambda layer, inputs: calls.append(1))
    gradient_norms(module, x=torch.as_tensor(task.train.x), targets=torch.as_tensor(task.train.y))
    assert len(calls) <= most
    assert (len(calls) >= len(task.train.x)) == (model is Recurrent)


def test_examples_without_a_gradient_do_not_hide_that_a_way_is_wrong():
    """All but the last are answered with certainty: their norms are 0 whichever way."""
    module = Borrowing(CLASSES).double()
    x, y = torch.as_tensor(CLASSES.train.x[:9]), torch.as_tensor(CLASSES.train.y[:9])
    with torch.no_grad():
        for layer in (module.body, module.head):
            layer.weight.mul_(30)
        y = module(x).argmax(1)
        y[-1] = (y[-1] + 1) % 3
    found = gradient_norms(module, x=x, targets=y).scores.value
    assert (found < 1e-3 * found.max()).sum() >= 5
    np.testing.assert_allclose(found, plain(module, x, y), rtol=1e-9, atol=1e-12)


def test_frozen_weights_do_not_count():
    module, x, y = network(CLASSES, Normed)
    module.get_submodule("body").requires_grad_(False)
    frozen = gradient_norms(module, x=x, targets=y).scores.value
    np.testing.assert_allclose(frozen, plain(module, x, y), rtol=1e-9)
    module.requires_grad_(False)
    with pytest.raises(ValueError, match="Expected a model with trainable weights"):
        gradient_norms(module, x=x, targets=y)


def test_whole_numbers_may_be_inputs():
    module = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3)).double()
    x = torch.arange(30).reshape(6, 5) % 7
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    np.testing.assert_allclose(gradient_norms(module, x=x, targets=y).scores.value, plain(module, x, y), rtol=1e-9)


def test_a_function_has_no_weights_that_are_known():
    with pytest.raises(TypeError, match=r"Expected a torch\.nn\.Module, whose weights are known, got function"):
        inspect.unwrap(gradient_norms)(lambda x: x, x=torch.ones(2, 3), targets=torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("model", "words"), [(Mixing, "answer to one example depends on the other"), (Restless, "draws random numbers")]
)
def test_what_cannot_be_said_of_one_example_is_refused(model, words):
    module = model(CLASSES).double()
    x, y = torch.as_tensor(CLASSES.train.x), torch.as_tensor(CLASSES.train.y)
    with pytest.raises(ModelError, match=words):
        gradient_norms(module, x=x, targets=y)


def test_grand_averages_over_checkpoints_and_then_over_seeds():
    rng = np.random.default_rng(0)
    norms = rng.gamma(2.0, size=(12, 3, 5))
    scores, status = grand(norms, steps=np.array([20, 40, 60]))
    np.testing.assert_allclose(scores.value, norms.mean((0, 1)))
    np.testing.assert_allclose(scores.se, norms.mean(1).std(0, ddof=1) / 12**0.5)
    assert scores.count.tolist() == [12] * 5
    assert status.tolist() == ["measured"] * 5


def test_grand_at_initialisation_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"GraNd at initialisation does not reproduce.*got steps \[0, 60\]"):
        grand(np.ones((2, 2, 5)), steps=np.array([0, 60]))


@pytest.mark.parametrize(
    ("norms", "steps"), [(np.ones((0, 1, 5)), [1]), (np.ones((2, 0, 5)), []), (np.ones((2, 2, 5)), [1])], ids=range(3)
)
def test_grand_needs_runs_and_the_steps_of_its_checkpoints(norms, steps):
    with pytest.raises(ValueError, match="Expected norms"):
        inspect.unwrap(grand)(norms, steps=np.array(steps, np.int64))


def test_a_run_that_diverged_does_not_count():
    scores, status = grand(np.array([[[1.0, np.nan]], [[np.inf, np.nan]]]), steps=np.array([9]))
    assert scores.count.tolist() == [1, 0]
    assert status.tolist() == ["measured", "not finite"]
