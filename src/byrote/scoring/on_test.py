"""What runs say of test examples, checked: whether they are right, or how near they come."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from byrote.scoring.arrays import as_array
from byrote.scoring.given import Given, class_codes, column, numeric
from byrote.scoring.outputs import Outputs, correct_only

OUTPUTS = ("test_logits", "test_predictions", "test_correct")


def quality_on_test(
    given: Given, outputs: Outputs, *, tests: Mapping[str, Any]
) -> Float[np.ndarray, "run test_example"] | None:
    """1 where a run is right and 0 where it is wrong; of numbers minus the squared error, in variances of the test
    targets, or of the training targets where those do not vary.

    Args:
        given: of the training examples.
        outputs: of these.
        tests: test_logits, test_predictions, test_correct and test_targets, or None in their place.

    Returns:
        NaN where an output is not finite; None where there are no test examples.

    Raises:
        TypeError: outputs without targets, or of another kind than the training examples' are.
        ValueError: shapes do not fit, or a target is no class.
    """
    known = [name for name in OUTPUTS if tests[name] is not None]
    targets = tests["test_targets"]
    if len(known) > 1:
        raise TypeError(f"Expected test outputs of one kind, got both {' and '.join(known)}.")
    if known == ["test_correct"] and targets is None:
        return _right(tests["test_correct"], given=given)
    if not known and targets is None:
        return None
    if not known or targets is None or known == ["test_correct"]:
        raise TypeError(
            f"Expected test_logits and test_targets together (or test_predictions and test_targets, or test_correct "
            f"alone), got "
            f"{' and '.join([*known, *(['test_targets'] if targets is not None else [])])}."
        )
    return _scored(known[0], tests[known[0]], targets, given=given, outputs=outputs)


def _scored(
    name: str, values: Any, targets: Any, *, given: Given, outputs: Outputs
) -> Float[np.ndarray, "run test_example"]:
    own = "test_predictions" if given.predictions is not None else "test_logits"
    if name != own:
        beside = "predictions" if given.predictions is not None else "outputs of classes"
        raise TypeError(f"Expected {own} beside {beside}, got {name}.")
    num_runs = len(given.inclusion)
    if len(values) != num_runs:
        raise ValueError(f"Expected {name} of the same {num_runs} runs, got {len(values)}.")
    wanted = column(targets, name="test_targets", length=None)
    if name == "test_logits":
        return correct_only(
            values,
            num_runs=num_runs,
            codes=class_codes(wanted, given.classes),
            num_columns=outputs.num_columns,
            are_logits=not given.from_probability,
        )
    assert given.numbers is not None
    predictions = _matrix(values, name=name, shape=(num_runs, len(wanted))).astype(np.float64)
    truth = numeric(wanted)
    variance = float(truth.var() if np.ptp(truth) > 0 else given.numbers.var())
    errors = -((predictions - truth) ** 2) / (variance or 1.0)
    return np.where(np.isfinite(errors), errors, np.nan)


def _right(values: Any, *, given: Given) -> Float[np.ndarray, "run test_example"]:
    if given.predictions is not None:
        raise TypeError("Expected test_predictions and test_targets beside predictions, got test_correct.")
    array = as_array(values, name="test_correct")
    array = _matrix(array, name="test_correct", shape=(len(given.inclusion), *array.shape[1:2]))
    if not ((array == 0) | (array == 1)).all():
        raise TypeError("Expected test_correct as a mask, True or False, got other numbers.")
    return array.astype(np.float32)


def _matrix(values: Any, *, name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = as_array(values, name=name)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 or array.shape != shape:
        raise ValueError(
            f"Expected {name} of shape [{', '.join(map(str, shape[:1]))} runs, test example]"
            f"{f' with {shape[1]} test examples' if len(shape) > 1 else ''}, got {array.shape}."
        )
    return array
