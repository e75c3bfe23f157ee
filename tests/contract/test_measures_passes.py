"""What every score that needs extra passes does: it leaves the model as it found it, whatever comes, and does not
depend on how its work is cut.
"""

import copy
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures import (
    critical_samples,
    gradient_norms,
    input_curvature,
    input_gradient_norms,
    loss_sensitivity,
)
from byrote.models.borrowed import borrowed
from byrote.records import SGD
from small_networks import Mixing, Restless
from small_tasks import classes, numbers

CLASSES, NUMBERS = classes(num_train=24), numbers(num_train=24)
Measure = Callable[..., Any]


def search(model: Any, *, x: Tensor, targets: Tensor, **options: Any) -> Any:
    """Critical samples need no targets."""
    return critical_samples(model, x=x, unit=1.0, seed=0, num_steps=5, **options)


def unroll(model: Any, *, x: Tensor, targets: Tensor) -> Any:
    """A few steps on a few examples."""
    batches = list(torch.arange(len(x)).split(10))
    return loss_sensitivity(model, x=x, targets=targets, optimiser=SGD(lr=0.05), batches=batches)


CUT: dict[str, Measure] = {
    "gradient norms": gradient_norms,
    "input gradients": input_gradient_norms,
    "curvature": partial(input_curvature, seed=0, num_directions=3),
    "critical samples": search,
}
MEASURES: dict[str, Measure] = {**CUT, "sensitivity": unroll}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


class Touchy(nn.Module):
    """Everything that could be disturbed: batch statistics, dropout, a buffer that evaluation writes to, an activation
    in place, a frozen weight.
    """

    seen: Tensor

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.body, self.norm, self.drop = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.head = nn.Linear(8, num_outputs)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("nothing", None)
        self.head.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        x.mul_(0.5)
        return self.head(self.drop(nn.functional.relu(self.norm(self.body(x)), inplace=True)))


def touchy(task: Any) -> nn.Module:
    """With gradients, statistics and hooks already there; one part of it in evaluation mode."""
    module = Touchy(task.num_outputs).double()
    module(torch.ones(4, 5).double()).sum().backward()
    module.train()
    module.drop.eval()
    return module


def examples(task: Any) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(task.train.x).clone(), torch.as_tensor(task.train.y)


def everything(module: nn.Module) -> dict[str, Any]:
    """All that could be found changed."""
    named = {name: (id(part), part.requires_grad, part.grad) for name, part in module.named_parameters()}
    return {
        "weights": {name: part.clone() for name, part in module.state_dict().items()},
        "who": {name: (who, trains) for name, (who, trains, _) in named.items()},
        "gradients": {name: None if grad is None else (id(grad), grad.clone()) for name, (_, _, grad) in named.items()},
        "buffers": {name: id(part) for name, part in module.named_buffers()},
        "modes": [layer.training for layer in module.modules()],
        "hooks": [(len(layer._forward_hooks), len(layer._forward_pre_hooks)) for layer in module.modules()],
        "attributes": [sorted(vars(layer)) for layer in module.modules()],
        "random": (repr(np.random.get_state()), torch.random.get_rng_state()),  # noqa: NPY002
        "settings": (torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled()),
    }


def assert_equal(one: Any, two: Any) -> None:
    """Tensors by their bits, everything else by value."""
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


@pytest.mark.parametrize(
    ("measure", "task"),
    [
        pytest.param(measure, task, id=f"{name}, {kind}")
        for name, measure in MEASURES.items()
        for kind, task in (("classes", CLASSES), ("numbers", NUMBERS))
        if (name, kind) != ("critical samples", "numbers")
    ],
)
def test_model_inputs_and_random_states_are_left_as_they_were(measure, task):
    module, (x, y) = touchy(task), examples(task)
    module.register_forward_hook(lambda layer, inputs, outputs: None)
    before, x_before, y_before = everything(module), x.clone(), y.clone()
    measure(module, x=x, targets=y)
    assert_equal(everything(module), before)
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)
    assert not x.requires_grad


def test_pythons_generator_and_the_modules_buffers_are_the_callers_again_afterwards():
    """Looked at by itself: the checker of annotations draws from Python's generator, too."""
    module, before = touchy(CLASSES), random.getstate()
    mode = [layer.training for layer in module.modules()]
    with borrowed(module, device=torch.device("cpu")):
        random.random()
        assert not any(layer.training for layer in module.modules())
        assert torch.is_grad_enabled()
    assert random.getstate() == before
    assert [layer.training for layer in module.modules()] == mode


@every_measure
def test_they_are_left_so_when_the_model_fails(measure):
    module, (x, y) = touchy(CLASSES), examples(CLASSES)
    calls: list[int] = []

    def fail(layer: nn.Module, inputs: Any) -> None:
        calls.append(1)
        _ = torch.rand(1), np.random.uniform()  # noqa: NPY002
        if len(calls) > 1:
            raise RuntimeError("enough is enough")

    module.register_forward_pre_hook(fail)
    before = everything(module)
    with pytest.raises(ModelError, match="enough is enough"):
        measure(module, x=x, targets=y)
    assert_equal(everything(module), before)


@every_measure
def test_it_is_measured_in_evaluation_mode(measure):
    """Mode and gradients that are there already make no difference."""
    module, (x, y) = touchy(CLASSES), examples(CLASSES)
    fresh = copy.deepcopy(module).eval()
    fresh.zero_grad()
    assert_equal(numbers_in(measure(module, x=x, targets=y)), numbers_in(measure(fresh, x=x, targets=y)))


@every_measure
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_it_works_where_gradients_are_off(measure, around):
    module, (x, y) = touchy(CLASSES), examples(CLASSES)
    expected = numbers_in(measure(module, x=x, targets=y))
    with around():
        assert_equal(numbers_in(measure(module, x=x.clone(), targets=y.clone())), expected)


def numbers_in(result: Any) -> dict[str, Any]:
    """Arrays of a result, NaN as a number."""
    scores = {} if not hasattr(result, "scores") else vars(result.scores)
    arrays = {name: part for name, part in result._asdict().items() if isinstance(part, np.ndarray)}
    return {
        name: np.nan_to_num(part, nan=-1.0).tolist() if part.dtype.kind == "f" else part.tolist()
        for name, part in {**scores, **arrays}.items()
    }


@every_measure
def test_what_says_nothing_of_a_single_example_is_refused(measure):
    x, y = examples(CLASSES)
    with pytest.raises(ModelError, match=r"answer to one example depends on the other|more than 1 value per channel"):
        measure(Mixing(CLASSES).double(), x=x, targets=y)
    with pytest.raises(ModelError, match="draws random numbers while it is evaluated"):
        measure(Restless(CLASSES).double(), x=x, targets=y)


@every_measure
def test_repeated_it_is_the_same_to_the_bit(measure):
    module, (x, y) = touchy(CLASSES), examples(CLASSES)
    first = numbers_in(measure(module, x=x, targets=y))
    _ = torch.rand(7), random.random()
    assert_equal(numbers_in(measure(module, x=x, targets=y)), first)


@pytest.mark.parametrize("measure", CUT.values(), ids=CUT)
@pytest.mark.parametrize("memory", [1, 9000], ids=["one by one", "some at a time"])
def test_parts_make_the_whole(measure, memory):
    module, (x, y) = touchy(CLASSES), examples(CLASSES)
    whole, cut = (numbers_in(measure(module, x=x, targets=y, memory=size)) for size in (1 << 28, memory))
    assert whole.keys() == cut.keys()
    for name, part in whole.items():
        np.testing.assert_array_equal(cut[name], part) if name in ("status", "critical", "found_at") else (
            np.testing.assert_allclose(cut[name], part, rtol=1e-9, atol=1e-12, err_msg=name)
        )


@pytest.mark.parametrize("name", ["gradient norms", "input gradients", "curvature"])
def test_permuting_examples_permutes_scores(name):
    module, (x, y) = touchy(CLASSES), examples(CLASSES)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    own: dict[str, Any] = {"ids": np.arange(len(x))} if name == "curvature" else {}
    moved: dict[str, Any] = {"ids": order.numpy()} if name == "curvature" else {}
    straight = CUT[name](module, x=x, targets=y, **own).scores.value
    np.testing.assert_allclose(
        CUT[name](module, x=x[order], targets=y[order], **moved).scores.value, straight[order], rtol=1e-9
    )


@pytest.mark.parametrize("measure", CUT.values(), ids=CUT)
def test_memory_has_to_be_something(measure):
    x, y = examples(CLASSES)
    with pytest.raises(ValueError, match="Expected memory above 0 bytes, got 0"):
        measure(touchy(CLASSES), x=x, targets=y, memory=0)


@pytest.mark.parametrize("measure", CUT.values(), ids=CUT)
def test_no_more_examples_go_together_than_memory_allows(measure):
    """A forward pass keeps at least two rows of 8 numbers of 8 bytes for each example."""
    x, y = (part.repeat(20, *[1] * (part.ndim - 1)) for part in examples(CLASSES))
    sizes: list[int] = []

    def measured(memory: int) -> int:
        sizes.clear()
        module = touchy(CLASSES)
        module.register_forward_pre_hook(lambda layer, inputs: sizes.append(len(inputs[0])))
        measure(module, x=x, targets=y, memory=memory)
        return max(sizes)

    few, all_ = measured(40_000), measured(1 << 30)
    assert few <= 40_000 / (2 * 8 * 8) < len(x)
    if measure is not gradient_norms:  # torch.func.vmap shows the module one example at a time.
        assert all_ == len(x)
