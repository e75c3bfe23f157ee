"""What every measure of curvature does: it leaves the model as it found it, and takes models as users have them."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.curvature import (
    EmpiricalFisher,
    Fisher,
    GaussNewton,
    Hessian,
    Objective,
    adaptive_sharpness,
    block_eigenvalues,
    curvature_trace,
    fisher_trace,
    interpolate,
    keskar_sharpness,
    loss_surface,
    preconditioned_sharpness,
    random_directions,
    right_class,
    sam_sharpness,
    spectral_density,
    top_eigenvalues,
)
from curved import classes, cross_entropy, normal

MATRICES = [Hessian(), GaussNewton(), Fisher(), EmpiricalFisher()]
every_matrix = pytest.mark.parametrize("matrix", MATRICES, ids=lambda matrix: type(matrix).__name__)


def at_other_weights(objective: Objective) -> None:
    with objective.at(objective.flat_weights() + 1.0):
        objective.value()


def products(objective: Objective) -> None:
    with objective.opened():
        for matrix in MATRICES:
            objective.product(torch.ones(objective.num_parameters), matrix=matrix)
        list(objective.batch_gradients())


def moved(objective: Objective) -> dict[str, Tensor]:
    """Another state of the same network."""
    return {name: part.clone() + 1 for name, part in objective.model.state_dict().items()}


MEASURES: dict[str, Callable[[Objective], Any]] = {
    "products": products,
    "other weights": at_other_weights,
    "eigenvalues": top_eigenvalues,
    "blocks": block_eigenvalues,
    "preconditioned": lambda o: preconditioned_sharpness(o, scale=torch.ones(o.num_parameters)),
    "trace": lambda o: curvature_trace(o, num_products=4),
    "exact trace": lambda o: curvature_trace(o, num_products=32),
    "density": lambda o: spectral_density(o, num_probes=1, num_steps=3),
    "fisher": lambda o: fisher_trace(o, num_draws=2),
    "surface": lambda o: loss_surface(
        o, directions=random_directions(o), held_out=o.batches, correct=right_class, num_points=25
    ),
    "surface, statistics": lambda o: loss_surface(
        o, directions=random_directions(o, num=1), statistics=o.batches[:2], num_points=5, share=0.5
    ),
    "path": lambda o: interpolate(o, end=moved(o), correct=right_class),
    "path, statistics": lambda o: interpolate(o, end=moved(o), statistics=o.batches[:2], num_points=5),
    "sharpness": lambda o: (sam_sharpness(o), adaptive_sharpness(o), keskar_sharpness(o, num_dimensions=3)),
}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


class Touchy(nn.Module):
    """Everything that could be disturbed: batch statistics, dropout, a buffer that evaluation writes to, a frozen
    weight, a shared one.
    """

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.again, self.head = nn.Linear(4, 4), nn.Linear(4, 3)
        self.again.weight = self.body.weight
        self.register_buffer("seen", torch.zeros(()))
        self.head.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.head(self.drop(self.again(self.norm(self.body(x)).tanh())))


def touchy() -> tuple[nn.Module, list[tuple[Tensor, Tensor]], list[str]]:
    """With gradients, statistics and hooks already there; one part of it in evaluation mode."""
    module, fired = Touchy(), list[str]()
    batches = classes().batches
    batches = [(x.float(), y) for x, y in batches]
    module(batches[0][0]).sum().backward()
    module.train()
    module.norm.eval()
    module.body.weight.register_hook(lambda gradient: fired.append("weight") or gradient * 100)
    module.head.register_full_backward_hook(lambda *_: fired.append("layer"))
    module.head.register_forward_hook(lambda *_: None)
    return module, batches, fired


def everything(module: nn.Module) -> dict[str, Any]:
    """All that could be found changed."""
    named = dict(module.named_parameters(remove_duplicate=False))
    return {
        "state": {name: part.clone() for name, part in module.state_dict().items()},
        "who": {name: (id(part), part.data_ptr(), part.requires_grad) for name, part in named.items()},
        "gradients": {name: None if p.grad is None else (id(p.grad), p.grad.clone()) for name, p in named.items()},
        "buffers": {name: id(part) for name, part in module.named_buffers()},
        "modes": [layer.training for layer in module.modules()],
        "hooks": [
            [len(hooks) for hooks in (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)]
            for layer in module.modules()
        ],
        "tensor hooks": [0 if not part._backward_hooks else len(part._backward_hooks) for part in named.values()],
        "attributes": [sorted(vars(layer)) for layer in module.modules()],
        "random": (repr(np.random.get_state()), torch.random.get_rng_state()),  # noqa: NPY002
        "settings": (torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled()),
    }


def assert_equal(one: Any, two: Any) -> None:
    """Tensors by their bits, everything else by value."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for first, second in zip(one, two, strict=True):
            assert_equal(first, second)
    elif isinstance(one, Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two


@every_measure
@pytest.mark.parametrize("failing", [False, True], ids=["works", "fails"])
def test_the_model_is_left_as_it_was_found(measure, failing):
    module, batches, fired = touchy()
    calls: list[int] = []

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        calls.append(1)
        if failing and len(calls) == 2:
            _ = torch.rand(1), np.random.uniform()  # noqa: NPY002
            raise RuntimeError("enough is enough")
        return cross_entropy(model, batch)

    objective, before = Objective(module, loss=loss, batches=batches), everything(module)
    if failing:
        with pytest.raises(ModelError, match="enough is enough"):
            measure(objective)
    else:
        measure(objective)
    assert_equal(everything(module), before)
    assert not fired
    module(batches[0][0]).sum().backward()
    assert set(fired) == {"weight", "layer"}


def test_pythons_generator_is_left_as_it_was():
    """Looked at by itself: the checker of annotations draws from Python's generator, too."""
    module, batches, _ = touchy()
    objective, before = Objective(module, loss=cross_entropy, batches=batches), random.getstate()
    with objective.opened():
        random.random()
    assert random.getstate() == before


@every_measure
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_it_works_where_gradients_are_off(measure, around):
    module, batches, _ = touchy()
    with around():
        measure(Objective(module, loss=cross_entropy, batches=batches))


def test_it_is_measured_in_evaluation_mode_and_repeats_to_the_bit():
    module, batches, _ = touchy()
    first = top_eigenvalues(Objective(module, loss=cross_entropy, batches=batches))
    module.eval()
    again = top_eigenvalues(Objective(module, loss=cross_entropy, batches=batches))
    assert_equal(first.top.vectors, again.top.vectors)


class Attending(nn.Module):
    """With attention as torch has it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


class Remembering(nn.Module):
    """Recurrent."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.layer(x)[0][:, -1])}


def named_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    found = model(batch["x"])
    logits = found["logits"] if isinstance(found, dict) else found
    return nn.functional.cross_entropy(logits, batch["y"], reduction="none")


def sequences() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"x": normal(size, 5, 8, generator=generator), "y": torch.randint(0, 3, (size,), generator=generator)}
        for size in (6, 3)
    ]


@every_matrix
@pytest.mark.parametrize("kind", [Attending, Remembering])
def test_products_are_symmetric_for_attention_and_recurrent_layers(kind, matrix):
    objective = Objective(kind().double(), loss=named_loss, batches=sequences())
    generator = torch.Generator().manual_seed(1)
    v, w = (normal(objective.num_parameters, generator=generator) for _ in range(2))
    with objective.opened():
        one, two = w @ objective.product(v, matrix=matrix), v @ objective.product(w, matrix=matrix)
        assert abs(one) > 1e-12
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-12)
        if isinstance(matrix, Hessian):
            step = 1e-5
            here = objective.flat_weights()
            with objective.at(here + step * v):
                ahead = objective.gradient()
            with objective.at(here - step * v):
                behind = objective.gradient()
            torch.testing.assert_close(
                (ahead - behind) / (2 * step), objective.hessian_product(v), rtol=1e-4, atol=1e-6
            )


def test_a_compiled_model_and_one_that_is_wrapped_are_measured_as_what_is_inside():
    problem = classes()
    expected = top_eigenvalues(problem.objective()).value
    compiled: Any = torch.compile(problem.model, backend="eager")
    for wrapped in (compiled, nn.DataParallel(problem.model)):
        objective = Objective(wrapped, loss=cross_entropy, batches=problem.batches)
        assert top_eigenvalues(objective).value == expected
        assert objective.weights.names[0] == "0.weight"


def test_a_loss_that_takes_its_own_autocast_is_measured_within_it():
    problem = classes(sizes=(60, 40))
    exact = top_eigenvalues(problem.objective()).value
    model = problem.model.float()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return cross_entropy(model, batch)

    rough = Objective(model, loss=loss, batches=[(x.float(), y) for x, y in problem.batches])
    found = top_eigenvalues(rough)
    assert found.top.vectors.dtype == torch.float32
    assert found.value == pytest.approx(exact, rel=0.03)
    assert found.value != pytest.approx(exact, rel=1e-6)


def test_a_shared_weight_is_one_and_frozen_ones_are_none():
    module, batches, _ = touchy()
    objective = Objective(module, loss=cross_entropy, batches=batches)
    assert objective.weights.names.count("body.weight") == 1
    assert not {"again.weight", "head.bias"} & set(objective.weights.names)
    named = Objective(module, loss=cross_entropy, batches=batches, parameters=["head.bias"])
    assert named.num_parameters == 3
    with pytest.raises(ValueError, match="each parameter once"):
        Objective(module, loss=cross_entropy, batches=batches, parameters=["body.weight", "again.weight"])
    with pytest.raises(ValueError, match=r"Did you mean: head\.bias"):
        Objective(module, loss=cross_entropy, batches=batches, parameters=["head.bais"])
    with pytest.raises(TypeError, match="put it into a tuple"):
        Objective(module, loss=cross_entropy, batches=batches, parameters="head.bias")


@every_matrix
def test_processes_with_batches_of_their_own_make_the_whole(matrix):
    problem = classes()
    v = normal(43, generator=torch.Generator().manual_seed(0))
    sent: list[Tensor] = []

    def measured(objective: Objective) -> list[Any]:
        with objective.opened():
            found = [objective.value(), objective.gradient(), objective.num_examples]
            return found if isinstance(matrix, Fisher) else [*found, objective.product(v, matrix=matrix)]

    def keep(total: Tensor) -> Tensor:
        sent.append(total.clone())
        return total

    measured(Objective(problem.model, loss=problem.loss, batches=problem.batches[:1], reduce=keep))
    waiting = iter(sent)
    rest = Objective(problem.model, loss=problem.loss, batches=problem.batches[1:], reduce=lambda t: t + next(waiting))
    for one, two in zip(measured(rest), measured(problem.objective()), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)
    assert next(waiting, None) is None


def test_what_draws_random_numbers_is_refused():
    problem = classes()

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(model, (batch[0] + 0.1 * torch.rand_like(batch[0]), batch[1]))

    with pytest.raises(ModelError, match="draws random numbers in evaluation mode"):
        top_eigenvalues(Objective(problem.model, loss=loss, batches=problem.batches))


class Once(torch.autograd.Function):
    """x², whose derivative has none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 2 * ctx.saved_tensors[0] * slope


def test_what_has_no_second_derivatives_is_refused_rather_than_left_out():
    problem = classes()
    objective = Objective(
        problem.model, loss=lambda model, batch: Once.apply(cross_entropy(model, batch)), batches=problem.batches
    )
    with pytest.raises(ModelError, match="Curvature needs second derivatives"):
        top_eigenvalues(objective)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model, batch: cross_entropy(model, batch) + model[0].weight.square().sum(), "penalty on weights"),
        (lambda model, batch: cross_entropy(model, batch) + 0 * model(batch[0]).sum(1), "called it 2 times"),
        (lambda model, batch: model[2](model[1](model[0](batch[0]))).sum(1), "called it 0 times"),
    ],
)
def test_a_gauss_newton_matrix_that_is_not_defined_is_refused(loss, message):
    problem = classes()
    objective = Objective(problem.model, loss=loss, batches=problem.batches)
    with objective.opened(), pytest.raises(ModelError, match=message):
        objective.gauss_newton_product(torch.ones(43).double())


def test_graphs_are_freed_and_take_no_more_than_is_allowed():
    problem = classes(sizes=(64, 64, 64))
    objective = problem.objective(memory=40_000)
    with objective.opened():
        objective.hessian_product(torch.ones(43).double())
        first = objective.kept_bytes
        assert 0 < first <= 40_000
        with objective.at(problem.flat()):
            objective.hessian_product(torch.ones(43).double())
        assert objective.kept_bytes == first
    assert objective.kept_bytes == 0
    with pytest.raises(ValueError, match="memory of at least 0 bytes"):
        problem.objective(memory=-1)
