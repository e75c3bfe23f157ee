"""A few dozen numbers: too few to know which are wrong, and then none may be said to be, nor most of them in sum."""

from typing import NamedTuple

import numpy as np
import pytest

from byrote.measures import LabelErrors, flag_label_errors, residual_errors

RUNS, SEEDS, RATE = 12, 15, 0.1


class Judged(NamedTuple):
    found: LabelErrors
    wrong: np.ndarray
    flagged: np.ndarray


def judged(seed: int, *, num_examples: int, fraction: float, known: float = 0.7) -> Judged:
    """Networks that know a share of the variance of targets with Gaussian noise, some of which are exchanged."""
    rng = np.random.default_rng(seed)
    true, noise = rng.normal(size=(2, num_examples))
    wrong = rng.random(num_examples) < fraction
    given = np.where(wrong, rng.permutation(true), true)
    expected = known * true + np.sqrt(known * (1 - known)) * noise
    predictions = expected + 0.3 * np.sqrt(1 - known) * rng.normal(size=(RUNS, num_examples))
    left_out = np.arange(RUNS)[:, None] % 4 == np.arange(num_examples) % 4
    found = residual_errors(~left_out, predictions, given)
    return Judged(found, wrong, flag_label_errors(found.probability.value, false_discovery_rate=RATE))


@pytest.mark.parametrize("num_examples", [32, 80])
def test_of_numbers_that_are_all_right_the_sum_says_so_or_nothing_is_said(num_examples: int) -> None:
    """In one task of ten at most something is flagged, and none has more than a fifth of wrong numbers in sum."""
    tasks = [judged(seed, num_examples=num_examples, fraction=0.0) for seed in range(SEEDS)]
    for found, _, flagged in tasks:
        unsaid = np.isnan(found.probability.value)
        assert unsaid.all() or not unsaid.any()
        if unsaid.all():
            assert found.status != "judged"
            assert not flagged.any()
        else:
            assert found.probability.value.mean() < 0.2
            assert found.wrong.low < 0.01, "none at all is among what can be"
    assert sum(task.flagged.any() for task in tasks) <= RATE * SEEDS + 2 * (RATE * (1 - RATE) * SEEDS) ** 0.5


def test_where_a_share_of_wrong_numbers_is_said_the_truth_is_in_its_interval() -> None:
    tasks = [judged(seed, num_examples=80, fraction=0.1, known=0.9) for seed in range(SEEDS)]
    told = [task for task in tasks if task.found.status == "judged"]
    assert len(told) > SEEDS / 2
    inside = [task.found.wrong.low <= task.wrong.mean() <= task.found.wrong.high for task in told]
    assert np.mean(inside) >= 0.8
    flagged = sum(int(task.flagged.sum()) for task in told)
    right = sum(int((task.flagged & ~task.wrong).sum()) for task in told)
    assert flagged > 0
    assert right / flagged <= RATE + 2 * (RATE * (1 - RATE) / flagged) ** 0.5
