"""Intervals over seeds and examples cover the truth as often as they say, or oftener."""

import numpy as np
import pytest
from scipy import stats

from byrote.studies.certainty import crossed_interval

NUM_SETS = 400


@pytest.mark.parametrize(
    ("num_runs", "num_examples", "of_runs", "of_examples"),
    [(3, 50, 0.0, 1.0), (5, 200, 0.3, 1.0), (20, 20, 1.0, 1.0), (4, 500, 1.0, 0.5)],
)
def test_both_kinds_of_chance_are_covered(num_runs: int, num_examples: int, of_runs: float, of_examples: float) -> None:
    covered = 0
    for seed in range(NUM_SETS):
        rng = np.random.default_rng(seed)
        values = of_runs * rng.standard_normal((num_runs, 1)) + of_examples * rng.standard_normal(num_examples)
        interval = crossed_interval(values + rng.standard_normal(values.shape), groups=None, binary=False)
        covered += interval.low <= 0 <= interval.high
    assert covered >= stats.binom.ppf(0.001, NUM_SETS, 0.95)


@pytest.mark.parametrize("truth", [0.02, 0.5, 0.97])
def test_right_and_wrong_answers_are_covered_even_when_nearly_all_agree(truth: float) -> None:
    covered = 0
    for seed in range(NUM_SETS):
        rng = np.random.default_rng(seed)
        right = rng.beta(5 * truth, 5 * (1 - truth), size=60)
        values = (rng.random((4, 60)) < right).astype(float)
        interval = crossed_interval(values, groups=None, binary=True)
        covered += interval.low <= truth <= interval.high
    assert covered >= stats.binom.ppf(0.001, NUM_SETS, 0.95)


def test_examples_that_come_in_groups_are_not_counted_as_many() -> None:
    covered = {"groups": 0, "alone": 0}
    for seed in range(NUM_SETS):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(25), 8)
        values = rng.standard_normal(25)[group] + 0.3 * rng.standard_normal((4, 200))
        for name, groups in (("groups", group), ("alone", None)):
            interval = crossed_interval(values, groups=groups, binary=False)
            covered[name] += interval.low <= 0 <= interval.high
    assert covered["groups"] >= stats.binom.ppf(0.001, NUM_SETS, 0.95)
    assert covered["alone"] < 0.7 * NUM_SETS
