"""Kernels, their distances and how fast they fit, against what is known on paper and against explicit loops."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from byrote.measures import (
    blocked_kernel_descent,
    conjugate_kernel,
    empirical_ntk,
    kernel_descent,
    kernel_distance,
    kernel_distances,
    kernel_matrix,
    kernel_velocity,
    median_distance,
    steps_to_fit,
)
from byrote.measures.kernels import descent


def _drawn(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def _gram(count: int, width: int, *, seed: int) -> np.ndarray:
    x = _drawn(count, width, seed=seed)
    return x @ x.T


def _labels(count: int, *, classes: int, seed: int) -> np.ndarray:
    return np.eye(classes)[np.random.default_rng(seed).integers(classes, size=count)]


@pytest.mark.parametrize("scale", [1e-150, 0.3, 1e150])
def test_a_rescaled_kernel_is_at_distance_0(scale: float) -> None:
    kernel = _gram(12, 5, seed=0)
    found = kernel_distance(kernel, scale * kernel)
    assert found.value == pytest.approx(0, abs=1e-15)
    assert found.se == pytest.approx(0, abs=1e-14)


def test_kernels_with_nothing_in_common_are_at_distance_1() -> None:
    one, other = np.zeros((4, 4)), np.zeros((4, 4))
    one[:2, :2], other[2:, 2:] = 1, 1
    assert kernel_distance(one, other).value == pytest.approx(1)


def test_the_distance_and_its_error_are_what_is_written() -> None:
    one, other = _gram(9, 4, seed=1), _gram(9, 6, seed=2)

    def slow(keep: np.ndarray) -> float:
        k, q = one[np.ix_(keep, keep)], other[np.ix_(keep, keep)]
        return 1 - float((k * q).sum() / np.sqrt((k * k).sum() * (q * q).sum()))

    found = kernel_distance(one, other)
    left_out = np.array([slow(np.delete(np.arange(9), i)) for i in range(9)])
    assert found.value == pytest.approx(slow(np.arange(9)), rel=1e-12)
    assert found.se == pytest.approx(math.sqrt(8 / 9 * np.square(left_out - left_out.mean()).sum()), rel=1e-9)


def test_an_example_is_left_out_with_all_its_rows() -> None:
    one, other = _gram(12, 5, seed=3), _gram(12, 5, seed=4)
    left_out = []
    for i in range(6):
        keep = np.delete(np.arange(12), [2 * i, 2 * i + 1])
        left_out.append(kernel_distance(one[np.ix_(keep, keep)], other[np.ix_(keep, keep)]).value)
    found = kernel_distance(one, other, rows_per_example=2)
    spread = np.square(np.array(left_out) - np.mean(left_out)).sum()
    assert found.count == 6
    assert found.se == pytest.approx(math.sqrt(5 / 6 * spread), rel=1e-9)


@pytest.mark.parametrize(
    ("kernel", "status"),
    [(np.zeros((4, 4)), "zero"), (np.full((4, 4), np.nan), "not finite"), (np.ones((1, 1)), "too few examples")],
)
def test_what_cannot_be_compared_says_why(kernel: np.ndarray, status: str) -> None:
    found = kernel_distance(kernel, np.eye(len(kernel)))
    assert (found.value, found.se, found.status) == (None, None, status)


def test_velocity_is_distance_over_time() -> None:
    kernels = [_gram(8, 3, seed=seed) for seed in range(3)]
    found = kernel_velocity(kernels, times=np.array([0.0, 0.5, 4.5]))
    pairs = kernel_distances(kernels).value
    assert found.value == pytest.approx([pairs[0, 1] / 0.5, pairs[1, 2] / 4])
    assert found.midpoint.tolist() == [0.25, 2.5]


def test_times_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="rising times"):
        kernel_velocity([np.eye(3), np.eye(3)], times=np.array([1.0, 1.0]))


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian"])
def test_kernel_matrices_are_what_is_written(kernel: descent.KernelName) -> None:
    x, others = _drawn(7, 3, seed=5) + 100, _drawn(4, 3, seed=6) + 100
    far = cdist(x, others) / 2.5
    wanted = np.exp(-(far**2) / 2) if kernel == "gaussian" else np.exp(-far)
    assert kernel_matrix(x, others, kernel=kernel, bandwidth=2.5) == pytest.approx(wanted, rel=1e-9)
    assert np.diag(kernel_matrix(x, kernel=kernel, bandwidth=2.5)).tolist() == [1.0] * 7


def test_the_median_distance_is_the_median_of_all() -> None:
    x = _drawn(30, 4, seed=7)
    assert median_distance(x) == pytest.approx(np.median(cdist(x, x)[np.triu_indices(30, 1)]))


def test_the_conjugate_kernel_is_the_last_layers_part_of_the_tangent_kernel() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2, bias=False)).double()
    for seed, part in enumerate(model.parameters()):
        part.data = torch.from_numpy(_drawn(*part.shape, seed=seed))
    x = torch.from_numpy(_drawn(5, 3, seed=8))
    tangent = empirical_ntk(model, x=x, parameters=["2.weight"]).kernel
    with torch.no_grad():
        features = model[:2](x)
    assert 2 * conjugate_kernel(features) == pytest.approx(tangent, rel=1e-10)


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.9])
def test_descent_in_closed_form_is_descent_step_by_step(rate: float) -> None:
    kernel = kernel_matrix(_drawn(20, 3, seed=9), kernel="laplacian", bandwidth=1.0)
    targets = _labels(20, classes=3, seed=9)
    steps = np.array([0, 1, 2, 7, 40])
    found = kernel_descent(kernel, targets, steps=steps, rate=rate)
    fitted, place = np.zeros_like(targets), 0
    for step in range(41):
        if step == steps[place]:
            left = np.square(targets - fitted).sum() / np.square(targets).sum()
            assert found.squared_error[place] == pytest.approx(left, rel=1e-9)
            wrong = (fitted.argmax(1) != targets.argmax(1)).mean() if step else 1.0
            assert found.wrong[place] == pytest.approx(wrong)
            place += 1
        fitted = fitted + found.step_size * kernel @ (targets - fitted)
    assert place == len(steps)
    assert found.largest_eigenvalue == pytest.approx(np.linalg.eigvalsh(kernel)[-1])


def test_blocks_of_rows_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, targets, steps = _drawn(30, 3, seed=10), _labels(30, classes=3, seed=10), np.array([0, 3, 25])
    monkeypatch.setattr(descent, "BLOCK_BYTES", 8 * 30 * 7)
    monkeypatch.setattr(descent, "POWER_TOLERANCE", 1e-13)
    found = blocked_kernel_descent(x, targets, kernel="gaussian", bandwidth=1.5, steps=steps)
    whole = kernel_descent(kernel_matrix(x, kernel="gaussian", bandwidth=1.5), targets, steps=steps)
    assert found.squared_error == pytest.approx(whole.squared_error, rel=1e-8)
    assert found.wrong.tolist() == whole.wrong.tolist()


def test_steps_to_fit_are_the_first_at_which_the_error_is_reached() -> None:
    kernel = kernel_matrix(_drawn(25, 4, seed=11), kernel="laplacian", bandwidth=2.0)
    targets = _labels(25, classes=4, seed=11)
    found = steps_to_fit(kernel, targets, squared_error=0.01)
    around = np.array([found.value - 1, found.value]).astype(int)
    before, after = kernel_descent(kernel, targets, steps=around).squared_error
    assert (found.status, found.residual) == ("reached", 0)
    assert after <= 0.01 < before


def test_the_laplacian_kernel_fits_random_labels_in_fewer_steps_than_the_gaussian() -> None:
    """Its eigenvalues fall more slowly: Belkin, Ma & Mandal 2018."""
    x, targets = _drawn(80, 5, seed=12), _labels(80, classes=4, seed=12)
    width = median_distance(x)
    laplacian, gaussian = (
        steps_to_fit(kernel_matrix(x, kernel=kernel, bandwidth=width), targets, wrong=0.0)
        for kernel in ("laplacian", "gaussian")
    )
    assert laplacian.status == "reached"
    assert gaussian.value > 10 * laplacian.value


def test_a_direction_that_the_kernel_lacks_is_never_fitted() -> None:
    found = steps_to_fit(np.diag([1.0, 0.0]), np.array([[0.0], [1.0]]), squared_error=0.5)
    assert (found.value, found.status) == (math.inf, "not within rounding")


def test_a_kernel_with_an_eigenvalue_below_0_is_refused() -> None:
    with pytest.raises(ValueError, match="eigenvalues from 0 up"):
        kernel_descent(np.diag([1.0, -0.5]), np.ones((2, 1)), steps=np.array([1]))
