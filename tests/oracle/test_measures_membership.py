"""Membership attacks against the same attack written out: one target, one example, one point at a time."""

import inspect
import math

import numpy as np
import pytest
from scipy import special, stats

from byrote.measures import closeness, lira, log_odds, loss_attack, rmia

NUM_RUNS, NUM_EXAMPLES = 14, 9


@pytest.fixture
def inclusion() -> np.ndarray:
    mask = np.random.default_rng(0).random((NUM_RUNS, NUM_EXAMPLES)) < 0.5
    mask[:, 7] = True
    mask[:, 8] = [True, True] + [False] * (NUM_RUNS - 2)
    return mask


@pytest.fixture
def statistic(inclusion) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.normal(size=NUM_EXAMPLES) * 3 + inclusion + rng.normal(size=inclusion.shape) * (1 + np.arange(9) / 4)


def references(inclusion: np.ndarray, target: int, example: int) -> tuple[list[int], list[int]]:
    """Runs trained on the example and others; without the target, nor the next run of the opposite kind."""
    kind = inclusion[:, example]
    partners = [run % NUM_RUNS for run in range(target + 1, target + NUM_RUNS) if kind[run % NUM_RUNS] != kind[target]]
    left = {target, *partners[:1]}
    rest = [run for run in range(NUM_RUNS) if run not in left]
    return [run for run in rest if kind[run]], [run for run in rest if not kind[run]]


def slow_lira(inclusion: np.ndarray, statistic: np.ndarray, variance: str, *, offline: bool) -> np.ndarray:
    scores = np.full(inclusion.shape, np.nan)
    for target in range(NUM_RUNS):
        sides = [references(inclusion, target, example) for example in range(NUM_EXAMPLES)]
        pooled = []
        for side in (0, 1):
            groups = [statistic[runs[side], i] for i, runs in enumerate(sides) if len(runs[side]) > 1]
            pooled.append(sum(((g - g.mean()) ** 2).sum() for g in groups) / sum(len(g) - 1 for g in groups))
        for example, runs in enumerate(sides):
            if not runs[1] or not (runs[0] or offline):
                continue
            groups = [statistic[run, example] for run in runs]
            spread = [g.var(ddof=1) if len(g) > 1 else np.nan for g in groups] if variance == "example" else pooled
            means = [g.mean() if len(g) else np.nan for g in groups]
            value = statistic[target, example]
            if offline:
                scores[target, example] = (value - means[1]) / math.sqrt(spread[1])
            else:
                logs = [stats.norm.logpdf(value, m, math.sqrt(v)) for m, v in zip(means, spread, strict=True)]
                scores[target, example] = logs[0] - logs[1]
    return scores


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
@pytest.mark.parametrize("variance", ["fixed", "example"])
def test_lira_one_target_and_example_at_a_time(inclusion, statistic, variance, offline):
    attack = lira(inclusion, statistic, offline=offline, variance=variance)
    np.testing.assert_allclose(attack.score, slow_lira(inclusion, statistic, variance, offline=offline), rtol=1e-9)
    assert attack.variance == variance
    assert np.isnan(attack.score[:, 7]).all()
    counts = np.array([[len(runs) for runs in references(inclusion, 0, i)] for i in range(NUM_EXAMPLES)])
    assert attack.num_references[0].tolist() == (counts[:, 1] if offline else counts.min(1)).tolist()


def test_a_member_and_a_non_member_have_equally_many_references(inclusion, statistic):
    """Or the attack would be told the answer by how many there are."""
    attack = lira(inclusion, statistic)
    assert (attack.num_references == attack.num_references[0]).all()


def test_shrunken_variances_lie_between_their_own_and_that_of_all():
    rng = np.random.default_rng(2)
    inclusion = rng.permuted(np.tile((np.arange(40) < 20)[:, None], (1, 300)), axis=0)
    spread = np.exp(rng.normal(size=300))
    statistic = spread * rng.normal(size=inclusion.shape)
    deviations = {
        kind: (statistic - mean_outside(inclusion, statistic)) / lira_offline(inclusion, statistic, kind)
        for kind in ("fixed", "shrunken", "example")
    }
    low = np.minimum(deviations["fixed"], deviations["example"])
    high = np.maximum(deviations["fixed"], deviations["example"])
    assert ((deviations["shrunken"] >= low - 1e-9) & (deviations["shrunken"] <= high + 1e-9)).all()


def lira_offline(inclusion: np.ndarray, statistic: np.ndarray, variance) -> np.ndarray:
    return lira(inclusion, statistic, offline=True, variance=variance).score


def mean_outside(inclusion: np.ndarray, statistic: np.ndarray) -> np.ndarray:
    """Of each target's references that were not trained on the example."""
    num_runs = len(inclusion)
    means = np.empty(statistic.shape)
    for target in range(num_runs):
        for example in range(statistic.shape[1]):
            outside = ~inclusion[:, example]
            following = [run % num_runs for run in range(target, target + num_runs) if outside[run % num_runs]]
            outside[following[0]] = False
            means[target, example] = statistic[outside, example].mean()
    return means


def test_an_example_with_one_reference_on_a_side_is_judged_by_the_variance_of_all(inclusion, statistic):
    assert inclusion[:, 8].sum() == 2
    known = {
        kind: ~np.isnan(lira(inclusion, statistic, variance=kind).score) for kind in ("fixed", "shrunken", "example")
    }
    assert known["fixed"][:, 8].all()
    assert known["shrunken"][:, 8].all()
    assert not known["example"][:, 8].any()


def test_examples_of_one_variance_are_given_one():
    """120 examples of 8 runs a side: were their sample variances believed, they would differ tenfold."""
    rng = np.random.default_rng(3)
    inclusion = rng.permuted(np.tile((np.arange(20) < 10)[:, None], (1, 400)), axis=0)
    statistic = rng.normal(size=inclusion.shape)
    scale = [
        np.abs((statistic - mean_outside(inclusion, statistic)) / lira_offline(inclusion, statistic, kind))
        for kind in ("shrunken", "example")
    ]
    assert scale[0].std() < 0.2 * scale[1].std()


def test_few_references_are_not_asked_for_the_variance_of_one_example(statistic):
    """Per-example variances from few models make a worse attack than one for all (pitfall of others)."""
    rng = np.random.default_rng(4)
    for num_runs, expected in ((8, "fixed"), (16, "fixed"), (18, "shrunken"), (64, "shrunken")):
        inclusion = rng.permuted(np.tile((np.arange(num_runs) < num_runs / 2)[:, None], (1, 50)), axis=0)
        assert lira(inclusion, rng.normal(size=inclusion.shape)).variance == expected


def test_with_few_references_the_chosen_variance_catches_more_than_each_examples_own():
    rng = np.random.default_rng(5)
    inclusion = rng.permuted(np.tile((np.arange(10) < 5)[:, None], (1, 4000)), axis=0)
    statistic = rng.normal(size=4000) + 2 * inclusion + rng.normal(size=inclusion.shape)
    caught = {}
    for kind in (None, "example"):
        score = lira(inclusion, statistic, variance=kind).score
        caught[kind] = (score[inclusion] > np.quantile(score[~inclusion], 0.99)).mean()
    assert caught[None] > 3 * caught["example"]


def test_runs_that_answer_alike_are_told_apart_all_the_same():
    """A variance of 0 is known to rounding only."""
    inclusion = np.array([[True], [False]] * 4)
    score = lira(inclusion, np.where(inclusion, 3.0, 1.0)).score
    assert np.isfinite(score).all()
    assert ((score > 0) == inclusion).all()
    assert (lira(inclusion, np.full((8, 1), 3.0)).score == 0).all()


def test_a_run_that_measured_nothing_is_neither_target_nor_reference(inclusion, statistic):
    broken = statistic.copy()
    broken[3] = np.nan
    rest = np.arange(NUM_RUNS) != 3
    attack = lira(inclusion, broken, variance="fixed")
    np.testing.assert_allclose(attack.score[rest], lira(inclusion[rest], statistic[rest], variance="fixed").score)
    assert np.isnan(attack.score[3]).all()
    assert (attack.num_references[3] == 0).all()


def test_log_odds_are_the_logarithm_of_the_odds():
    rng = np.random.default_rng(6)
    logits, targets = rng.normal(size=(3, 5, 4)), rng.integers(4, size=5)
    p = special.softmax(logits, axis=2)[:, np.arange(5), targets]
    assert log_odds(logits, targets) == pytest.approx(np.log(p / (1 - p)))
    assert log_odds(np.log(special.softmax(logits, axis=2)), targets) == pytest.approx(np.log(p / (1 - p)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_odds_do_not_saturate_where_softmax_does(dtype):
    """Taken from softmax, all of these are infinite, and the surest answers cannot be told apart."""
    logits = np.array([[[200.0, 0.0, 0.0], [0.0, 300.0, 0.0], [-500.0, 0.0, 0.0]]]).astype(dtype)
    targets = np.array([0, 1, 0])
    expected = [200 - math.log(2), 300 - math.log(2), -500 - math.log(2)]
    assert log_odds(logits, targets)[0].tolist() == pytest.approx(expected)


def test_the_order_of_classes_changes_nothing_once_targets_name_columns():
    rng = np.random.default_rng(7)
    logits, targets, order = rng.normal(size=(2, 6, 5)), rng.integers(5, size=6), rng.permutation(5)
    assert log_odds(logits[:, :, order], np.argsort(order)[targets]) == pytest.approx(log_odds(logits, targets))


def test_probabilities_are_not_taken_for_logits():
    p = special.softmax(np.random.default_rng(8).normal(size=(2, 6, 5)), axis=2)
    with pytest.raises(ValueError, match="got probabilities: rows sum to 1"):
        inspect.unwrap(log_odds)(p.astype(np.float32), np.zeros(6, int))


def test_class_names_are_not_taken_for_columns():
    with pytest.raises(ValueError, match="0 to 2, got 1 to 3"):
        inspect.unwrap(log_odds)(np.zeros((1, 3, 3)), np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="at least two classes"):
        inspect.unwrap(log_odds)(np.zeros((1, 3, 1)), np.zeros(3, int))
    with pytest.raises(ValueError, match="a target for each example"):
        inspect.unwrap(log_odds)(np.zeros((1, 3, 2)), np.zeros(4, int))


def test_rounded_probabilities_are_refused():
    with pytest.raises(ValueError, match="got infinity"):
        inspect.unwrap(lira)(np.array([[True], [False]]), np.array([[np.inf], [0.0]]))
    with pytest.raises(TypeError, match="boolean mask"):
        inspect.unwrap(lira)(np.ones((2, 1)), np.ones((2, 1)))
    with pytest.raises(ValueError, match="of one shape"):
        inspect.unwrap(lira)(np.ones((2, 1), bool), np.ones((2, 2)))


def slow_rmia(inclusion, log_p, population, *, offline: bool, gamma: float, slope: float) -> np.ndarray:
    """One target, example and point at a time, with likelihoods as they are."""

    def approximate(mean: float) -> float:
        return ((1 + slope) * mean + 1 - slope) / 2

    def ratio(target: int, example: int) -> float:
        inside, outside = references(inclusion, target, example)
        if not outside:
            return math.nan
        mean = np.exp(log_p[outside, example]).mean()
        if offline or not inside:
            return math.exp(log_p[target, example]) / approximate(mean)
        return math.exp(log_p[target, example]) / ((np.exp(log_p[inside, example]).mean() + mean) / 2)

    scores = np.full(inclusion.shape, np.nan)
    for target in range(NUM_RUNS):
        ratios = np.array([ratio(target, example) for example in range(NUM_EXAMPLES)])
        others = [run for run in range(NUM_RUNS) if run != target]
        for example in range(NUM_EXAMPLES):
            if population is None:
                points = [ratios[i] for i in range(NUM_EXAMPLES) if i != example and not np.isnan(ratios[i])]
            else:
                means = [approximate(np.exp(population[others, z]).mean()) for z in range(population.shape[1])]
                points = list(np.exp(population[target]) / means)
            if not np.isnan(ratios[example]):
                scores[target, example] = np.mean([ratios[example] / point >= gamma for point in points])
    return scores


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
@pytest.mark.parametrize("given", [True, False], ids=["population", "each other"])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_one_target_example_and_point_at_a_time(inclusion, statistic, given, offline, gamma):
    population = -np.random.default_rng(9).exponential(size=(NUM_RUNS, 21)) if given else None
    log_p = special.log_expit(statistic)
    attack = rmia(inclusion, log_p, population=population, offline=offline, gamma=gamma, offline_slope=0.4)
    expected = slow_rmia(inclusion, log_p, population, offline=offline, gamma=gamma, slope=0.4)
    np.testing.assert_allclose(attack.score, expected, atol=1e-12)
    assert np.isnan(attack.score[:, 7]).all()
    assert attack.variance is None


def test_where_no_reference_was_trained_on_it_rmia_is_offline(inclusion, statistic):
    inclusion[:, 8] = False
    log_p, population = special.log_expit(statistic), np.full((NUM_RUNS, 1), -0.5)
    online, offline = (rmia(inclusion, log_p, population=population, offline=each) for each in (False, True))
    assert (online.score[:, 8] == offline.score[:, 8]).all()
    assert (online.num_references[:, 8] == NUM_RUNS - 1).all()


def test_likelihoods_that_no_float_can_hold_are_compared_all_the_same():
    inclusion = np.array([[True], [False]] * 4)
    log_p = np.where(inclusion, -1000.0, -1010.0)
    score = rmia(inclusion, log_p, population=np.full((8, 1), -1.0), offline_slope=1.0, gamma=1.9).score
    assert (
        score == inclusion
    ).all()  # a member is 2/(1 + exp(−10)) times as likely as the mean, a point just as likely


def test_rmia_refuses_what_is_no_log_likelihood():
    attack, mask = inspect.unwrap(rmia), np.array([[True], [False]])
    with pytest.raises(ValueError, match=r"at most 0, got 0\.5"):
        attack(mask, np.full((2, 1), 0.5))
    with pytest.raises(ValueError, match="a row for each of 2 runs"):
        attack(mask, np.zeros((2, 1)), population=np.zeros((3, 4)))
    with pytest.raises(ValueError, match="at most 0 in the population"):
        attack(mask, np.zeros((2, 1)), population=np.ones((2, 4)))
    with pytest.raises(ValueError, match="gamma at least 1"):
        attack(mask, np.zeros((2, 1)), gamma=0.5)
    with pytest.raises(ValueError, match=r"offline_slope in \[0, 1\]"):
        attack(mask, np.zeros((2, 1)), offline_slope=2.0)


def test_the_loss_alone_needs_no_references():
    attack = loss_attack(np.array([[0.5, np.nan]]))
    assert attack.score[0, 0] == -0.5
    assert np.isnan(attack.score[0, 1])
    assert attack.num_references.tolist() == [[0, 0]]


def test_numbers_are_attacked_by_how_close_they_were_answered():
    assert closeness(np.array([[1.0, 5.0]]), np.array([3.0, 4.0])).tolist() == [[-2.0, -1.0]]
    with pytest.raises(ValueError, match="one target for each column"):
        inspect.unwrap(closeness)(np.zeros((2, 3)), np.zeros(2))
