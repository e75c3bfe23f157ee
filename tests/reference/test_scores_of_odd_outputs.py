"""`byrote.scores` of what real runs leave behind: masked classes, infinities, diverged runs, masks turned round."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import byrote
from byrote.scoring import Table
from byrote.scoring.orientation import DOUBT, check_orientation
from small_outputs import made, margins

RUNS, EXAMPLES = 24, 120
ONE = made(num_runs=RUNS, num_examples=EXAMPLES, seed=3)


def same(one: Table, other: Table, *, besides: frozenset[str] = frozenset()) -> None:
    """Every column says the same, nulls included."""
    assert one.columns == other.columns
    for name in set(one.columns) - besides:
        mine, theirs = one.arrow[name].to_pylist(), other.arrow[name].to_pylist()
        if all(isinstance(value, float | None) for value in (*mine, *theirs)):
            known = np.array(mine, float), np.array(theirs, float)
            np.testing.assert_allclose(*known, rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            assert mine == theirs, name


def numbers() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    targets = rng.normal(size=EXAMPLES)
    predictions = np.where(ONE.inclusion, targets, 0.3 * targets) + 0.2 * rng.normal(size=(RUNS, EXAMPLES))
    return {"predictions": predictions, "targets": targets}


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_run_that_diverged_says_nothing_in_any_column(kind: str) -> None:
    """Three quarters of what it says are NaN; the rest is far off."""
    kept: dict[str, Any] = {"logits": ONE.logits, "targets": ONE.targets} if kind == "classes" else numbers()
    name = next(iter(kept))
    spoilt = np.array(kept[name])
    spoilt[0] = 1e6 * np.random.default_rng(0).normal(size=spoilt[0].shape)
    spoilt[0, np.arange(EXAMPLES) % 4 != 0] = np.nan
    found = byrote.scores(ONE.inclusion, **{**kept, name: spoilt})
    same(found, byrote.scores(ONE.inclusion[1:], **{**kept, name: kept[name][1:]}))
    assert any("Run 0" in note for note in found.notes)


def test_a_class_that_is_masked_changes_nothing() -> None:
    wide = np.concatenate([ONE.logits, np.full((RUNS, EXAMPLES, 1), -np.inf)], axis=2)
    same(
        byrote.scores(ONE.inclusion, logits=wide, targets=ONE.targets),
        byrote.scores(ONE.inclusion, logits=ONE.logits, targets=ONE.targets),
    )


def test_a_recorder_takes_masked_classes_too() -> None:
    tables = []
    for masked in (False, True):
        recorder = byrote.Recorder(num_examples=EXAMPLES)
        for logits in ONE.logits[:3]:
            hidden = np.full((EXAMPLES, 1), -np.inf if masked else -1e4)
            recorder.update(np.arange(EXAMPLES), np.concatenate([logits, hidden], axis=1), ONE.targets)
        tables.append(recorder.scores())
    same(*tables)


def test_logarithms_of_probabilities_that_are_zero_are_those_probabilities() -> None:
    """As trees give them: whole leaves of one class."""
    votes = np.random.default_rng(1).multinomial(4, [0.6, 0.3, 0.1], size=(RUNS, EXAMPLES)) / 4
    own = np.eye(3)[ONE.targets]
    votes = np.where(ONE.inclusion[..., None], 0.5 * votes + 0.5 * own, votes)
    with np.errstate(divide="ignore"):
        logarithms = np.log(votes)
    assert np.isinf(logarithms).any()
    same(
        byrote.scores(ONE.inclusion, logits=logarithms, targets=ONE.targets),
        byrote.scores(ONE.inclusion, probability=votes, targets=ONE.targets),
    )


def test_infinite_margins_are_large_ones_and_that_is_said() -> None:
    margin = margins(ONE)
    margin[:, :5] = np.where(margin[:, :5] > 0, np.inf, -np.inf)
    found = byrote.scores(ONE.inclusion, margin=margin, targets=ONE.targets)
    assert found.arrow["memorisation"].null_count == 0
    assert np.isfinite(found["memorisation"]).all()
    assert not {"not finite", "too few runs"} & set(found["status"])
    assert [note for note in found.notes if "margins are infinite" in note]


@pytest.mark.parametrize("wrong", ["mask", "answers"])
def test_what_is_the_wrong_way_round_is_refused_with_what_to_do(wrong: str) -> None:
    mask = ~ONE.inclusion if wrong == "mask" else ONE.inclusion
    margin = -margins(ONE) if wrong == "answers" else margins(ONE)
    with pytest.raises(ValueError, match=r"do worse there.*give ~inclusion.*negated"):
        byrote.scores(mask, margin=margin, targets=ONE.targets)
    with pytest.raises(ValueError, match="do worse there"):
        byrote.scores(mask, correct=margin > 0)


def test_few_runs_that_seem_the_wrong_way_round_are_doubted_in_a_note() -> None:
    inclusion = np.random.default_rng(1).random((6, 40)).argsort(0) < 4
    margin = np.where(inclusion, 1.0, -1.0) + np.random.default_rng(2).normal(size=inclusion.shape)
    doubts = [" ".join(byrote.scores(mask, margin=margin).notes) for mask in (inclusion, ~inclusion)]
    assert ["give ~inclusion" in doubt for doubt in doubts] == [False, True]


def test_runs_that_know_nothing_are_not_refused() -> None:
    """Pure chance, of as few runs and examples as may agree by chance."""
    rng, number = np.random.default_rng(2), 5000
    noted = 0
    for num_runs, num_examples in ((4, 2), (4, 4), (6, 6), (12, 60)):
        for _ in range(number // 4):
            inclusion = rng.random((num_runs, num_examples)) < 0.7
            noted += check_orientation(inclusion, rng.normal(size=inclusion.shape)) != ""
    assert stats.binom.sf(noted - 1, number, DOUBT) > 1e-3


def test_how_many_examples_have_no_scores_is_said() -> None:
    logits = np.array(ONE.logits)
    logits[3, :30] = np.nan
    found = byrote.scores(ONE.inclusion, logits=logits, targets=ONE.targets)
    assert found.arrow["memorisation"].null_count == 30
    assert any(note.startswith(f"30 of {EXAMPLES} examples have no scores") for note in found.notes)


def test_a_test_example_that_nobody_answered_costs_itself_alone() -> None:
    knows = ONE.inclusion[:, 4]
    logits, tests = np.array(ONE.logits), np.zeros((RUNS, 2, 3))
    logits[:, 4, ONE.targets[4]] += np.where(knows, 50.0, -50.0)
    tests[:, 0] = np.nan
    tests[:, 1, 1] = np.where(knows, 1.0, -1.0)
    found = byrote.scores(ONE.inclusion, logits=logits, targets=ONE.targets, test_logits=tests, test_targets=[1, 1])
    row = found.to_pylist()[4]
    assert (row["num_influenced"], row["most_influenced"]) == (1, 1)
    assert any("1 of 2 test examples" in note for note in found.notes)


def test_ids_in_a_table_of_objects_stay_numbers_and_test_ids_are_unique() -> None:
    ids = pd.Series(range(EXAMPLES), dtype=object)
    found = byrote.scores(ONE.inclusion, logits=ONE.logits, targets=ONE.targets, ids=ids)
    assert found["id"].tolist() == list(range(EXAMPLES))
    with pytest.raises(ValueError, match="unique test_ids, got 1 repeated, for instance 'a'"):
        byrote.scores(ONE.inclusion, margin=margins(ONE), test_correct=np.ones((RUNS, 2), bool), test_ids=["a", "a"])


def test_a_recorder_of_numbers_has_no_threshold() -> None:
    recorder = byrote.Recorder(2, regression=True)
    recorder.update([0, 1], [0.0, 1.0], [0.0, 2.0])
    with pytest.raises(TypeError, match="threshold"):
        recorder.scores(threshold_ids=[1])
