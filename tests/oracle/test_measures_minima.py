"""Surfaces, paths between networks, matched units and sharpness against what is known on paper."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.curvature import (
    Directions,
    Objective,
    adaptive_sharpness,
    dinh_rescaled,
    filter_normalised,
    interpolate,
    keskar_sharpness,
    loss_surface,
    match_weights,
    permutable_units,
    random_directions,
    recompute_statistics,
    right_class,
    sam_sharpness,
    top_eigenvalues,
    trajectory_plane,
)
from byrote.measures.curvature.grids import adaptive_grid
from byrote.measures.curvature.interpolation import barrier_of, critical_value
from byrote.measures.curvature.lanczos import random_direction
from byrote.measures.curvature.matching import reordered
from curved import classes, cross_entropy, drawn, least_squares, normal, quadratic


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in model.parameters()])


def axes(*rows: list[float]) -> Directions:
    return Directions(vectors=torch.tensor(rows, dtype=torch.float64), survives_rescaling=False)


# Grids


def test_a_function_that_is_linear_needs_no_points_but_the_even_ones():
    grid = adaptive_grid(
        lambda at: np.array([2 * at[0] - at[1]]), low=[0, 0], high=[1, 2], num_points=200, tolerance=0.0
    )
    assert grid.residuals == pytest.approx(0.0, abs=1e-12)
    assert len(grid.points) <= 100
    assert np.allclose(grid.values[:, 0], 2 * grid.points[:, 0] - grid.points[:, 1])


@pytest.mark.parametrize("num_axes", [1, 2])
def test_points_gather_where_a_function_bends_and_never_exceed_their_number(num_axes: int):
    calls: list[tuple[float, ...]] = []

    def narrow(at: tuple[float, ...]) -> np.ndarray:
        calls.append(at)
        return np.array([math.exp(-200 * sum((part - 0.3) ** 2 for part in at))])

    num_points = 40**num_axes // num_axes
    grid = adaptive_grid(narrow, low=[-1] * num_axes, high=[1] * num_axes, num_points=num_points, tolerance=1e-9)
    assert len(calls) == len(set(calls)) == len(grid.points) <= num_points
    away = np.linalg.norm(grid.points - 0.3, axis=1)
    near, share_of_box = (away < 0.25).mean(), (0.25 if num_axes == 1 else math.pi * 0.25**2 / 4)
    assert near > 2 * share_of_box


def test_the_residual_of_a_parabola_is_that_of_linear_interpolation():
    grid = adaptive_grid(lambda at: np.array([at[0] ** 2]), low=[-1], high=[1], num_points=33, tolerance=0.0)
    widths = np.diff(grid.points[:, 0])
    assert grid.residuals[0] == pytest.approx((widths.max() / 2) ** 2)


def test_refinement_stops_at_the_tolerance():
    def linear_within(tolerance: float) -> int:
        grid = adaptive_grid(lambda at: np.array([at[0] ** 2]), low=[0], high=[1], num_points=1000, tolerance=tolerance)
        assert grid.residuals[0] <= tolerance
        return len(grid.points)

    assert linear_within(3e-7) > linear_within(2e-6)


def test_where_a_function_is_not_finite_no_points_are_wasted():
    grid = adaptive_grid(
        lambda at: np.array([math.inf if at[0] > 0.5 else at[0] ** 2]), low=[0], high=[1], num_points=31, tolerance=0.0
    )
    assert len(grid.points) == 31
    finite = grid.points[np.isfinite(grid.values[:, 0]), 0]
    assert finite.max() <= 0.5
    assert len(finite) > 16


@pytest.mark.parametrize(
    ("low", "high", "num"), [([0], [0], 9), ([0], [math.inf], 9), ([0, 0], [1, 1], 8), ([], [], 9)]
)
def test_a_box_that_is_none_is_refused(low: list[float], high: list[float], num: int):
    with pytest.raises(ValueError, match="Expected"):
        adaptive_grid(lambda at: np.zeros(1), low=low, high=high, num_points=num, tolerance=0.1)


# Directions


class Everything(nn.Module):
    """Filters of each kind, normalisation, a shared weight, a weight of zeros and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
        self.back = nn.ConvTranspose2d(3, 4, 2)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.zero, self.frozen = nn.Linear(4, 2), nn.Linear(2, 2).requires_grad_(False)
        nn.init.zeros_(self.zero.weight)
        self.layer_norm = nn.LayerNorm([2, 4])

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.back(self.norm(self.conv(x))).mean((2, 3))
        return self.frozen(self.zero(self.two(self.one(pooled))))


def test_each_filter_gets_the_length_of_the_weights_and_nothing_else_moves():
    model = Everything().double()
    objective = Objective(model, loss=lambda model, x: model(x)[:, 0], batches=[torch.ones(1, 2, 5, 5).double()])
    found = random_directions(objective, num=1).vectors[0]
    parts = dict(zip(objective.weights.names, objective.weights.parts(found), strict=True))
    assert "two.weight" not in parts
    assert "frozen.weight" not in parts

    def lengths(part: Tensor, axis: int) -> Tensor:
        return part.movedim(axis, 0).flatten(1).norm(dim=1)

    for name, axis in {"conv.weight": 0, "back.weight": 1, "one.weight": 0}.items():
        torch.testing.assert_close(lengths(parts.pop(name), axis), lengths(model.get_parameter(name).detach(), axis))
    assert set(parts) == {
        *("conv.bias", "norm.weight", "norm.bias", "back.bias", "one.bias", "two.bias"),
        *("zero.weight", "zero.bias", "layer_norm.weight", "layer_norm.bias"),
    }
    assert not any(part.any() for part in parts.values())


def test_a_direction_keeps_its_angles_within_a_filter():
    objective = least_squares().objective()
    direction = normal(6, generator=generator(1))
    found = filter_normalised(objective, direction)
    assert float(found @ direction / found.norm() / direction.norm()) == pytest.approx(1.0)


def test_directions_are_refused_where_nothing_moves_and_where_they_do_not_fit():
    objective = classes().objective(parameters=["0.bias"])
    with pytest.raises(ValueError, match="Nothing moves"):
        random_directions(objective)
    with pytest.raises(ValueError, match="Expected a vector of 5 numbers"):
        filter_normalised(objective, torch.ones(6))
    with pytest.raises(ValueError, match="at least one direction"):
        random_directions(objective, num=0)


def test_the_plane_of_a_trajectory_is_that_of_its_singular_vectors():
    moments = normal(7, 30, generator=generator()) * torch.linspace(3, 0.1, 30)
    plane = trajectory_plane(moments, num=3)
    centred = moments - moments.mean(0)
    _, sizes, rows = torch.linalg.svd(centred, full_matrices=False)
    vectors = plane.directions.vectors
    torch.testing.assert_close((vectors @ rows[:3].T).abs(), torch.eye(3, dtype=torch.float64))
    assert plane.shares == pytest.approx((sizes.square() / sizes.square().sum())[:3].numpy())
    assert plane.coordinates == pytest.approx(((moments - moments[-1]) @ vectors.T).numpy())
    there = moments - moments[-1] - torch.tensor(plane.coordinates) @ vectors
    assert plane.off_plane == pytest.approx(there.norm(dim=1).numpy())
    (low, high), columns = plane.box(margin=0.5), plane.coordinates
    assert np.allclose(np.array(high) - low, 2 * np.ptp(columns, axis=0))


def test_a_random_walk_explains_as_much_as_said():
    walks = [normal(20, 4000, generator=generator(seed)).cumsum(0) for seed in range(5)]
    planes = [trajectory_plane(walk) for walk in walks]
    assert np.mean([plane.shares for plane in planes], axis=0) == pytest.approx(planes[0].by_chance, rel=0.03)


def test_a_straight_trajectory_spans_no_plane():
    with pytest.raises(ValueError, match="span 2 directions"):
        trajectory_plane(torch.arange(5.0)[:, None] * torch.ones(8))
    with pytest.raises(ValueError, match="between 1 direction and 4"):
        trajectory_plane(torch.ones(5, 8), num=5)


# Surfaces


def test_a_quadratic_surface_is_what_the_eigenvalues_say():
    diagonal = torch.tensor([4.0, 2.0, 1.0]).double()
    found = loss_surface(quadratic(diagonal), directions=axes([1, 0, 0], [0, 1, 0]), num_points=60)
    first, second = found.coordinates.T
    assert found.train.loss == pytest.approx((4 * (1 + first) ** 2 + 2 * (1 + second) ** 2 + 1) / 2)
    assert found.count <= 60
    raster = found.on_grid(found.train.loss, num=21)
    truth = (4 * (1 + raster.x) ** 2 + 2 * (1 + raster.y[:, None]) ** 2 + 1) / 2
    assert np.abs(raster.values - truth).max() <= 3 * found.train.residual
    assert np.isfinite(raster.values).all()


def test_both_splits_and_accuracy_are_read_in_one_pass_on_uneven_batches():
    problem, other = classes(sizes=(7, 3, 1)), classes(sizes=(5, 2), seed=3)
    calls: list[int] = []
    problem.model.register_forward_hook(lambda module, inputs, outputs: calls.append(len(outputs)))
    objective = problem.objective()
    done: list[tuple[int, int]] = []
    found = loss_surface(
        objective,
        directions=random_directions(objective, num=1),
        held_out=other.batches,
        correct=right_class,
        num_points=7,
        progress=lambda count, most: done.append((count, most)),
    )
    assert done == [(count + 1, 7) for count in range(found.count)]
    assert sum(calls) == 11 + found.count * (11 + 7)
    assert found.cost == pytest.approx((1 + found.count * (1 + 7 / 11)) / 3)
    assert found.held_out is not None
    here = np.flatnonzero(found.coordinates[:, 0] == 0)
    for split, batches in ((found.train, problem.batches), (found.held_out, other.batches)):
        x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
        outputs = problem.model(x)
        losses = nn.functional.cross_entropy(outputs, y, reduction="none").detach()
        assert split.accuracy is not None
        assert split.loss[here] == pytest.approx(float(losses.mean()))
        assert split.loss_spread[here] == pytest.approx(float(losses.std()))
        assert split.accuracy[here] == pytest.approx(float((outputs.argmax(1) == y).double().mean()))
        assert (split.count, split.loss_se.any()) == (len(y), False)


def test_standard_errors_of_a_part_of_the_batches_are_as_large_as_its_errors():
    # In batches that are sorted by loss, and of which not all are of one size.
    values = torch.sort(normal(150, generator=generator())).values[:, None]
    batches = [*values.split(4), *values[::5].split(2)]
    objective = Objective(double_well(1.0), loss=lambda model, x: model(x)[:, 0], batches=batches)
    truth, scores = float(torch.cat(batches).mean()), []
    for seed in range(200):
        found = loss_surface(objective, directions=axes([1.0]), num_points=3, share=0.5, seed=seed).train
        scores.append((found.loss[1] - truth) / found.loss_se[1])
        assert found.count < 180
        assert found.loss_spread[1] > 0
    assert 0.9 < np.std(scores) < 1.15
    assert abs(np.mean(scores)) < 4 / 200**0.5
    alone = loss_surface(objective, directions=axes([1.0]), num_points=3, share=0.001).train
    assert np.isnan(alone.loss_se).all()


def test_a_trajectory_lies_on_the_surface_of_its_plane():
    objective = classes().objective()
    here = objective.flat_weights()
    moments = here + normal(5, len(here), generator=generator()).cumsum(0).flip(0) * 0.1
    plane = trajectory_plane(moments)
    low, high = plane.box()
    found = loss_surface(objective, directions=plane.directions, low=low, high=high, centre=plane.centre, num_points=25)
    assert not found.survives_rescaling
    at = found.coordinates[13]
    step = torch.tensor(at) @ plane.directions.vectors
    with objective.at(plane.centre + step):
        assert found.train.loss[13] == pytest.approx(objective.value())


@pytest.mark.parametrize("change", [{"low": [0.0]}, {"num_points": 8}, {"share": 0.0}, {"held_out": []}])
def test_arguments_of_a_surface_that_do_not_fit_are_refused(change: dict):
    objective = classes().objective()
    with pytest.raises(ValueError, match="Expected"):
        loss_surface(objective, directions=random_directions(objective), **change)
    with pytest.raises(ValueError, match="1 or 2 directions"):
        loss_surface(objective, directions=axes([1.0, 2.0]))


def test_a_loss_that_calls_the_model_twice_has_no_answers_to_check():
    def twice(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(model, batch) + model(batch[0])[:, 0] * 0

    objective = Objective(classes().model, loss=twice, batches=classes().batches)
    with pytest.raises(ModelError, match="got 2"):
        loss_surface(objective, directions=random_directions(objective), correct=right_class)


# Paths


def double_well(weight: float) -> nn.Module:
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, weight)
    return model


def test_the_barriers_of_a_tilted_double_well():
    def well(model: nn.Module, x: Tensor) -> Tensor:
        w = model(x)[:, 0]
        return (w**2 - 1) ** 2 + 0.5 * (w + 1)

    objective = Objective(double_well(-1.0), loss=well, batches=[torch.ones(3, 1).double()])
    loss = interpolate(objective, end=double_well(1.0), num_points=201).train.loss
    assert (loss.values[0], loss.values[-1]) == (0.0, 1.0)
    assert loss.barrier.value == pytest.approx(1.0)
    assert loss.barrier.alpha == pytest.approx(0.5)
    w = np.linspace(-1, 1, 100_001)
    assert loss.barrier_to_mean.value == pytest.approx(((w**2 - 1) ** 2 + 0.5 * (w + 1)).max() - 0.5, abs=1e-4)
    assert loss.barrier.low == loss.barrier.high == pytest.approx(1.0)


def test_a_convex_loss_has_no_barrier():
    problem, other = least_squares(), least_squares(seed=5)
    found = interpolate(problem.objective(), end=other.model)
    assert found.value == 0.0
    assert found.train.verdict is None
    assert found.train.loss.barrier.alpha in (0.0, 1.0)
    with problem.objective().at(other.flat()) as there:
        assert found.train.loss.values[-1] == pytest.approx(there.value())


def test_frozen_parameters_and_buffers_are_on_the_way_too():
    def build(seed: int) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
        model[0].requires_grad_(False)
        drawn(model, generator(seed)).get_buffer("1.running_mean").copy_(normal(5, generator=generator(seed + 10)))
        return model

    batches = classes().batches
    one, two = build(0), build(1)
    before = {name: part.clone() for name, part in one.state_dict().items()}
    found = interpolate(Objective(one, loss=cross_entropy, batches=batches), end=two, num_points=3)
    ends = [Objective(model, loss=cross_entropy, batches=batches) for model in (one, two)]
    for place, objective in zip((0, -1), ends, strict=True):
        with objective.opened():
            assert found.train.loss.values[place] == pytest.approx(objective.value())
    assert all(torch.equal(before[name], part) for name, part in one.state_dict().items())
    assert one.training


def test_a_path_between_a_network_and_its_shuffled_copy_is_flat_once_units_are_matched():
    model = network("norms")
    x = normal(60, 3, 8, 8, generator=generator(2))
    batches = [(x, model.eval()(x).argmax(1).detach())]
    objective = Objective(model, loss=cross_entropy, batches=batches)
    other = copy.deepcopy(model)
    other.load_state_dict(shuffled(model))
    apart = interpolate(objective, end=other, correct=right_class, num_points=5)
    assert apart.train.error is not None
    assert apart.train.verdict == "unstable"
    together = interpolate(objective, end=other, correct=right_class, num_points=5, matching=match_weights)
    assert together.train.error is not None
    assert together.train.error.barrier.value == 0.0
    assert together.train.verdict == "undecided"
    assert together.matching is not None
    assert together.matching.value == 0.0
    many = Objective(model, loss=cross_entropy, batches=batches * 20)
    sure = interpolate(many, end=other, correct=right_class, num_points=3, matching=match_weights)
    assert sure.train.verdict == "stable"


def test_statistics_are_computed_anew_on_the_way():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 3)).double()
    batches = [(normal(size, 2, generator=generator(size)), torch.zeros(size, dtype=torch.int64)) for size in (9, 6)]
    objective = Objective(model, loss=cross_entropy, batches=batches)
    before = copy.deepcopy(model.state_dict())
    found = interpolate(objective, end=copy.deepcopy(model), statistics=batches, num_points=3)
    assert found.recomputed
    recompute_statistics(model, loss=cross_entropy, batches=batches)
    hidden = model[0](torch.cat([x for x, _ in batches]))
    torch.testing.assert_close(model[1].running_mean, hidden.mean(0))
    model.eval()
    with torch.no_grad():
        truth = torch.cat([cross_entropy(model, batch) for batch in batches]).mean()
    assert found.train.loss.values == pytest.approx(np.full(3, float(truth)))
    assert found.cost == pytest.approx((1 + 3 * 2) / 3)
    model.load_state_dict(before)
    assert not np.allclose(interpolate(objective, end=model, num_points=3).train.loss.values, float(truth))


def test_networks_of_other_shapes_have_no_path():
    objective = classes().objective()
    with pytest.raises(ModelError, match=r"no '2\.bias'"):
        interpolate(objective, end=nn.Sequential(nn.Linear(4, 5)))
    with pytest.raises(ModelError, match="shape"):
        interpolate(objective, end=classes(num_inputs=3).model)
    with pytest.raises(ValueError, match="at least 3 points"):
        interpolate(objective, end=classes().model, num_points=2)


def test_the_band_of_independent_points_is_that_of_their_number():
    for count in (1, 5, 20):
        exact = -math.sqrt(2) * float(torch.erfinv(torch.tensor(0.95 ** (1 / count)).double()))
        assert critical_value(np.eye(count)) == pytest.approx(-exact, abs=0.05)
    same = np.ones((6, 6))
    assert critical_value(same) == pytest.approx(1.96, abs=0.001)
    with_ends = np.zeros((4, 4))
    with_ends[1:3, 1:3] = np.eye(2)
    assert critical_value(with_ends) == pytest.approx(critical_value(np.eye(2)), abs=0.05)


def test_intervals_of_a_barrier_hold_as_often_as_they_say():
    alphas = np.linspace(0, 1, 9)
    shape = alphas * (1 - alphas)
    drawn_by = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        noise = np.outer(np.sin(np.pi * alphas), drawn_by.standard_normal(150))
        own = drawn_by.standard_normal((9, 150)) * (shape[:, None] > 0)
        found = barrier_of(0.4 * shape[:, None] + noise + own, alphas)
        held += found.low <= 0.1 <= found.high
    assert held >= 0.95 * 400 - 3 * (400 * 0.95 * 0.05) ** 0.5


def test_a_loss_that_is_not_finite_on_the_way_is_an_infinite_barrier():
    def walled(model: nn.Module, x: Tensor) -> Tensor:
        w = model(x)[:, 0]
        return torch.where(w.abs() < 0.5, torch.inf, w * 0)

    found = interpolate(
        Objective(double_well(-1.0), loss=walled, batches=[torch.ones(4, 1).double()]), end=double_well(1.0)
    )
    assert found.value == math.inf
    assert found.train.loss.barrier.high == math.inf


# Matching


class Functional(nn.Module):
    """With functions between layers, as users write them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.second, self.head = nn.Conv2d(4, 6, 2), nn.Linear(6 * 4, 9)
        self.last = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        h = nn.functional.relu(self.second(h))
        h = h.view(h.size(0), -1)
        h = nn.functional.dropout(self.head(h).tanh(), training=self.training)
        return self.last(h)


class Averaged(nn.Module):
    """Means over space."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x).relu()).relu().mean(dim=(2, 3)))


NETWORKS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, 6), nn.GELU(), nn.Dropout(), nn.Linear(6, 5)
    ),
    "norms": lambda: nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.AvgPool2d(2)),
        nn.Flatten(),
        nn.BatchNorm1d(8),
        nn.Linear(8, 6),
        nn.LayerNorm(6),
        nn.SiLU(),
        nn.Linear(6, 5),
    ),
    "groups": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, 5)
    ),
    "functions": Functional,
    "averaged": Averaged,
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def network(name: str, seed: int = 0) -> nn.Module:
    """With weights, and statistics, that tell all units apart."""
    model = drawn(NETWORKS[name](), generator(seed)).eval()
    for buffer_name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            values = normal(*buffer.shape, generator=generator(seed + 1))
            buffer.copy_(values.exp() if buffer_name.endswith("var") else values)
    return model


def shuffled(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """The same function, its units in another order."""
    layers, drawn_by = permutable_units(model), np.random.default_rng(seed)
    orders = {}
    for units in layers:
        groups = [
            units.group * group + drawn_by.permutation(units.group)
            for group in drawn_by.permutation(units.width // units.group)
        ]
        orders[units.layer] = np.concatenate(groups)
    return reordered(model.state_dict(), layers, orders)


@every_network
def test_shuffled_units_compute_the_same_function_and_are_found_again_exactly(name: str):
    model, x = network(name), normal(9, 3, 8, 8, generator=generator(4))
    other = copy.deepcopy(model)
    other.load_state_dict(shuffled(model))
    assert any(not torch.equal(part, other.state_dict()[key]) for key, part in model.state_dict().items())
    torch.testing.assert_close(other(x), model(x))
    found = match_weights(model, other)
    assert found.value == 0.0 < found.before
    for key, part in model.state_dict().items():
        assert torch.equal(found.state[key], part), key


@every_network
def test_a_matched_network_computes_what_it_computed_before_and_is_nearer(name: str):
    model, other = network(name), network(name, seed=7)
    found = match_weights(model, other)
    assert found.value < found.before
    moved = copy.deepcopy(other)
    moved.load_state_dict(found.state)
    x = normal(9, 3, 8, 8, generator=generator(4))
    torch.testing.assert_close(moved(x), other(x))
    trained = dict(model.named_parameters())
    left = sum(float((part - found.state[key]).detach().square().sum()) for key, part in trained.items())
    ends = {key for units in permutable_units(model) for key, _, _ in units.places}
    outside = sum(
        float((trained[key] - other.state_dict()[key]).detach().square().sum()) for key in trained.keys() - ends
    )
    assert found.value == pytest.approx((left - outside) ** 0.5)


def test_layers_of_two_units_are_matched_as_trying_all_orders_does():
    model, other = (drawn(nn.Sequential(*_deep()), generator(seed)) for seed in (0, 1))
    best = min(
        match_distance(model, reordered(other.state_dict(), permutable_units(other), {"0": a, "2": b}))
        for a in np.array([[0, 1], [1, 0]])
        for b in np.array([[0, 1], [1, 0]])
    )
    assert match_weights(model, other).value == pytest.approx(best)


def _deep() -> list[nn.Module]:
    pairs = pairwise([3, 2, 2, 3])
    layers: list[nn.Module] = [layer for fan in pairs for layer in (nn.Linear(*fan), nn.ReLU())]
    return layers[:-1]


def match_distance(model: nn.Module, state: dict[str, Tensor]) -> float:
    moving = {key for units in permutable_units(model) for key, _, _ in units.places}
    return (
        sum(
            float((part - state[key]).detach().square().sum())
            for key, part in model.named_parameters()
            if key in moving
        )
        ** 0.5
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x).relu()
        return self.head(h + self.two(h))


class ResidualConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = (nn.Conv2d(size, 4, 3, padding=1) for size in (1, 4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head((x + self.two(self.one(x).relu())).relu().mean((2, 3)))


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if x.sum() > 0 else x


def shared() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def twice() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Residual, "goes 2 ways"),
        (ResidualConvolutions, "goes 2 ways"),
        (Choosing, "cannot be traced"),
        (shared, "shares its weights"),
        (twice, "called twice"),
        (lambda: nn.Sequential(nn.Linear(4, 4)), "at least one hidden layer"),
        (lambda: nn.Sequential(nn.Flatten()), "layers that have weights"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.ReLU(), nn.Conv2d(4, 4, 1)), "without groups"),
        (lambda: nn.Sequential(nn.Conv1d(4, 4, 1), nn.Linear(4, 4)), "flatten"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 4)), "all units alike"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4), nn.Linear(4, 4)), "all units alike|joins"),
        (lambda: nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), nn.Flatten(), nn.Linear(6, 4)), "all units"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Flatten(), nn.Linear(8, 4)), "fill, got 8"),
        (
            lambda: nn.Sequential(nn.Conv1d(4, 4, 1), nn.GroupNorm(2, 4), nn.GroupNorm(4, 4), nn.Conv1d(4, 4, 1)),
            "one Gr",
        ),
        (
            lambda: nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4)),
            "parametrisation",
        ),
    ],
)
def test_networks_that_are_not_understood_are_refused_with_the_reason(build, reason: str):
    with pytest.raises(ModelError, match=reason):
        permutable_units(build())


# Sharpness


@pytest.mark.parametrize("top", [4.0, 1.05])
def test_at_the_minimum_of_a_quadratic_the_ball_reaches_along_the_largest_eigenvalue(top: float):
    diagonal = torch.tensor([top, 1.0, 0.5]).double()
    objective = quadratic(diagonal)
    with objective.at(torch.zeros(3)):
        found = sam_sharpness(objective, radius=0.3, num_steps=200)
    assert found.value == pytest.approx(top * 0.3**2 / 2)
    assert found.residual == pytest.approx(0.0, abs=1e-8)
    assert found.start == 0.0


def test_away_from_it_the_first_step_is_that_of_sam_and_the_last_solves_the_trust_region():
    diagonal, radius = torch.tensor([5.0, 2.0, 1.0]).double(), 0.4
    found = sam_sharpness(quadratic(diagonal), radius=radius, num_steps=300)
    w, d = np.ones(3), diagonal.numpy()
    step = radius * d / np.linalg.norm(d)
    assert found.one_step == pytest.approx((d * (w + step) ** 2).sum() / 2 - d.sum() / 2)
    # On the sphere (H − μ)ε = −g with μ above the largest eigenvalue, found by bisection.
    low, high = d.max(), 100 * d.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(d / (middle - d)) > radius else (low, middle)
    best = d / (low - d)
    assert found.value == pytest.approx((d * (w + best) ** 2).sum() / 2 - d.sum() / 2)
    assert found.value > found.one_step


def test_a_maximum_within_the_ball_is_found_there():
    model = double_well(0.8)
    objective = Objective(model, loss=lambda model, x: -(model(x)[:, 0] ** 2), batches=[torch.ones(1, 1).double()])
    found = sam_sharpness(objective, radius=1.0, num_steps=50)
    assert found.value == pytest.approx(0.64, abs=1e-3)
    assert sam_sharpness(objective, radius=5.0, num_steps=1).one_step < 0


def test_cost_is_what_was_spent():
    objective = classes().objective()
    found = sam_sharpness(objective, num_steps=3)
    assert found.cost == objective.spent
    assert found.count == 3
    assert found.cost == pytest.approx(4 + 4 / 3)


def test_the_box_of_keskar_in_closed_form():
    diagonal, epsilon = torch.tensor([3.0, 1.0]).double(), 0.01
    found = keskar_sharpness(quadratic(diagonal), epsilon=epsilon)
    rise = float((diagonal * ((1 + 2 * epsilon) ** 2 - 1)).sum() / 2)
    assert found.value == pytest.approx(100 * rise / (1 + 2))
    everything = keskar_sharpness(quadratic(diagonal), epsilon=epsilon, num_dimensions=2, seed=4)
    part = keskar_sharpness(quadratic(diagonal), epsilon=epsilon, num_dimensions=1, seed=4)
    assert 0 < part.value < everything.value
    assert not found.survives_rescaling


def test_a_subspace_of_keskar_is_searched_in_its_own_box():
    diagonal, epsilon, weights = torch.tensor([3.0, 1.0, 2.0]).double(), 0.01, torch.ones(3).double()
    found = keskar_sharpness(quadratic(diagonal), epsilon=epsilon, num_dimensions=1, seed=6)
    line = random_direction(6, "subspace", 0, like=weights)
    line /= line.norm()
    half = epsilon * (abs(float(line @ weights)) + 1)
    rise = max(float(diagonal @ (weights + sign * half * line).square() - diagonal.sum()) / 2 for sign in (-1, 1))
    assert found.value == pytest.approx(100 * rise / (1 + 3))


@pytest.mark.parametrize("measure", [sam_sharpness, adaptive_sharpness])
def test_distances_that_are_none_are_refused(measure):
    for change in ({"radius": 0.0}, {"radius": math.inf}, {"num_steps": 0}):
        with pytest.raises(ValueError, match="Expected a finite distance"):
            measure(classes().objective(), **change)
    with pytest.raises(ValueError, match="subspace of between 1"):
        keskar_sharpness(classes().objective(), num_dimensions=1000)


# Dinh's rescaling


def relu_problem() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    return drawn(model, generator(3)), classes(sizes=(20, 7)).batches


@pytest.mark.parametrize("layer", [None, "2"])
def test_a_rescaling_changes_what_says_so_and_nothing_that_says_it_survives(layer: str | None):
    model, batches = relu_problem()
    rescaled = dinh_rescaled(model, factor=8.0, layer=layer)
    x = torch.cat([x for x, _ in batches])
    torch.testing.assert_close(rescaled(x), model(x))
    assert not torch.equal(flat(rescaled), flat(model))
    objectives = [Objective(each, loss=cross_entropy, batches=batches) for each in (model, rescaled)]
    measures = {
        "λ_max": top_eigenvalues,
        "SAM": sam_sharpness,
        "Keskar": keskar_sharpness,
        "adaptive": adaptive_sharpness,
    }
    labels = {}
    for name, measure in measures.items():
        one, two = (measure(objective) for objective in objectives)
        labels[name] = one.survives_rescaling
        assert (one.value == pytest.approx(two.value, rel=1e-6)) == one.survives_rescaling, name
    assert labels == {"λ_max": False, "SAM": False, "Keskar": False, "adaptive": True}
    surfaces = [
        loss_surface(objective, directions=random_directions(objective), num_points=25) for objective in objectives
    ]
    assert surfaces[0].survives_rescaling
    assert surfaces[1].train.loss == pytest.approx(surfaces[0].train.loss)
    plain = Directions(vectors=normal(2, len(flat(model)), generator=generator(1)), survives_rescaling=False)
    other = [loss_surface(objective, directions=plain, num_points=25) for objective in objectives]
    assert not np.allclose(other[0].train.loss, other[1].train.loss)


def test_a_rescaling_needs_a_layer_with_relu_after_it():
    model, _ = relu_problem()
    with pytest.raises(ValueError, match="No layer '4'"):
        dinh_rescaled(model, factor=2.0, layer="4")
    with pytest.raises(ValueError, match="above 0"):
        dinh_rescaled(model, factor=-2.0)
    with pytest.raises(ModelError, match="got Tanh"):
        dinh_rescaled(classes().model, factor=2.0)
    with pytest.raises(ModelError, match="got BatchNorm2d"):
        dinh_rescaled(network("norms"), factor=2.0)


def test_reading_a_networks_layers_leaves_it_as_it_was():
    model = network("functions").train()
    hook = model.register_forward_hook(lambda module, inputs, outputs: None)
    before = copy.deepcopy(model.state_dict())
    modes = [layer.training for layer in model.modules()]
    permutable_units(model)
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())
    assert [layer.training for layer in model.modules()] == modes
    assert hook.id in model._forward_hooks


def test_compiled_and_wrapped_networks_are_matched_and_walked_between():
    model, other = network("functions"), network("functions", seed=5)
    compiled: nn.Module = torch.compile(model, backend="eager")  # pyright: ignore
    assert [units.layer for units in permutable_units(compiled)] == ["first", "second", "head"]
    assert match_weights(compiled, nn.DataParallel(other)).value == match_weights(model, other).value
    x = normal(6, 3, 8, 8, generator=generator())
    batches = [(x, torch.arange(6) % 5)]
    ends = [Objective(each, loss=cross_entropy, batches=batches) for each in (compiled, other)]
    found = interpolate(ends[0], end=nn.DataParallel(other), num_points=3)
    for place, objective in zip((0, -1), ends, strict=True):
        with objective.opened():
            assert found.train.loss.values[place] == pytest.approx(objective.value())
