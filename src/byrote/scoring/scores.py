"""Every per-example score of runs that were trained elsewhere, from their outputs alone."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from byrote.scoring.columns import Found, columns, notes
from byrote.scoring.given import Given, checked, column, unique
from byrote.scoring.on_test import quality_on_test
from byrote.scoring.orientation import check_orientation
from byrote.scoring.outputs import OnRun, Outputs, class_outputs, has_diverged, kept_outputs, number_outputs
from byrote.scoring.table import Table
from byrote.scoring.typed import kind_notes, typed_table


def scores(
    inclusion: Any,
    *,
    targets: Any = None,
    logits: Any = None,
    predictions: Any = None,
    correct: Any = None,
    margin: Any = None,
    loss: Any = None,
    probability: Any = None,
    covariates: Any = None,
    classes: Any = None,
    ids: Any = None,
    groups: Any = None,
    test_logits: Any = None,
    test_predictions: Any = None,
    test_correct: Any = None,
    test_targets: Any = None,
    test_ids: Any = None,
    on_run: OnRun | None = None,
) -> Table:
    """Score every training example from the outputs of runs that were each trained on a random subset.

    Give every run's outputs on *all* training examples, with the model in evaluation mode and no augmentation: those
    that a run was not trained on are its held-out answers. Give logits where you have them. Without them, give what
    you kept: everything that needs more is null.

    >>> inclusion = np.array([[True, False], [False, True], [True, True], [False, False]])
    >>> table = scores(inclusion, correct=np.array([[1, 1], [0, 1], [1, 1], [0, 1]], bool))
    >>> table["memorisation_raw"].tolist(), table["heldout_correct"].tolist(), table["status"].tolist()
    ([1.0, 0.0], [0.0, 1.0], ['memorised', 'learnt'])

    Args:
        inclusion: which examples each run was trained on: a mask of shape [run, example].
        targets: each example's class, as the column of the logits or as one of `classes`; or its number.
        logits: [run, example, class], or a sequence of [example, class]; [run, example] of a model of two classes with
            one logit. NumPy or torch, any precision.
        predictions: of a regression, [run, example].
        correct: whether each run is right on each example, [run, example].
        margin: the target's logit minus the largest other, [run, example].
        loss: cross-entropy, [run, example].
        probability: of the target, [run, example]; or of all classes, [run, example, class].
        covariates: arrays of shape [run, example], of whatever else was measured and goes with right answers; the mean
            margin over training (AUM) helps most. Memorisation is more precise with them.
        classes: what the columns stand for, in their order, such as `classifier.classes_`.
        ids: of the examples; 0 to n − 1 unless given.
        groups: of examples that belong together, such as those of one patient.
        test_logits: the same runs' logits on test examples, for which training examples they depend on.
        test_predictions: of a regression, instead.
        test_correct: whether each run is right on each test example, instead; no test_targets are needed then.
        test_targets: theirs.
        test_ids: of the test examples; 0, 1, 2, … unless given.
        on_run: told how many runs' logits have been read.

    Returns:
        One row for each example, null where something is unknown: id, target, group; memorisation (from
        margins, several times as precise, with a 95 % interval from memorisation_low to _high; of numbers
        memorisation_raw); memorisation_raw (the
        published difference of means, of correctness; without correctness, of the target's probability; of numbers, of
        minus the squared error in variances of the target); heldout_correct (the C-score); heldout_probability and
        self_confidence (mean probability of the target, in runs that were not, and were, trained on the example; of
        numbers, heldout_error and self_error); label_suspicion and heldout_target; membership_risk (how often a run
        trained on the example is surer of its target than one that was not, an AUC); each with its standard error
        `_se` where it has one; count (runs on the smaller side) and status (`learnt`, `memorised`, `never fitted`, `too
        few runs`, `not finite`). With test examples also num_influenced, and of the strongest influence
        largest_influence, largest_influence_se and most_influenced, its id. At most about one in ten
        of these is chance. Every column is in `byrote.records.SCORE_COLUMNS`. What needs saying is in `notes`.

    Raises:
        TypeError: an argument is of another kind than it should be, or outputs of two kinds are given.
        ValueError: shapes do not fit, a target is no class, or a number is out of range; it says which.

    Feldman & Zhang 2020, https://arxiv.org/abs/2008.03703; Jiang et al. 2021, https://arxiv.org/abs/2002.03206;
    Northcutt et al. 2021, https://arxiv.org/abs/1911.00068; Carlini et al. 2022, https://arxiv.org/abs/2112.03570
    """
    given = checked(
        inclusion,
        targets=targets,
        outputs={
            "logits": logits,
            "predictions": predictions,
            "correct": correct,
            "margin": margin,
            "loss": loss,
            "probability": probability,
        },
        covariates=covariates,
        classes=classes,
        ids=ids,
        groups=groups,
    )
    outputs = _read(given, on_run)
    tests = {
        "test_logits": test_logits,
        "test_predictions": test_predictions,
        "test_correct": test_correct,
        "test_targets": test_targets,
    }
    test = quality_on_test(given, outputs, tests=tests)
    return _table(given, outputs, test, test_ids=_test_ids(test_ids, test))


def _test_ids(
    ids: Any, test: Float[np.ndarray, "run test_example"] | None
) -> Shaped[np.ndarray, "test_example"] | None:
    if test is None:
        if ids is not None:
            raise TypeError("Expected test_ids beside test_logits, test_predictions or test_correct, got them alone.")
        return None
    if ids is None:
        return np.arange(test.shape[1])
    return unique(column(ids, name="test_ids", length=test.shape[1]), name="test_ids")


def _read(given: Given, on_run: OnRun | None) -> Outputs:
    if given.logits is not None:
        assert given.codes is not None
        return class_outputs(given.inclusion, given.logits, codes=given.codes, on_run=on_run)
    if given.predictions is not None:
        assert given.numbers is not None
        return number_outputs(given.inclusion, given.predictions, targets=given.numbers)
    return kept_outputs(**{name: given.kept.get(name) for name in ("correct", "margin", "loss", "probability")})


def _table(
    given: Given,
    outputs: Outputs,
    test: Float[np.ndarray, "run test_example"] | None,
    *,
    test_ids: Shaped[np.ndarray, "test_example"] | None,
) -> Table:
    finite = outputs.finite(given.inclusion.shape)
    lost = np.asarray(has_diverged(finite))
    if lost.all():
        raise ValueError(
            f"Expected finite outputs, got NaN or infinity in most of each run's. {_runs(lost)} diverged: train with a "
            f"smaller learning rate, or look at what was kept."
        )
    kept = ~lost
    found = Found(
        given=given,
        inclusion=given.inclusion[kept],
        outputs=outputs.of_runs(kept),
        spoilt=np.asarray(~finite[kept].all(0)),
        test=None if test is None else test[kept],
        test_ids=test_ids,
        covariates=tuple(each[kept] for each in given.covariates),
    )
    doubt = check_orientation(found.inclusion, found.quality)
    left_out = [f"{_runs(lost)} left out: most of what they say is not finite."] if lost.any() else []
    table = typed_table(columns(found))
    by_kind = kind_notes(table, kind="classes" if given.numbers is None else "numbers")
    return Table(table).with_notes([*([doubt] if doubt else []), *left_out, *notes(found), *by_kind])


def _runs(which: Bool[np.ndarray, "run"]) -> str:
    places = [str(place) for place in np.flatnonzero(which)]
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    return f"Run{'s' if len(places) > 1 else ''} {', '.join(places[:5])}{more}"
