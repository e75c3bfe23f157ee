"""Membership attacks and the intervals of their success, where the truth is known.

Scores are Gaussian, so the area under the curve and the share of members caught at any rate have closed forms. Each
test draws a number of populations fixed beforehand and counts how often an interval holds the truth; an honest 95 %
interval holds it between `FEWEST` and always, `FEWEST` being what chance undercuts once in 1,000 times.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

import byrote
from byrote.data import balanced_subset
from byrote.measures import (
    Variance,
    caught_at,
    group_risk,
    influence_pairs,
    lira,
    log_odds,
    membership_risk,
    pooled_auc,
    rmia,
)

NUM_DRAWN = 200
FEWEST = int(stats.binom.ppf(0.001, NUM_DRAWN, 0.95))
SHIFT = 1.5
"""By how much members score higher, in standard deviations of one score alone."""


class Scores(NamedTuple):
    score: np.ndarray
    member: np.ndarray


class Setting(NamedTuple):
    """How far runs, and examples, raise or lower all their scores."""

    runs: float
    examples: float
    num_runs: int = 24
    num_examples: int = 250

    def draw(self, seed: int) -> Scores:
        rng = np.random.default_rng(seed)
        shape = self.num_runs, self.num_examples
        member = rng.random(shape) < 0.5
        run, example = (
            self.runs * rng.normal(size=(self.num_runs, 1)),
            self.examples * rng.normal(size=self.num_examples),
        )
        return Scores(run + example + rng.normal(size=shape) + SHIFT * member, member)

    @property
    def separation(self) -> float:
        """In standard deviations of a score drawn from any run and example."""
        return SHIFT / np.sqrt(1 + self.runs**2 + self.examples**2)

    @property
    def auc(self) -> float:
        return float(stats.norm.cdf(self.separation / np.sqrt(2)))

    def caught_at(self, rate: float) -> float:
        return float(stats.norm.sf(stats.norm.isf(rate) - self.separation))


INDEPENDENT = Setting(0.0, 0.0)
DEPENDENT = Setting(0.4, 0.5)


@pytest.mark.parametrize(
    ("setting", "clusters"),
    [(INDEPENDENT, "none"), (Setting(0.4, 0.0), "runs"), (DEPENDENT, "both")],
    ids=["independent scores", "runs differ", "runs and examples differ"],
)
def test_bands_hold_the_share_caught_and_the_area(setting, clusters):
    held = np.zeros((NUM_DRAWN, 3), bool)
    resolved = np.zeros(NUM_DRAWN, bool)
    for seed in range(NUM_DRAWN):
        drawn = setting.draw(seed)
        area = pooled_auc(*drawn, clusters=clusters)
        catches = caught_at(*drawn, rates=(0.01, 0.1), clusters=clusters)
        bands = [catch.true_positive_rate for catch in catches]
        truths = [setting.auc, setting.caught_at(0.01), setting.caught_at(0.1)]
        held[seed] = [band.low <= truth <= band.high for band, truth in zip([area, *bands], truths, strict=True)]
        resolved[seed] = all(catch.status == "resolved" for catch in catches)
    assert (held.sum(0) >= FEWEST).all()
    assert resolved.mean() > 0.9


def test_a_band_for_independent_scores_does_not_hold_for_dependent_ones():
    held = 0
    for seed in range(NUM_DRAWN):
        band = caught_at(*DEPENDENT.draw(seed), rates=(0.1,), clusters="none")[0].true_positive_rate
        held += band.low <= DEPENDENT.caught_at(0.1) <= band.high
    assert held < FEWEST


def test_clopper_and_pearson_alone_would_take_the_threshold_for_known():
    """With 100 false positives the threshold is more uncertain than the share of 3,000 members above it."""
    held = 0
    for seed in range(NUM_DRAWN):
        score, member = INDEPENDENT.draw(seed)
        members, others = score[member], np.sort(score[~member])[::-1]
        above = int((members > others[int(0.01 * len(others))]).sum())
        band = stats.binomtest(above, len(members)).proportion_ci(0.95, "exact")
        held += band.low <= INDEPENDENT.caught_at(0.01) <= band.high
    assert held < 0.7 * NUM_DRAWN


def halves(num_runs: int, num_examples: int, seed: int) -> np.ndarray:
    """Each example is trained on by half the runs."""
    chosen = np.tile((np.arange(num_runs) < num_runs // 2)[:, None], (1, num_examples))
    return np.random.default_rng(seed).permuted(chosen, axis=0)


@pytest.mark.parametrize("scale", [1.0, 0.4], ids=["equal spread", "members closer together"])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_an_examples_risk_is_as_uncertain_as_it_says(shift, scale):
    """3,000 examples: a share of 95 % is known to 0.4 points; 40 runs are few, so 92 % will do."""
    member = halves(40, 3000, seed=1)
    noise = np.random.default_rng(2).normal(size=member.shape)
    risk = membership_risk(np.where(member, shift + scale * noise, noise), member).auc
    z = (risk.value - stats.norm.cdf(shift / np.hypot(1, scale))) / risk.se
    assert abs(z.mean()) < 0.15
    assert 0.92 < (np.abs(z) < 1.96).mean() < 0.98


def test_a_groups_interval_holds_the_mean_risk_though_its_examples_depend_on_one_another():
    """Ten examples that a run gets right or wrong together, forty times."""
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        member = np.repeat(halves(30, 10, seed), 10, axis=1)
        noise = np.repeat(rng.normal(size=(30, 10)), 10, axis=1)
        found = group_risk(noise + SHIFT * member, member, groups=np.arange(100) // 10)
        held += ((found.low <= INDEPENDENT.auc) & (INDEPENDENT.auc <= found.high)).tolist()
    assert np.mean(held) > stats.binom.ppf(0.001, 400, 0.95) / 400


@pytest.mark.parametrize("num_runs", [10, 20, 60])
def test_where_nothing_leaks_no_example_and_no_class_is_said_to_be_exposed(num_runs: int) -> None:
    """Through the door: outputs that know nothing of who was trained on what. References shared by the two sides of a
    comparison would hold the mean below a half.
    """
    rng, mask = np.random.default_rng(num_runs), halves(num_runs, 2000, seed=num_runs)
    logits, targets = rng.normal(size=(num_runs, 2000, 3)), rng.integers(3, size=2000)
    table = byrote.scores(mask, logits=logits, targets=targets)
    risk, error = (table[name].astype(float) for name in ("membership_risk", "membership_risk_se"))
    assert abs(risk.mean() - 0.5) < 4 * risk.std() / np.sqrt(2000)
    assert risk.std() < 1.05 * error.mean()
    found = group_risk(log_odds(logits, targets), mask, groups=targets)
    assert ((found.low < 0.5) & (found.high > 0.5)).all()


def nothing_leaks(fraction: float, num_runs: int, draw: int) -> Scores:
    """Examples and their spread differ; being trained on changes nothing."""
    rng = np.random.default_rng(draw)
    subsets = [balanced_subset(num_units=500, fraction=fraction, draw=draw, index=i) for i in range(num_runs)]
    spread = np.exp(0.5 * rng.normal(size=500))
    return Scores(3 * rng.normal(size=500) + spread * rng.normal(size=(num_runs, 500)), np.stack(subsets))


ATTACKS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "fixed": lambda member, statistic: lira(member, statistic, variance="fixed").score,
    "shrunken": lambda member, statistic: lira(member, statistic, variance="shrunken").score,
    "offline": lambda member, statistic: lira(member, statistic, offline=True).score,
    "rmia": lambda member, statistic: rmia(member, -np.logaddexp(0, -statistic)).score,
}


@pytest.mark.parametrize("attack", list(ATTACKS))
@pytest.mark.parametrize("fraction", [0.5, 0.7])
def test_where_nothing_leaks_an_attack_is_right_half_the_time(attack, fraction):
    """Also with ten runs, where leaving out the target alone would give an area of 0.46."""
    areas = []
    for draw in range(40):
        drawn = nothing_leaks(fraction, 10, draw)
        areas.append(pooled_auc(ATTACKS[attack](drawn.member, drawn.score), drawn.member).value)
    assert abs(np.mean(areas) - 0.5) < 4 * np.std(areas, ddof=1) / 40**0.5


def test_lira_is_the_best_there_is_when_its_gaussians_are_right():
    """With many references its score is the likelihood ratio, whose area is known: Φ(shift/√2) at equal variances."""
    rng = np.random.default_rng(7)
    member = halves(200, 400, seed=7)
    statistic = 3 * rng.normal(size=400) + rng.normal(size=member.shape) + SHIFT * member
    assert pooled_auc(lira(member, statistic).score, member).value == pytest.approx(INDEPENDENT.auc, abs=0.01)


def test_false_discoveries_are_as_rare_as_asked():
    """Four of 2,000 pairs are real; among those found with a rate of 0.2, at most that share is not, on average."""
    wrong, found_real = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        inclusion, correct_test = rng.random((60, 20)) < 0.6, rng.random((60, 100)) < 0.4
        correct_test[:, :4] = rng.random((60, 4)) < 0.1 + 0.8 * inclusion[:, :4]
        found = influence_pairs(inclusion, correct_test, memorisation=np.ones(20), false_discovery_rate=0.2)
        real = (found.train == found.test) & (found.train < 4)
        wrong.append((~real).sum() / max(len(real), 1))
        found_real.append(real.sum())
    assert np.mean(wrong) - 3 * np.std(wrong) / 60**0.5 < 0.2
    assert np.mean(found_real) > 3.5


def test_with_nine_references_a_side_shrunken_variances_catch_more_than_either_other():
    """Spreads differ by a factor of e^½ about their median, and so do the shifts of members."""
    variances: tuple[Variance, ...] = "fixed", "example", "shrunken"
    caught = np.empty((8, 3))
    for seed in range(8):
        spread = np.exp(0.5 * np.random.default_rng(seed).normal(size=2000))
        member = halves(18, 2000, seed)
        statistic = spread * (np.random.default_rng(100 + seed).normal(size=member.shape) + SHIFT * member)
        for position, variance in enumerate(variances):
            score = lira(member, statistic, variance=variance).score
            caught[seed, position] = (score[member] > np.quantile(score[~member], 0.99)).mean()
    gained = caught[:, 2:] - caught[:, :2]
    assert (gained.mean(0) > 3 * gained.std(0, ddof=1) / 8**0.5).all()


def test_examples_that_are_in_or_out_together_are_no_independent_witnesses() -> None:
    """Groups of twenty near copies: the AUC scatters over populations as far as it says, when it is told of them."""
    groups, found = np.arange(400) // 20, []
    for draw in range(40):
        rng = np.random.default_rng(draw)
        member = np.repeat(halves(24, 20, seed=draw), 20, axis=1)
        leak, noise = np.repeat(rng.exponential(1, 20), 20), np.repeat(rng.normal(size=(24, 20)), 20, axis=1)
        score = lira(member, noise + 0.1 * rng.normal(size=(24, 400)) + leak * member).score
        found.append([pooled_auc(score, member, groups=given) for given in (groups, None)])
    scatter = np.std([told.value for told, _ in found], ddof=1)
    assert np.mean([told.se for told, _ in found]) > 0.75 * scatter
    assert np.mean([untold.se for _, untold in found]) < 0.75 * scatter
    with pytest.raises(ValueError, match="at least two groups"):
        pooled_auc(np.zeros((2, 2)), np.eye(2, dtype=bool), groups=np.zeros(2, int))
