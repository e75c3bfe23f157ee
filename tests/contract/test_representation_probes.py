"""Probes behind the study of representation: they say what the measures say of the network at that step, whatever stack
it trains in, and layers are those that a person would name.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.baselines import fit_baseline
from byrote.core import derive
from byrote.data import Task
from byrote.measures import effective_rank, empirical_ntk, linear_cka, neural_collapse, ridge_left_out
from byrote.models import mlp
from byrote.probing import (
    INPUTS,
    OUTPUTS,
    Examined,
    FeatureWorth,
    KernelSpeed,
    Representations,
    TangentKernels,
    drawn_places,
    evenly,
    hidden_layers,
    restored,
)
from byrote.records import SGD, Forest, Run
from byrote.training import AbstractProbe, Checkpoint, Given, reason_of, train
from small_tasks import ALONE, classes, data_of, numbers, population, stacked

CLASSES, NUMBERS = classes(num_train=60), numbers(num_train=60)
MOMENTS = Given(steps=(0, 7))
FEW = Examined(num_batches=1, batch_size=9)
EVERYTHING = Examined(num_batches=1, batch_size=1000)
CHECKPOINT = Checkpoint(at=MOMENTS)
LAYERS = Representations(at=MOMENTS, heldout=FEW)
TANGENT = TangentKernels(at=MOMENTS, examined=FEW)
WORTH = FeatureWorth(at=MOMENTS)
RAW = FeatureWorth(at=MOMENTS, inputs=True)
SPEED = KernelSpeed(at=MOMENTS)
each_task = pytest.mark.parametrize("task", [CLASSES, NUMBERS], ids=["classes", "numbers"])


def runs_of(task: Task, probes: Sequence[AbstractProbe], *, path: Any = ALONE, **changed: Any) -> list[Run]:
    changed = {"epochs": 2, "optimiser": SGD(lr=0.05)} | changed
    specs = population(task, changed.pop("model", mlp(width=6)), **changed)[:2]
    return train(specs, data_of(task, specs[0]), path=path, probes=[*probes, CHECKPOINT])


def network_of(run: Run, task: Task, moment: int) -> nn.Module:
    """With the weights that it had."""
    values = run.probes[CHECKPOINT.key].values
    state = {name: torch.as_tensor(np.asarray(part)[moment]) for name, part in values.items()}
    (found,) = restored([(run.spec, state)], task=task, examined=FEW)
    return found.objective.model


def heldout(task: Task) -> tuple[Tensor, np.ndarray]:
    places = drawn_places(len(task.test), examined=FEW, purpose="held out").flatten()
    return torch.from_numpy(task.test.x[places]), task.test.y[places]


def said(run: Run, probe: AbstractProbe, name: str, moment: int) -> np.ndarray:
    return np.asarray(run.probes[probe.key].values[name])[moment]


@each_task
@pytest.mark.parametrize("path", [ALONE, stacked(2, "dense")], ids=["alone", "stacked"])
@pytest.mark.parametrize("moment", [0, 1])
def test_layers_are_what_the_measures_say_of_them(task: Task, path: Any, moment: int) -> None:
    x, y = heldout(task)
    for run in runs_of(task, [LAYERS], path=path):
        model: Any = network_of(run, task, moment)
        with torch.no_grad():
            features = {"2": model[:3](x), OUTPUTS: model(x)}
        for name, wide in features.items():
            rank = effective_rank(wide)
            root = torch.from_numpy(said(run, LAYERS, f"root:{name}", moment))
            assert said(run, LAYERS, f"rank:{name}", moment) == pytest.approx(rank.entropy, rel=1e-6)
            assert said(run, LAYERS, f"participation:{name}", moment) == pytest.approx(rank.participation, rel=1e-6)
            assert linear_cka(root, wide).value == pytest.approx(1, abs=1e-6)
            aligned = linear_cka(wide, _one_hot(task, y)).value
            assert said(run, LAYERS, f"alignment:{name}", moment) == pytest.approx(aligned, rel=1e-6)
            assert said(run, LAYERS, f"probe:{name}", moment) == pytest.approx(_probed(task, wide, y), rel=1e-6)


def _one_hot(task: Task, y: np.ndarray) -> Tensor:
    return torch.from_numpy(np.eye(task.num_outputs)[y] if not task.regression else y[:, None])


def _probed(task: Task, features: Tensor, y: np.ndarray) -> np.ndarray:
    x = features.numpy()
    ridge = 0.01 * float(np.square(x - x.mean(0)).sum(1).mean())
    if task.regression:
        left_out = ridge_left_out(x, y[:, None], ridge=ridge)[:, 0]
        return -np.square(left_out - y) / y.var()
    left_out = ridge_left_out(x, np.eye(task.num_outputs)[y], ridge=ridge)
    return (left_out.argmax(1) == y).astype(float)


def test_collapse_is_of_what_the_network_is_trained_on() -> None:
    model = mlp(width=6)
    for run in runs_of(CLASSES, [LAYERS], model=model):
        network: Any = network_of(run, CLASSES, 1)
        numbers_said = said(run, LAYERS, "within:2", 1), said(run, LAYERS, "unaligned:2", 1)
        (found,) = restored([(run.spec, network.state_dict())], task=CLASSES, examined=LAYERS.trained)
        x, y = (torch.cat(part) for part in zip(*found.objective.batches, strict=True))
        with torch.no_grad():
            wanted = neural_collapse(network[:3](x), y, weights=network[-1].weight, outputs=network(x))
        assert numbers_said == (pytest.approx(wanted.within, rel=1e-6), pytest.approx(wanted.unaligned, rel=1e-6))
        assert said(run, LAYERS, "disagreement:2", 1) == wanted.disagreement
        assert np.isnan(said(run, LAYERS, f"unaligned:{OUTPUTS}", 1))


def test_numbers_have_no_collapse() -> None:
    run = runs_of(NUMBERS, [LAYERS])[0]
    assert not any(name.startswith("within") for name in run.probes[LAYERS.key].values)


@each_task
@pytest.mark.parametrize("path", [ALONE, stacked(2, "dense")], ids=["alone", "stacked"])
def test_tangent_kernels_are_those_of_each_network_at_that_step(task: Task, path: Any) -> None:
    x, _ = heldout(task)
    for run in runs_of(task, [TANGENT], path=path):
        for moment in (0, 1):
            wanted = empirical_ntk(network_of(run, task, moment), x=x).kernel
            assert said(run, TANGENT, "kernel", moment) == pytest.approx(wanted, rel=1e-6)


@each_task
def test_machines_learn_from_what_the_network_is_given_or_makes_of_it(task: Task) -> None:
    for run in runs_of(task, [WORTH, RAW], path=stacked(2, "dense")):
        state = network_of(run, task, 1).state_dict()
        (found,) = restored([(run.spec, state)], task=task, examined=EVERYTHING)
        x, y = (torch.cat(part) for part in zip(*found.objective.batches, strict=True))
        model: Any = found.objective.model
        with torch.no_grad():
            features = {"2": model[:3](x), INPUTS: x}
            asked = {"2": model[:3](torch.from_numpy(task.test.x)), INPUTS: torch.from_numpy(task.test.x)}
        inside = {x_row.tobytes(): place for place, x_row in enumerate(task.train.x)}
        order = np.argsort([inside[row.tobytes()] for row in x.numpy()])
        for layer, probe in (("2", WORTH), (INPUTS, RAW)):
            wanted = fit_baseline(
                Forest(),
                x=features[layer].numpy()[order],
                y=y.numpy()[order],
                queries=asked[layer].numpy(),
                num_classes=0 if task.regression else task.num_outputs,
                seed=derive(run.spec.seed, "machines"),
            )
            assert said(run, probe, f"forest:{layer}", 1) == pytest.approx(wanted.outputs, rel=1e-5, abs=1e-6)


@pytest.mark.slow  # All machines, twice.
@each_task
def test_a_run_says_the_same_alone_and_in_a_stack(task: Task) -> None:
    probes = [LAYERS, TANGENT, WORTH, RAW, SPEED]
    together, alone = runs_of(task, probes, path=stacked(2, "dense")), runs_of(task, probes)
    for one, other in zip(together, alone, strict=True):
        for probe in probes:
            values = other.probes[probe.key].values
            for name in values:
                if not name.startswith(("root", "forest:2")):
                    np.testing.assert_allclose(one.probes[probe.key].values[name], values[name], rtol=1e-6, atol=1e-6)


@each_task
def test_kernels_and_forests_fit_random_targets_the_laplacian_sooner(task: Task) -> None:
    for run in runs_of(task, [SPEED]):
        laplacian, gaussian = (float(said(run, SPEED, name, 0)) for name in ("laplacian", "gaussian"))
        assert 0 < laplacian < gaussian
        assert float(said(run, SPEED, "laplacian_fit", 0)) > 0.99
        assert 0.8 < float(said(run, SPEED, "forest_fit", 0)) <= 1


class Functional(nn.Module):
    """Its activations are no modules, and one layer is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        return self.last(self.again(self.again(hidden)).relu())


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (lambda: nn.Linear(5, 3), ()),
        (lambda: nn.Sequential(nn.Linear(5, 3)), ()),
        (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3)), ("1",)),
        (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)), ("0", "2")),
        (Functional, ("first",)),
        (lambda: nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1)), ()),
    ],
    ids=["a layer", "a layer inside", "an activation", "a norm", "functional", "an activation at the end"],
)
def test_layers_are_those_that_stand_for_hidden_features(
    build: Callable[[], nn.Module], layers: tuple[str, ...]
) -> None:
    x = torch.from_numpy(CLASSES.train.x[:8]).float()
    assert hidden_layers(build().eval(), x) == layers


def test_of_many_layers_some_are_taken_the_last_among_them() -> None:
    deep = nn.Sequential(*(nn.Linear(5, 5) for _ in range(20)))
    found = hidden_layers(deep.eval(), torch.randn(3, 5, generator=torch.Generator().manual_seed(0)))
    assert (len(found), found[0], found[-1]) == (8, "0", "18")
    assert evenly("abc", number=1) == ("c",)


def test_a_network_without_hidden_layers_has_its_outputs_alone() -> None:
    run = runs_of(CLASSES, [LAYERS, WORTH], model=lambda: nn.Linear(5, 3))[0]
    assert {name.split(":")[1] for name in run.probes[LAYERS.key].values} == {OUTPUTS}
    assert set(run.probes[WORTH.key].values) == {"layers"}
    assert not reason_of(run.probes[WORTH.key].values)


def test_of_a_network_that_diverged_all_numbers_are_unknown() -> None:
    probes = [LAYERS, TANGENT, WORTH]
    run = runs_of(CLASSES, probes, optimiser=SGD(lr=1e300))[0]
    for probe in probes:
        values = run.probes[probe.key].values
        assert all(len(own) == 2 for own in values.values())
        assert all(np.isfinite(own[0]).all() for name, own in values.items() if not name.startswith("unaligned"))
    assert np.isnan(said(run, TANGENT, "kernel", 1)).all()
    assert np.isnan(said(run, WORTH, "forest:2", 1)).all()
    assert np.isnan(said(run, LAYERS, "probe:2", 1)).all()
