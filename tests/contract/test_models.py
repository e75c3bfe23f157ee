"""What every model does: fresh weights from a seed, outputs that fit, and mistakes told in their author's words."""

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError, SpecError, UnknownNameError
from byrote.data import Task
from byrote.models import MODELS, build, cnn, custom, linear, mlp, named_model
from byrote.records import Learner, ModelSpec, decode, encode
from small_networks import (
    SHARED,
    Buffered,
    Convolutional,
    Dropping,
    Frozen,
    Normed,
    Recurrent,
    Scalar,
    Tied,
    not_a_module,
)
from small_tasks import classes, numbers

CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(1, 8, 8))


def no_argument() -> nn.Module:
    return nn.Linear(5, 3)


def from_task(task: Task) -> nn.Module:
    return nn.Linear(task.input_shape[0], task.num_outputs)


def with_default(task: Task | None = None) -> nn.Module:
    assert task is not None
    return from_task(task)


def with_other_default(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(5, width), nn.Linear(width, 3))


def lazily() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4), nn.LazyLinear(3))


def sized(task: Task, *, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(task.input_shape[0], width), nn.Linear(width, task.num_outputs))


CASES: list[tuple[Task, Any]] = [
    (CLASSES, linear()),
    (NUMBERS, linear()),
    (IMAGES, linear()),
    (CLASSES, mlp(width=3)),
    (IMAGES, mlp(width=3, depth=3)),
    (NUMBERS, mlp(width=1)),
    (IMAGES, cnn(width=1)),
    (IMAGES, cnn(width=6)),
    (CLASSES, custom(no_argument)),
    (CLASSES, custom(from_task)),
    (CLASSES, custom(with_default)),
    (CLASSES, custom(with_other_default)),
    (CLASSES, custom(lazily)),
    (CLASSES, custom(lambda: nn.Linear(5, 3))),
    (CLASSES, custom(lambda task: nn.Linear(5, task.num_outputs))),
    (CLASSES, custom(functools.partial(sized, width=4))),
    (CLASSES, custom(Frozen)),
    (CLASSES, custom(Tied)),
    (CLASSES, custom(Buffered)),
    (CLASSES, custom(Dropping)),
    (CLASSES, custom(Normed)),
    (CLASSES, custom(Recurrent)),
    (NUMBERS, custom(Scalar)),
    (IMAGES, custom(Convolutional)),
]
every_model = pytest.mark.parametrize(
    ("task", "model"), CASES, ids=[f"{model}-{index}" for index, (_, model) in enumerate(CASES)]
)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in module.state_dict().values()])


# --- every model -----------------------------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_answers_every_example_in_its_precision(task: Task, model: ModelSpec, dtype: torch.dtype) -> None:
    module = build(model, task=task, seed=0, dtype=dtype).eval()
    x = torch.as_tensor(task.normalise(task.train.x), dtype=dtype).reshape(-1, *task.input_shape)
    outputs = module(x)
    assert outputs.dtype == dtype
    assert outputs.reshape(len(x), -1).shape == (len(x), task.num_outputs)


@every_model
def test_one_seed_makes_one_network_and_another_seed_another(task: Task, model: ModelSpec) -> None:
    first, again, other = (weights(build(model, task=task, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_model
def test_building_leaves_the_global_generator_alone(task: Task, model: ModelSpec) -> None:
    before = torch.get_rng_state()
    build(model, task=task, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


# --- byrote's own ----------------------------------------------------------------------------------------------------


def test_the_catalogue_has_the_sizes_that_it_says() -> None:
    def count(model: ModelSpec, task: Task) -> int:
        return sum(weight.numel() for weight in build(model, task=task, seed=0).parameters())

    assert count(linear(), CLASSES) == 5 * 3 + 3
    assert count(mlp(width=7, depth=2), CLASSES) == (5 * 7 + 7) + (7 * 7 + 7) + (7 * 3 + 3)
    convolutions = (9 * 1 * 4 + 4 + 2 * 4) + (9 * 4 * 8 + 8 + 2 * 8)
    assert count(cnn(width=4), IMAGES) == convolutions + (8 * 2 * 2 * 3 + 3)


def test_named_models_take_their_defaults() -> None:
    assert named_model("mlp") == mlp() == named_model("mlp", depth=1, width=256)
    assert str(cnn()) == "cnn(width=16)"
    assert sorted(MODELS) == ["cnn", "linear", "mlp"]
    for name in MODELS:
        assert MODELS[name].summary


@pytest.mark.parametrize(("task", "named"), CASES[:8], ids=[str(named) for _, named in CASES[:8]])
def test_a_named_model_is_the_same_after_json(task: Task, named: ModelSpec) -> None:
    again = decode(ModelSpec, encode(named))
    assert again == named
    assert torch.equal(weights(build(again, task=task, seed=0)), weights(build(named, task=task, seed=0)))


@pytest.mark.parametrize("width", [0, -3, True])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_width_that_is_no_whole_number_above_zero_is_refused(name: str, width: Any) -> None:
    with pytest.raises(
        SpecError, match=f"Expected width of the model {name} to be a whole number above 0, got {width!r}"
    ):
        named_model(name, width=width)


def test_a_wrong_name_or_argument_is_suggested_another() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown model 'mpl'\. Did you mean: mlp\? Known: cnn, linear, mlp"):
        named_model("mpl")
    with pytest.raises(SpecError, match=r"mlp has no argument 'widht'\. Did you mean: width\? It takes: width, depth"):
        named_model("mlp", widht=3)
    with pytest.raises(SpecError, match=r"linear has no argument 'width'\..*It takes: no arguments"):
        named_model("linear", width=3)


@pytest.mark.parametrize("task", [CLASSES, classes(shape=(1, 3, 8)), classes(shape=(1, 8, 3))])
def test_a_cnn_says_which_inputs_it_needs(task: Task) -> None:
    with pytest.raises(ModelError, match="cnn needs images of at least 4 × 4 pixels; this task's inputs have shape"):
        build(cnn(), task=task, seed=0)


@pytest.mark.parametrize("size", [4, 5, 7, 8])
@pytest.mark.parametrize("width", [2, 3, 4, 16])
def test_a_cnn_tells_examples_apart_however_small_it_is(width: int, size: int) -> None:
    task = classes(shape=(1, size, size))
    outputs = build(cnn(width=width), task=task, seed=0, dtype=torch.float64)(torch.as_tensor(task.train.x))
    assert outputs.std(0).min() > 1e-3


# --- the user's own --------------------------------------------------------------------------------------------------


def raises() -> nn.Module:
    width = "five"
    raise ValueError(f"no {width}")


def raises_nothing_to_say() -> nn.Module:
    raise RuntimeError


class WrongWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(99, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Tupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(x), x


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).detach()


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).double()


def frozen_whole() -> nn.Module:
    return nn.Linear(5, 3).requires_grad_(False)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (raises, r"raises failed to make a model: ValueError: no five \(test_models.py, line \d+\)"),
        (raises_nothing_to_say, r"failed to make a model: RuntimeError: no message \(test_models.py, line \d+\)"),
        (not_a_module, r"Expected small_networks:not_a_module to make a torch.nn.Module, got Random"),
        (lambda: None, r"<lambda> to make a torch.nn.Module, got NoneType"),
        (
            lambda: nn.Linear(5, 4),
            r"outputs of shape \(2, 3\) \(one logit for each of the 3 classes per example\), got",
        ),
        (lambda: nn.Flatten(0), r"into outputs of shape \(2, 3\).*got \(10,\)"),
        (
            WrongWidth,
            r"take a batch of inputs of shape \(2, 5\): RuntimeError: .* \(test_models.py, line \d+\)",
        ),
        (Tupled, r"into outputs of shape \(2, 3\).*got tuple"),
        (Detached, r"do not depend on its trainable parameters.*detach\(\)"),
        (Doubled, r"inputs of torch.float32 with outputs of torch.float32, got torch.float64"),
        (frozen_whole, "has no parameters to train"),
        (lambda: Slice(), "has no parameters to train"),
        (SHARED, "is one module, perhaps trained already. Every run needs a network of its own"),
    ],
)
def test_a_mistake_is_told_in_its_authors_words(factory: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build(custom(factory), task=CLASSES, seed=0)


class Slice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3]


def test_the_line_of_a_mistake_is_the_authors_own() -> None:
    with pytest.raises(ModelError) as caught:
        build(custom(raises), task=CLASSES, seed=0)
    line = raises.__code__.co_firstlineno + 2
    assert str(caught.value).endswith(f"(test_models.py, line {line})")


def test_a_regression_wants_one_number() -> None:
    with pytest.raises(ModelError, match=r"into outputs of shape \(2, 1\) \(one number per example\), got \(2, 3\)"):
        build(custom(no_argument), task=NUMBERS, seed=0)


def test_a_learner_takes_a_factory_and_refuses_what_is_none() -> None:
    assert Learner(model=from_task).model == custom(from_task)
    with pytest.raises(TypeError, match="ModelSpec"):
        Learner(model=3)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def module_of_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my_net_module.py"
    path.write_text("from torch import nn\n\ndef net():\n    return nn.Linear(5, 3)\n\nanswer = 42\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_net_module", raising=False)
    return path


def test_a_factory_is_found_again_by_its_name_in_another_process(module_of_theirs: Path) -> None:
    spec = named_model("my_net_module:net")
    stored = decode(ModelSpec, encode(spec))
    assert stored.factory is None
    assert stored == spec
    assert torch.equal(
        weights(build(stored, task=CLASSES, seed=1)), weights(build(custom(no_argument), task=CLASSES, seed=1))
    )


def test_a_factory_whose_source_has_changed_is_another_model(
    module_of_theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = decode(ModelSpec, encode(named_model("my_net_module:net")))
    module_of_theirs.write_text("from torch import nn\n\ndef net():\n    return nn.Linear(5, 3, bias=False)\n")
    monkeypatch.delitem(sys.modules, "my_net_module")
    with pytest.raises(ModelError, match="The source of my_net_module:net has changed since this run was planned"):
        build(stored, task=CLASSES, seed=0)


def test_a_factory_under_the_name_of_one_of_ours_stays_itself() -> None:
    mine = custom(no_argument, name="mlp")
    assert type(build(mine, task=CLASSES, seed=0)) is nn.Linear
    with pytest.raises(UnknownNameError, match="Expected 'module:attribute', got 'mlp'"):
        build(decode(ModelSpec, encode(mine)), task=CLASSES, seed=0)


def test_what_cannot_be_imported_or_called_is_said(module_of_theirs: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"has no attribute 'nett'\. Did you mean: net\?"):
        named_model("my_net_module:nett")
    with pytest.raises(ModelError, match=r"a class or a function that makes .*, got int"):
        named_model("my_net_module:answer")
    with pytest.raises(SpecError, match="is your own model and takes no width from byrote"):
        named_model("my_net_module:net", width=3)
    module_of_theirs.with_name("my_broken_module.py").write_text("x = 1\n\nraise RuntimeError('not on this machine')\n")
    with pytest.raises(
        ModelError, match=r"cannot be imported: RuntimeError: not on this machine \(my_broken_module.py, line 3\)"
    ):
        named_model("my_broken_module:net")
