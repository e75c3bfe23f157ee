"""What every probe does: it is called when it says, sees what is there, and leaves training as it would have been."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError, UnknownNameError
from byrote.data import Task
from byrote.models import build, mlp
from byrote.records import SAM, SGD, ProbeResult, Regularisers, Run, decode, encode
from byrote.training import (
    AbstractProbe,
    Answers,
    Checkpoint,
    Features,
    Given,
    GradientGram,
    LogSpaced,
    Moment,
    Path,
    batches,
    train,
)
from small_networks import (
    ChannelsDropped,
    Convolutional,
    Counting,
    Dropped,
    Dropping,
    HomemadeNorm,
    Normed,
    Sometimes,
    StochasticDepth,
    Tied,
    dropped_chain,
)
from small_tasks import (
    ALONE,
    FOREIGN,
    assert_same,
    classes,
    data_of,
    numbers,
    population,
    spec,
    stacked,
)

CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(2, 6, 6))
AT = Given(steps=(0, 1, 15))
PROBES: list[AbstractProbe] = [
    Checkpoint(at=AT),
    Answers(at=AT, num_examples=9),
    GradientGram(at=AT, num_batches=5, batch_size=1),
    GradientGram(at=AT, num_batches=3, batch_size=8),
]
CASES: list[tuple[Task, Any, tuple[Path, ...]]] = [
    (CLASSES, mlp(width=5), (ALONE, stacked(3, "dense"), stacked(2))),
    (NUMBERS, mlp(width=5), (ALONE, stacked(3, "dense"))),
    (CLASSES, dropped_chain, (ALONE, stacked(2, "dense"))),
    (CLASSES, Dropped, (ALONE, stacked(3))),
    (CLASSES, Tied, (ALONE, stacked(3))),
    (CLASSES, Normed, (ALONE, stacked(2))),
    (IMAGES, Convolutional, (ALONE._replace(channels_last=True), stacked(3))),
    (IMAGES, ChannelsDropped, (ALONE, stacked(3, "unfolded"))),
    (CLASSES, Dropping, (FOREIGN,)),
    (CLASSES, HomemadeNorm, (FOREIGN,)),
    (CLASSES, StochasticDepth, (FOREIGN,)),
    (CLASSES, Counting, (FOREIGN,)),
]
every_case = pytest.mark.parametrize(
    ("task", "model", "paths"), CASES, ids=lambda part: getattr(part, "__name__", None)
)
SHARP = SAM(base=SGD(lr=0.05), rho=0.1)


def runs_of(task: Task, model: Any, path: Path, probes: Sequence[AbstractProbe]) -> list[Run]:
    noisy = Regularisers(input_noise=0.1, label_smoothing=0.0 if task.regression else 0.1, clip_norm=1.0)
    specs = population(task, model, epochs=4, optimiser=SHARP, regularisers=noisy)[:3]
    return train(specs, data_of(task, specs[0]), path=path, probes=probes, keep_weights=True)


@cache
def watched(task: Task, model: Any, path: Path) -> list[Run]:
    return runs_of(task, model, path, PROBES)


@final
@dataclass(frozen=True, kw_only=True)
class Calls(AbstractProbe):
    """Remembers when it was called, and what it saw."""

    at: Given | LogSpaced
    name: ClassVar[str] = "calls"

    def steps(self, total: int) -> Sequence[int]:
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Tensor]:
        return {"step": torch.full((len(moment.targets),), moment.step), "targets": moment.targets}


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "steps"),
    [
        (Given(steps=()), []),
        (Given(steps=(0,)), [0]),
        (Given(steps=(0, 3, 4, 5, 15, 16, 99)), [0, 3, 4, 5, 15]),
        (LogSpaced(number=0), [0, 1, 15]),
        (LogSpaced(number=1), [0, 1, 4, 15]),
        (LogSpaced(number=1000), list(range(16))),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [ALONE, stacked(2, "dense"), stacked(3)], ids=str)
def test_it_is_called_when_it_says_and_says_when_it_was(at: Any, steps: list[int], path: Path) -> None:
    """Three epochs of batches of ⌊8/0.7⌉ = 11: 12 steps; so 15 are five epochs of three."""
    probe = Calls(at=at)
    specs = population(CLASSES, mlp(width=5), epochs=5, batch_size=10)
    assert sum(map(len, batches(specs[0], num_examples=37))) == 15
    for run in train(specs, data_of(CLASSES, specs[0]), path=path, probes=[probe]):
        result = run.probes[probe.key]
        assert result.steps.tolist() == steps
        if steps:
            assert result.values["step"].tolist() == steps
            assert result.values["targets"].shape == (len(steps), 37)
        else:
            assert result.values == {}


def test_log_spaced_moments_are_at_the_ends_and_a_factor_apart() -> None:
    steps = LogSpaced(number=6).of(10**7)
    assert (steps[0], steps[1], steps[-1]) == (0, 1, 10**7)
    np.testing.assert_allclose(np.diff(np.log10(steps[1:])), 1, atol=1e-6)


@pytest.mark.parametrize("steps", [(1, 0), (2, 2), (-1,)])
def test_moments_out_of_order_are_refused(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Expected steps from 0 up, in order and each once"):
        Given(steps=steps)


def test_a_probe_is_known_by_its_settings() -> None:
    probes: list[AbstractProbe] = [
        *PROBES,
        Checkpoint(),
        Answers(),
        GradientGram(),
        Features(layers=("0",)),
        Features(layers=("1",)),
    ]
    keys = [probe.key for probe in probes]
    assert len(set(keys)) == len(keys)
    for probe, key in zip(probes, keys, strict=True):
        assert key == f"{probe.name}-{key[-8:]}"
        assert replace(probe).key == key  # pyright: ignore[reportArgumentType]
        assert decode(type(probe), encode(probe)) == probe


# --- what it sees ----------------------------------------------------------------------------------------------------


def numbers_in(result: ProbeResult) -> dict[str, np.ndarray]:
    return {name: np.asarray(values) for name, values in result.values.items()}


@every_case
def test_every_method_shows_it_the_same(task: Task, model: Any, paths: tuple[Path, ...]) -> None:
    first = watched(task, model, paths[0])
    for path in paths[1:]:
        for one, two in zip(first, watched(task, model, path), strict=True):
            assert one.probes.keys() == two.probes.keys() == {probe.key for probe in PROBES}
            for key, result in one.probes.items():
                assert (result.name, result.settings) == (two.probes[key].name, two.probes[key].settings)
                assert result.steps.tolist() == two.probes[key].steps.tolist()
                others = numbers_in(two.probes[key])
                assert others.keys() == result.values.keys()
                for name, values in numbers_in(result).items():
                    np.testing.assert_allclose(others[name], values, rtol=1e-9, atol=1e-9, err_msg=f"{key} {name}")


@every_case
def test_training_is_bit_by_bit_what_it_is_without(task: Task, model: Any, paths: tuple[Path, ...]) -> None:
    for path in paths:
        for one, two in zip(runs_of(task, model, path, ()), watched(task, model, path), strict=True):
            assert_same(one, two, tolerance=0)
            assert one.weights is not None
            assert two.weights is not None
            assert one.weights.keys() == two.weights.keys()
            for name, part in one.weights.items():
                np.testing.assert_array_equal(two.weights[name], part, err_msg=name)


@every_case
def test_checkpoints_go_from_the_initial_weights_to_those_that_are_kept(
    task: Task, model: Any, paths: tuple[Path, ...]
) -> None:
    specs = population(task, model, epochs=1)[:2]
    probe = Checkpoint(at=LogSpaced(number=0))
    for path in paths:
        for run in train(specs, data_of(task, specs[0]), path=path, probes=[probe], keep_weights=True):
            fresh = build(run.spec.learner.model, task=task, seed=run.spec.seed, dtype=torch.float64).state_dict()
            values = numbers_in(run.probes[probe.key])
            assert run.weights is not None
            assert list(values) == list(fresh) == list(run.weights)
            for name, part in fresh.items():
                np.testing.assert_array_equal(values[name][0], part.numpy(), err_msg=name)
                np.testing.assert_array_equal(values[name][-1], run.weights[name], err_msg=name)


def network_at(run: Run, task: Task, probe: Checkpoint, moment: int) -> nn.Module:
    """The run's own network with the weights of a checkpoint."""
    module = build(run.spec.learner.model, task=task, seed=run.spec.seed, dtype=torch.float64)
    values = numbers_in(run.probes[probe.key])
    module.load_state_dict({name: torch.as_tensor(part[moment]) for name, part in values.items()})
    return module


def gradient_of_mean_loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    outputs = module(x)
    loss = (
        nn.functional.mse_loss(outputs[:, 0], y) if y.is_floating_point() else nn.functional.cross_entropy(outputs, y)
    )
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])


@pytest.mark.parametrize(
    ("task", "model", "path"),
    [
        (CLASSES, mlp(width=5), stacked(3, "dense")),
        (NUMBERS, mlp(width=5), stacked(3)),
        (CLASSES, dropped_chain, stacked(3, "dense")),
        (CLASSES, Tied, stacked(3)),
        (CLASSES, Normed, stacked(3)),
        (CLASSES, Normed, ALONE),
        (IMAGES, Convolutional, stacked(3, "unfolded")),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
@pytest.mark.parametrize("size", [1, 6])
def test_the_gram_matrix_is_of_explicit_gradients(task: Task, model: Any, path: Path, size: int) -> None:
    """Without dropout and noise; batch statistics are those of the batch, but of one example there are none."""
    gram, checkpoint = GradientGram(at=AT, num_batches=4, batch_size=size), Checkpoint(at=AT)
    x = torch.as_tensor(task.train.x)
    for run in runs_of(task, model, path, [gram, checkpoint])[:3:2]:
        y = torch.as_tensor(task.train.y)  # uncorrupted in runs 0 and 2
        y = (y - y.mean()) / y.std(unbiased=False) if task.regression else y
        for moment in range(3):
            module = network_at(run, task, checkpoint, moment)
            batched = model is Normed and size > 1
            module.train(batched)
            for layer in module.modules():
                if isinstance(layer, nn.Dropout):
                    layer.p = 0.0
            parts = zip(x[: 4 * size].split(size), y[: 4 * size].split(size), strict=True)
            gradients = torch.stack([gradient_of_mean_loss(module, *part) for part in parts])
            np.testing.assert_allclose(
                numbers_in(run.probes[gram.key])["gram"][moment], gradients @ gradients.T, rtol=1e-9, atol=1e-12
            )


def test_answers_are_what_the_network_says_in_evaluation_mode() -> None:
    probe = Answers(at=LogSpaced(), num_examples=9)
    for run in runs_of(CLASSES, Dropped, stacked(3), [probe]):
        outputs = numbers_in(run.probes[probe.key])["outputs"]
        np.testing.assert_allclose(outputs[-1], run.trace.train_outputs[:9], rtol=1e-12)
        fresh = build(run.spec.learner.model, task=CLASSES, seed=run.spec.seed, dtype=torch.float64).eval()
        np.testing.assert_allclose(outputs[0], fresh(torch.as_tensor(CLASSES.train.x[:9])).detach(), rtol=1e-12)


@pytest.mark.parametrize("path", [ALONE, stacked(3)], ids=str)
def test_features_are_what_a_layer_puts_out(path: Path) -> None:
    probe, checkpoint = Features(layers=("body", "norm"), at=AT, num_examples=7), Checkpoint(at=AT)
    x = torch.as_tensor(CLASSES.train.x[:7])
    for run in runs_of(CLASSES, Normed, path, [probe, checkpoint]):
        values = numbers_in(run.probes[probe.key])
        for moment in range(3):
            module = network_at(run, CLASSES, checkpoint, moment).eval()
            body = module.get_submodule("body")(x)
            np.testing.assert_allclose(values["body"][moment], body.detach(), rtol=1e-12)
            np.testing.assert_allclose(values["norm"][moment], module.get_submodule("norm")(body).detach(), rtol=1e-12)


# --- what it costs, and what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ALONE, stacked(3, "dense")], ids=str)
def test_its_cost_is_a_part_of_the_runs(path: Path) -> None:
    specs = population(CLASSES, mlp(width=5), epochs=1)
    for run in train(specs, data_of(CLASSES, specs[0]), path=path, probes=PROBES):
        spent = sum(result.seconds for result in run.probes.values())
        assert all(result.seconds > 0 for result in run.probes.values())
        assert spent < run.seconds


def test_a_run_that_diverges_is_probed_to_its_end() -> None:
    specs = [spec(NUMBERS, Sometimes, seed=seed, optimiser=SGD(lr=0.01), epochs=3) for seed in range(6)]
    runs = train(specs, data_of(NUMBERS, specs[0]), path=stacked(6), probes=PROBES)
    assert {run.status for run in runs} == {"diverged", "completed"}
    for run in runs:
        for result in run.probes.values():
            assert result.steps.tolist() == [0, 1, 15]
            finite = all(np.isfinite(part).all() for part in numbers_in(result).values())
            assert finite or run.status == "diverged"


def test_too_few_examples_for_a_gram_matrix_are_said() -> None:
    with pytest.raises(ValueError, match="needs at least two batches of 20 training examples, and there are 37"):
        runs_of(CLASSES, mlp(width=5), ALONE, [GradientGram(batch_size=20)])


def test_a_layer_that_is_not_there_or_called_twice_is_said() -> None:
    with pytest.raises(UnknownNameError, match=r"No layer 'bodi'\. Did you mean: body"):
        runs_of(CLASSES, Normed, ALONE, [Features(layers=("bodi",))])
    with pytest.raises(ModelError, match="Expected the layer 'drop' to be called once with a tensor as its result"):
        runs_of(CLASSES, Dropped, ALONE, [Features(layers=("drop",))])
