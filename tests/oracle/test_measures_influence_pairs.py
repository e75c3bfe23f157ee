"""High-influence pairs against the whole matrix of influences, and against tests written out."""

import inspect
import sys
import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from byrote.measures import influence, influence_pairs, memorisation


class Population:
    """Twelve training examples, of which three decide a test example each."""

    def __init__(self, seed: int, *, num_runs: int = 40, num_examples: int = 12, num_tests: int = 30) -> None:
        rng = np.random.default_rng(seed)
        self.inclusion = rng.random((num_runs, num_examples)) < 0.6
        self.correct = rng.random((num_runs, num_examples)) < 0.3 + 0.6 * self.inclusion
        self.correct_test = rng.random((num_runs, num_tests)) < 0.5
        for pair in range(3):
            self.correct_test[:, pair] = self.inclusion[:, pair]
        self.margin = self.correct_test + rng.normal(0, 0.2, size=(num_runs, num_tests))

    @property
    def memorised(self) -> np.ndarray:
        return memorisation(self.inclusion, self.correct).value


@pytest.mark.parametrize("kind", ["right or wrong", "real"])
@pytest.mark.parametrize("block", [1, 32 * 2**20], ids=["row by row", "at once"])
def test_the_pairs_are_those_of_the_whole_matrix(monkeypatch, kind, block):
    monkeypatch.setattr(sys.modules[influence_pairs.__module__], "BLOCK_BYTES", block)
    p = Population(0)
    values = p.correct_test if kind == "right or wrong" else p.margin
    whole = influence(p.inclusion, values)
    high = (p.memorised[:, None] >= 0.25) & (whole.value >= 0.15 - 1e-9)
    found = influence_pairs(p.inclusion, values, memorisation=p.memorised)
    assert set(zip(found.train.tolist(), found.test.tolist(), strict=True)) == set(
        zip(*(each.tolist() for each in np.nonzero(high)), strict=True)
    )
    assert found.influence.value == pytest.approx(whole.value[found.train, found.test])
    assert found.influence.se == pytest.approx(whole.se[found.train, found.test])
    assert found.influence.count.tolist() == whole.count[found.train, found.test].tolist()
    assert (np.diff(found.influence.value) <= 0).all()
    assert found.num_compared == 12 * 30


def test_p_values_are_fishers_exact_ones():
    p = Population(1)
    found = influence_pairs(p.inclusion, p.correct_test, memorisation=np.ones(12), least_influence=-1.0)
    assert len(found.train) == 12 * 30
    for train, test, p_value in zip(found.train, found.test, found.p_value, strict=True):
        inside, right = p.inclusion[:, train], p.correct_test[:, test]
        table = [[(inside & right).sum(), (inside & ~right).sum()], [(~inside & right).sum(), (~inside & ~right).sum()]]
        assert p_value == pytest.approx(stats.fisher_exact(table, alternative="greater")[1], rel=1e-9)


def test_p_values_of_real_values_are_mann_and_whitneys_exact_ones():
    p = Population(2)
    found = influence_pairs(p.inclusion, p.margin, memorisation=np.ones(12), least_influence=-9.0)
    assert len(found.train) == 12 * 30
    for train, test, p_value in zip(found.train, found.test, found.p_value, strict=True):
        inside = p.inclusion[:, train]
        assert p_value == pytest.approx(_rank_sum(p.margin[inside, test], p.margin[~inside, test]), rel=1e-9)


@pytest.mark.parametrize("num_levels", [2, 3, 5])
@pytest.mark.parametrize(("num_runs", "num_included"), [(8, 4), (12, 8), (14, 4)])
def test_with_ties_p_values_are_those_of_every_order_or_larger(num_levels, num_runs, num_included):
    """All ways to choose the runs. What is above 0.01 may be too small by 7 %; above 0.05 nobody goes by it."""
    rng = np.random.default_rng(num_levels)
    inclusion = np.arange(num_runs)[:, None] < num_included
    values = rng.integers(0, num_levels, size=(num_runs, 300)) / 2
    values[:, ::3] += rng.integers(0, 2, size=(num_runs, 100)) * inclusion
    values[:, 0] = inclusion[:, 0] / 2
    found = influence_pairs(inclusion, values, memorisation=np.ones(1), least_influence=-9.0)
    ways = np.array([np.isin(np.arange(num_runs), way) for way in combinations(range(num_runs), num_included)])
    for test, p_value in zip(found.test, found.p_value, strict=True):
        sums = ways @ stats.rankdata(values[:, test])
        chance = np.mean(sums >= sums[0] - 1e-9)
        if p_value < 0.05:
            assert p_value >= chance * (0.93 if p_value > 0.01 else 1 - 1e-9)
    assert found.p_value.min() == pytest.approx(1 / len(ways))


def test_the_p_value_of_very_many_runs_is_at_most_twice_the_exact_one():
    """130 x 110 pairs of runs: the normal distribution, whose tails are heavier, stands in, here down to 10⁻⁸."""
    rng = np.random.default_rng(9)
    inclusion, shift = np.arange(240)[:, None] < 130, np.linspace(0, 0.6, 30)
    values = rng.normal(size=(240, 30)) + inclusion * shift
    found = influence_pairs(inclusion, values, memorisation=np.ones(1), least_influence=-9.0)
    for test, p_value in zip(found.test, found.p_value, strict=True):
        exact = _rank_sum(values[:130, test], values[130:, test])
        assert exact * 0.995 <= p_value <= exact * 2


@pytest.mark.parametrize("num_runs", [6, 10, 20, 40])
@pytest.mark.parametrize("noise", ["squares", "heavy tails", "uneven"])
def test_of_numbers_that_depend_on_nothing_no_more_is_told_than_the_rate(num_runs, noise):
    """Where all pairs are chance, the rate is how often anything is told: at most 1 in 10 of 40 repetitions."""
    rng, told = np.random.default_rng(num_runs), 0
    for _ in range(40):
        order = rng.random((num_runs, 100)).argsort(0)
        inclusion, drawn = order < round(0.7 * num_runs), rng.standard_normal((num_runs, 100))
        values = {
            "squares": -(drawn**2),
            "heavy tails": rng.standard_t(3, size=drawn.shape),
            "uneven": -((drawn + 3 * rng.standard_normal(100)) ** 2),
        }[noise]
        found = influence_pairs(inclusion, values, memorisation=np.ones(100), false_discovery_rate=0.1)
        told += len(found.train) > 0
    assert told <= stats.binom.isf(0.001, 40, 0.1)


def test_few_runs_tell_of_pairs_when_there_are_few_pairs():
    """Six runs of twelve, one pair: p is 1/924, where Welch's test would make of it what it likes."""
    inclusion = np.arange(12)[:, None] < 6
    found = influence_pairs(inclusion, inclusion + 0.01 * np.arange(12)[:, None], memorisation=np.ones(1))
    assert found.p_value == pytest.approx([1 / 924])


def test_control_keeps_what_benjamini_and_hochberg_would_of_all_pairs():
    p = Population(3)
    everything = influence_pairs(p.inclusion, p.correct_test, memorisation=p.memorised)
    p_values = np.ones((12, 30))
    p_values[everything.train, everything.test] = everything.p_value
    rejected = stats.false_discovery_control(p_values.ravel(), method="bh").reshape(p_values.shape) <= 0.1
    found = influence_pairs(p.inclusion, p.correct_test, memorisation=p.memorised, false_discovery_rate=0.1)
    assert set(zip(found.train.tolist(), found.test.tolist(), strict=True)) == set(
        zip(*(each.tolist() for each in np.nonzero(rejected)), strict=True)
    )
    assert {(0, 0), (1, 1), (2, 2)} <= set(zip(found.train.tolist(), found.test.tolist(), strict=True))
    assert len(found.train) < len(everything.train)


@pytest.mark.parametrize("kind", ["right or wrong", "real"])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(6))
def test_pairs_counted_on_the_way_are_those_that_the_rule_keeps_of_all(kind, rate, seed):
    """Whether inclusion is balanced or not, and many pairs, few or none pass."""
    p = Population(seed, num_runs=8 + 9 * seed, num_examples=25, num_tests=60)
    values = p.correct_test if kind == "right or wrong" else p.margin
    p_values = np.ones((25, 60))
    for train in range(25):
        for test in range(60):
            inside = p.inclusion[:, train]
            sides = values[inside, test].astype(float), values[~inside, test].astype(float)
            if p.memorised[train] >= 0.25 and sides[0].mean() - sides[1].mean() >= 0.15 - 1e-9:
                p_values[train, test] = _p_value(*sides, exact=kind == "right or wrong")
    kept = stats.false_discovery_control(p_values.ravel(), method="bh").reshape(p_values.shape) <= rate
    found = influence_pairs(p.inclusion, values, memorisation=p.memorised, false_discovery_rate=rate)
    assert np.array_equal(np.argwhere(kept), np.array(sorted(zip(found.train, found.test, strict=True))).reshape(-1, 2))
    assert found.p_value == pytest.approx(p_values[found.train, found.test], rel=1e-6)
    order = np.lexsort((found.test, found.train, -found.influence.value))
    assert order.tolist() == list(range(len(order)))


def _p_value(inside: np.ndarray, outside: np.ndarray, *, exact: bool) -> float:
    if exact:
        table = [[side.sum(), len(side) - side.sum()] for side in (inside, outside)]
        return float(np.asarray(stats.fisher_exact(table, alternative="greater"))[1])
    return _rank_sum(inside, outside)


def _rank_sum(inside: np.ndarray, outside: np.ndarray) -> float:
    return float(np.asarray(stats.mannwhitneyu(inside, outside, alternative="greater", method="exact"))[1])


def test_an_estimate_at_the_threshold_reaches_it():
    """7/20 − 4/20 is 0.15, though floats fall short of it."""
    inclusion = np.arange(40)[:, None] < 20
    correct_test = np.concatenate([np.arange(20) < 7, np.arange(20) < 4])[:, None]
    assert influence(inclusion, correct_test).value.item() < 0.15
    found = influence_pairs(inclusion, correct_test, memorisation=np.array([0.25]))
    assert found.train.tolist() == [0]


def test_examples_that_are_not_memorised_or_not_known_have_no_pairs():
    p = Population(4)
    p.inclusion[:, 1] = True
    scores = np.array([0.2, 0.9, np.nan, *[0.9] * 9])
    found = influence_pairs(p.inclusion, p.correct_test, memorisation=scores, least_influence=-1.0)
    assert set(found.train.tolist()) == set(range(3, 12))


def test_nothing_found_is_an_empty_answer():
    p = Population(5)
    found = influence_pairs(p.inclusion, p.correct_test, memorisation=np.zeros(12), false_discovery_rate=0.05)
    assert (len(found.train), len(found.influence), len(found.p_value)) == (0, 0, 0)


def test_the_whole_matrix_is_never_held():
    """5,000 × 4,000 influences would take 160 MB."""
    rng = np.random.default_rng(6)
    inclusion, correct_test = rng.random((10, 5000)) < 0.5, rng.random((10, 4000)) < 0.5
    memorised = np.ones(5000)
    tracemalloc.start()
    found = inspect.unwrap(influence_pairs)(inclusion, correct_test, memorisation=memorised, least_influence=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.train) > 0
    assert peak < 8 * 5000 * 4000 / 3


@pytest.mark.parametrize("kind", ["right or wrong", "real"])
def test_pairs_that_chance_lifts_above_the_threshold_are_never_held(kind):
    """Six numbers of each would be returned if they were not left out by the rule."""
    rng = np.random.default_rng(7)
    inclusion, values = rng.random((40, 3000)) < 0.5, (rng.random((40, 4000)) < 0.5).astype(float)
    values[:, 0] = inclusion[:, 0]
    values += rng.normal(0, 0.1, size=values.shape) if kind == "real" else 0.0
    mask = inclusion.T.astype(float)
    means = mask @ values / mask.sum(1)[:, None], (1 - mask) @ values / (1 - mask).sum(1)[:, None]
    num_above = int((means[0] - means[1] >= 0.15).sum())
    tracemalloc.start()
    found = inspect.unwrap(influence_pairs)(inclusion, values, memorisation=np.ones(3000), false_discovery_rate=0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (0, 0) in set(zip(found.train.tolist(), found.test.tolist(), strict=True))
    assert len(found.train) < num_above / 1000
    assert peak < 6 * 8 * num_above


def test_what_does_not_fit_is_refused():
    pairs, mask = inspect.unwrap(influence_pairs), np.ones((4, 3), bool)
    with pytest.raises(TypeError, match="boolean mask"):
        pairs(mask.astype(int), np.ones((4, 2)), memorisation=np.ones(3))
    with pytest.raises(ValueError, match="one row for each run"):
        pairs(mask, np.ones((5, 2)), memorisation=np.ones(3))
    with pytest.raises(ValueError, match="a memorisation score for each of 3 examples"):
        pairs(mask, np.ones((4, 2)), memorisation=np.ones(2))
    with pytest.raises(ValueError, match="finite, got nan of run 3 and test example 1"):
        pairs(mask, np.array([[1, 1], [1, 1], [1, 1], [1, np.nan]]), memorisation=np.ones(3))
    with pytest.raises(ValueError, match=r"rate in \(0, 1\), got 5"):
        pairs(mask, np.ones((4, 2)), memorisation=np.ones(3), false_discovery_rate=5)
