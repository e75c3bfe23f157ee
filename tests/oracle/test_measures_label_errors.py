"""Label errors whose answer is known: who is named, in what order, for what reason, and what is refused."""

import inspect

import numpy as np
import pytest

from byrote.data import class_pair_flips, feature_dependent_flips, long_tail, uniform_flips
from byrote.measures import flag_label_errors, label_errors, residual_errors

RUNS, EXAMPLES, CLASSES = 8, 600, 4


def left_out_in_turn() -> np.ndarray:
    """Every example is left out of a quarter of the runs."""
    return np.arange(RUNS)[:, None] % 4 != np.arange(EXAMPLES) % 4


def sure_logits(true: np.ndarray, *, noise: float = 0.5, seed: int = 0) -> np.ndarray:
    """Of networks that know the truth."""
    return np.random.default_rng(seed).normal(5 * np.eye(CLASSES)[true], noise, (RUNS, len(true), CLASSES))


@pytest.fixture(scope="module")
def true() -> np.ndarray:
    return np.random.default_rng(1).integers(CLASSES, size=EXAMPLES)


def test_networks_that_know_the_truth_find_every_error_and_name_the_right_class(true: np.ndarray):
    flipped = uniform_flips(true, num_classes=CLASSES, fraction=0.1, seed=3)
    found = label_errors(left_out_in_turn(), sure_logits(true), flipped.targets)
    assert found.probability.value[flipped.changed].min() > 0.99
    assert found.probability.value[~flipped.changed].max() < 0.05
    assert np.array_equal(found.suggested, true)
    assert set(found.rank[flipped.changed]) == set(range(1, 61))
    assert sorted(found.rank) == list(range(1, EXAMPLES + 1))
    assert np.array_equal(flag_label_errors(found.probability.value), flipped.changed)
    assert (found.probability.count == 2).all()
    assert (found.probability.se >= 0).all()


def test_without_wrong_labels_none_is_found(true: np.ndarray):
    found = label_errors(left_out_in_turn(), sure_logits(true), true)
    assert found.probability.value.max() < 0.5
    assert not flag_label_errors(found.probability.value).any()
    assert set(found.reason) == {""}


def test_reasons_say_what_happened(true: np.ndarray):
    """0 is fitted though others know better, 1 never fitted, 2 has neighbours of another class, 3 and 7 are twins."""
    inclusion, given = left_out_in_turn(), true.copy()
    given[[0, 1, 3]] = (true[[0, 1, 3]] + 1) % CLASSES
    logits = sure_logits(true)
    logits[inclusion[:, 0], 0] = 5 * np.eye(CLASSES)[given[0]]
    twin = 7
    logits[:, twin] = logits[:, 3]
    given[twin] = true[3]
    neighbours = np.array([np.flatnonzero(given == given[i])[-5:] for i in range(EXAMPLES)])
    neighbours[2] = np.flatnonzero(given == (given[2] + 1) % CLASSES)[-5:]
    duplicates = np.arange(EXAMPLES)
    duplicates[twin] = 3
    found = label_errors(inclusion, logits, given, neighbours=neighbours, duplicates=duplicates)
    named = ["memorised", "never fitted", "contradicts neighbours", "conflicting duplicate", "conflicting duplicate"]
    assert found.reason[[0, 1, 2, 3, twin]].tolist() == named
    assert set(np.delete(found.reason, [0, 1, 2, 3, twin])) == {""}


def test_of_two_twins_with_different_labels_one_is_wrong(true: np.ndarray):
    """Networks that know nothing of the twins leave each as likely; then one of the two must be wrong."""
    flipped = uniform_flips(true, num_classes=CLASSES, fraction=0.1, seed=3).targets
    logits = sure_logits(true)
    logits[:, :2] = 0.0
    flipped[:2] = [0, 1]
    duplicates = np.maximum(np.arange(EXAMPLES), 1)
    alone = label_errors(left_out_in_turn(), logits, flipped).probability.value
    together = label_errors(left_out_in_turn(), logits, flipped, duplicates=duplicates).probability.value
    p, q = np.clip(alone[:2], 1e-3, 1 - 1e-3)
    possible = np.array([(1 - p) * q, p * (1 - q), p * q])
    assert together[:2] == pytest.approx(1 - possible[:2] / possible.sum(), abs=1e-6)
    assert together[2:] == pytest.approx(alone[2:])


def test_the_order_of_examples_does_not_matter(true: np.ndarray):
    rng = np.random.default_rng(8)
    inclusion, given = left_out_in_turn(), uniform_flips(true, num_classes=CLASSES, fraction=0.1, seed=3).targets
    logits, order = sure_logits(true, noise=3.0), rng.permutation(EXAMPLES)
    loss, margin = rng.exponential(size=(2, RUNS, EXAMPLES))
    neighbours = rng.integers(EXAMPLES, size=(EXAMPLES, 5))
    place = np.argsort(order)
    found = label_errors(inclusion, logits, given, csl=loss, aum=margin, neighbours=neighbours)
    again = label_errors(
        inclusion[:, order],
        logits[:, order],
        given[order],
        csl=loss[:, order],
        aum=margin[:, order],
        neighbours=place[neighbours[order]],
    )
    assert again.doubt == pytest.approx(found.doubt[order], abs=1e-6)
    assert again.status == found.status
    assert np.array_equal(again.suggested, found.suggested[order])
    assert np.array_equal(again.reason, found.reason[order])


def test_what_was_never_left_out_has_no_probability(true: np.ndarray):
    inclusion = left_out_in_turn()
    inclusion[:, 5] = True
    found = label_errors(inclusion, sure_logits(true), true)
    assert np.flatnonzero(np.isnan(found.probability.value)).tolist() == [5]
    assert found.rank[5] == EXAMPLES
    assert found.suggested[5] == true[5]
    assert found.probability.count[5] == 0


def test_networks_that_know_nothing_judge_nothing(true: np.ndarray):
    """Nor do those that answer all alike: there chance has no spread."""
    noise = np.random.default_rng(4).normal(size=(RUNS, EXAMPLES, CLASSES))
    for logits in (noise, np.zeros_like(noise), noise[:, :1] * np.ones((1, EXAMPLES, 1))):
        found = label_errors(left_out_in_turn(), logits, true)
        assert found.status == "no better than chance"
        assert np.isnan(found.probability.value).all()
        assert np.isnan(found.probability.se).all()
        assert np.isnan(found.wrong.value)
        assert (found.wrong.low, found.wrong.high, found.wrong.count) == (0.0, 1.0, EXAMPLES)
        assert sorted(found.rank) == list(range(1, EXAMPLES + 1))
    numbers = residual_errors(left_out_in_turn(), noise[:, :, 0], true.astype(float))
    assert numbers.status == "no better than chance"
    assert np.isnan(numbers.probability.value).all()


def test_the_share_of_wrong_labels_is_the_mean_of_their_probabilities(true: np.ndarray):
    flipped = uniform_flips(true, num_classes=CLASSES, fraction=0.1, seed=3)
    found = label_errors(left_out_in_turn(), sure_logits(true, noise=2.0), flipped.targets)
    assert found.wrong.value == pytest.approx(found.probability.value.mean())
    assert 0.01 < found.wrong.low < 0.1 < found.wrong.high < 0.2


def test_one_class_that_is_often_labelled_as_another_is_not_said_to_be_right():
    """Networks that learnt the confusion say 70 to 30 of every example, and are no surer of plain ones."""
    rng = np.random.default_rng(6)
    true = rng.integers(CLASSES, size=2000)
    flipped = class_pair_flips(true, num_classes=CLASSES, fraction=0.3, seed=0)
    learnt = np.log(0.65 * np.eye(CLASSES)[true] + 0.27 * np.eye(CLASSES)[(true + 1) % CLASSES] + 0.02)
    logits = learnt + 0.2 * rng.normal(size=(RUNS, len(true), CLASSES))
    inclusion = np.arange(RUNS)[:, None] % 4 != np.arange(len(true)) % 4
    found = label_errors(inclusion, logits, flipped.targets)
    assert found.wrong.low <= 0.3 <= found.wrong.high
    assert found.status == "not settled" or found.probability.value.mean() == pytest.approx(0.3, abs=0.05)


def test_one_run_does_not_say_how_sure_it_is(true: np.ndarray):
    found = label_errors(left_out_in_turn()[:4], sure_logits(true)[:4], true)
    assert (found.probability.count == 1).all()
    assert np.isnan(found.probability.se).all()
    assert np.isfinite(found.probability.value).all()


def test_probabilities_of_wrong_labels_are_what_the_mixture_says_exactly():
    """Held-out evidence of one class against the other, drawn from the very mixture: the posterior is known.

    Two classes, log-odds s for the other class; a right label's s has the density of a wrong one's times e^{−s}: for
    N(±1, 2) these are ratios e^{−s}, so that P(wrong | s) = 0.1/(0.1 + 0.9·e^{−s}).
    """
    rng = np.random.default_rng(5)
    wrong = rng.random(40_000) < 0.1
    evidence = np.where(wrong, 1, -1) * 1.0 + np.sqrt(2) * rng.normal(size=len(wrong))
    given = rng.integers(2, size=len(wrong))
    logits = np.zeros((2, len(wrong), 2))
    logits[:, np.arange(len(wrong)), 1 - given] = evidence
    inclusion = np.array([[True], [False]]) & np.ones(len(wrong), bool)
    found = label_errors(inclusion, logits, given).probability.value
    expected = 0.1 / (0.1 + 0.9 * np.exp(-evidence))
    assert np.abs(found - expected).mean() < 0.02


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2, 1.0])
def test_flags_are_as_many_as_the_rate_allows(rate: float):
    probability = np.random.default_rng(0).random(200) ** 0.2
    flagged = flag_label_errors(probability, false_discovery_rate=rate)
    kept = np.sort(probability)[::-1]
    allowed = max((n for n in range(1, 201) if 1.5 * (1 - kept[:n]).mean() <= rate), default=0)
    expected = min(allowed, int((probability > 0.5).sum()))
    assert flagged.sum() == expected
    assert not expected or probability[flagged].min() >= probability[~flagged].max(initial=0)


def test_wrong_numbers_are_found_and_their_predictions_suggested():
    rng = np.random.default_rng(2)
    true = rng.normal(size=EXAMPLES)
    given = true.copy()
    given[:40] += np.sign(rng.normal(size=40)) * rng.uniform(1.5, 2, 40)
    found = residual_errors(left_out_in_turn(), true + 0.1 * rng.normal(size=(RUNS, EXAMPLES)), given)
    assert set(found.rank[:40]) == set(range(1, 41))
    assert found.suggested == pytest.approx(true, abs=0.4)
    assert flag_label_errors(found.probability.value)[:40].all()
    assert set(found.reason[:40]) == {"never fitted"}


def test_twins_with_two_numbers_are_said_to_be():
    rng = np.random.default_rng(3)
    true, twins = rng.normal(size=EXAMPLES), np.arange(EXAMPLES)
    given, twins[1] = true.copy(), 0
    true[1] = given[1] = true[0]
    given[:20] += 5.0
    given[1] = true[1]
    runs = true + 0.1 * rng.normal(size=(RUNS, EXAMPLES))
    found = residual_errors(left_out_in_turn(), runs, given, duplicates=twins)
    assert found.reason[:3].tolist() == ["conflicting duplicate", "", "never fitted"]
    with pytest.raises(ValueError, match=f"duplicates for each of {EXAMPLES} examples"):
        inspect.unwrap(residual_errors)(left_out_in_turn(), runs, given, duplicates=twins[1:])


@pytest.mark.parametrize("targets", [np.zeros(EXAMPLES), np.zeros(EXAMPLES, bool)], ids=["numbers", "flags"])
def test_classes_are_whole_numbers(targets):
    with pytest.raises(TypeError, match="class codes, whole numbers from 0, got an array of"):
        inspect.unwrap(label_errors)(left_out_in_turn(), np.zeros((RUNS, EXAMPLES, 3)), targets)


def test_a_wrong_number_that_is_learnt_is_memorised():
    rng = np.random.default_rng(2)
    inclusion, true = left_out_in_turn(), rng.normal(size=EXAMPLES)
    given = true.copy()
    given[0] += 6
    predictions = true + 0.1 * rng.normal(size=(RUNS, EXAMPLES))
    predictions[inclusion[:, 0], 0] = given[0]
    assert residual_errors(inclusion, predictions, given).reason[0] == "memorised"


def test_what_cannot_be_judged_is_refused(true: np.ndarray):
    inclusion, logits = left_out_in_turn(), sure_logits(true)
    with pytest.raises(ValueError, match="Train on subsets"):
        label_errors(np.ones_like(inclusion), logits, true)
    with pytest.raises(ValueError, match=r"targets in \[0, 4\)"):
        label_errors(inclusion, logits, true + 1)
    with pytest.raises(ValueError, match="finite logits"):
        label_errors(inclusion, np.where(logits > 6, np.nan, logits), true)
    with pytest.raises(ValueError, match="residual_errors"):
        label_errors(inclusion, logits[:, :, :1], true)
    with pytest.raises(ValueError, match="finite aum"):
        label_errors(inclusion, logits, true, aum=np.full(inclusion.shape, np.inf))
    with pytest.raises(ValueError, match="false-discovery rate"):
        flag_label_errors(np.ones(3), false_discovery_rate=1.5)
    with pytest.raises(ValueError, match="finite predictions"):
        residual_errors(inclusion, np.full(inclusion.shape, np.nan), true)


def test_flips_change_exactly_what_is_asked(true: np.ndarray):
    sure = np.full((EXAMPLES, CLASSES), 0.1)
    sure[np.arange(EXAMPLES), true] = 0.7
    for flipped in (
        uniform_flips(true, num_classes=CLASSES, fraction=0.25, seed=0),
        class_pair_flips(true, num_classes=CLASSES, fraction=0.25, seed=0),
        feature_dependent_flips(true, probability=sure, fraction=0.25, seed=0),
    ):
        assert flipped.changed.sum() == 150
        assert np.array_equal(flipped.changed, flipped.targets != true)
        assert flipped.targets.min() >= 0
        assert flipped.targets.max() < CLASSES


def test_flips_depend_on_what_a_model_is_unsure_of(true: np.ndarray):
    """Where it is sure nothing flips; elsewhere to the class that it takes for possible."""
    probability = np.eye(CLASSES)[true]
    unsure = np.arange(EXAMPLES) < 300
    other = (true + 2) % CLASSES
    probability[unsure, true[unsure]] = 0.5
    probability[unsure, other[unsure]] = 0.5
    flipped = feature_dependent_flips(true, probability=probability, fraction=0.2, seed=1)
    assert not flipped.changed[~unsure].any()
    assert np.array_equal(flipped.targets[flipped.changed], other[flipped.changed])
    with pytest.raises(ValueError, match="unsure of at least 360"):
        feature_dependent_flips(true, probability=probability, fraction=0.6, seed=1)


def test_a_long_tail_falls_geometrically():
    targets = np.repeat(np.arange(5), 160)
    kept = long_tail(targets, num_classes=5, ratio=16.0, seed=4)
    assert sorted(np.bincount(targets[kept]).tolist()) == [10, 20, 40, 80, 160]
    assert np.array_equal(kept, np.unique(kept))
    assert not np.array_equal(kept, long_tail(targets, num_classes=5, ratio=16.0, seed=5))
