"""The empirical neural tangent kernel against closed forms, and against dense Jacobians in float64."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.curvature import TangentKind, empirical_ntk, output_jacobian
from byrote.models import build
from byrote.records import Learner
from curved import classes, drawn, normal
from small_networks import Attentive, Convolutional, Embedded, Mixing, Normed, Recurrent, Restless, Scalar, Tied
from small_tasks import classes as small_classes
from small_tasks import numbers

CLASSES, NUMBERS, IMAGES = small_classes(), numbers(), small_classes(shape=(2, 6, 6))
KINDS: tuple[TangentKind, ...] = ("trace", "sum", "full")


def dense(module: nn.Module, x: Tensor, kind: TangentKind) -> np.ndarray:
    """As the three are defined, from the whole Jacobian."""
    values = output_jacobian(module, x=x).values.numpy()
    if kind == "trace":
        return np.einsum("iap,jap->ij", values, values)
    if kind == "sum":
        return values.sum(1) @ values.sum(1).T / values.shape[1]
    rows = values.reshape(-1, values.shape[2])
    return rows @ rows.T


class TwoLayers(nn.Module):
    """f(x) = aᵀ relu(Wx)/√m."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w, self.a = nn.Linear(3, width, bias=False), nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.w(x).relu()) / self.w.weight.shape[0] ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_linear_model_it_is_the_kernel_of_the_inputs(kind):
    """z = Wx + b has Θ = (XXᵀ + 1) ⊗ I, whatever the weights are."""
    generator = torch.Generator().manual_seed(1)
    model, x = drawn(nn.Linear(4, 3), generator), normal(6, 4, generator=generator)
    linear = (x @ x.T).numpy() + 1
    expected = {"trace": 3 * linear, "sum": linear, "full": np.kron(linear, np.eye(3))}
    np.testing.assert_allclose(empirical_ntk(model, x=x, kind=kind).kernel, expected[kind], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [1, 2, 50])
def test_of_two_layers_it_is_the_closed_form(width):
    """Θ(x, x') = (1/m)[Σ_r relu(w_rx)relu(w_rx') + ⟨x, x'⟩ Σ_r a_r² 1(w_rx > 0)1(w_rx' > 0)]."""
    generator = torch.Generator().manual_seed(width)
    model, x = drawn(TwoLayers(width), generator), normal(8, 3, generator=generator)
    parts = {name: part.detach() for name, part in model.named_parameters()}
    before = x @ parts["w.weight"].T
    active = (before > 0).double()
    expected = before.relu() @ before.relu().T + (x @ x.T) * ((active * parts["a.weight"][0].square()) @ active.T)
    for kind in KINDS:
        found = empirical_ntk(model, x=x, kind=kind).kernel
        np.testing.assert_allclose(found, expected.numpy() / width, rtol=1e-11, atol=1e-12)


def test_a_wide_networks_kernel_is_that_of_its_width_without_end():
    """Its expectation over Gaussian weights: ⟨x, x'⟩(π − φ)/2π for the first layer, the arc-cosine kernel of degree 1
    for the second (Cho & Saul 2009); the mean of 200 networks, and its own standard error."""
    generator = torch.Generator().manual_seed(0)
    x = normal(3, 3, generator=generator)
    lengths = x.norm(dim=1)
    cosines = ((x @ x.T) / lengths / lengths[:, None]).clamp(-1, 1)
    angles = cosines.arccos()
    first = (x @ x.T) * (torch.pi - angles) / (2 * torch.pi)
    second = lengths * lengths[:, None] * (angles.sin() + (torch.pi - angles) * cosines) / (2 * torch.pi)
    found = []
    for _ in range(200):
        model = TwoLayers(64).double()
        with torch.no_grad():
            for part in model.parameters():
                part.copy_(normal(*part.shape, generator=generator))
        found.append(empirical_ntk(model, x=x, kind="sum").kernel)
    scores = (np.mean(found, axis=0) - (first + second).numpy()) / (np.std(found, axis=0, ddof=1) / 200**0.5)
    assert np.abs(scores).max() < 4


@pytest.mark.parametrize("kind", KINDS)
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
def test_every_kind_of_layer_and_every_split_gives_the_dense_kernel(task, model, kind):
    module = build(Learner(model=model).model, task=task, seed=3, dtype=torch.float64)
    x = torch.as_tensor(task.train.x[:5])
    expected = dense(module, x, kind)
    found = empirical_ntk(module, x=x, kind=kind)
    row = 8 * found.rows_per_example * sum(part.numel() for part in module.parameters())
    memory = max(2 * row, expected.nbytes)
    tight = empirical_ntk(module, x=x, kind=kind, memory=memory)
    for kernel in (found.kernel, tight.kernel):
        np.testing.assert_allclose(kernel, expected, rtol=1e-9, atol=1e-11)
    assert found.cost == (1 if kind == "sum" else found.num_outputs)
    size = memory // (2 * row)
    assert size < 5
    assert tight.cost == found.cost * sum(5 - begin for begin in range(0, 5, size)) / 5
    assert len(found.kernel) == found.count * found.rows_per_example


def test_single_precision_is_off_by_rounding_alone():
    problem = classes()
    x, _ = problem.whole()
    exact = empirical_ntk(problem.model, x=x).kernel
    rough = empirical_ntk(problem.model.float(), x=x.float()).kernel
    np.testing.assert_allclose(rough, exact, rtol=1e-4, atol=1e-6 * exact.max())


def test_a_sample_says_which_examples_it_is_of():
    problem = classes()
    x, _ = problem.whole()
    whole, found = (
        empirical_ntk(problem.model, x=x, kind="full"),
        empirical_ntk(problem.model, x=x, kind="full", most=4, seed=1),
    )
    assert (found.count, found.num_given, whole.count, whole.num_given) == (4, 11, 11, 11)
    assert (np.diff(found.examples) > 0).all()
    rows = (3 * found.examples[:, None] + np.arange(3)).ravel()
    np.testing.assert_allclose(found.kernel, whole.kernel[np.ix_(rows, rows)], rtol=1e-12)
    again = empirical_ntk(problem.model, x=x, most=4, seed=1)
    np.testing.assert_array_equal(found.examples, again.examples)
    assert (found.examples != empirical_ntk(problem.model, x=x, most=4, seed=2).examples).any()


def test_of_some_parameters_the_others_are_constants():
    problem = classes(sizes=(3,))
    x, _ = problem.whole()
    found = [empirical_ntk(problem.model, x=x, kind=kind, parameters=["2.bias"]).kernel for kind in KINDS]
    for kernel, expected in zip(
        found, (np.full((3, 3), 3.0), np.ones((3, 3)), np.tile(np.eye(3), (3, 3))), strict=True
    ):
        np.testing.assert_allclose(kernel, expected)


def test_what_does_not_fit_says_what_would():
    problem = classes()
    x, _ = problem.whole()
    with pytest.raises(ValueError, match=r"full kernel of 11 examples \(3 outputs each\) takes 8,712 bytes.*'trace'"):
        empirical_ntk(problem.model, x=x, kind="full", memory=8711)
    with pytest.raises(ValueError, match=r"takes 968 bytes.*at most 10 examples"):
        empirical_ntk(problem.model, x=x, memory=967)
    assert empirical_ntk(problem.model, x=x, memory=967, most=10).count == 10
    with pytest.raises(ValueError, match=r"derivatives of two examples \(1 row of 43 weights each\) take 688 bytes"):
        empirical_ntk(problem.model, x=x[:2], memory=687)
    assert empirical_ntk(problem.model, x=x[:2], memory=688).count == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_left_as_it_was_found(kind):
    module = build(Learner(model=Normed).model, task=CLASSES, seed=3, dtype=torch.float64).train()
    module.get_parameter("body.weight").requires_grad_(False)
    before = {name: part.clone() for name, part in module.state_dict().items()}
    state = torch.random.get_rng_state()
    empirical_ntk(module, x=torch.as_tensor(CLASSES.train.x[:4]), kind=kind, most=3)
    assert all(layer.training for layer in module.modules())
    assert all(part.grad is None for part in module.parameters())
    assert [name for name, part in module.named_parameters() if not part.requires_grad] == ["body.weight"]
    for name, part in module.state_dict().items():
        assert torch.equal(part, before[name])
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("model", "words"), [(Mixing, "depends on the other examples"), (Restless, "draws random")])
def test_what_cannot_be_said_of_one_example_is_refused(model, words):
    with pytest.raises(ModelError, match=words):
        empirical_ntk(model(CLASSES).double(), x=torch.as_tensor(CLASSES.train.x))


def test_what_makes_no_sense_is_refused():
    problem = classes(sizes=(3,))
    x, _ = problem.whole()
    odd: Any = inspect.unwrap(empirical_ntk)
    with pytest.raises(TypeError, match=r"Expected a torch\.nn\.Module.*got function"):
        odd(lambda x: x, x=x)
    with pytest.raises(ValueError, match="'trace', 'sum' or 'full', got 'mean'"):
        odd(problem.model, x=x, kind="mean")
    with pytest.raises(ValueError, match="at least one example, got 0"):
        empirical_ntk(problem.model, x=x[:0])
    with pytest.raises(ValueError, match="of which at most 0"):
        empirical_ntk(problem.model, x=x, most=0)
