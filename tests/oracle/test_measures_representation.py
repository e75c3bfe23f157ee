"""Effective rank, neural collapse, ridge left out and lengths of weights, against what is known on paper."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from torch import Tensor

from byrote.measures import effective_rank, neural_collapse, ridge_left_out
from byrote.models import with_norms_of
from curved import normal


def _drawn(*shape: int, seed: int) -> Tensor:
    return normal(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_direction_has_rank_1() -> None:
    found = effective_rank(torch.arange(6.0)[:, None] * torch.tensor([[1.0, -2.0, 3.0]]) + 5)
    assert (found.entropy, found.participation, found.rank) == (pytest.approx(1), pytest.approx(1), 1)


def test_ranks_are_what_is_written() -> None:
    spread = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    x = torch.cat([spread.diag(), -spread.diag()])
    found, shares = effective_rank(x), spread / spread.sum()
    assert found.entropy == pytest.approx(math.exp(-float((shares * shares.log()).sum())))
    assert found.participation == pytest.approx(21**2 / (16**2 + 4**2 + 1))


def test_ranks_survive_rotation_shift_and_scale() -> None:
    x = _drawn(30, 6, seed=0).double()
    turned = 1e3 * x @ torch.from_numpy(ortho_group.rvs(6, random_state=1)) - 7
    one, other = effective_rank(x), effective_rank(turned)
    assert one.entropy == pytest.approx(other.entropy)
    assert one.participation == pytest.approx(other.participation)


def test_no_rank_exceeds_what_examples_span() -> None:
    found = effective_rank(_drawn(5, 100, seed=2))
    assert found.rank == 4
    assert found.participation is not None
    assert found.entropy is not None
    assert 1 < found.participation <= found.entropy <= 4


@pytest.mark.parametrize(
    ("features", "status"),
    [
        (torch.ones(1, 3), "too few examples"),
        (torch.full((4, 3), 0.1), "constant features"),
        (torch.full((4, 3), torch.nan), "not finite"),
        (torch.ones(4, 0), "constant features"),
    ],
)
def test_features_without_a_rank_say_why(features: Tensor, status: str) -> None:
    found = effective_rank(features)
    assert (found.entropy, found.participation, found.status) == (None, None, status)


def _simplex(number: int) -> Tensor:
    return torch.eye(number, dtype=torch.float64) - 1 / number


def test_a_simplex_of_points_has_collapsed_in_all_ways() -> None:
    y = torch.arange(5).repeat_interleave(torch.tensor([3, 1, 2, 4, 2]))
    x = _simplex(5)[y] @ torch.from_numpy(ortho_group.rvs(5, random_state=0)) + 3
    means = torch.stack([x[y == code][0] for code in range(5)])
    weights = 2.5 * (means - means.mean(0))
    found = neural_collapse(x, y, weights=weights, outputs=(x - means.mean(0)) @ weights.T)
    assert found.status == "measured"
    for value in (found.within, found.unequal_norms, found.unequal_angles, found.beyond_simplex, found.unaligned):
        assert value == pytest.approx(0, abs=1e-12)
    assert found.disagreement == 0


def test_nc1_is_what_matrices_say() -> None:
    x, y = _drawn(40, 6, seed=3).double(), torch.arange(40) % 4
    x[:, 0] += 3 * y
    means = torch.stack([x[y == code].mean(0) for code in range(4)])
    inner = x - means[y]
    between = means - means.mean(0)
    sigma_w, sigma_b = inner.T @ inner / 40, between.T @ between / 4
    found = neural_collapse(x, y)
    assert found.within == pytest.approx(float((sigma_w @ torch.linalg.pinv(sigma_b, rtol=1e-10)).trace()) / 4)


def test_nc1_is_the_same_far_from_0_where_class_means_hardly_differ() -> None:
    x, y = _drawn(200, 30, seed=8).double(), torch.arange(200) % 10
    assert neural_collapse(x + 1e5, y).within == pytest.approx(neural_collapse(x, y).within, rel=1e-6)


def test_nc2_to_nc4_are_what_is_written() -> None:
    x, y = _drawn(30, 4, seed=4).double() * 0.1, torch.arange(30) % 3
    x = x + torch.tensor([[3.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 2.0, 1.0]], dtype=torch.float64)[y]
    weights, outputs = _drawn(3, 4, seed=5).double(), torch.eye(3)[(y + (torch.arange(30) < 6)) % 3]
    found = neural_collapse(x, y, weights=weights, outputs=outputs)
    means = torch.stack([x[y == code].mean(0) for code in range(3)])
    centred = (means - means.mean(0)).numpy()
    norms = np.linalg.norm(centred, axis=1)
    cosines = np.array([centred[i] @ centred[j] / norms[i] / norms[j] for i, j in ((0, 1), (0, 2), (1, 2))])
    assert found.unequal_norms == pytest.approx(norms.std() / norms.mean())
    assert found.unequal_angles == pytest.approx(cosines.std())
    assert found.beyond_simplex == pytest.approx(np.abs(cosines + 1 / 2).mean())
    apart = weights.numpy() / np.linalg.norm(weights) - centred / np.linalg.norm(centred)
    assert found.unaligned == pytest.approx(np.linalg.norm(apart))
    assert found.disagreement == pytest.approx(6 / 30)


def test_collapse_needs_classes_that_differ() -> None:
    assert neural_collapse(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64)).status == "too few classes"
    assert neural_collapse(torch.eye(2), torch.arange(2)).status == "too few examples"
    assert neural_collapse(torch.ones(4, 2), torch.tensor([0, 0, 1, 1])).status == "constant features"


def test_weights_of_another_layer_are_refused() -> None:
    with pytest.raises(ValueError, match="not the last one"):
        neural_collapse(torch.eye(4), torch.tensor([0, 0, 1, 1]), weights=torch.ones(2, 3))


def _refitted(x: np.ndarray, y: np.ndarray, *, ridge: float, out: np.ndarray) -> np.ndarray:
    kept, mean = x[~out], x[~out].mean(0)
    system = (kept - mean).T @ (kept - mean) + ridge * np.eye(x.shape[1])
    slopes = np.linalg.solve(system, (kept - mean).T @ y[~out])
    return y[~out].mean(0) + (x[out] - mean) @ slopes


@pytest.mark.parametrize("width", [3, 25])
@pytest.mark.parametrize("grouped", [False, True])
def test_what_is_left_out_is_what_fitting_anew_says(width: int, grouped: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, width)) + 4, rng.standard_normal((12, 2))
    groups = np.arange(12) // 3 if grouped else np.arange(12)
    found = ridge_left_out(x, y, ridge=0.7, groups=groups if grouped else None)
    for group in np.unique(groups):
        out = groups == group
        assert found[out] == pytest.approx(_refitted(x, y, ridge=0.7, out=out), rel=1e-9, abs=1e-12)


def test_one_group_of_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two groups"):
        ridge_left_out(np.eye(3), np.eye(3), ridge=1.0, groups=np.zeros(3))


def test_lengths_are_those_at_the_start_and_directions_those_of_now() -> None:
    start = {"weight": _drawn(3, 4, seed=6), "bias": torch.zeros(3)}
    now = {"weight": 5 * _drawn(3, 4, seed=7), "bias": torch.ones(3)}
    found = with_norms_of(now, start)
    assert float(found["weight"].norm()) == pytest.approx(float(start["weight"].norm()), rel=1e-6)
    assert torch.allclose(found["weight"] / found["weight"].norm(), now["weight"] / now["weight"].norm())
    assert found["bias"].tolist() == [1, 1, 1]


def test_lengths_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="others for weight"):
        with_norms_of({"weight": torch.ones(2)}, {"weight": torch.ones(3)})


def test_classes_that_mean_almost_nothing_collapse_no_further_than_others() -> None:
    """Random labels: the class means lie close together, far from 0, and have one direction less than classes."""
    rng = np.random.default_rng(0)
    features = torch.tensor(1e3 + rng.normal(size=(400, 30)))
    targets = torch.tensor(np.arange(400) % 10)
    far, near = (neural_collapse(own, targets).within for own in (features, features - 1e3))
    assert near is not None
    assert far == pytest.approx(near, rel=1e-6)
    assert 1 < near < 1000
