"""Products, eigenvalues, traces and densities against matrices that are known or dense."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from byrote.measures.curvature import (
    EmpiricalFisher,
    Fisher,
    GaussNewton,
    Hessian,
    Objective,
    adam_scale,
    binary_answers,
    block_eigenvalues,
    curvature_trace,
    fisher_trace,
    number_answers,
    preconditioned_sharpness,
    spectral_density,
    top_eigenvalues,
)
from curved import classes, cross_entropy, drawn, least_squares, normal, quadratic, squares


def direction(size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(one: torch.Tensor, two: torch.Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def softmax_bend(problem) -> torch.Tensor:
    """∂²ℓ/∂z² of cross-entropy, [example, class, class]."""
    shares = problem.outputs(problem.flat()).softmax(1)
    return torch.diag_embed(shares) - shares[:, :, None] * shares[:, None]


def dense(problem, matrix) -> torch.Tensor:
    """Of a problem with classes."""
    if isinstance(matrix, Hessian):
        return problem.hessian()
    jacobian, (_, y) = problem.jacobian(), problem.whole()
    if isinstance(matrix, GaussNewton):
        return torch.einsum("nkp,nkl,nlq->pq", jacobian, softmax_bend(problem), jacobian) / len(y)
    shares = problem.outputs(problem.flat()).softmax(1)
    gradients = torch.einsum("nkp,nk->np", jacobian, shares - nn.functional.one_hot(y, shares.shape[1]))
    return gradients.T @ gradients / len(y)


def test_least_squares_has_the_hessian_two_by_n_xtx_and_the_gauss_newton_matrix_is_the_same():
    problem = least_squares()
    x, y = problem.whole()
    objective, v = problem.objective(), direction(6)
    expected = 2 / len(x) * x.T @ x
    residual = problem.model(x)[:, 0].detach() - y
    with objective.opened():
        close(objective.hessian_product(v), expected @ v)
        close(objective.gauss_newton_product(v), expected @ v)
        close(objective.gradient(), 2 / len(x) * residual @ x)
        assert objective.value() == pytest.approx(float(residual.square().mean()), rel=1e-12)


def test_logistic_regression_has_the_hessian_of_the_textbook():
    generator = torch.Generator().manual_seed(0)
    model = drawn(nn.Linear(3, 1, bias=False), generator)
    x, y = normal(9, 3, generator=generator), torch.randint(0, 2, (9,), generator=generator).double()
    objective = Objective(
        model,
        loss=lambda model, batch: nn.functional.binary_cross_entropy_with_logits(
            model(batch[0])[:, 0], batch[1], reduction="none"
        ),
        batches=[(x[:4], y[:4]), (x[4:], y[4:])],
    )
    p = model(x)[:, 0].detach().sigmoid()
    expected, v = x.T @ (x * (p * (1 - p))[:, None]) / 9, direction(3)
    with objective.opened():
        close(objective.hessian_product(v), expected @ v)
        close(objective.gauss_newton_product(v), expected @ v)
        matrices = [Fisher(likelihood=binary_answers, num_draws=20, seed=seed) for seed in range(20)]
        forms = torch.stack([v @ objective.fisher_product(v, matrix=matrix) for matrix in matrices])
    assert abs(forms.mean() - v @ expected @ v) < 3 * forms.std() / len(forms) ** 0.5


@pytest.mark.parametrize("matrix", [Hessian(), GaussNewton(), EmpiricalFisher()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("memory", [1 << 30, 2000, 0], ids=["kept", "some kept", "rebuilt"])
def test_products_are_those_of_the_dense_matrix(matrix, memory):
    problem = classes()
    objective, expected = problem.objective(memory=memory), dense(problem, matrix)
    with objective.opened():
        for seed in range(3):
            v = direction(objective.num_parameters, seed)
            close(objective.product(v, matrix=matrix), expected @ v)


@pytest.mark.parametrize("share_kept", [1.0, 0.6])
def test_products_with_many_uneven_batches_are_those_of_the_dense_matrix(share_kept):
    problem = classes(sizes=(3, 1, 2, 1) * 10)
    whole = problem.objective()
    v = direction(whole.num_parameters)
    with whole.opened():
        whole.hessian_product(v)
        memory = int(share_kept * whole.kept_bytes)
    objective = problem.objective(memory=memory)
    with objective.opened():
        close(objective.hessian_product(v), problem.hessian() @ v)
        close(objective.hessian_product(v, block=["0.weight"]), whole_block(problem, objective, "0.weight") @ v)


def whole_block(problem, objective, name: str) -> torch.Tensor:
    """The Hessian with zeros wherever a row or a column is of another parameter."""
    inside = objective.weights.within([name]).double()
    return inside[:, None] * problem.hessian() * inside


@pytest.mark.parametrize("matrix", [Hessian(), GaussNewton(), EmpiricalFisher()], ids=lambda m: type(m).__name__)
def test_a_block_is_the_matrix_with_zeros_elsewhere(matrix):
    problem = classes()
    objective, expected = problem.objective(), dense(problem, matrix)
    block = ["0.weight", "2.bias"]
    inside = objective.weights.within(block)
    v = direction(objective.num_parameters)
    with objective.opened():
        close(objective.product(v, matrix=matrix, block=block), inside * (expected @ (inside * v)))


def test_a_parameter_subset_is_a_block_of_its_own():
    problem = classes()
    whole, part = problem.objective(), problem.objective(parameters=["2.weight"])
    inside = whole.weights.within(["2.weight"])
    v = direction(part.num_parameters)
    with part.opened():
        close(part.hessian_product(v), problem.hessian()[inside][:, inside] @ v)


def test_the_fisher_of_the_models_own_answers_comes_to_the_gauss_newton_matrix():
    """Every draw's quadratic form is unbiased; the error of the mean is that over draws."""
    problem = classes()
    objective, v = problem.objective(), direction(43)
    expected = float(v @ dense(problem, GaussNewton()) @ v)
    with objective.opened():
        matrices = [Fisher(num_draws=10, seed=seed) for seed in range(20)]
        draws = np.array([float(v @ objective.fisher_product(v, matrix=matrix)) for matrix in matrices])
    assert abs(draws.mean() - expected) < 3 * draws.std(ddof=1) / math.sqrt(len(draws))


def test_numbers_drawn_from_the_model_give_the_fisher_of_least_squares():
    problem = least_squares(sizes=(300,))
    x, _ = problem.whole()
    objective = problem.objective()
    found = fisher_trace(objective, matrix=Fisher(likelihood=number_answers), num_draws=40)
    assert abs(found.value - float(2 / len(x) * x.square().sum())) < 3 * found.se


def test_other_weights_for_a_while():
    problem = classes()
    objective, v = problem.objective(), direction(43)
    here, there = problem.flat(), problem.flat() + 0.3
    with objective.opened():
        before = objective.hessian_product(v)
        with objective.at(there):
            assert objective.value() == pytest.approx(float(problem.mean(there)), rel=1e-12)
            close(objective.hessian_product(v), problem.hessian(there) @ v)
            close(objective.flat_weights(), there)
        close(objective.hessian_product(v), before)
    close(problem.flat(), here)


def test_graphs_are_not_used_for_weights_that_have_changed():
    problem = classes()
    objective, v = problem.objective(), direction(43)
    with objective.opened():
        objective.hessian_product(v)
        with torch.no_grad():
            for part in problem.model.parameters():
                part.mul_(1.5)
        close(objective.hessian_product(v), problem.hessian() @ v)


def test_batch_gradients_average_to_the_gradient_by_their_counts():
    objective = classes().objective()
    with objective.opened():
        rows = torch.stack(list(objective.batch_gradients()))
        counts = torch.tensor(objective.counts).double()
        close(counts @ rows / counts.sum(), objective.gradient())
        close(objective.gradient(products_follow=True), objective.gradient())


def test_the_cost_is_counted_as_documented():
    objective = classes().objective()
    v = direction(objective.num_parameters)
    with objective.opened():
        objective.gradient()
        assert objective.spent == pytest.approx(1)
        objective.hessian_product(v)
        assert objective.spent == pytest.approx(3)
        objective.hessian_product(v)
        assert objective.spent == pytest.approx(4)
        objective.value()
        assert objective.spent == pytest.approx(4 + 1 / 3)
    rebuilt = classes().objective(memory=0)
    with rebuilt.opened():
        rebuilt.hessian_product(v)
        rebuilt.hessian_product(v)
    assert rebuilt.spent == pytest.approx(4)


def test_eigenvalues_of_a_dense_hessian_at_both_ends_as_scipy_has_them():
    problem = classes()
    objective = problem.objective()
    found = top_eigenvalues(objective, num=3, num_lowest=2, num_products=43)
    matrix = problem.hessian().numpy()
    linear: Any = LinearOperator
    operator = linear(matrix.shape, matvec=lambda v: matrix @ v, dtype=np.float64)
    largest, lowest = eigsh(operator, k=3, which="LA")[0][::-1], eigsh(operator, k=2, which="SA")[0]
    np.testing.assert_allclose(found.top.values, largest, rtol=1e-8)
    np.testing.assert_allclose(found.lowest.values, lowest, rtol=1e-6)
    assert (found.lowest.values < 0).all()


@pytest.mark.parametrize("num_products", [4, 8, 14])
def test_an_eigenvalue_lies_within_the_residual(num_products):
    problem = classes()
    matrix = problem.hessian()
    found = top_eigenvalues(problem.objective(), num=2, num_lowest=1, num_products=num_products)
    truth = torch.linalg.eigvalsh(matrix).numpy()
    for pairs in (found.top, found.lowest):
        image = pairs.vectors @ matrix
        actual = (image - torch.as_tensor(pairs.values.copy())[:, None] * pairs.vectors).norm(dim=1)
        np.testing.assert_allclose(pairs.residuals, actual.numpy(), rtol=1e-6, atol=1e-9)
        for value, residual in zip(pairs.values, pairs.residuals, strict=True):
            assert np.abs(truth - value).min() <= residual + 1e-12


def test_an_eigenvalue_is_found_as_often_as_it_is_there():
    diagonal = torch.tensor([5.0, 5.0, 5.0, 1.0, -2.0, -2.0]).double()
    found = top_eigenvalues(quadratic(diagonal), num=4, num_lowest=2)
    np.testing.assert_allclose(found.top.values, [5, 5, 5, 1], rtol=1e-9)
    np.testing.assert_allclose(found.lowest.values, [-2, -2], rtol=1e-9)


def test_a_search_is_as_long_as_it_must_be_within_bounds_and_a_budget_is_kept():
    diagonal = torch.linspace(-1, 3, 400).double()
    hard, easy = quadratic(diagonal), quadratic(torch.cat([diagonal[:399] * 1e-9, torch.tensor([5.0]).double()]))
    cold = top_eigenvalues(hard, num_products=10)
    assert cold.num_products == 10
    assert cold.cost == pytest.approx(11)
    assert top_eigenvalues(easy).num_products == 7
    doubtful = top_eigenvalues(quadratic(torch.linspace(-9, 3, 400).double()))
    assert doubtful.residual > 0.04 * doubtful.value
    assert doubtful.num_products == 20
    assert top_eigenvalues(hard, warm=cold).num_products == 8
    apart = torch.cat([diagonal * 1e-3, torch.tensor([9.0, 7.0, 5.0, -4.0, -6.0]).double()])
    assert top_eigenvalues(quadratic(apart), num=3, num_lowest=2).num_products == 15
    assert top_eigenvalues(hard, num=3, num_lowest=2).num_products == 36
    assert top_eigenvalues(hard, num=3, num_lowest=2, num_products=20).num_products == 20


def test_a_tolerance_lengthens_but_never_goes_below_six():
    diagonal = torch.linspace(-1, 3, 400).double()
    hard, easy = quadratic(diagonal), quadratic(torch.cat([diagonal[:399] * 1e-9, torch.tensor([5.0]).double()]))
    longer = top_eigenvalues(hard, tolerance=1e-4)
    assert longer.num_products > 10
    assert longer.converged
    assert longer.residual <= 1e-4 * longer.value
    assert top_eigenvalues(easy, tolerance=0.5).num_products == 6
    assert not top_eigenvalues(hard, tolerance=1e-15).converged


@pytest.mark.parametrize("num", [1, 3])
def test_outliers_above_a_bulk_are_within_a_hundredth_from_every_start(num):
    bulk = torch.linspace(-0.3, 0.8, 600).double()
    objective = quadratic(torch.cat([bulk, torch.tensor([7.6, 6.6, 5.9, 4.0]).double()]))
    found = [top_eigenvalues(objective, num=num, seed=seed) for seed in range(20)]
    truth = np.array([7.6, 6.6, 5.9])[:num]
    assert max(np.abs(each.top.values / truth - 1).max() for each in found) < 0.01
    assert {each.num_products for each in found} <= set(range(2 * num + 5, 2 * num + 10))


def test_a_warm_start_follows_the_weights():
    problem = classes(sizes=(40, 13))
    objective = problem.objective()
    first = top_eigenvalues(objective, num_products=20)
    with objective.at(problem.flat() * 1.02):
        warm, truth = (
            top_eigenvalues(objective, warm=first, num_products=4),
            top_eigenvalues(objective, num_products=43),
        )
        cold = top_eigenvalues(objective, num_products=4)
    assert abs(warm.value / truth.value - 1) < 1e-3 < abs(cold.value / truth.value - 1)


def test_the_order_of_examples_in_batches_makes_no_difference():
    """Batches of one class each say of the sharpest direction what mixed ones say."""
    problem = classes(sizes=(30, 20, 10))
    x, y = problem.whole()
    order = y.argsort(stable=True)
    by_class = [(x[part], y[part]) for part in order.split(11)]
    mixed = top_eigenvalues(problem.objective())
    found = top_eigenvalues(Objective(problem.model, loss=problem.loss, batches=by_class))
    assert found.value == pytest.approx(mixed.value, rel=1e-9)
    assert found.num_products == mixed.num_products


def test_blocks_are_those_of_the_dense_matrix():
    problem = classes()
    objective, matrix = problem.objective(), problem.hessian()
    found = block_eigenvalues(objective, num_products=30)
    assert list(found) == ["0", "2"]
    for name, result in found.items():
        inside = objective.weights.within([f"{name}.weight", f"{name}.bias"])
        truth = torch.linalg.eigvalsh(matrix[inside][:, inside])[-1]
        assert result.value == pytest.approx(float(truth), rel=1e-8)
        assert result.top.vectors.shape == (1, int(inside.sum()))


def test_adam_preconditioned_sharpness_of_the_dense_matrix():
    problem = classes()
    optimiser = torch.optim.AdamW(problem.model.parameters(), lr=0.01, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.0)
    for _ in range(3):
        optimiser.zero_grad()
        problem.loss(problem.model, problem.whole()).mean().backward()
        optimiser.step()
    objective = problem.objective()
    scale = adam_scale(objective, optimiser=optimiser)
    np.testing.assert_allclose(
        preconditioned_sharpness(objective, scale=scale, num_products=43).value,
        torch.linalg.eigvals(problem.hessian() / scale[:, None]).real.max().item(),
        rtol=1e-8,
    )
    expected = [
        optimiser.state[part]["exp_avg_sq"].div(1 - 0.99**3).sqrt().add(1e-3).reshape(-1)
        for part in problem.model.parameters()
    ]
    close(scale, torch.cat(expected))


def test_a_preconditioner_of_a_scaled_quadratic():
    found = preconditioned_sharpness(
        quadratic(torch.tensor([8.0, 9.0]).double()), scale=torch.tensor([2.0, 9.0]).double()
    )
    assert found.value == pytest.approx(4.0)


@pytest.mark.parametrize(("num_products", "num_seeds"), [(6, 8), (20, 8), (30, 8), (60, 8), (200, 1)])
def test_trace_estimates_are_off_by_their_errors(num_products, num_seeds):
    diagonal = torch.exp(-torch.arange(150).double() / 10) * 10
    found = [curvature_trace(quadratic(diagonal), num_products=num_products, seed=seed) for seed in range(num_seeds)]
    away = np.array([each.value for each in found]) - float(diagonal.sum())
    errors = np.array([each.se for each in found])
    assert all(each.num_products <= num_products for each in found)
    if num_products == 200:
        np.testing.assert_allclose(away, 0, atol=1e-9)
        assert (errors == 0).all()
    else:
        assert np.sqrt((away**2).mean()) < 2 * np.sqrt((errors**2).mean())


def test_the_trace_of_a_dense_gauss_newton_matrix():
    problem = classes()
    truth = float(dense(problem, GaussNewton()).trace())
    found = curvature_trace(problem.objective(), matrix=GaussNewton(), num_products=43)
    assert found.value == pytest.approx(truth, rel=1e-9)
    rough = curvature_trace(problem.objective(), matrix=GaussNewton(), num_products=24)
    assert abs(rough.value - truth) < 4 * rough.se


def test_the_traces_of_both_fishers():
    problem = classes(sizes=(60, 30, 10))
    objective = problem.objective()
    for matrix, expected in ((Fisher(), GaussNewton()), (EmpiricalFisher(), EmpiricalFisher())):
        found = fisher_trace(objective, matrix=matrix, num_draws=25)
        assert found.cost == pytest.approx(25)
        assert 0 < found.se < 0.3 * found.value
        assert abs(found.value - float(dense(problem, expected).trace())) < 3 * found.se


def test_quadrature_has_the_moments_of_the_dense_spectrum():
    diagonal = torch.cat([torch.linspace(-0.1, 0.2, 180), torch.tensor([4.0, 5.0])]).double()
    found = spectral_density(quadratic(diagonal), num_probes=16, num_steps=12)
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-12)
    for function in (lambda x: x, np.square, np.exp):
        estimate = found.average(function)
        assert abs(estimate.value - function(diagonal.numpy()).mean()) < 3 * estimate.se
    below = found.share_below(1.0)
    assert abs(below.value - 180 / 182) < 3 * below.se
    at = np.linspace(-3, 8, 2001)
    assert np.trapezoid(found.density(at, width=0.05), at) == pytest.approx(1, abs=1e-6)


def test_quadrature_with_every_step_has_every_eigenvalue_of_a_dense_hessian():
    problem = classes()
    found = spectral_density(problem.objective(), num_probes=1, num_steps=43)
    truth = torch.linalg.eigvalsh(problem.hessian()).numpy()
    np.testing.assert_allclose(np.sort(found.nodes[0]), truth, atol=1e-9)


def test_a_loss_that_is_not_finite_gives_no_numbers():
    problem = classes()
    with torch.no_grad():
        next(problem.model.parameters())[0, 0] = math.nan
    objective = problem.objective()
    found = top_eigenvalues(objective, num=2, num_lowest=1)
    assert np.isnan(found.top.values).all()
    assert np.isnan(found.lowest.values).all()
    assert not found.converged
    assert math.isnan(curvature_trace(objective).value)
    assert math.isnan(curvature_trace(objective, num_products=40).value)
    assert math.isnan(spectral_density(objective, num_probes=1, num_steps=3).average(np.abs).value)
    assert np.isfinite(top_eigenvalues(classes().objective(), warm=found, num=2, num_lowest=1).top.values).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: top_eigenvalues(o, num=0), "Expected at least 1 largest"),
        (lambda o: top_eigenvalues(o, num=40, num_lowest=4), "at most 43 eigenvalues"),
        (lambda o: top_eigenvalues(o, num=3, num_products=2), "at least 3 products"),
        (lambda o: top_eigenvalues(o, tolerance=0.0), "tolerance above 0"),
        (lambda o: curvature_trace(o, num_products=2), "at least 3 products"),
        (lambda o: fisher_trace(o, num_draws=1), "at least 2 draws"),
        (lambda o: spectral_density(o, num_probes=0), "at least one probe"),
        (lambda o: preconditioned_sharpness(o, scale=torch.zeros(43)), "a scale above 0 for each of 43"),
        (lambda o: block_eigenvalues(o, blocks={"x": ["0.wieght"]}), "Did you mean: 0.weight"),
        (lambda o: o.gradient(), "with objective.opened"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(call, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        call(classes().objective())


def test_losses_of_the_wrong_kind_are_refused():
    problem = classes()
    wrong: list[tuple[Any, str]] = [
        (lambda model, batch: cross_entropy(model, batch).mean(), r"shape \(\)"),
        (lambda model, batch: model(batch[0]).argmax(1), "int64"),
        (lambda model, batch: 3.0, "got float"),
        (lambda model, batch: squares(model, (batch[0][:, :2], batch[1])), "The loss failed on a batch"),
        (nn.MSELoss(), r"The loss failed on a batch: .*called as loss\(model, batch\)"),
    ]
    for loss, message in wrong:
        objective = Objective(problem.model, loss=loss, batches=problem.batches)
        with pytest.raises(ValueError, match=message), objective.opened():
            objective.gradient()
