"""Curves, areas and shares of members caught, against counting pairs and against closed forms."""

import inspect
import math

import numpy as np
import pytest
from scipy import stats

from byrote.measures import caught_at, group_risk, membership_risk, pooled_auc, roc


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers, so that there are ties."""
    rng = np.random.default_rng(0)
    member = rng.random((12, 6)) < 0.5
    member[:, 5] = True
    return rng.integers(5, size=(12, 6)) + 1.0 * member, member


def by_pairs(members: np.ndarray, others: np.ndarray) -> float:
    return float(np.mean([(one > other) + 0.5 * (one == other) for one in members for other in others]))


def test_an_area_is_the_share_of_pairs_in_order(scores):
    score, member = scores
    expected = by_pairs(score[member], score[~member])
    assert pooled_auc(score, member).value == pytest.approx(expected)
    curve = roc(score, member)
    heights = (curve.true_positive_rate[1:] + curve.true_positive_rate[:-1]) / 2
    area = np.diff(curve.false_positive_rate) @ heights
    assert area == pytest.approx(expected)


def test_each_example_has_its_own_area(scores):
    score, member = scores
    found = membership_risk(score, member)
    for example in range(5):
        column, truth = score[:, example], member[:, example]
        assert found.auc.value[example] == pytest.approx(by_pairs(column[truth], column[~truth]))
        assert found.auc.count[example] == min(truth.sum(), (~truth).sum())
    assert np.isnan(found.auc.value[5])
    assert np.isnan(found.auc.se[5])
    assert found.status.tolist() == ["known"] * 5 + ["too few runs"]


def test_an_examples_error_is_delongs():
    rng = np.random.default_rng(1)
    score, member = rng.normal(size=(60, 1)), (np.arange(60) < 25)[:, None]
    members, others = score[member], score[~member]
    beaten = [np.mean(one > others) for one in members]
    beats = [np.mean(other < members) for other in others]
    delong = math.sqrt(np.var(beaten, ddof=1) / 25 + np.var(beats, ddof=1) / 35)
    auc = (by_pairs(members, others) * 25 * 35 + (25 + 35 + 1) / 2) / (26 * 36)
    spread = auc * (1 - auc) / (25 * 35)
    hanley = math.sqrt(spread * (1 + (60 / 2 - 1) * ((1 - auc) / (2 - auc) + auc / (1 + auc))))
    assert membership_risk(score, member).auc.se.item() == pytest.approx(max(delong, hanley))


def test_three_runs_that_agree_do_not_claim_certainty():
    member = np.array([[True]] * 3 + [[False]] * 3)
    risk = membership_risk(np.where(member, 2.0, 1.0), member).auc
    assert risk.value.item() == 1
    assert risk.se.item() > 0.15
    assert pooled_auc(np.where(member, 2.0, 1.0), member, clusters="none").low < 0.8


def test_a_missing_score_is_left_out(scores):
    score, member = scores
    holes = score.copy()
    holes[2:5, 0] = np.nan
    rest = np.delete(np.arange(12), [2, 3, 4])
    alone = membership_risk(score[rest][:, :1], member[rest][:, :1])
    found = membership_risk(holes, member)
    assert found.auc.value[0] == pytest.approx(alone.auc.value.item())
    assert found.auc.se[0] == pytest.approx(alone.auc.se.item())
    kept = ~np.isnan(holes)
    assert pooled_auc(holes, member).value == pytest.approx(by_pairs(holes[kept & member], holes[kept & ~member]))
    assert roc(holes, member).true_positive_rate[-1] == 1


def test_a_groups_risk_is_the_mean_of_its_examples(scores):
    score, member = scores
    groups = np.array(["b", "a", "b", "a", "b", "c"])
    found = group_risk(score, member, groups=groups)
    each = membership_risk(score, member).auc.value
    assert found.group.tolist() == ["a", "b", "c"]
    assert found.auc.value[:2] == pytest.approx([each[[1, 3]].mean(), each[[0, 2, 4]].mean()])
    assert np.isnan([found.auc.value[2], found.auc.se[2], found.low[2], found.high[2]]).all()
    assert found.num_examples.tolist() == [2, 3, 0]
    assert found.auc.count.tolist() == [12, 12, 0]
    assert found.status.tolist() == ["known", "known", "too few runs"]


def test_a_group_of_copies_is_no_more_certain_than_one_of_them():
    """Runs are independent, examples are not: fifty examples that always score alike are one."""
    rng = np.random.default_rng(2)
    member = (np.arange(40) % 2 == 0)[:, None]
    score = rng.normal(size=(40, 1)) + member
    one = group_risk(score, member, groups=np.zeros(1, int))
    copies = group_risk(np.tile(score, (1, 50)), np.tile(member, (1, 50)), groups=np.zeros(50, int))
    independent = group_risk(rng.normal(size=(40, 50)) + member, np.tile(member, (1, 50)), groups=np.zeros(50, int))
    assert copies.auc.se.item() > 0.8 * one.auc.se.item() > 4 * independent.auc.se.item()


def test_a_pool_of_copies_is_no_more_certain_than_one_of_them():
    rng = np.random.default_rng(3)
    member = np.tile((np.arange(40) % 2 == 0)[:, None], (1, 50))
    score = np.tile(rng.normal(size=(40, 1)), (1, 50)) + member
    by_runs, alone = (pooled_auc(score, member, clusters=each) for each in ("runs", "none"))
    assert by_runs.se == pytest.approx(math.sqrt(50 * 40 / 39) * alone.se, rel=0.01)


def test_the_curve_goes_from_nobody_to_everybody(scores):
    curve = roc(*scores)
    assert (curve.false_positive_rate[0], curve.true_positive_rate[0], curve.threshold[0]) == (0, 0, np.inf)
    assert (curve.false_positive_rate[-1], curve.true_positive_rate[-1]) == (1, 1)
    assert (np.diff(curve.threshold) < 0).all()
    score, member = scores
    for rate, caught, threshold in zip(*curve, strict=True):
        assert rate == np.mean(score[~member] >= threshold)
        assert caught == np.mean(score[member] >= threshold)


def test_500_non_members_do_not_resolve_a_rate_of_one_in_a_thousand():
    """Others report such a figure: it is what one single non-member decides."""
    rng = np.random.default_rng(4)
    member = np.repeat([[True, False]], 500, axis=0)
    score = rng.normal(size=member.shape) + 2 * member
    for dependent in ("none", "runs"):
        unknown, known = caught_at(score, member, rates=(0.001, 0.05), clusters=dependent)
        assert unknown.status == "too few non-members"
        assert math.isnan(unknown.true_positive_rate.value)
        assert unknown.true_positive_rate.low == 0
        assert known.status == "resolved"
        assert unknown.num_nonmembers == 500


@pytest.mark.parametrize(("num_others", "status"), [(3687, "too few non-members"), (3688, "resolved")])
def test_how_many_non_members_resolve_one_in_a_thousand(num_others, status):
    """As many as make it unlikely (1 in 40) that none of them is above the true threshold: 0.999^n ≤ 0.025."""
    score = np.random.default_rng(5).normal(size=(1, num_others + 10))
    member = (np.arange(num_others + 10) < 10)[None]
    (caught,) = caught_at(score, member, rates=(0.001,), clusters="none")
    assert caught.status == status


def test_the_band_adds_squares_of_clopper_and_pearsons_and_the_thresholds():
    rng = np.random.default_rng(6)
    member = (np.arange(6000) < 1000)[None]
    score = rng.normal(size=member.shape) + 2 * member
    members, others = score[member], np.sort(score[~member])[::-1]
    (caught,) = caught_at(score, member, rates=(0.01,), clusters="none")
    share = np.mean(members > others[50])
    binomial = stats.binomtest(int((members > others[50]).sum()), 1000).proportion_ci(0.95, "exact")
    above = stats.beta(np.arange(1, 200), 5000 - np.arange(199)).sf(0.01)
    strict, loose = np.flatnonzero(above < 0.025)[-1], np.flatnonzero(above >= 0.975)[0]
    low = share - math.hypot(share - binomial.low, share - np.mean(members > others[strict]))
    high = share + math.hypot(binomial.high - share, np.mean(members >= others[loose]) - share)
    band = caught.true_positive_rate
    assert (band.value, band.low, band.high) == pytest.approx((share, low, high))
    assert band.se == pytest.approx(math.sqrt(share * (1 - share) / 1000))
    assert band.count == 1000


def test_tied_scores_catch_only_whom_they_can_tell_apart():
    """Of the highest score there are more non-members than the rate allows: nobody is caught."""
    member = np.repeat([[True, False]], 5000, axis=0)
    (caught,) = caught_at(np.ones(member.shape), member, rates=(0.01,), clusters="none")
    assert caught.true_positive_rate.value == 0
    assert caught.true_positive_rate.high == 1


def test_what_cannot_be_judged_is_refused(scores):
    score, member = scores
    auc, catch, groups = (inspect.unwrap(each) for each in (pooled_auc, caught_at, group_risk))
    with pytest.raises(ValueError, match="one kind only"):
        auc(score, np.ones(score.shape, bool))
    with pytest.raises(TypeError, match="mask of members"):
        auc(score, member.astype(int))
    with pytest.raises(ValueError, match="one shape"):
        auc(score, member[:3])
    with pytest.raises(ValueError, match="two target runs"):
        auc(score[:1], member[:1])
    with pytest.raises(ValueError, match="two examples"):
        auc(score[:, :1], member[:, :1])
    with pytest.raises(ValueError, match=r"level in \(0, 1\)"):
        auc(score, member, level=95)
    with pytest.raises(ValueError, match=r"rates in \(0, 1\)"):
        catch(score, member, rates=(1.0,))
    with pytest.raises(ValueError, match="a group for each of 6 examples"):
        groups(score, member, groups=np.zeros(5))
