"""Probes behind the study of minima: they say what the measures say of the same network on the same examples."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from byrote.data import Task
from byrote.measures.curvature import (
    Objective,
    adaptive_sharpness,
    keskar_sharpness,
    loss_surface,
    random_directions,
    right_class,
    sam_sharpness,
    spectral_density,
)
from byrote.models import mlp
from byrote.probing import BLOCK, Examined, HessianSpectra, LossSurfaces, Restored, Sharpnesses, restored
from byrote.records import SGD, Adam, Optimiser, Run
from byrote.training import AbstractProbe, Checkpoint, Given, Path, reason_of, train
from small_networks import Convolutional, Normed
from small_tasks import ALONE, classes, data_of, numbers, population, spec, stacked

CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(2, 6, 6))
END = Given(steps=(16, 20))
"""Of 4 epochs, on a subset and on all examples."""
EXAMINED = Examined(num_batches=2, batch_size=9, seed=3)
SPECTRA = HessianSpectra(
    at=END, examined=EXAMINED, num_trace_products=200, num_density_probes=2, num_density_steps=9, blocks=True
)
SHARP = Sharpnesses(at=END, examined=EXAMINED)
SURFACES = LossSurfaces(at=END, examined=EXAMINED, num_line_points=7, num_plane_points=12, reach=0.5)
KEPT = Checkpoint(at=END)
FELT = HessianSpectra(at=Given(steps=(1,)), examined=EXAMINED)
"""After the first step, where Adam has divided by something."""
CASES: list[tuple[Task, Any, Path]] = [
    (CLASSES, mlp(width=4), stacked(2, "dense")),
    (NUMBERS, mlp(width=4), stacked(2)),
    (CLASSES, Normed, ALONE),
    (IMAGES, Convolutional, stacked(2, "unfolded")),
]
every_case = pytest.mark.parametrize(("task", "model", "path"), CASES, ids=lambda part: getattr(part, "__name__", None))


@cache
def runs_of(task: Task, model: Any, path: Path, optimiser: Optimiser = SGD(lr=0.05)) -> list[Run]:  # noqa: B008
    """Of other seeds, labels and subsets."""
    specs = population(task, model, epochs=4, optimiser=optimiser)[:2]
    return train(specs, data_of(task, specs[0]), path=path, probes=[SPECTRA, SHARP, SURFACES, KEPT])


def ends_of(task: Task, runs: Sequence[Run]) -> list[Restored]:
    kept = [
        (run.spec, {name: torch.as_tensor(v[-1]) for name, v in run.probes[KEPT.key].values.items()}) for run in runs
    ]
    return restored(kept, task=task, examined=EXAMINED)


def said(run: Run, probe: AbstractProbe) -> Mapping[str, np.ndarray]:
    values = run.probes[probe.key].values
    assert not reason_of(values)
    return {name: part[-1] for name, part in values.items()}


def dense_hessian(objective: Objective) -> np.ndarray:
    """Of the mean loss over all that is examined, by nested Jacobians."""
    module = objective.model
    parts = dict(module.named_parameters())
    x, y = (torch.cat([batch[side] for batch in objective.batches]) for side in (0, 1))

    def mean(flat: Tensor) -> Tensor:
        cut = flat.split([part.numel() for part in parts.values()])
        named = {name: piece.reshape(part.shape) for (name, part), piece in zip(parts.items(), cut, strict=True)}
        outputs = functional_call(module, named, (x,))
        if y.is_floating_point():
            return nn.functional.mse_loss(outputs[:, 0], y)
        return nn.functional.cross_entropy(outputs, y)

    return jacrev(jacrev(mean))(objective.flat_weights()).detach().numpy()


@every_case
def test_the_spectrum_is_that_of_the_dense_hessian(task: Task, model: Any, path: Path) -> None:
    """A run that leaves examples out is looked at on those that it is trained on, against its own targets."""
    runs = runs_of(task, model, path)
    for run, end in list(zip(runs, ends_of(task, runs), strict=True))[1:2]:
        values, hessian = said(run, SPECTRA), dense_hessian(end.objective)
        own = np.linalg.eigvalsh(hessian)[::-1]
        with end.objective.opened():
            assert values["loss"] == pytest.approx(end.objective.value(), rel=1e-9)
        np.testing.assert_allclose(values["eigenvalues"][0], own[0], rtol=1e-6)
        assert (np.abs(values["eigenvalues"] - own[:3]) <= values["residuals"] + 1e-9).all()
        assert abs(values["lowest"][0] - own[-1]) <= values["lowest_residuals"][0] + 1e-9
        assert values["trace"] == pytest.approx(np.trace(hessian), rel=1e-6)
        assert values["trace_se"] >= 0
        names = [name for name in values if name.startswith(BLOCK) and not name.endswith("_residual")]
        begin = 0
        sizes: dict[str, int] = {}
        for name, part in end.objective.model.named_parameters():
            sizes[name.rpartition(".")[0]] = sizes.get(name.rpartition(".")[0], 0) + part.numel()
        assert names == [f"{BLOCK}{layer}" for layer in sizes]
        for layer, size in sizes.items():
            block = np.linalg.eigvalsh(hessian[begin : begin + size, begin : begin + size])[-1]
            assert abs(values[f"{BLOCK}{layer}"] - block) <= values[f"{BLOCK}{layer}_residual"] + 1e-8
            begin += size


@every_case
def test_what_is_measured_nearby_is_what_the_measures_say(task: Task, model: Any, path: Path) -> None:
    runs = runs_of(task, model, path)
    for run, end in zip(runs, ends_of(task, runs), strict=True):
        values = said(run, SHARP)
        steps = SHARP.num_steps
        for name, found in (
            ("sam", sam_sharpness(end.objective, radius=SHARP.radius, num_steps=steps)),
            ("keskar", keskar_sharpness(end.objective, epsilon=SHARP.box, num_steps=steps)),
            ("adaptive", adaptive_sharpness(end.objective, radius=SHARP.relative_radius, num_steps=steps)),
        ):
            assert values[name] == pytest.approx(found.value, rel=1e-6, abs=1e-12)
            assert values[f"{name}_one_step"] == pytest.approx(found.one_step, rel=1e-6, abs=1e-12)
            assert bool(values[f"{name}_survives"]) == found.survives_rescaling == (name == "adaptive")
        density = spectral_density(end.objective, num_probes=2, num_steps=9)
        np.testing.assert_allclose(said(run, SPECTRA)["density_nodes"], density.nodes, rtol=1e-5, atol=1e-7)


@every_case
def test_surfaces_are_those_of_the_measures_with_both_splits(task: Task, model: Any, path: Path) -> None:
    runs = runs_of(task, model, path)
    for run, end in list(zip(runs, ends_of(task, runs), strict=True))[:1]:
        values = said(run, SURFACES)
        for axes, kind, most in ((1, "line", 7), (2, "plane", 12)):
            found = loss_surface(
                end.objective,
                directions=random_directions(end.objective, num=axes),
                low=[-0.5] * axes,
                high=[0.5] * axes,
                held_out=end.held_out,
                correct=None if task.regression else right_class,
                num_points=most,
                tolerance=SURFACES.tolerance,
            )
            assert found.held_out is not None
            count = found.count
            np.testing.assert_allclose(values[f"{kind}_coordinates"][:count], found.coordinates)
            np.testing.assert_allclose(values[f"{kind}_train"][:count], found.train.loss, rtol=1e-8)
            np.testing.assert_allclose(values[f"{kind}_heldout"][:count], found.held_out.loss, rtol=1e-8)
            error = found.held_out.loss_spread / found.held_out.count**0.5
            np.testing.assert_allclose(values[f"{kind}_heldout_se"][:count], error, rtol=1e-8)
            assert np.isnan(values[f"{kind}_train"][count:]).all()
            assert (f"{kind}_heldout_accuracy" in values) == (not task.regression)
            assert bool(values[f"{kind}_survives"])


@pytest.mark.parametrize("path", [stacked(3, "dense"), stacked(3), ALONE], ids=str)
def test_adam_feels_the_hessian_in_its_own_units(path: Path) -> None:
    """Full batches without the first moment, so that v̂ is known: after one step it is the squared gradient."""
    task, adam = CLASSES, Adam(lr=1e-3, eps=1e-2)
    kept = Checkpoint(at=Given(steps=(0, 1)))
    specs = [spec(task, mlp(width=4), seed=seed, optimiser=adam, batch_size="all", epochs=1) for seed in range(3)]
    runs = train(specs, data_of(task, specs[0]), path=path, probes=[kept, FELT])
    x, y = torch.as_tensor(task.train.x), torch.as_tensor(task.train.y)
    for run in runs:
        states = [
            {name: torch.as_tensor(part[moment]) for name, part in run.probes[kept.key].values.items()}
            for moment in range(2)
        ]
        [start, end] = restored([(run.spec, state) for state in states], task=task, examined=EXAMINED)
        module = start.objective.model
        slopes = torch.autograd.grad(nn.functional.cross_entropy(module(x), y), list(module.parameters()))
        scale = torch.cat([slope.reshape(-1) for slope in slopes]).abs().numpy() + 1e-2
        wanted = np.linalg.eigvals(dense_hessian(end.objective) / scale[:, None]).real.max()
        found = run.probes[FELT.key].values
        assert abs(found["preconditioned"][-1] - wanted) <= found["preconditioned_residual"][-1] + 1e-6 * wanted


def test_a_run_that_diverges_has_no_numbers_and_takes_nobody_with_it() -> None:
    specs = [
        spec(CLASSES, mlp(width=4), seed=seed, epochs=4, optimiser=SGD(lr=lr)) for seed, lr in ((0, 1e200), (1, 0.05))
    ]
    probes = [SPECTRA, SHARP, SURFACES]
    lost, kept = train(specs, data_of(CLASSES, specs[0]), path=stacked(2, "dense"), probes=probes)
    assert (lost.status, kept.status) == ("diverged", "completed")
    assert not np.isfinite(said(lost, SPECTRA)["eigenvalues"]).any()
    assert np.isnan([said(lost, SHARP)[name] for name in ("sam", "keskar", "adaptive", "sam_residual")]).all()
    assert np.isfinite(said(kept, SPECTRA)["eigenvalues"]).all()
    assert np.isfinite(said(kept, SHARP)["adaptive"])


class Once(torch.autograd.Function):
    """Has no second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return slope * ctx.saved_tensors[0].cos()


class Fused(nn.Module):
    """A network with a kernel of somebody's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(Once.apply(self.first(x)))  # pyright: ignore


def test_without_second_derivatives_first_ones_are_enough_for_sharpness() -> None:
    probes = [HessianSpectra(at=END, examined=EXAMINED, optional=True), SHARP, SURFACES]
    specs = [spec(CLASSES, Fused, epochs=4)]
    [run] = train(specs, data_of(CLASSES, specs[0]), path=ALONE, probes=probes)
    assert "Curvature needs second derivatives" in reason_of(run.probes[probes[0].key].values)
    assert said(run, SHARP)["adaptive"] > 0
    assert np.isfinite(said(run, SURFACES)["line_train"]).any()


def test_a_moment_is_left_as_it_was() -> None:
    """Training goes on bit by bit as without."""
    specs = population(CLASSES, Normed, epochs=4)[:2]
    early = Given(steps=(3, 20))
    probes = [
        HessianSpectra(at=early, examined=EXAMINED),
        Sharpnesses(at=early),
        LossSurfaces(at=early, num_plane_points=0),
    ]
    data = data_of(CLASSES, specs[0])
    with_them = train(specs, data, path=stacked(2), probes=probes, keep_weights=True)
    without = train(specs, data, path=stacked(2), keep_weights=True)
    for one, other in zip(with_them, without, strict=True):
        assert one.weights is not None
        assert other.weights is not None
        for name, part in other.weights.items():
            np.testing.assert_array_equal(one.weights[name], part)
