"""Memorisation from very few runs, on whatever data: an interval is always one that can be."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from byrote.measures import EfficientMemorisation, efficient_memorisation

ROUNDING = 1e-12


class Runs(NamedTuple):
    inclusion: np.ndarray
    correct: np.ndarray
    margin: np.ndarray


SUBSETS = ("independent", "balanced", "one run left out of everything")
MARGINS = (
    "ordinary",
    "all correct",
    "none correct",
    "constant",
    "all the same",
    "huge",
    "tiny",
    "beyond squaring",
    "below squaring",
    "nothing to do with right answers",
)


def made(subsets: str, kind: str, *, num_runs: int, num_examples: int, seed: int) -> Runs:
    rng = np.random.default_rng(seed)
    shape, rows = (num_runs, num_examples), np.arange(num_runs)
    inclusion = {
        "independent": rng.random(shape) < rng.choice([0.3, 0.5, 0.7, 0.9]),
        "balanced": rng.permuted(
            np.tile(np.arange(num_runs) < max(1, round(0.7 * num_runs)), (num_examples, 1)), axis=1
        ).T,
        "one run left out of everything": np.tile(rows[:, None] > 0, (1, num_examples)),
    }[subsets]
    margin = rng.normal(size=shape) + rng.normal(1, 2, num_examples) + inclusion * rng.exponential(1, num_examples)
    margin = {
        "all correct": np.abs(margin),
        "none correct": -np.abs(margin),
        "constant": np.where(inclusion, 1.0, -1.0),
        "all the same": np.ones(shape),
        "huge": 1e6 * margin,
        "tiny": 1e-9 * margin,
        "beyond squaring": 1e300 * margin,
        "below squaring": 1e-300 * margin,
    }.get(kind, margin)
    correct = rng.random(shape) < 0.5 if kind == "nothing to do with right answers" else margin > 0
    return Runs(inclusion, correct, margin)


@st.composite
def few_runs(draw: st.DrawFn) -> Runs:
    return made(
        draw(st.sampled_from(SUBSETS)),
        draw(st.sampled_from(MARGINS)),
        num_runs=draw(st.integers(2, 9)),
        num_examples=draw(st.integers(4, 50)),
        seed=draw(st.integers(0, 2**20)),
    )


def check(scores: EfficientMemorisation) -> None:
    """Whatever has the status `estimated` can be; whatever has another says nothing."""
    known = scores.status == "estimated"
    for parts in (scores, scores.included, scores.heldout):
        least = -1 if parts is scores else 0
        value, se, low, high = (getattr(parts, name)[known] for name in ("value", "se", "low", "high"))
        assert np.isfinite([value, se, low, high]).all()
        assert (least - ROUNDING <= low).all()
        assert (low <= value + ROUNDING).all()
        assert (value <= high + ROUNDING).all()
        assert (high <= 1 + ROUNDING).all()
        assert (se > 0.001).all(), "so few runs are never so sure"
        assert np.isnan(parts.value[~known]).all()


@settings(max_examples=150, deadline=None)
@given(few_runs())
@example(made("balanced", "all the same", num_runs=4, num_examples=44, seed=137))
def test_values_lie_in_their_intervals_and_intervals_among_what_can_be(runs: Runs) -> None:
    scores = efficient_memorisation(runs.inclusion, runs.correct, margin=runs.margin)
    check(scores)
    if len(runs.inclusion) < 8:
        known = scores.status == "estimated"
        for chance in (scores.included, scores.heldout):
            one_side = np.maximum(chance.high - chance.value, chance.value - chance.low)[known]
            assert (one_side > 1.9 * chance.se[known]).all(), "an interval is no narrower than its own standard error"


@settings(max_examples=40, deadline=None)
@given(few_runs(), st.integers(0, 2**20))
def test_covariates_of_any_size_leave_intervals_that_can_be(runs: Runs, seed: int) -> None:
    covariate = 10.0 ** np.random.default_rng(seed).integers(-300, 300) * runs.margin[::-1].clip(-1, 1)
    check(efficient_memorisation(runs.inclusion, runs.correct, margin=runs.margin, covariates=[covariate]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_margin_that_is_no_number_spoils_its_own_example_alone(value: float) -> None:
    runs = made("balanced", "ordinary", num_runs=6, num_examples=30, seed=0)
    spoilt = runs.margin.copy()
    spoilt[2, 5] = value
    whole = efficient_memorisation(runs.inclusion, runs.correct, margin=spoilt)
    rest = np.delete(np.arange(30), 5)
    without = efficient_memorisation(runs.inclusion[:, rest], runs.correct[:, rest], margin=runs.margin[:, rest])
    assert whole.status[5] == "not finite"
    assert np.isnan([whole.value[5], whole.low[5], whole.high[5]]).all()
    check(whole)
    np.testing.assert_array_equal(whole.value[rest], without.value)


@pytest.mark.parametrize("num_runs", [4, 6, 10])
def test_the_unit_of_margins_does_not_matter(num_runs: int) -> None:
    """Powers of two, so that nothing is rounded; up to where squares are infinite, and down to where they are 0."""
    runs = made("balanced", "ordinary", num_runs=num_runs, num_examples=40, seed=1)
    ours = efficient_memorisation(runs.inclusion, runs.correct, margin=runs.margin)
    for power in (-900, -40, 40, 900):
        other = efficient_memorisation(runs.inclusion, runs.correct, margin=runs.margin * 2.0**power)
        np.testing.assert_allclose(other.value, ours.value, rtol=1e-9)
        np.testing.assert_allclose(other.low, ours.low, rtol=1e-9, atol=1e-12)
