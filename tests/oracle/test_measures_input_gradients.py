"""Input gradients and curvature against closed forms, finite differences and brute force."""

import inspect
from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures import csg, input_curvature, input_gradient_norms
from byrote.models import build, mlp
from byrote.records import Learner
from small_networks import Attentive, Convolutional, Embedded, Normed, Recurrent, Scalar, Transformer
from small_tasks import classes, numbers

CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(2, 6, 6))


def linear(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: x @ weight.T + bias


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(task, model) -> tuple[nn.Module, Tensor, Tensor]:
    """A network with weights of its own and eight examples of the task."""
    module = build(Learner(model=model).model, task=task, seed=3, dtype=torch.float64)
    return module, torch.as_tensor(task.train.x[:8]), torch.as_tensor(task.train.y[:8])


def example_loss(module: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """Of one example, alone."""
    with torch.no_grad():
        outputs = module(x[None])
        if y.is_floating_point():
            return float((outputs.reshape(()) - y) ** 2)
        return float(outputs.logsumexp(1)[0] - outputs[0, int(y)])


def by_differences(module: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, *, h: float = 1e-5) -> np.ndarray:
    """The gradient with respect to one input, one coordinate at a time."""
    found = []
    for place in range(x.numel()):
        move = torch.zeros(x.numel(), dtype=x.dtype)
        move[place] = h
        ahead, behind = (example_loss(module, x + sign * move.reshape(x.shape), y) for sign in (1, -1))
        found.append((ahead - behind) / (2 * h))
    return np.array(found)


def test_logistic_regression_has_gradient_wt_p_minus_onehot():
    weight, x = drawn(3, 4), drawn(6, 4, seed=1)
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    logits = x @ weight.T
    expected = ((logits.softmax(1) - nn.functional.one_hot(targets, 3)) @ weight).square().sum(1)
    found = input_gradient_norms(linear(weight, torch.zeros(3).double()), x=x, targets=targets)
    np.testing.assert_allclose(found.scores.value, expected, rtol=1e-12)
    assert found.status.tolist() == ["measured"] * 6
    assert found.scores.count.tolist() == [1] * 6
    assert np.isnan(found.scores.se).all()


@pytest.mark.parametrize(
    ("task", "model"),
    [
        (CLASSES, mlp(width=5)),
        (NUMBERS, mlp(width=5)),
        (NUMBERS, Scalar),
        (CLASSES, Normed),
        (CLASSES, Recurrent),
        (CLASSES, Attentive),
        (CLASSES, Transformer),
        (IMAGES, Convolutional),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_gradients_are_those_of_finite_differences_for_every_kind_of_layer(task, model):
    module, x, y = smooth(task, model)
    found = input_gradient_norms(module, x=x, targets=y, memory=1)
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        expected = [(by_differences(module, *pair) ** 2).sum() for pair in zip(x, y, strict=True)]
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    np.testing.assert_allclose(found.scores.value, expected, rtol=1e-5, atol=1e-12)


def test_csg_is_the_sum_over_checkpoints_and_its_error_is_over_runs():
    norms = np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]], [[0.0, 1.0], [2.0, 3.0]]])
    scores, status = csg(norms)
    np.testing.assert_allclose(scores.value, [6.0, 8.0])
    np.testing.assert_allclose(scores.se, np.array([[4, 6], [12, 14], [2, 4]]).std(0, ddof=1) / 3**0.5)
    assert status.tolist() == ["measured", "measured"]


def test_csg_leaves_out_runs_whose_numbers_are_not_finite():
    scores, status = csg(np.array([[[1.0, np.nan]], [[3.0, np.inf]]]))
    assert scores.count.tolist() == [2, 0]
    assert status.tolist() == ["measured", "not finite"]
    assert np.isnan(scores.value[1])


def test_csg_needs_a_run_and_a_checkpoint():
    with pytest.raises(ValueError, match=r"at least one run and one checkpoint, got shape \(0, 2, 3\)"):
        csg(np.zeros((0, 2, 3)))


# --- curvature -------------------------------------------------------------------------------------------------------


def test_curvature_of_squared_error_is_that_of_its_directions():
    """ℓ = (w·x − y)²: ∇ℓ(x + hv) − ∇ℓ(x) = 2h(w·v)w, of length 2h|w·v|‖w‖, for any x."""
    weight = torch.tensor([[2.0, 0.0, 0.0]]).double()
    found = input_curvature(
        linear(weight, torch.zeros(1).double()), x=drawn(5, 3), targets=drawn(5, seed=1), seed=0, step=0.01
    )
    np.testing.assert_allclose(found.scores.value, 2 * 0.01 * 2 * 2, rtol=1e-10)
    np.testing.assert_allclose(found.scores.se, 0, atol=1e-12)
    assert found.scores.count.tolist() == [10] * 5


def test_curvature_estimates_the_mean_over_all_directions_and_knows_its_error():
    """All 2⁴ directions by hand; z-scores of 300 examples with directions of their own."""
    weight = drawn(1, 4)
    exact = [abs(float(weight[0] @ torch.tensor(v).double())) for v in product((-1.0, 1.0), repeat=4)]
    expected = 2 * 1e-3 * float(np.mean(exact)) * float(weight.norm())
    found = input_curvature(
        linear(weight, torch.zeros(1).double()),
        x=drawn(300, 4, seed=1),
        targets=drawn(300, seed=2),
        seed=5,
        num_directions=40,
    ).scores
    z = (found.value - expected) / found.se
    assert abs(z.mean()) < 3.5 / 300**0.5
    assert 0.88 < z.std() < 1.15
    assert found.count.tolist() == [40] * 300


def test_curvature_for_small_steps_is_that_of_the_hessian():
    module, x, y = smooth(CLASSES, Smooth)
    found = input_curvature(module, x=x, targets=y, seed=1, step=1e-5, num_directions=400).scores
    for row in range(len(x)):

        def loss(one: Tensor, row: int = row) -> Tensor:
            return nn.functional.cross_entropy(module(one[None]), y[row : row + 1])

        hessian = torch.autograd.functional.hessian(loss, x[row])
        assert isinstance(hessian, Tensor)
        every = torch.tensor(list(product((-1.0, 1.0), repeat=5))).double()
        expected = 1e-5 * float((every @ hessian).norm(dim=1).mean())
        assert abs(found.value[row] - expected) < 4 * found.se[row] + 1e-5 * expected


class Smooth(nn.Module):
    """Two layers with a tanh."""

    def __init__(self, task):
        super().__init__()
        self.body, self.head = nn.Linear(task.input_shape[0], 6), nn.Linear(6, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).tanh())


def test_an_affine_loss_does_not_bend():
    """ReLU networks bend through the loss alone: on one side of its threshold a margin has no curvature."""
    huge = linear(torch.tensor([[1e3], [-1e3]]).double(), torch.zeros(2).double())
    found = input_curvature(huge, x=torch.ones(1, 1).double(), targets=torch.tensor([1]), seed=0)
    assert found.scores.value.item() == 0


# --- what is refused -------------------------------------------------------------------------------------------------


BOTH = pytest.mark.parametrize(
    "measure",
    [inspect.unwrap(input_gradient_norms), partial(inspect.unwrap(input_curvature), seed=0)],
    ids=["gradient", "curvature"],
)


@BOTH
def test_what_has_no_input_gradient_is_refused_with_the_reason(measure):
    module, x, y = smooth(CLASSES, Embedded)
    with pytest.raises(ModelError, match="do not depend on its inputs in a way that has a gradient"):
        measure(module, x=x, targets=y)
    tokens = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3))
    with pytest.raises(TypeError, match=r"Expected floating-point inputs, got torch\.int64: a loss has no gradient"):
        measure(tokens, x=torch.ones(8, 5, dtype=torch.int64), targets=y)


def test_half_precision_cannot_resolve_a_step():
    with pytest.raises(TypeError, match=r"Expected inputs in float32 or float64, got torch\.bfloat16"):
        input_curvature(lambda x: x, x=torch.ones(2, 3).bfloat16(), targets=torch.tensor([0, 1]), seed=0)


@pytest.mark.parametrize(
    ("targets", "outputs", "error", "words"),
    [
        (torch.zeros(3, dtype=torch.int64), (4, 2), ValueError, "one target for each of 4 examples"),
        (torch.zeros(4, dtype=torch.bool), (4, 2), TypeError, "Expected class codes or real numbers as targets"),
        (torch.tensor([0, 1, -1, 0]), (4, 2), ValueError, "Expected class codes from 0 up, got -1"),
        (torch.zeros(4, dtype=torch.int64), (4, 1), ModelError, "for at least two classes are expected"),
        (torch.zeros(4), (4, 2), ModelError, "one output for each example is expected"),
    ],
    ids=["number", "kind", "negative", "one logit", "two numbers"],
)
def test_targets_that_do_not_fit_are_refused(targets, outputs, error, words):
    with pytest.raises(error, match=words):
        inspect.unwrap(input_gradient_norms)(lambda x: x[:, : outputs[1]], x=torch.ones(4, 2), targets=targets)


def test_no_examples_have_no_scores():
    nothing = torch.zeros(0, 3)
    none = torch.zeros(0)
    assert len(input_gradient_norms(lambda x: x[:, 0], x=nothing, targets=none).scores) == 0
    assert len(input_curvature(lambda x: x[:, 0], x=nothing, targets=none, seed=0).scores) == 0


def test_an_input_that_is_not_finite_has_a_status_and_does_not_touch_the_others():
    module, x, y = smooth(CLASSES, mlp(width=5))
    clean = input_gradient_norms(module, x=x, targets=y)
    x = x.clone()
    x[3] = torch.nan
    for found in (input_gradient_norms(module, x=x, targets=y), input_curvature(module, x=x, targets=y, seed=0)):
        assert found.status.tolist() == ["measured"] * 3 + ["not finite"] + ["measured"] * 4
        assert found.scores.count[3] == 0
        assert np.isnan(found.scores.value[3])
    broken = input_gradient_norms(module, x=x, targets=y).scores.value
    np.testing.assert_allclose(np.delete(broken, 3), np.delete(clean.scores.value, 3), rtol=1e-12)
