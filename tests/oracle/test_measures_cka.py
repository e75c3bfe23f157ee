"""Linear CKA against what is known of it on paper, and against the slow way by n×n matrices."""

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from torch import Tensor

from byrote.measures.cka import cka_map, linear_cka, target_alignment
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


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("widths", [(3, 5), (40, 3), (40, 60)])
def test_the_standard_error_is_that_of_leaving_out_every_example_in_turn(
    widths: tuple[int, int], unbiased: bool
) -> None:
    x, y = _drawn(12, widths[0], seed=1) + 3, _drawn(12, widths[1], seed=2)
    y[:, :3] += x[:, :3]
    without = [[part for part in range(12) if part != left] for left in range(12)]
    found = np.array([linear_cka(x[kept], y[kept], unbiased=unbiased).value for kept in without], np.float64)
    expected = np.sqrt(11 / 12 * np.square(found - found.mean()).sum())
    assert linear_cka(x, y, unbiased=unbiased).se == pytest.approx(expected, rel=1e-8)


def test_a_standard_error_needs_one_example_more_than_a_value() -> None:
    x, y = _drawn(5, 3, seed=4), _drawn(5, 2, seed=5)
    errors = [
        linear_cka(x[:3], y[:3]).se,
        linear_cka(x[:4], y[:4], unbiased=True).se,
        linear_cka(torch.eye(4, 1), y[:4]).se,
    ]
    assert errors == [None, None, None]
    assert linear_cka(x[:4], y[:4]).se is not None


@pytest.mark.slow
def test_the_standard_error_is_the_spread_over_samples_of_examples() -> None:
    """200 samples of 80 examples; the standard deviation of 200 numbers is itself off by 5 %."""
    mixing = _drawn(6, 4, seed=7)
    found = []
    for seed in range(200):
        x = _drawn(80, 6, seed=seed)
        found.append(linear_cka(x, x @ mixing + _drawn(80, 4, seed=1000 + seed), unbiased=True))
    spread = np.std([pair.value for pair in found], ddof=1)
    stated = np.mean([pair.se for pair in found])
    assert abs(np.log(stated / spread)) < 4 / (2 * 199) ** 0.5


@pytest.mark.parametrize("unbiased", [False, True])
def test_a_map_says_of_every_pair_what_the_pair_says(unbiased: bool) -> None:
    """Narrow ones and wide ones, of two precisions, one constant and one not finite."""
    parts = [_drawn(9, 3, seed=1), _drawn(9, 30, seed=2), _drawn(9, 40, seed=3).float(), torch.ones(9, 2)]
    parts.append(torch.full((9, 1), float("inf")))
    square, oblong = cka_map(parts, unbiased=unbiased), cka_map(parts[:2], parts, unbiased=unbiased)
    for i, one in enumerate(parts):
        for j, other in enumerate(parts):
            pair = linear_cka(one, other, unbiased=unbiased)
            assert square.status[i, j] == pair.status
            for found, wanted in ((square.value[i, j], pair.value), (square.se[i, j], pair.se)):
                assert np.isnan(found) if wanted is None else found == pytest.approx(wanted, rel=1e-9)
    np.testing.assert_array_equal(oblong.value, square.value[:2])
    assert oblong.count == square.count == 9


def test_a_map_of_too_few_examples_or_of_none_says_so() -> None:
    x = _drawn(2, 3, seed=1)
    assert (cka_map([x, x]).status == "too few examples").all()
    with pytest.raises(ValueError, match="of the same examples, got 2 and 2, of 2 or 3 examples"):
        cka_map([x, _drawn(3, 3, seed=1)])
    with pytest.raises(ValueError, match="at least one representation on each side"):
        cka_map([x], [])


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("width", [4, 40])
def test_alignment_with_targets_is_the_cka_of_features_and_targets(width: int, unbiased: bool) -> None:
    x, y = _drawn(12, width, seed=1) + 2, torch.eye(3).double().repeat(4, 1)
    found, expected = target_alignment(x @ x.T, y, unbiased=unbiased), linear_cka(x, y, unbiased=unbiased)
    assert found.value == pytest.approx(expected.value, rel=1e-10)
    assert found.se == pytest.approx(expected.se, rel=1e-8)
    assert target_alignment((x @ x.T).numpy(), y, unbiased=unbiased) == found


def test_a_kernel_that_is_none_says_so() -> None:
    y = torch.eye(2).double().repeat(3, 1)
    assert target_alignment(torch.ones(6, 6).double(), y).status == "constant features"
    assert target_alignment(torch.full((6, 6), torch.nan), y).status == "not finite"
    assert target_alignment(torch.eye(2), torch.eye(2)).status == "too few examples"
    with pytest.raises(ValueError, match=r"of the 6 examples with targets, got shape \(5, 5\)"):
        target_alignment(torch.eye(5), y)
    with pytest.raises(ValueError, match="symmetric"):
        target_alignment(torch.arange(36.0).reshape(6, 6), y)
