"""Gradients of mini-batches against all batches that there are, and noise of which the law is known."""

import inspect
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.curvature import (
    Objective,
    curvature_variance,
    draw_batches,
    gradient_alignment,
    gradient_covariance,
    noise_scale,
    per_example_factor,
    sharpest_step,
    top_eigenvalues,
    two_batch_noise_scale,
)
from byrote.measures.curvature.jackknife import jackknife_error
from byrote.measures.curvature.rows import Rows
from curved import Problem, classes, least_squares, normal, quadratic


def example_gradients(problem: Problem) -> Tensor:
    """[example, parameter], by a backward pass each."""
    found = []
    x, y = problem.whole()
    for place in range(len(x)):
        (value,) = problem.loss(problem.model, (x[place : place + 1], y[place : place + 1]))
        parts = torch.autograd.grad(value, list(problem.model.parameters()))
        found.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(found)


def rebatched(problem: Problem, batches: Any) -> Objective:
    x, y = problem.whole()
    return Objective(problem.model, loss=problem.loss, batches=[(x[list(own)], y[list(own)]) for own in batches])


def test_the_spectrum_is_that_of_the_dense_covariance():
    problem = classes(sizes=(3, 3, 3, 3, 3))
    gradients = torch.stack([part.mean(0) for part in example_gradients(problem).split(3)]).numpy()
    dense = np.cov(gradients.T)
    found = gradient_covariance(problem.objective(), num_directions=2)
    values, vectors = np.linalg.eigh(dense)
    np.testing.assert_allclose(found.eigenvalues, values[::-1][:4], rtol=1e-9)
    for direction, vector in zip(found.directions.numpy(), vectors.T[::-1], strict=False):
        assert abs(direction @ vector) == pytest.approx(1)
    share = values[::-1][:4] / np.trace(dense)
    assert found.value == pytest.approx(values[-1])
    assert found.trace == pytest.approx(np.trace(dense))
    assert found.trace_over_top == pytest.approx(1 / share[0])
    assert found.smallest_over_largest == pytest.approx(share[-1] / share[0])
    assert found.effective_rank == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    np.testing.assert_allclose(found.products, gradients @ gradients.T, rtol=1e-9)
    assert (found.num_batches, found.batch_size, found.divisor, found.rank) == (5, 3, 4, 4)


@pytest.mark.parametrize("memory", [0, 1 << 30], ids=["file", "memory"])
def test_it_costs_exactly_one_gradient_of_each_batch_wherever_they_are_kept(memory):
    problem = classes(sizes=(4, 4, 4))
    calls: list[int] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(len(batch[0]))
        return problem.loss(model, batch)

    objective = Objective(problem.model, loss=loss, batches=problem.batches)
    found = gradient_covariance(objective, memory=memory, num_directions=2)
    assert calls == [4, 4, 4]
    assert found.cost == pytest.approx(1)
    plain = gradient_covariance(problem.objective(), num_directions=2)
    np.testing.assert_allclose(found.eigenvalues, plain.eigenvalues, rtol=1e-12)
    torch.testing.assert_close(found.directions, plain.directions)


DRAWS: dict[str, Any] = {
    "independent": lambda n, size: itertools.combinations(range(n), size),
    "replaced": lambda n, size: itertools.product(range(n), repeat=size),
}


@pytest.mark.parametrize("drawn", ["independent", "replaced"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_factor_to_single_examples_is_exact_over_all_batches_there_are(drawn, size):
    """The covariance of the mean of a batch, all possible batches being equally likely."""
    problem = least_squares(sizes=(5,), num_inputs=3)
    gradients = example_gradients(problem)
    means = torch.stack([gradients[list(own)].mean(0) for own in DRAWS[drawn](5, size)])
    population = torch.cov(means.T, correction=0)
    factor = per_example_factor(size, drawn=drawn, population=5)
    torch.testing.assert_close(population * factor, torch.cov(gradients.T))
    if drawn == "independent":
        published = (5 - size) / (size * (5 - 1)) * torch.cov(gradients.T, correction=0)
        torch.testing.assert_close(population, published)


def test_disjoint_batches_estimate_the_covariance_of_single_examples_without_bias():
    """Mean over all ways to cut six examples into three pairs."""
    problem = least_squares(sizes=(6,), num_inputs=2)
    cuts = {frozenset(frozenset(order[i : i + 2]) for i in (0, 2, 4)) for order in itertools.permutations(range(6))}
    found = [gradient_covariance(rebatched(problem, cut)) for cut in cuts]
    assert len(found) == 15
    estimates = np.mean([each.trace * each.per_example_factor for each in found])
    assert estimates == pytest.approx(float(torch.cov(example_gradients(problem).T).trace()))


@pytest.mark.parametrize(("drawn", "population"), [("independent", 4), ("replaced", 4), ("disjoint", 5)])
def test_noise_and_squared_gradient_are_unbiased_over_all_samples_of_batches(drawn, population):
    """Two batches of two, drawn in every way there is: the mean of both parts is that of the whole data."""
    problem = least_squares(sizes=(population,), num_inputs=2, seed=3)
    gradients = example_gradients(problem)
    if drawn == "disjoint":
        pairs = [(order[:2], order[2:4]) for order in itertools.permutations(range(population), 4)]
    else:
        pairs = list(itertools.product(list(DRAWS[drawn](population, 2)), repeat=2))
    # No need to differentiate the same batch again and again.
    means = {own: gradients[list(own)].mean(0) for pair in pairs for own in pair}
    template = gradient_covariance(rebatched(problem, [(0, 1), (2, 3)]), drawn=drawn, population=population)
    parts = []
    for one, two in pairs:
        both = torch.stack([means[one], means[two]])
        found = noise_scale(replace_products(template, (both @ both.T).numpy()))
        parts.append([found.trace, found.squared_gradient])
    trace, squared = np.mean(parts, axis=0)
    assert trace == pytest.approx(float(torch.cov(gradients.T).trace()))
    assert squared == pytest.approx(float(gradients.mean(0).square().sum()))


def replace_products(covariance: Any, products: np.ndarray) -> Any:
    """The same record of other gradients."""
    fields = {name: getattr(covariance, name) for name in covariance.__dataclass_fields__}
    return type(covariance)(**(fields | {"products": products}))


def test_two_batches_of_two_sizes_say_the_same_as_all_mini_batches():
    """Many small ones and their mean are the small and the large batch."""
    problem = classes(sizes=(2,) * 6)
    covariance = gradient_covariance(problem.objective())
    products = covariance.products
    arrays = two_batch_noise_scale(
        np.array([np.trace(products) / 6]), large=np.array([products.mean()]), small_size=2, large_size=12
    )
    found = noise_scale(covariance)
    assert found.value == pytest.approx(arrays.value)
    assert found.trace == pytest.approx(arrays.trace)
    assert found.squared_gradient == pytest.approx(arrays.squared_gradient)


def test_the_noise_scale_of_least_squares_is_as_on_paper():
    """y = x·w* + ε, x and ε normal, at w: with Δ = w − w*, g_i = 2(x·Δ − ε)x, mean 2Δ, and
    Tr Σ = 4((d + 2)‖Δ‖² + dσ²) − 4‖Δ‖², so that the z-score of B is a standard normal one, about.
    """
    d, sigma, size, num_batches = 4, 0.5, 16, 40
    generator = torch.Generator().manual_seed(11)
    offset = torch.full((d,), 0.5, dtype=torch.float64)
    length = float(offset @ offset)
    expected = (4 * ((d + 2) * length + d * sigma**2) - 4 * length) / (4 * length)
    template = gradient_covariance(least_squares(sizes=(size, size)).objective())
    scores = []
    for _ in range(150):
        x = normal(num_batches * size, d, generator=generator)
        gradients = 2 * (x @ offset - sigma * normal(len(x), generator=generator))[:, None] * x
        means = gradients.reshape(num_batches, size, d).mean(1).numpy()
        found = noise_scale(replace_products(template, means @ means.T))
        scores.append((found.value - expected) / found.se)
    assert abs(np.mean(scores)) < 0.5
    assert 0.7 < np.std(scores) < 1.4


def test_where_the_gradient_is_lost_in_noise_the_scale_is_infinite():
    found = two_batch_noise_scale(np.array([3.0]), large=np.array([1.0]), small_size=1, large_size=2)
    assert (found.value, found.squared_gradient) == (math.inf, -1.0)
    assert math.isnan(found.se)


@pytest.mark.parametrize(
    ("small", "large", "sizes"), [([], [], (1, 2)), ([1.0], [1.0, 2.0], (1, 2)), ([1.0], [1.0], (2, 2))]
)
def test_two_batches_have_to_be_a_small_and_a_large_one(small, large, sizes):
    with pytest.raises(ValueError, match="sizes 1 <= small < large"):
        inspect.unwrap(two_batch_noise_scale)(
            np.array(small), large=np.array(large), small_size=sizes[0], large_size=sizes[1]
        )


def test_the_jackknife_of_a_trace_is_close_to_its_spread_over_samples():
    generator = np.random.default_rng(5)
    traces, errors = [], []
    for _ in range(30):
        rows = torch.as_tensor(generator.normal(size=(20, 1, 5)))
        model = nn.Linear(5, 1, bias=False).double()
        objective = Objective(model, loss=lambda model, x: model(x)[:, 0], batches=list(rows))
        found = gradient_covariance(objective)
        traces.append(found.trace)
        errors.append(found.trace_se)
    assert np.mean(errors) == pytest.approx(np.std(traces), rel=0.4)
    assert np.mean(traces) == pytest.approx(5, abs=4 * np.std(traces) / 30**0.5)


def test_the_errors_of_the_spectrum_are_those_of_leaving_out_one_batch_after_another():
    problem = classes(sizes=(3, 3, 3, 3, 3))
    gradients = torch.stack([part.mean(0) for part in example_gradients(problem).split(3)]).numpy()

    def summary(kept):
        values = np.linalg.eigvalsh(np.cov(gradients[kept].T))
        return np.array([values[-1], values.sum(), values.sum() / values[-1]])

    expected = jackknife_error(summary, count=5)
    found = gradient_covariance(problem.objective())
    np.testing.assert_allclose([found.top_se, found.trace_se, found.trace_over_top_se], expected, rtol=1e-8)


def test_rows_of_single_precision_are_centred_as_well_as_they_are_known():
    generator = torch.Generator().manual_seed(0)
    common, own = normal(30_000, generator=generator), normal(6, 30_000, generator=generator)
    kept = (common + 1e-3 * own).float()
    rows = Rows(6, width=30_000, like=kept)
    rows.extend(iter(kept))
    centred, whole = rows.gram_around_mean()
    away = (kept.double() - kept.double().mean(0)).numpy()
    np.testing.assert_allclose(centred, away @ away.T, rtol=1e-6, atol=1e-6 * (away @ away.T).max())
    np.testing.assert_allclose(whole, (kept.double() @ kept.double().T).numpy(), rtol=1e-12)


def test_a_jackknife_needs_three():
    assert np.isnan(jackknife_error(lambda kept: np.ones(2), count=2)).all()


def test_gradients_that_are_all_the_same_have_no_covariance():
    problem = least_squares(sizes=(2,))
    objective = Objective(problem.model, loss=problem.loss, batches=problem.batches * 4)
    found = gradient_covariance(objective, num_directions=1)
    assert found.rank == 0
    assert found.trace <= found.floor * 3
    assert all(math.isnan(value) for value in (found.trace_over_top, found.smallest_over_largest, found.effective_rank))


def test_a_loss_that_is_not_finite_gives_nan_and_no_exception():
    model = nn.Linear(2, 1).double()
    batches = [torch.ones(1, 2).double() * scale for scale in (1.0, math.inf, 2.0)]
    objective = Objective(model, loss=lambda model, x: model(x)[:, 0], batches=batches)
    found = gradient_covariance(objective, num_directions=1)
    assert np.isnan(found.eigenvalues).all()
    assert found.directions.isnan().all()
    assert math.isnan(noise_scale(found).value)


def test_what_would_mix_covariances_is_refused():
    with pytest.raises(ValueError, match=r"batches of one size.*\[1, 3, 7\].*drop_last"):
        gradient_covariance(classes(sizes=(7, 3, 1)).objective())
    with pytest.raises(ValueError, match="at least two batches"):
        gradient_covariance(classes(sizes=(7,)).objective())
    with pytest.raises(ValueError, match="from 0 to 1 directions"):
        gradient_covariance(classes(sizes=(7, 7)).objective(), num_directions=2)
    with pytest.raises(ValueError, match="Every batch of all examples is the same"):
        gradient_covariance(classes(sizes=(7, 7)).objective(), drawn="independent", population=7)
    with pytest.raises(ValueError, match="batch size from 1 to the number of examples"):
        gradient_covariance(classes(sizes=(7, 7)).objective(), population=6)


def test_batches_are_drawn_as_their_name_says_and_the_same_again():
    disjoint = draw_batches(50, num_batches=5, batch_size=10, drawn="disjoint", seed=1)
    assert sorted(disjoint.ravel()) == list(range(50))
    independent = draw_batches(12, num_batches=30, batch_size=10, drawn="independent", seed=1)
    assert all(len(set(row)) == 10 for row in independent)
    replaced = draw_batches(3, num_batches=30, batch_size=10, drawn="replaced", seed=1)
    assert replaced.shape == (30, 10)
    np.testing.assert_array_equal(disjoint, draw_batches(50, num_batches=5, batch_size=10, drawn="disjoint", seed=1))
    assert (disjoint != draw_batches(50, num_batches=5, batch_size=10, drawn="disjoint", seed=2)).any()
    for drawn, least in (("disjoint", 50), ("independent", 10)):
        with pytest.raises(ValueError, match=f"and {least} examples for 5 {drawn} batches of 10, got 9"):
            draw_batches(9, num_batches=5, batch_size=10, drawn=drawn, seed=0)  # pyright: ignore[reportArgumentType]


def test_rows_have_to_be_as_many_as_there_is_room_for():
    rows = Rows(2, width=3, like=torch.empty(0))
    rows.extend([torch.ones(3)])
    with pytest.raises(ValueError, match="Expected 2 rows, got 1"):
        rows.gram()
    with pytest.raises(ValueError, match="Expected 2 rows, got more"):
        rows.extend([torch.ones(3), torch.ones(3)])
    with pytest.raises(ValueError, match="at least 0 bytes"):
        Rows(2, width=3, like=torch.empty(0), memory=-1)


def test_the_share_in_the_sharpest_directions_on_uneven_batches():
    problem = classes(sizes=(7, 3, 1))
    gradients = example_gradients(problem).numpy()
    directions = torch.as_tensor(np.random.default_rng(0).normal(size=(3, gradients.shape[1])))
    basis = np.linalg.qr(directions.numpy().T)[0].T
    mean = gradients.mean(0)
    found = gradient_alignment(problem.objective(), directions=directions)
    assert found.value == pytest.approx(np.square(basis @ mean).sum() / (mean @ mean))
    assert found.by_chance == 3 / len(mean)
    unit = directions.numpy() / np.linalg.norm(directions.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(found.cosines, unit @ mean / np.linalg.norm(mean))
    of_batch = gradients[7:10].mean(0)
    np.testing.assert_allclose(found.batch_cosines[1], unit @ of_batch / np.linalg.norm(of_batch))
    assert found.batch_shares[2] == pytest.approx(
        np.square(basis @ gradients[10]).sum() / np.square(gradients[10]).sum()
    )
    assert found.cost == pytest.approx(1)
    leave = []
    for part in (slice(0, 7), slice(7, 10), slice(10, 11)):
        rest = np.delete(gradients, part, axis=0).mean(0)
        leave.append(np.square(basis @ rest).sum() / (rest @ rest))
    assert found.se == pytest.approx((2 / 3 * np.square(np.subtract(leave, np.mean(leave))).sum()) ** 0.5)


def test_all_of_the_gradient_is_in_its_own_direction_and_nothing_across():
    problem = classes(sizes=(4,))
    gradient = example_gradients(problem).mean(0)
    across = torch.randn(len(gradient), generator=torch.Generator().manual_seed(0)).double()
    across -= across @ gradient / (gradient @ gradient) * gradient
    assert gradient_alignment(problem.objective(), directions=-3 * gradient[None]).value == pytest.approx(1)
    assert gradient_alignment(problem.objective(), directions=across[None]).value == pytest.approx(0, abs=1e-20)
    with pytest.raises(ValueError, match="do not depend on one another"):
        gradient_alignment(problem.objective(), directions=torch.stack([across, 2 * across]))
    with pytest.raises(ValueError, match="not 0"):
        gradient_alignment(problem.objective(), directions=0 * across[None])
    with pytest.raises(ValueError, match=r"one for each parameter, got shape \(1, 3\)"):
        gradient_alignment(problem.objective(), directions=torch.ones(1, 3))


def test_curvatures_of_single_examples_are_those_of_their_dense_hessians():
    problem = classes(sizes=(7, 3, 1))
    e = torch.randn(len(problem.flat()), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = []
    for x, y in zip(*problem.whole(), strict=True):
        one = Problem(problem.model, [(x[None], y[None])], problem.loss)
        expected.append(float(e @ one.hessian() @ e / (e @ e)))
    found = curvature_variance(problem.objective(), direction=e)
    np.testing.assert_allclose(found.curvatures, expected, rtol=1e-9)
    assert found.value == pytest.approx(np.var(expected))
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.mean_se == pytest.approx(np.std(expected, ddof=1) / 11**0.5)
    assert found.se == pytest.approx(np.square(np.array(expected) - np.mean(expected)).std() / 11**0.5)
    assert found.count == 11


def test_curvatures_along_the_sharpest_direction_average_to_its_eigenvalue():
    problem = classes(sizes=(7, 3, 1))
    objective = problem.objective()
    top = top_eigenvalues(objective, tolerance=1e-9)
    assert curvature_variance(objective, direction=top.top.vectors[0]).mean == pytest.approx(top.value)


def test_a_linear_loss_has_no_curvature_and_a_fused_one_is_refused():
    model = nn.Linear(2, 1).double()
    objective = Objective(model, loss=lambda model, x: model(x)[:, 0], batches=[torch.ones(3, 2).double()])
    found = curvature_variance(objective, direction=torch.ones(3).double())
    assert found.curvatures.tolist() == [0.0] * 3

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, slope: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return 2 * ctx.saved_tensors[0] * slope

    cut = Objective(model, loss=lambda model, x: Once.apply(model(x)[:, 0]), batches=[torch.ones(3, 2).double()])
    with pytest.raises(ModelError, match="second derivatives"):
        curvature_variance(cut, direction=torch.ones(3).double())


def test_a_step_along_the_sharpest_direction_of_a_quadratic():
    """L = ½Σd_jw_j² at w = 1: the change is −ηγg²(1 − ηγd/2), downhill up to γ = 2/(ηd)."""
    diagonal = torch.tensor([10.0, 3.0, 0.1]).double()
    e, eta = torch.tensor([2.0, 0.0, 0.0]).double(), 0.09
    found = sharpest_step(quadratic(diagonal), direction=e, learning_rate=eta, num_random=4)
    gamma = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
    np.testing.assert_allclose(found.sharpest, -eta * gamma * 100 * (1 - eta * gamma * 10 / 2))
    whole = sum(-eta * gamma * d**2 * (1 - eta * gamma * d / 2) for d in diagonal.tolist())
    np.testing.assert_allclose(found.full, whole)
    assert found.longest_downhill == 2.0
    assert found.value == pytest.approx(found.sharpest[2])
    assert found.cost == pytest.approx(1 + (1 + 5 * 6) / 3)
    assert (found.random_se > 0).all()
    assert found.start == pytest.approx(13.1 / 2)


@pytest.mark.parametrize(("share", "downhill"), [(1.99, True), (2.01, False)])
def test_two_over_the_eigenvalue_is_the_longest_step_downhill(share, downhill):
    diagonal = torch.tensor([10.0, 3.0]).double()
    objective = quadratic(diagonal)
    top = top_eigenvalues(objective, num_products=2)
    found = sharpest_step(objective, direction=top.top.vectors[0], learning_rate=share / top.value, multiples=(1.0,))
    assert (found.value < 0) == downhill
    assert found.longest_downhill == float(downhill)


def test_in_one_dimension_a_random_direction_is_the_sharpest_and_the_weights_stay_as_they_are():
    objective = quadratic(torch.tensor([4.0]).double())
    before = objective.flat_weights()
    found = sharpest_step(objective, direction=torch.tensor([-1.0]).double(), learning_rate=0.1)
    np.testing.assert_allclose(found.random, found.sharpest)
    np.testing.assert_allclose(found.full, found.sharpest)
    torch.testing.assert_close(objective.flat_weights(), before)
    alone = sharpest_step(objective, direction=torch.ones(1).double(), learning_rate=0.1, num_random=0)
    assert np.isnan(alone.random).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"direction": torch.zeros(2)}, "finite direction of 2 numbers, not all 0"),
        ({"direction": torch.ones(3)}, r"got shape \(3,\)"),
        ({"learning_rate": 0.0}, "finite learning rate above 0"),
        ({"multiples": ()}, "at least one multiple"),
        ({"multiples": (-1.0,)}, "all above 0"),
        ({"num_random": -1}, "at least 0 random directions"),
    ],
    ids=repr,
)
def test_a_step_that_is_none_is_refused(wrong, words):
    objective = quadratic(torch.tensor([2.0, 1.0]).double())
    with pytest.raises(ValueError, match=words):
        sharpest_step(objective, **({"direction": torch.ones(2).double(), "learning_rate": 0.1} | wrong))
