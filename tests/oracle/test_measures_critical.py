"""Critical samples where the distance to the nearest other answer is known."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from byrote.core import ModelError
from byrote.measures import critical_samples, proportion_interval

R = 0.3


def threshold(x: Tensor) -> Tensor:
    """Two classes, parted where the features' sum is 0."""
    total = x.flatten(1).sum(1)
    return torch.stack([total, -total], 1)


def at(*sums: float, dimensions: int = 4) -> Tensor:
    """Inputs whose coordinates are equal and have these sums; the sup-distance to the threshold is |sum|/dimensions."""
    return (torch.tensor(sums, dtype=torch.float64)[:, None] / dimensions).expand(-1, dimensions).contiguous()


@pytest.mark.parametrize("unit", [1.0, 1 / 255, 40.0])
def test_inputs_within_the_radius_of_a_threshold_are_critical_and_no_others(unit):
    """By a flat boundary the gradient's sign leads straight to it: two steps of 0.25 reach the box's corner."""
    shares = torch.tensor([0.1, 0.8, -0.9, 1.05, -1.5, 3.0]).double()
    x = at(*(4 * R * unit * shares).tolist())
    found = critical_samples(threshold, x=x, unit=unit, seed=0, noise=0.02)
    assert found.critical.tolist() == [True, True, True, False, False, False]
    assert ((found.found_at > 0) == found.critical).all()
    assert (found.found_at[:3] <= 3).all()
    assert (found.found_at[3:] == -1).all()


def test_what_is_found_leaves_the_search_and_the_budget_is_reported():
    """Without noise the nearest is found at the first step, the farther at the second, the last never."""
    x = at(4 * 0.1, 4 * 0.28, 4 * 9.0)
    found = critical_samples(threshold, x=x, unit=1.0, seed=0, noise=0.0, num_steps=7)
    assert found.found_at.tolist() == [1, 2, -1]
    assert found.num_steps == 7
    assert found.num_passes == 2 + 3 + 8


def test_the_ratio_has_an_exact_binomial_interval():
    x = at(*[0.1] * 3, *[90.0] * 17)
    found = critical_samples(threshold, x=x, unit=1.0, seed=0)
    wanted = proportion_interval(3, 20)
    assert found.ratio.value == pytest.approx(0.15)
    assert (found.ratio.low, found.ratio.high) == pytest.approx((wanted.low, wanted.high), rel=1e-9)
    assert found.ratio.count == 20
    assert stats.binom.sf(2, 20, found.ratio.low) == pytest.approx(0.025)


def test_a_feature_with_unit_0_stays_as_it_is():
    """Only the first feature may move, so its share of the way must do."""
    x = at(4 * 0.2, 4 * 0.06)
    unit = torch.tensor([1.0, 0.0, 0.0, 0.0])
    found = critical_samples(threshold, x=x, unit=unit, seed=0)
    assert found.critical.tolist() == [False, True]


def test_certain_answers_are_searched_too():
    """Where p is 1 in floating point −log p has no gradient left; the search goes by what grows with it."""
    found = critical_samples(lambda x: 1e4 * threshold(x), x=at(4 * 0.25), unit=1.0, seed=0, noise=0.0)
    assert found.critical.all()


def test_the_search_stays_in_the_box():
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return threshold(x)

    x = at(5.0)
    critical_samples(watched, x=x, unit=2.0, seed=0, num_steps=30)
    away = torch.stack([part - x for part in seen if len(part) == 1]).abs().amax()
    assert float(away) == pytest.approx(R * 2.0)


def test_an_example_s_search_depends_on_the_seed_and_its_id_alone():
    x = at(*np.linspace(-2, 2, 24).tolist())
    ids = [f"example {row}" for row in range(24)]
    options: dict[str, Any] = {"unit": 1.0, "seed": 3, "noise": 1.0, "step": 0.05, "num_steps": 15}
    whole = critical_samples(threshold, x=x, ids=ids, **options)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    again = critical_samples(threshold, x=x[order], ids=[ids[row] for row in order], memory=1, **options)
    np.testing.assert_array_equal(again.found_at, whole.found_at[order.numpy()])
    assert again.num_passes == whole.num_passes
    other = critical_samples(threshold, x=x, ids=ids, **{**options, "seed": 4})
    assert (other.found_at != whole.found_at).any()


def test_more_steps_find_what_fewer_found():
    x = at(*np.linspace(-2, 2, 40).tolist())
    few, many = (
        critical_samples(threshold, x=x, unit=1.0, seed=0, noise=2.0, step=0.0, num_steps=number) for number in (2, 40)
    )
    assert few.critical.sum() < many.critical.sum()
    assert not (few.critical & ~many.critical).any()
    np.testing.assert_array_equal(many.found_at[few.critical], few.found_at[few.critical])


def test_an_input_without_an_answer_is_not_counted():
    x = at(0.1, 50.0, 0.1)
    x[1, 0] = torch.nan
    found = critical_samples(threshold, x=x, unit=1.0, seed=0)
    assert found.status.tolist() == ["measured", "not finite", "measured"]
    assert found.critical.tolist() == [True, False, True]
    assert (found.ratio.value, found.ratio.count) == (1.0, 2)


def test_of_nothing_nothing_is_known():
    found = critical_samples(threshold, x=torch.zeros(0, 4), unit=1.0, seed=0)
    assert (found.ratio.low, found.ratio.high, found.ratio.count) == (0.0, 1.0, 0)
    assert np.isnan(found.ratio.value)


def test_a_regression_has_no_predicted_class():
    with pytest.raises(ModelError, match="A regression has no classes"):
        critical_samples(lambda x: x.sum(1), x=at(1.0), unit=1.0, seed=0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"radius": 0.0}, "Expected radius above 0"),
        ({"num_steps": 0}, "at least 1 step"),
        ({"step": 0.0, "noise": 0.0}, "not both 0"),
        ({"unit": 0.0}, "Expected unit as a number above 0"),
        ({"unit": torch.ones(1, 4)}, "Expected unit as a number above 0"),
        ({"ids": ["a"]}, "Expected one id for each of 2 examples, got 1"),
    ],
    ids=["radius", "steps", "still", "no unit", "unit of a batch", "ids"],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], words: str):
    search: Callable[..., Any] = inspect.unwrap(critical_samples)
    with pytest.raises(ValueError, match=words):
        search(threshold, x=at(1.0, 2.0), **{"unit": 1.0, "seed": 0, **changed})
