"""`byrote.scores` against the measures it is made of, and against what was kept in other forms."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import byrote
from byrote.measures import (
    efficient_memorisation,
    heldout_mean,
    included_mean,
    influence,
    label_suspicion,
    log_odds,
    membership_risk,
    memorisation,
    residual_suspicion,
)
from byrote.scoring import Table, columns, outputs
from small_outputs import losses, made, margins


def close(table: Table, expected: dict[str, np.ndarray], *, tolerance: float = 1e-5) -> None:
    for name, wanted in expected.items():
        assert table[name].astype(float) == pytest.approx(
            wanted.astype(float), rel=tolerance, abs=tolerance, nan_ok=True
        ), name


@pytest.mark.parametrize("block", [7, 10**6])
def test_every_column_is_the_measure_of_its_name(block, monkeypatch):
    """However large the blocks are that outputs are looked at in."""
    monkeypatch.setattr(outputs, "BLOCK", block)
    monkeypatch.setattr(columns, "BLOCK", block)
    one = made()
    table = byrote.scores(one.inclusion, logits=one.logits, targets=one.targets)
    correct, probability = margins(one) > 0, np.exp(-losses(one))
    best = efficient_memorisation(one.inclusion, correct, margin=margins(one).astype(np.float32))
    raw, right = memorisation(one.inclusion, correct), heldout_mean(one.inclusion, correct)
    heldout, own = heldout_mean(one.inclusion, probability), included_mean(one.inclusion, probability)
    softmax = special.softmax(one.logits, axis=2)
    mean = np.stack([softmax[~one.inclusion[:, i], i].mean(0) for i in range(len(one.targets))])
    doubt = label_suspicion(mean, one.targets)
    risk = membership_risk(log_odds(one.logits, one.targets), one.inclusion).auc
    assert (one.logits == made().logits).all()
    close(
        table,
        {
            "id": np.arange(17),
            "target": one.targets,
            "memorisation": best.value,
            "memorisation_se": best.se,
            "memorisation_low": best.low,
            "memorisation_high": best.high,
            "memorisation_raw": raw.value,
            "memorisation_raw_se": raw.se,
            "heldout_correct": right.value,
            "heldout_correct_se": right.se,
            "heldout_probability": heldout.value,
            "heldout_probability_se": heldout.se,
            "self_confidence": own.value,
            "self_confidence_se": own.se,
            "label_suspicion": doubt.suspicion,
            "heldout_target": doubt.suggested,
            "membership_risk": risk.value,
            "membership_risk_se": risk.se,
            "count": raw.count,
        },
    )
    assert table.notes == ()


def test_numpy_torch_lists_and_any_precision_are_one():
    one = made()
    plain = byrote.scores(one.inclusion, logits=one.logits, targets=one.targets).arrow
    for logits in (
        torch.tensor(one.logits, requires_grad=True),
        list(one.logits),
        [torch.tensor(row) for row in one.logits],
        one.logits[::-1][::-1],
        np.asfortranarray(one.logits),
    ):
        given: Any = logits
        table = byrote.scores(torch.tensor(one.inclusion), logits=given, targets=torch.tensor(one.targets))
        assert table.arrow.equals(plain)
    half = torch.tensor(one.logits, dtype=torch.bfloat16)
    table = byrote.scores(one.inclusion.astype(np.uint8), logits=half, targets=one.targets.astype(float))
    exact = byrote.scores(one.inclusion, logits=half.double(), targets=one.targets)
    assert table.arrow.drop(["target"]).equals(exact.arrow.drop(["target"]))


def test_what_was_kept_of_the_logits_gives_the_same_where_it_gives_anything():
    one = made()
    whole = byrote.scores(one.inclusion, logits=one.logits, targets=one.targets)
    efficient = {f"memorisation{ending}" for ending in ("", "_se", "_low", "_high")}
    softmax = special.softmax(one.logits, axis=2)
    own = np.exp(-losses(one))
    cases: dict[str, tuple[dict[str, Any], set[str]]] = {
        "all probabilities": ({"probability": softmax}, set()),
        "margin and loss": ({"margin": margins(one), "loss": losses(one)}, {"heldout_target"}),
        "correct and probability": (
            {"correct": margins(one) > 0, "probability": own},
            {"heldout_target", *efficient},
        ),
        "loss": ({"loss": losses(one)}, {"heldout_target", "heldout_correct", "heldout_correct_se", *efficient}),
        "correct": (
            {"correct": margins(one) > 0},
            efficient
            | {
                name
                for name in whole.columns
                if name.startswith(("heldout_p", "heldout_t", "self", "label", "membership"))
            },
        ),
    }
    for case, (kept, unknown) in cases.items():
        table = byrote.scores(one.inclusion, targets=one.targets, **kept)
        assert {name for name in table.columns if table.arrow[name].null_count} == unknown, case
        of_probability = {"memorisation_raw", "memorisation_raw_se", "status"} if case == "loss" else set()
        same = [name for name in whole.columns if name not in {*unknown, *of_probability, "status"}]
        close(table, {name: whole[name] for name in same})
    loss_only = byrote.scores(one.inclusion, loss=losses(one))
    assert loss_only["memorisation_raw"] == pytest.approx(memorisation(one.inclusion, own).value)
    assert "memorisation_raw is of the probability" in loss_only.notes[0]
    assert all(loss_only.arrow[name].null_count == 17 for name in efficient)
    assert loss_only.arrow["target"].null_count == 17


def test_certain_probabilities_have_finite_log_odds():
    """In single precision many probabilities are exactly 1: an attack must not see infinity there."""
    one = made()
    sure = special.softmax(30 * one.logits, axis=2).astype(np.float32)
    assert (sure == 1).any()
    table = byrote.scores(one.inclusion, probability=sure, targets=one.targets)
    assert np.isfinite(table["membership_risk"]).all()


def test_one_logit_is_that_of_the_second_of_two_classes():
    one = made(num_classes=2)
    difference = one.logits[..., 1] - one.logits[..., 0]
    two = byrote.scores(one.inclusion, logits=one.logits, targets=one.targets)
    for logits in (difference, difference[..., None]):
        table = byrote.scores(one.inclusion, logits=logits, targets=one.targets.astype(bool))
        close(table, {name: two[name] for name in two.columns if name not in ("status", "target")})


def test_classes_are_in_the_order_of_the_columns_not_of_the_alphabet():
    one, names = made(), np.array(["zebra", "ant", "moth"])
    table = byrote.scores(one.inclusion, logits=one.logits, targets=names[one.targets], classes=names)
    plain = byrote.scores(one.inclusion, logits=one.logits, targets=one.targets)
    assert table["heldout_target"].tolist() == names[plain["heldout_target"]].tolist()
    assert table["target"].tolist() == names[one.targets].tolist()
    same = ["memorisation_raw", "label_suspicion", "membership_risk"]
    assert table.arrow.select(same).equals(plain.arrow.select(same))
    with pytest.raises(TypeError, match=r"got \['moth'.*say which column is which: classes="):
        byrote.scores(one.inclusion, logits=one.logits, targets=np.full(17, "moth"))


def test_numbers_have_errors_in_variances_of_the_target():
    rng = np.random.default_rng(3)
    inclusion, targets = rng.random((20, 9)) < 0.5, 100 + 7 * rng.normal(size=9)
    predictions = targets + (3 - 2 * inclusion) * rng.normal(size=(20, 9))
    table = byrote.scores(inclusion, predictions=predictions, targets=targets)
    error = (predictions - targets) ** 2 / targets.var()
    mean = np.array([predictions[~inclusion[:, i], i].mean() for i in range(9)])
    close(
        table,
        {
            "memorisation": memorisation(inclusion, -error).value,
            "memorisation_se": memorisation(inclusion, -error).se,
            "memorisation_raw": memorisation(inclusion, -error).value,
            "heldout_error": heldout_mean(inclusion, error).value,
            "self_error": included_mean(inclusion, error).value,
            "label_suspicion": residual_suspicion(mean, targets),
            "heldout_target": mean,
            "membership_risk": membership_risk(-np.sqrt(error), inclusion).auc.value,
        },
    )
    assert "heldout_correct" not in table.columns
    assert table.arrow["memorisation_low"].null_count == 9
    assert any(note.startswith("memorisation_low and memorisation_high are null: of numbers") for note in table.notes)


def test_right_answers_that_contradict_margins_are_said_and_mostly_contradicting_ones_refused():
    one = made()
    margin = margins(one)
    correct = margin > 0
    agreeing = byrote.scores(one.inclusion, correct=correct, margin=margin)
    assert not any("contradicts" in note for note in agreeing.notes)
    few = correct.copy()
    few[0, :5] = ~few[0, :5]
    table = byrote.scores(one.inclusion, correct=few, margin=margin)
    assert any(
        note.startswith("correct contradicts margin") and "in 0.98 % of all runs" in note for note in table.notes
    )
    assert table["heldout_correct"] == pytest.approx(heldout_mean(one.inclusion, few).value)
    with pytest.raises(ValueError, match=r"Expected correct where margin is above 0, got the contrary in 100 %"):
        byrote.scores(one.inclusion, correct=~correct, margin=margin)


@pytest.mark.parametrize("answer", ["correct", "margin"])
@pytest.mark.parametrize("surety", ["loss", "probability"])
def test_a_target_that_is_more_probable_than_not_is_the_answer(answer: str, surety: str):
    one = made()
    margin, loss = margins(one), losses(one)
    kept = {"margin": margin, "correct": margin > 0, "loss": loss, "probability": np.exp(-loss)}
    agreeing = byrote.scores(one.inclusion, **{name: kept[name] for name in (answer, surety)})
    assert not any("contradicts" in note for note in agreeing.notes)
    sure = np.argwhere(loss < np.log(2) - 0.01)
    some = kept[answer].copy()
    some[tuple(sure[:3].T)] = False if answer == "correct" else -1.0
    table = byrote.scores(one.inclusion, **{answer: some, surety: kept[surety]})
    assert any(note.startswith(f"{answer} contradicts {surety}, in") for note in table.notes)
    none = kept[answer] & False if answer == "correct" else -np.abs(margin) - 1
    with pytest.raises(ValueError, match=f"Expected {answer} (to be true|in logits).*, got the contrary in"):
        byrote.scores(one.inclusion, **{answer: none, surety: kept[surety]})


def test_losses_that_are_not_of_the_probabilities_are_refused():
    one = made()
    loss = losses(one)
    probability = np.exp(-loss)
    assert not byrote.scores(one.inclusion, loss=loss, probability=probability.astype(np.float16)).notes[2:]
    with pytest.raises(ValueError, match=r"Expected loss to be −log\(probability\), got the contrary in 9"):
        byrote.scores(one.inclusion, loss=loss / np.log(2), probability=probability)


def test_test_examples_tell_whom_they_depend_on():
    """A test example is right exactly in the runs that were trained on example 4, which these alone know."""
    one = made(num_runs=60)
    one.logits[:, 4] = np.where(one.inclusion[:, 4, None], 1, -1) * (2 * np.eye(3)[one.targets[4]] - 1)
    test_logits = np.stack([np.eye(3)[1] * np.where(held, 5.0, -5.0) for held in one.inclusion[:, 4]])[:, None]
    table = byrote.scores(
        one.inclusion, logits=one.logits, targets=one.targets, test_logits=test_logits, test_targets=[1]
    )
    row = table.to_pylist()[4]
    assert (row["num_influenced"], row["largest_influence"], row["most_influenced"]) == (1, 1.0, 0)
    exact = influence(one.inclusion, test_logits.argmax(2) == 1)
    assert row["largest_influence_se"] == pytest.approx(exact.se[4, 0])
    elsewhere = {name: table.arrow[name].null_count for name in ("largest_influence", "most_influenced")}
    assert set(elsewhere.values()) == {int((table["num_influenced"] == 0).sum())}


def test_test_answers_are_enough_for_influence_and_numbers_have_it_too():
    """One training example alone makes a test example right, or a prediction of 1 exact."""
    one = made(num_runs=60)
    knows = one.inclusion[:, 4]
    margin = margins(one)
    margin[:, 4] = np.where(knows, 5.0, -5.0)
    classes = byrote.scores(one.inclusion, margin=margin, test_correct=np.stack([np.ones(60), knows], 1))
    numbers = np.zeros((60, 17))
    numbers[:, 4] = knows
    regression = byrote.scores(
        one.inclusion,
        predictions=numbers,
        targets=np.eye(17)[4],
        test_predictions=np.stack([np.ones(60), knows], 1),
        test_targets=[1.0, 1.0],
    )
    for table, largest in ((classes, 1.0), (regression, 1 / np.eye(17)[4].var())):
        row = table.to_pylist()[4]
        assert (row["num_influenced"], row["most_influenced"]) == (1, 1)
        assert row["largest_influence"] == pytest.approx(largest)


def test_probabilities_of_test_examples_go_with_probabilities():
    one = made()
    probability = special.softmax(one.logits, axis=2)
    kinds: tuple[dict[str, Any], ...] = (
        {"logits": one.logits, "test_logits": one.logits},
        {"probability": probability, "test_logits": probability},
    )
    tables = [byrote.scores(one.inclusion, targets=one.targets, test_targets=one.targets, **kind) for kind in kinds]
    assert tables[0]["num_influenced"].tolist() == tables[1]["num_influenced"].tolist()


def test_runs_whose_test_outputs_are_not_finite_are_left_out_of_influence_and_said():
    one = made(num_runs=60)
    one.logits[:, 4] = np.where(one.inclusion[:, 4, None], 1, -1) * (2 * np.eye(3)[one.targets[4]] - 1)
    test_logits = np.stack([np.eye(3)[1] * np.where(held, 5.0, -5.0) for held in one.inclusion[:, 4]])[:, None]
    given = {"logits": one.logits, "targets": one.targets, "test_targets": [1]}
    whole = byrote.scores(one.inclusion, test_logits=test_logits, **given)
    assert not any("influence" in note for note in whole.notes)
    test_logits[7:9] = np.nan
    table = byrote.scores(one.inclusion, test_logits=test_logits, **given)
    assert "2 of 60 runs are not looked at for influence: some of" in " ".join(table.notes)
    assert table["largest_influence"][4] == 1.0
    assert table["memorisation"].tolist() == whole["memorisation"].tolist()
    test_logits[:] = np.nan
    nothing = byrote.scores(one.inclusion, test_logits=test_logits, **given)
    assert nothing.arrow["num_influenced"].null_count == 17


def test_diverged_runs_are_left_out_and_said_and_a_spoilt_example_has_no_scores():
    one = made()
    logits = one.logits.copy()
    logits[[3, 8]] = np.nan
    logits[5, 2, 1] = np.inf
    table = byrote.scores(one.inclusion, logits=logits, targets=one.targets)
    kept = np.delete(np.arange(30), [3, 8])
    rest = byrote.scores(one.inclusion[kept], logits=one.logits[kept], targets=one.targets)
    assert table.notes[0].startswith("Runs 3, 8 left out")
    assert table["status"][2] == "not finite"
    others = np.delete(np.arange(17), 2)
    shared = ("membership", "memorisation_se", "memorisation_low", "memorisation_high")  # of all examples together
    names = [name for name in rest.columns if not name.startswith(shared) and name not in ("memorisation", "status")]
    assert table.arrow.select(names).take(others).equals(rest.arrow.select(names).take(others))
    spoilt = table.to_pylist()[2]
    assert {name for name, value in spoilt.items() if value is None} == {
        name for name in table.columns if name not in ("id", "target", "count", "status")
    }
    with pytest.raises(ValueError, match="Runs 0, 1, 2, 3, 4 and 25 more diverged"):
        byrote.scores(one.inclusion, logits=np.full_like(logits, np.nan), targets=one.targets)


def test_each_status():
    inclusion = np.array([[1, 1, 1, 1, 0]] * 2 + [[0, 0, 0, 1, 0]] * 2, bool)
    correct = np.array([[1, 1, 0, 1, 1]] * 2 + [[1, 0, 0, 1, 1]] * 2, bool)
    table = byrote.scores(inclusion, correct=correct)
    assert table["status"].tolist() == ["learnt", "memorised", "never fitted", "too few runs", "too few runs"]
    assert table.notes[0].startswith("memorisation is missing: it needs margins. Give margin or logits")
    assert table.notes[1:] == ("2 of 5 examples were trained on by all runs or by none: they have no score.",)
    assert table["count"].tolist() == [2, 2, 2, 0, 0]


def test_what_else_was_measured_goes_into_the_efficient_score_alone():
    one = made(num_runs=40, num_examples=60)
    aum = margins(one) + np.random.default_rng(1).normal(size=(40, 60))
    table = byrote.scores(one.inclusion, logits=one.logits, targets=one.targets, covariates=[aum])
    plain = byrote.scores(one.inclusion, logits=one.logits, targets=one.targets)
    best = efficient_memorisation(
        one.inclusion, margins(one) > 0, margin=margins(one).astype(np.float32), covariates=[aum]
    )
    close(table, {"memorisation": best.value, "memorisation_se": best.se})
    assert not np.allclose(table["memorisation"], plain["memorisation"])
    assert table["memorisation_raw"].tolist() == plain["memorisation_raw"].tolist()


def test_groups_are_shown_and_said_when_they_were_split():
    one = made(num_examples=4)
    whole = np.repeat(one.inclusion[:, :2], 2, axis=1)
    for inclusion, split in ((whole, False), (one.inclusion, True)):
        table = byrote.scores(inclusion, logits=one.logits, targets=one.targets, groups=["a", "a", "b", "b"])
        assert table["group"].tolist() == ["a", "a", "b", "b"]
        assert any("part of a group" in note for note in table.notes) == split


def test_notes_outlive_a_table():
    table = Table(pa.table({"x": [1]})).with_notes(["Mind <this>."])
    assert Table(table.arrow.slice(0, 1)).notes == ("Mind <this>.",)
    assert repr(table).endswith("Mind <this>.")
    assert "<p>Mind &lt;this&gt;.</p>" in table._repr_html_()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_permuting_examples_and_runs_permutes_the_table(seed):
    one = made(seed=seed, num_runs=12, num_examples=7)
    rng = np.random.default_rng(seed)
    runs, examples = rng.permutation(12), rng.permutation(7)
    table = byrote.scores(one.inclusion, logits=one.logits, targets=one.targets)
    other = byrote.scores(
        one.inclusion[runs][:, examples],
        logits=one.logits[runs][:, examples],
        targets=one.targets[examples],
        ids=examples,
    )
    fixed = [name for name in table.columns if not name.startswith("membership")]  # LiRA leaves out the next run
    assert "memorisation" in fixed
    back = other.arrow.take(np.argsort(examples))
    for name in fixed:
        if name in ("status", "heldout_target"):
            assert back[name].to_pylist() == table.arrow[name].to_pylist()
        else:
            assert back[name].to_numpy() == pytest.approx(table[name], nan_ok=True)


WRONG: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "nothing": (TypeError, r"outputs of one kind, got nothing\. Give logits=", {"logits": None}),
    "two kinds": (TypeError, "got both logits and margin", {"margin": np.zeros((30, 17))}),
    "no targets": (TypeError, "Expected targets beside logits: one for each of 17", {"targets": None}),
    "indices": (TypeError, r"got numbers up to 16\. Of indices make a mask", {"inclusion": np.arange(17)[None]}),
    "one run": (ValueError, r"of shape \[run, example\].*got shape \(17,\)", {"inclusion": np.ones(17, bool)}),
    "no runs": (ValueError, r"got shape \(0, 17\)", {"inclusion": np.ones((0, 17), bool)}),
    "examples first": (
        ValueError,
        r"logits of 30 runs.*got \(17, 30, 3\)\. Is it transposed\?",
        {"logits": np.zeros((17, 30, 3))},
    ),
    "fewer examples": (ValueError, r"with 17 examples, got \(16, 3\) in run 0", {"logits": np.zeros((30, 16, 3))}),
    "uneven runs": (
        ValueError,
        r"17 examples and 3 classes, got \(17, 4\) in run 1",
        {"logits": [np.zeros((17, 3))] + [np.zeros((17, 4))] * 29},
    ),
    "a class too many": (ValueError, r"targets in \[0, 3\).*got 0 to 3.*classes=", {"targets": np.arange(17) % 4}),
    "unknown class": (
        ValueError,
        r"among the classes \['a', 'b', 'c'\], got \['d'\]",
        {"targets": ["d"] * 17, "classes": ["a", "b", "c"]},
    ),
    "too few targets": (ValueError, r"targets of shape \[17, one for each example\], got \(5,\)", {"targets": [0] * 5}),
    "an id twice": (ValueError, "unique ids, got 16 repeated", {"ids": [1] * 17}),
    "logits as probabilities": (
        ValueError,
        r"sum of 1, got others in run 0.*Are they logits",
        {"logits": None, "probability": np.full((30, 17, 3), 2.0)},
    ),
    "a probability of 2": (
        ValueError,
        r"probability in \[0, 1\], got 2 to 2",
        {"logits": None, "probability": np.full((30, 17), 2.0)},
    ),
    "a negative loss": (ValueError, "loss 0 or more, got -1 to -1", {"logits": None, "loss": -np.ones((30, 17))}),
    "a transposed margin": (
        ValueError,
        r"margin of shape \(30, 17\).*got \(17, 30\)\. Is it transposed",
        {"logits": None, "margin": np.zeros((17, 30))},
    ),
    "a covariate that is NaN": (ValueError, "finite covariates", {"covariates": [np.full((30, 17), np.nan)]}),
    "a transposed covariate": (
        ValueError,
        r"each of covariates of shape \(30, 17\).*transposed",
        {"covariates": np.zeros((1, 17, 30))},
    ),
    "probabilities as logits": (
        ValueError,
        r"Expected logits, got rows of numbers that are 0 or more and sum to 1\..*Then: probability=…",
        {"logits": special.softmax(made().logits, axis=2).astype(np.float16)},
    ),
    "probabilities as one logit": (
        ValueError,
        r"one column of numbers in \[0, 1\] only.*logits=np\.log\(p\)",
        {"logits": special.softmax(made().logits, axis=2)[..., 0], "targets": np.arange(17) % 2},
    ),
    "test probabilities beside logits": (
        ValueError,
        "Expected test_logits, got rows of numbers that are 0 or more and sum to 1.*Give logits, as",
        {"test_logits": np.full((30, 2, 3), 1 / 3), "test_targets": [0, 1]},
    ),
    "another number of test columns": (
        ValueError,
        "test_logits with 3 columns, as the training outputs have, got 4 in run 0",
        {"test_logits": np.ones((30, 2, 4)), "test_targets": [0, 1]},
    ),
    "test logits beside predictions": (
        TypeError,
        "Expected test_predictions beside predictions, got test_logits",
        {
            "logits": None,
            "predictions": np.zeros((30, 17)),
            "test_logits": np.ones((30, 2, 3)),
            "test_targets": [0, 1],
        },
    ),
    "test predictions beside logits": (
        TypeError,
        "Expected test_logits beside outputs of classes, got test_predictions",
        {"test_predictions": np.ones((30, 2)), "test_targets": [0, 1]},
    ),
    "two kinds of tests": (
        TypeError,
        "both test_logits and test_correct",
        {"test_logits": np.ones((30, 2, 3)), "test_correct": np.ones((30, 2), bool)},
    ),
    "test answers of 3": (TypeError, "test_correct as a mask", {"test_correct": np.full((30, 2), 3)}),
    "test answers of other runs": (ValueError, r"test_correct.*got \(2, 5\)", {"test_correct": np.ones((2, 5), bool)}),
    "ragged indices": (
        TypeError,
        r"rows that differ in length\. Of indices make a mask: .*mask\[run, indices\[run\]\] = True",
        {"inclusion": [[0, 1], [2, 3, 4]]},
    ),
    "ragged logits": (TypeError, "margin as .*rows that differ in length", {"logits": None, "margin": [[0.0], [1, 2]]}),
    "a mask of signs": (TypeError, "got −1 and 1. For a mask: inclusion == 1", {"inclusion": -np.ones((30, 17))}),
    "a mask with nan": (TypeError, "got nan. Say True or False", {"inclusion": np.full((30, 17), np.nan)}),
    "a transposed mask": (
        ValueError,
        r"got \(17,\)\. Is inclusion, of shape \(17, 30\), transposed\? Runs come first",
        {"inclusion": made().inclusion.T},
    ),
    "a group that is None": (
        ValueError,
        "groups of which none is missing, got 2 that are, for instance at position 1",
        {"groups": ["a", None, None, *"abcdefghijklmn"]},
    ),
    "a group that is NaN": (ValueError, "groups of which none is missing, got 17", {"groups": np.full(17, np.nan)}),
    "classes in one word": (TypeError, "classes as a list, in order, got str 'abc'", {"classes": "abc"}),
    "classes in no order": (TypeError, "classes as a list, in order, got set", {"classes": {0}}),
    "half a test": (TypeError, "test_logits and test_targets together", {"test_targets": [0]}),
    "a test of other runs": (
        ValueError,
        "test_logits of the same 30 runs, got 2",
        {"test_targets": [0], "test_logits": np.zeros((2, 1, 3))},
    ),
    "words": (TypeError, "margin as an array of numbers, got", {"logits": None, "margin": [["a"]]}),
    "words to predict": (
        TypeError,
        "finite numbers as targets beside predictions",
        {"logits": None, "predictions": np.zeros((30, 17)), "targets": ["a"] * 17},
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case):
    kind, message, changed = WRONG[case]
    one = made()
    given: dict[str, Any] = {"inclusion": one.inclusion, "logits": one.logits, "targets": one.targets}
    with pytest.raises(kind, match=message):
        byrote.scores(**(given | changed))
