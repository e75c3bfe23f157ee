"""Linear CKA against what is known of it on paper, and against the slow way by n×n matrices."""

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from torch import Tensor

from byrote.measures.cka import linear_cka
from curved import normal


def _drawn(*shape: int, seed: int) -> Tensor:
    return normal(*shape, generator=torch.Generator().manual_seed(seed))


def _slow(x: Tensor, y: Tensor, *, unbiased: bool) -> float:
    """By Gram matrices as they are defined, HSIC₁ term by term."""
    n = len(x)
    k, q = (x @ x.T).numpy(), (y @ y.T).numpy()
    if not unbiased:
        h = np.eye(n) - 1 / n
        k, q = h @ k @ h, h @ q @ h
        return float((k * q).sum() / np.sqrt((k * k).sum() * (q * q).sum()))
    k, q, ones = k - np.diag(np.diag(k)), q - np.diag(np.diag(q)), np.ones(n)

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        whole = (ones @ a @ ones) * (ones @ b @ ones) / ((n - 1) * (n - 2))
        return float(np.trace(a @ b) + whole - 2 / (n - 2) * (ones @ a @ b @ ones)) / (n * (n - 3))

    return hsic(k, q) / np.sqrt(hsic(k, k) * hsic(q, q))


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("widths", [(3, 5), (40, 3), (40, 60)])
def test_it_is_what_n_by_n_matrices_say(widths: tuple[int, int], unbiased: bool) -> None:
    x, y = _drawn(12, widths[0], seed=1) + 3, _drawn(12, widths[1], seed=2)
    found = linear_cka(x, y, unbiased=unbiased)
    assert found.value == pytest.approx(_slow(x, y, unbiased=unbiased), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("unbiased", [False, True])
def test_a_rotation_a_scale_and_a_shift_change_nothing(unbiased: bool) -> None:
    x = _drawn(20, 6, seed=3)
    rotation = torch.tensor(ortho_group.rvs(6, random_state=0))
    assert linear_cka(x, 5 - 3 * x @ rotation, unbiased=unbiased).value == pytest.approx(1, abs=1e-12)


def test_the_unbiased_estimate_of_unrelated_features_is_zero_on_average() -> None:
    values = [
        linear_cka(_drawn(10, 50, seed=s), _drawn(10, 50, seed=1000 + s), unbiased=True).value for s in range(200)
    ]
    found = np.array([value for value in values if value is not None])
    assert len(found) == 200
    assert abs(found.mean()) < 3 * found.std() / 200**0.5
    biased = linear_cka(_drawn(10, 50, seed=0), _drawn(10, 50, seed=1000)).value
    assert biased is not None
    assert biased > 0.5


def test_two_examples_and_features_that_do_not_vary_say_so() -> None:
    x = _drawn(5, 3, seed=4)
    assert linear_cka(x[:2], x[:2]).status == linear_cka(x[:3], x[:3], unbiased=True).status == "too few examples"
    assert linear_cka(x, torch.full((5, 2), 1 / 3)).status == "constant features"
    assert linear_cka(x, x.log()).status == "not finite"
    assert {linear_cka(x[:2], x[:2]).value, linear_cka(x, torch.ones(5, 2)).value} == {None}
    with pytest.raises(ValueError, match="the same examples in both, got 5 and 4"):
        linear_cka(x, x[:4])
