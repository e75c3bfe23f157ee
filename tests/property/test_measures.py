"""Laws that scores obey whatever the data."""

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from byrote.measures import (
    aum,
    csl,
    el2n,
    exact_duplicates,
    forgetting_events,
    heldout_mean,
    included_mean,
    influence,
    memorisation,
    nearest,
    relabelling_test,
    repeated,
)
from byrote.records import Scores


class Runs(NamedTuple):
    inclusion: np.ndarray
    correct: np.ndarray
    order: np.ndarray
    """A permutation of the examples."""


@st.composite
def runs(draw) -> Runs:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    correct = rng.random(shape) < 0.5 if draw(st.booleans()) else rng.normal(size=shape)
    return Runs(rng.random(shape) < 0.6, correct, rng.permutation(shape[1]))


def assert_close(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def assert_same(one: Scores, other: Scores) -> None:
    assert_close(one.value, other.value)
    assert_close(one.se, other.se)
    assert (one.count == other.count).all()


def taken(scores: Scores, order: np.ndarray) -> Scores:
    return Scores(value=scores.value[order], se=scores.se[order], count=scores.count[order])


@given(runs())
def test_permuting_examples_permutes_scores(drawn):
    inclusion, correct, order = drawn
    for measure in (memorisation, heldout_mean, included_mean):
        whole = measure(inclusion, correct)
        assert_same(measure(inclusion[:, order], correct[:, order]), taken(whole, order))
    assert_same(influence(inclusion[:, order], correct), taken(influence(inclusion, correct), order))
    rng = np.random.default_rng(len(order))
    loss, logits, targets = (
        rng.normal(size=correct.shape),
        rng.normal(size=(2, len(order), 3)),
        np.arange(len(order)) % 3,
    )
    assert_close(csl(loss[:, order]), csl(loss)[order])
    assert_close(aum(loss[:, order]), aum(loss)[order])
    assert_same(el2n(logits[:, order], targets[order]), taken(el2n(logits, targets), order))
    for moved, kept in zip(forgetting_events(loss[:, order] > 0), forgetting_events(loss > 0), strict=True):
        assert (moved == kept[order]).all()


@given(runs(), st.randoms(use_true_random=False))
def test_permuting_runs_changes_nothing(drawn, random):
    inclusion, correct, _ = drawn
    order = list(range(len(inclusion)))
    random.shuffle(order)
    assert_same(memorisation(inclusion[order], correct[order]), memorisation(inclusion, correct))


@given(runs(), st.integers(0, 12))
def test_merging_two_results_equals_one_run_on_both(drawn, cut):
    inclusion, correct, _ = drawn

    def merged(measure) -> np.ndarray:
        parts = [measure(inclusion[half], correct[half]) for half in (slice(cut), slice(cut, None))]
        total = sum(np.where(part.count > 0, part.count * part.value, 0.0) for part in parts)
        count = parts[0].count + parts[1].count
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

    assert_close(merged(heldout_mean), heldout_mean(inclusion, correct).value)
    assert_close(merged(included_mean) - merged(heldout_mean), memorisation(inclusion, correct).value)


@given(runs())
def test_exchanging_the_sides_changes_the_sign(drawn):
    inclusion, correct, _ = drawn
    there, back = memorisation(inclusion, correct), memorisation(~inclusion, correct)
    assert_close(there.value, -back.value)
    assert_close(there.se, back.se)


@given(runs())
def test_scores_of_right_and_wrong_lie_between_minus_1_and_1_with_an_error_above_0(drawn):
    scores = memorisation(drawn.inclusion, drawn.correct > 0)
    known = ~np.isnan(scores.value)
    assert (np.abs(scores.value[known]) <= 1).all()
    assert (scores.se[known] > 0).all()
    assert (known == (scores.count > 0)).all()


@given(st.integers(0, 2**32), st.integers(2, 4), st.integers(1, 3))
def test_naming_the_classes_otherwise_changes_no_p_value(seed, num_classes, num_runs):
    rng = np.random.default_rng(seed)
    confusion = rng.integers(1, 9, size=(num_runs, num_classes, num_classes))
    order = rng.permutation(num_classes)
    renamed = confusion[:, order][:, :, order]
    first, second = (relabelling_test(each, num_permutations=20_000, seed=0) for each in (confusion, renamed))
    assert abs(first.p_value - second.p_value) < 1e-9


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 3))
def test_a_duplicate_is_a_neighbour_at_distance_0(seed, num_rows, num_values):
    rng = np.random.default_rng(seed)
    train, test = rng.integers(num_values, size=(num_rows, 3)), rng.integers(num_values, size=(5, 3))
    twins = exact_duplicates(train, test)
    distance = nearest(train, test).distance[:, 0]
    assert ((twins >= 0) == (distance == 0)).all()
    assert (train[twins[twins >= 0]] == test[twins >= 0]).all()
    if num_rows > 1:
        assert (repeated(train) == (nearest(train, train, exclude_self=True).distance[:, 0] == 0)).all()
