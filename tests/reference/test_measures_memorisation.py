"""Memorisation by whole-array arithmetic against one example at a time."""

import numpy as np
import pytest

from byrote.measures import heldout_mean, influence, masked_over_runs, memorisation


def slow_difference(picked: np.ndarray, values: np.ndarray) -> tuple[float, float, int]:
    """Value, standard error and count for one example, as the docstring says."""
    binary = set(values.tolist()) <= {0, 1}
    means, variances = [], []
    for side in (values[picked], values[~picked]):
        count = len(side)
        means.append(side.mean() if count else np.nan)
        if binary:
            adjusted = (side.sum() + 1) / (count + 2)
            variances.append(adjusted * (1 - adjusted) / count if count else np.nan)
        else:
            variances.append(side.var(ddof=1) / count if count > 1 else np.nan)
    return means[0] - means[1], sum(variances) ** 0.5, min(int(picked.sum()), int((~picked).sum()))


def rounding(values: np.ndarray) -> float:
    """What a mean of numbers of this size can be off by in double precision."""
    return 8 * np.finfo(float).eps * float(np.abs(values.astype(float)).max())


@pytest.fixture(params=["right or wrong", "minus loss", "far from zero"])
def values(request) -> np.ndarray:
    rng = np.random.default_rng(2)
    if request.param == "right or wrong":
        return rng.random((25, 7)) < 0.6
    return rng.normal(size=(25, 7)) - (1e7 if request.param == "far from zero" else 0)


@pytest.fixture
def inclusion() -> np.ndarray:
    picked = np.random.default_rng(3).random((25, 7)) < 0.7
    picked[:, 5], picked[:, 6] = True, [True, *[False] * 24]
    return picked


def test_memorisation_one_example_at_a_time(inclusion, values):
    fast = memorisation(inclusion, values)
    for example in range(7):
        slow = slow_difference(inclusion[:, example], values[:, example].astype(float))
        got = fast.value[example], fast.se[example], fast.count[example]
        assert got == pytest.approx(slow, rel=1e-9, abs=rounding(values), nan_ok=True)


def test_influence_one_pair_at_a_time(inclusion, values):
    fast = influence(inclusion, values[:, :4])
    assert fast.value.shape == (7, 4)
    for example in range(7):
        for test_example in range(4):
            slow = slow_difference(inclusion[:, example], values[:, test_example].astype(float))
            got = tuple(array[example, test_example] for array in (fast.value, fast.se, fast.count))
            assert got == pytest.approx(slow, rel=1e-9, abs=rounding(values), nan_ok=True)


def test_heldout_means_of_real_values_are_masked_means(inclusion):
    loss = np.random.default_rng(4).normal(size=inclusion.shape)
    first, second = heldout_mean(inclusion, loss), masked_over_runs(loss, ~inclusion)
    for one, other in ((first.value, second.value), (first.se, second.se), (first.count, second.count)):
        np.testing.assert_allclose(one, other)
