"""Output Jacobians and what follows from them, against dense derivatives in float64."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.curvature import (
    GaussNewton,
    Objective,
    gradient_covariance,
    output_jacobian,
    top_eigenvalues,
)
from byrote.models import build
from byrote.records import Learner
from curved import classes, cross_entropy, least_squares
from small_networks import Attentive, Convolutional, Embedded, Mixing, Normed, Recurrent, Restless, Scalar, Tied
from small_tasks import classes as small_classes
from small_tasks import numbers

CLASSES, NUMBERS, IMAGES = small_classes(), numbers(), small_classes(shape=(2, 6, 6))


def entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def plain(module: nn.Module, x: Tensor) -> np.ndarray:
    """One backward pass for each output of each example, on .grad, as anybody would write it."""
    rows = []
    module.eval()
    for one in x:
        for place in range(module(one[None]).numel()):
            module.zero_grad()
            module(one[None]).reshape(-1)[place].backward()
            parts = [torch.zeros_like(w) if w.grad is None else w.grad for w in module.parameters() if w.requires_grad]
            rows.append(torch.cat([part.reshape(-1) for part in parts]))
    module.zero_grad()
    return torch.stack(rows).reshape(len(x), -1, len(rows[0])).numpy()


@pytest.mark.parametrize(
    ("task", "model"),
    [
        (CLASSES, Tied),
        (CLASSES, Normed),
        (CLASSES, Embedded),
        (CLASSES, Attentive),
        (CLASSES, Recurrent),
        (NUMBERS, Scalar),
        (IMAGES, Convolutional),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_every_kind_of_layer_gives_what_a_backward_pass_for_each_output_gives(task, model):
    module = build(Learner(model=model).model, task=task, seed=3, dtype=torch.float64)
    x = torch.as_tensor(task.train.x[:4])
    found = output_jacobian(module, x=x)
    expected = plain(module, x)
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=1e-9, atol=1e-12)
    rows = expected.reshape(-1, expected.shape[2])
    np.testing.assert_allclose(found.kernel(), rows @ rows.T, rtol=1e-9, atol=1e-12)
    traced = sum(expected[:, place] @ expected[:, place].T for place in range(expected.shape[1]))
    np.testing.assert_allclose(found.traced_kernel(), traced, rtol=1e-9, atol=1e-12)
    assert found.cost == found.num_outputs == expected.shape[1]


@pytest.mark.parametrize("num", [2, 11])
def test_the_gauss_newton_spectrum_is_the_dense_one_for_few_examples_and_for_many(num):
    """p is 43: two examples of three outputs give 6 eigenvalues, eleven 33."""
    problem = classes()
    x, y = (part[:num] for part in problem.whole())
    jacobian = output_jacobian(problem.model, x=x)
    values = jacobian.values
    shares = jacobian.outputs.softmax(1)
    bend = torch.diag_embed(shares) - shares[:, :, None] * shares[:, None]
    dense = torch.einsum("nkp,nkl,nlq->pq", values, bend, values) / num
    found = jacobian.gauss_newton(entropy, targets=y)
    expected = torch.linalg.eigvalsh(dense).numpy()[::-1]
    np.testing.assert_allclose(found.eigenvalues, expected[: 3 * num], rtol=1e-7, atol=1e-12)
    assert found.trace == pytest.approx(float(dense.trace()))
    objective = Objective(problem.model, loss=cross_entropy, batches=[(x, y)])
    searched = top_eigenvalues(objective, matrix=GaussNewton(), tolerance=1e-9)
    assert found.value == pytest.approx(searched.value)


def test_more_outputs_than_parameters_have_no_more_eigenvalues_than_parameters():
    problem = least_squares(sizes=(9,), num_inputs=3)
    x, y = problem.whole()
    found = output_jacobian(problem.model, x=x).gauss_newton(lambda z, y: (z[:, 0] - y).square(), targets=y)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(2 / 9 * (x.T @ x).numpy())[::-1])


def test_a_loss_that_is_not_convex_in_the_outputs_has_negative_eigenvalues():
    """ℓ = −z²: G = −(2/n)XᵀX."""
    problem = least_squares(sizes=(2,), num_inputs=3)
    x, y = problem.whole()
    found = output_jacobian(problem.model, x=x).gauss_newton(lambda z, y: -z[:, 0].square(), targets=y)
    expected = np.linalg.eigvalsh(-2 / 2 * (x @ x.T).numpy())[::-1]
    np.testing.assert_allclose(found.eigenvalues, expected)


@pytest.mark.parametrize("memory", [0, 1 << 30], ids=["file", "memory"])
def test_gradients_of_single_examples_and_their_covariance_are_those_of_batches_of_one(memory):
    problem = classes(sizes=(8,))
    x, y = problem.whole()
    jacobian = output_jacobian(problem.model, x=x, memory=memory)
    objective = Objective(problem.model, loss=cross_entropy, batches=list(zip(x.split(1), y.split(1), strict=True)))
    with objective.opened():
        expected = torch.stack(list(objective.batch_gradients()))
    gradients = jacobian.per_example_gradients(entropy, targets=y)
    torch.testing.assert_close(gradients, expected)
    found = jacobian.gradient_covariance(entropy, targets=y)
    np.testing.assert_allclose(found.eigenvalues, gradient_covariance(objective).eigenvalues, rtol=1e-9)
    assert found.count == 8
    assert found.residual == found.floor < 1e-9 * found.value


def test_of_some_parameters_the_others_are_constants():
    problem = classes(sizes=(3,))
    x, _ = problem.whole()
    whole, part = output_jacobian(problem.model, x=x), output_jacobian(problem.model, x=x, parameters=["2.bias"])
    torch.testing.assert_close(part.values, whole.values[:, :, -3:])
    np.testing.assert_allclose(part.kernel(), np.kron(np.ones((3, 3)), np.eye(3)))


def test_many_examples_go_together_where_they_can():
    calls: list[int] = []
    problem = classes(sizes=(40,))
    problem.model.register_forward_pre_hook(lambda layer, inputs: calls.append(1))
    output_jacobian(problem.model, x=problem.whole()[0])
    assert len(calls) < 10


def test_the_model_is_left_as_it_was_found():
    module = build(Learner(model=Normed).model, task=CLASSES, seed=3, dtype=torch.float64).train()
    before = {name: part.clone() for name, part in module.state_dict().items()}
    state = torch.random.get_rng_state()
    output_jacobian(module, x=torch.as_tensor(CLASSES.train.x[:4]))
    assert module.training
    assert all(part.grad is None for part in module.parameters())
    assert all(part.requires_grad for part in module.parameters())
    for name, part in module.state_dict().items():
        torch.testing.assert_close(part, before[name])
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("model", "words"), [(Mixing, "depends on the other examples"), (Restless, "draws random")])
def test_what_cannot_be_said_of_one_example_is_refused(model, words):
    with pytest.raises(ModelError, match=words):
        output_jacobian(model(CLASSES).double(), x=torch.as_tensor(CLASSES.train.x))


def test_what_is_no_model_or_no_loss_of_examples_is_refused():
    problem = classes(sizes=(3,))
    x, y = problem.whole()
    function: Any = lambda x: x  # noqa: E731
    with pytest.raises(TypeError, match=r"Expected a torch\.nn\.Module.*got function"):
        inspect.unwrap(output_jacobian)(function, x=x)
    with pytest.raises(ValueError, match="at least one example"):
        output_jacobian(problem.model, x=x[:0])
    with pytest.raises(ModelError, match=r"failed on inputs of shape \(3, 2\)"):
        output_jacobian(problem.model, x=x[:, :2])
    jacobian = output_jacobian(problem.model, x=x)
    with pytest.raises(ModelError, match="a loss for each of 3 examples"):
        jacobian.gauss_newton(nn.functional.cross_entropy, targets=y)
    with pytest.raises(ModelError, match="The loss failed"):
        jacobian.per_example_gradients(entropy, targets=y[:2])
    with pytest.raises(ValueError, match="at least two examples"):
        output_jacobian(problem.model, x=x[:1]).gradient_covariance(entropy, targets=y[:1])
