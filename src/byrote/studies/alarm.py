"""The leak alarm: networks trained on random labels must know nothing of the true ones (Rücker et al. 2007)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize

from byrote.data import Task
from byrote.measures import PermutationTest, mean_interval, relabelling_test, sign_flip_test
from byrote.records import Interval
from byrote.studies.claims import NOTHING

ALARM_LEVEL = 0.01
"""The leak alarm cries wolf this often at most."""
PROVING = 5
"""Runs on random labels from which a ringing alarm proves a leak. With fewer it is a doubt: networks of one learner are
alike in more than the test exchanges, and what two of them have in common may be an accident.
"""


@final
class Alarm(NamedTuple):
    """What runs on random labels know of the true ones."""

    test: PermutationTest
    least_p: float
    """The smallest p-value that these runs could have given, had their answers been as right as they can be."""
    num_runs: int
    interval: Interval
    """Of the mean held-out accuracy; for regression, of the mean correlation."""

    @property
    def rings(self) -> bool:
        """Whether they know more than chance does."""
        return self.test.p_value < ALARM_LEVEL

    @property
    def proves(self) -> bool:
        """Whether it rings, and on enough runs to be believed."""
        return self.rings and self.num_runs >= PROVING


def sound_alarm(part: Task, outputs: Sequence[Float[np.ndarray, "test_example output"]], *, seed: int) -> Alarm | None:
    """Test whether networks trained on random labels answer held-out examples better than chance.

    For classes by exchanging the predicted classes (`relabelling_test`), for numbers by the signs of the correlations
    (`sign_flip_test`).

    Args:
        part: the task, or the part of it that the networks saw.
        outputs: of each network on the test examples.
        seed: of the permutations drawn.

    Returns:
        The alarm; None without networks.
    """
    if not outputs:
        return None
    if part.regression:
        values = np.array([_correlation(own[:, 0], part.test.y) for own in outputs])
        best = sign_flip_test(np.abs(values), seed=seed)
        return Alarm(sign_flip_test(values, seed=seed), best.p_value, len(values), mean_interval(values))
    confusion = np.stack([_confusion(part, own) for own in outputs])
    test = relabelling_test(confusion, seed=seed)
    best = relabelling_test(np.stack([_best_relabelling(own) for own in confusion]), seed=seed)
    return Alarm(test, best.p_value, len(outputs), _interval(test, num_runs=len(outputs)))


def draws_for_alarm(task: Task) -> int:
    """Random-label runs without which the alarm's p-value could not fall below its level, and some to spare: of two
    classes, a run that is right in exactly half of its answers is right in as many when they are exchanged.

    >>> from byrote.data import Examples
    >>> draws_for_alarm(Task(train=Examples([[0.0], [1.0]], ["no", "yes"]), test=Examples([[2.0]], ["yes"])))
    10
    """
    permutations = 2 if task.regression else math.factorial(min(task.num_classes, 10))
    spare = 3 if task.num_classes == 2 else 1
    return math.ceil(math.log(1 / ALARM_LEVEL) / math.log(permutations)) + spare


def _interval(test: PermutationTest, *, num_runs: int) -> Interval:
    """The 95 % interval that the test's null distribution gives when it is moved to the observed accuracy."""
    if num_runs < 2:
        return replace(NOTHING, value=test.observed, count=num_runs)
    low = test.observed + min(0.0, test.null_low - test.null_mean)
    high = test.observed + max(0.0, test.null_high - test.null_mean)
    return Interval(value=test.observed, low=low, high=high, se=(high - low) / (2 * 1.96), count=num_runs)


def _confusion(part: Task, outputs: Float[np.ndarray, "test_example output"]) -> Int[np.ndarray, "class class"]:
    flat = np.bincount(outputs.argmax(1) * part.num_classes + part.test.y, minlength=part.num_classes**2)
    return flat.reshape(part.num_classes, part.num_classes)


def _best_relabelling(confusion: Int[np.ndarray, "class class"]) -> Int[np.ndarray, "class class"]:
    """Predicted classes exchanged so that as many answers as possible are right."""
    predicted, true = optimize.linear_sum_assignment(confusion, maximize=True)
    best = np.empty_like(confusion)
    best[true] = confusion[predicted]
    return best


def _correlation(predicted: Float[np.ndarray, "example"], y: Float[np.ndarray, "example"]) -> float:
    """Pearson's; 0 for predictions or targets that do not vary."""
    first, second = (values.astype(np.float64) - values.mean(dtype=np.float64) for values in (predicted, y))
    lengths = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / lengths if lengths > 0 else 0.0
