"""Trace measures on hand-made traces."""

import inspect

import numpy as np
import pytest

from byrote.measures import aum, csl, data_map, el2n, forgetting_events, masked_over_runs


@pytest.mark.parametrize("num_classes", [2, 3, 10, 1000])
def test_el2n_of_uniform_predictions(num_classes):
    scores = el2n(np.full((3, 2, num_classes), 7.0), np.array([0, num_classes - 1]))
    assert scores.value == pytest.approx(np.full(2, ((num_classes - 1) / num_classes) ** 0.5))
    assert scores.se == pytest.approx(np.zeros(2))
    assert scores.count.tolist() == [3, 3]


def test_el2n_of_certain_predictions_is_0_when_right_and_root_2_when_wrong():
    scores = el2n(np.array([[[800.0, -800.0], [800.0, -800.0]]]), np.array([0, 1]))
    assert scores.value == pytest.approx([0.0, 2**0.5])
    assert np.isnan(scores.se).all()


def test_el2n_averages_over_runs_with_the_error_of_the_mean():
    sure = np.array([[[800.0, -800.0]], [[-800.0, 800.0]]])
    scores = el2n(sure, np.array([0]))
    assert scores.value.item() == pytest.approx(2**0.5 / 2)
    assert scores.se.item() == pytest.approx(2**0.5 / 2)


def test_el2n_refuses_a_target_that_is_no_class():
    with pytest.raises(ValueError, match=r"targets in \[0, 2\), got 0 to 2"):
        el2n(np.zeros((1, 2, 2)), np.array([0, 2]))


@pytest.mark.parametrize(
    ("sequence", "events", "never"),
    [
        ("0000", 0, True),
        ("1111", 0, False),
        ("0111", 0, False),
        ("1000", 1, False),
        ("0101", 1, False),
        ("10101", 2, False),
        ("1100110", 2, False),
    ],
)
def test_forgetting_events_of_sequences_counted_by_hand(sequence, events, never):
    counted = forgetting_events(np.array([[step == "1"] for step in sequence], bool).reshape(-1, 1))
    assert (counted.events.item(), counted.never_learnt.item()) == (events, never)


@pytest.mark.parametrize("measure", [csl, aum, forgetting_events], ids=["csl", "aum", "forgetting"])
def test_a_trace_of_no_moments_says_nothing(measure):
    nothing = np.zeros((0, 3), bool if measure is forgetting_events else float)
    with pytest.raises(ValueError, match="at least one moment of training, got none"):
        measure(nothing)


def test_numbers_in_place_of_answers_or_classes_are_refused():
    with pytest.raises(TypeError, match=r"True or False, got float64. Of 0 and 1: correct == 1"):
        inspect.unwrap(forgetting_events)(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"class codes, got float64\. .*Recorder\(regression=True\)"):
        inspect.unwrap(el2n)(np.zeros((1, 2, 2)), np.array([0.0, 1.0]))


def test_csl_and_aum_of_single_precision_traces_are_summed_in_double():
    loss = np.full((100_000, 1), 0.1, np.float32)
    exact = float(np.float32(0.1))
    assert csl(loss).item() == pytest.approx(100_000 * exact, rel=1e-12)
    assert aum(loss).item() == pytest.approx(exact, rel=1e-12)


def test_aum_of_a_regression_is_undefined():
    assert np.isnan(aum(np.full((4, 2), np.nan))).all()


def test_aum_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one moment"):
        aum(np.zeros((0, 3)))


def test_masked_means_have_the_textbook_error():
    values = np.array([[1.0, 5.0], [2.0, np.nan], [6.0, np.nan], [np.inf, np.nan]])
    mask = np.array([[True, True], [True, False], [True, False], [False, False]])
    scores = masked_over_runs(values, mask)
    assert scores.value.tolist() == [3.0, 5.0]
    assert scores.se.tolist() == pytest.approx([(7 / 3) ** 0.5, np.nan], nan_ok=True)
    with pytest.raises(ValueError, match="one shape"):
        inspect.unwrap(masked_over_runs)(values, mask[:2])


def test_the_data_map_of_a_probability_that_goes_up_and_down():
    found = data_map(np.array([[0.0, 0.9], [1.0, 0.9], [0.0, 0.9], [1.0, 0.9]]), np.array([[0, 1], [1, 1]] * 2, bool))
    assert found.confidence == pytest.approx([0.5, 0.9])
    assert found.variability == pytest.approx([0.5, 0.0])
    assert found.correctness.tolist() == [0.5, 1.0]


def test_a_data_map_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\], got -2 to 3"):
        data_map(np.array([[-2.0, 3.0]]), np.ones((1, 2), bool))
    with pytest.raises(ValueError, match="at least one moment"):
        data_map(np.zeros((0, 2)), np.zeros((0, 2), bool))
    with pytest.raises(ValueError, match=r"one shape, got \(1, 2\) and \(1, 3\)"):
        inspect.unwrap(data_map)(np.zeros((1, 2)), np.zeros((1, 3), bool))
