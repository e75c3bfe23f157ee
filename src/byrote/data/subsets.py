"""Which examples a run is trained on."""

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, assert_never

import numpy as np
from jaxtyping import Bool, Float, Int

from byrote.core import DataError, derive
from byrote.data.task import Task
from byrote.records import AllExamples, BalancedSubset, LeftOut, Sample, Subset


class Positions(NamedTuple):
    """Positions of the chosen training and test examples, ascending."""

    train: Int[np.ndarray, "example"]
    test: Int[np.ndarray, "test_example"]


def inclusion(task: Task, subset: Subset) -> Bool[np.ndarray, "example"]:
    """Which training examples a run is trained on; groups go in or stay out whole."""
    match subset:
        case AllExamples():
            return np.ones(len(task.train), bool)
        case BalancedSubset():
            if task.train.groups is None:
                return balanced_subset(
                    num_units=len(task.train), fraction=subset.fraction, draw=subset.draw, index=subset.index
                )
            groups, member = np.unique(task.train.groups, return_inverse=True)
            chosen = balanced_subset(
                num_units=len(groups), fraction=subset.fraction, draw=subset.draw, index=subset.index
            )
            return chosen[member]
        case LeftOut():
            kept = np.ones(len(task.train), bool)
            kept[_within(subset.positions, number=len(kept))] = False
            return kept
        case _:
            assert_never(subset)


def _within(positions: tuple[int, ...], *, number: int) -> Int[np.ndarray, "chosen"]:
    if positions and positions[-1] >= number:
        raise DataError(f"Expected positions below {number}, the number of training examples, got {positions[-1]}.")
    return np.array(positions, dtype=np.int64)


def balanced_subset(*, num_units: int, fraction: float, draw: int, index: int) -> Bool[np.ndarray, "unit"]:
    """One subset of a sequence in which every unit is left out equally often.

    The sequence comes in blocks: with fraction 0.7, every unit is left out of exactly 3 of each 10 subsets. Within a
    block the subsets are drawn one after the other by systematic sampling in random order, with the probability
    (times still to be left out)/(subsets still to come), so each subset alone is a uniform one of its size. A longer
    sequence begins with a shorter one: runs can be added to an old result.

    >>> block = [balanced_subset(num_units=20, fraction=0.7, draw=0, index=i) for i in range(10)]
    >>> np.sum(block, axis=0).tolist() == [7] * 20
    True
    """
    share_out = Fraction(1 - fraction).limit_denominator(100)
    if not 0 < share_out < 1:
        raise ValueError(f"Expected a fraction from 0.01 to 0.99, got {fraction!r}.")
    length = share_out.denominator
    block = _block(num_units, share_out.numerator, length, derive(draw, "subset", index // length))
    return ~block[index % length]


@lru_cache(maxsize=8)
def _block(num_units: int, times_out: int, block_length: int, seed: int) -> Bool[np.ndarray, "run unit"]:
    rng = np.random.default_rng(seed)
    to_go = np.full(num_units, times_out)
    left_out = np.zeros((block_length, num_units), bool)
    for run in range(block_length):
        left_out[run] = _systematic(to_go / (block_length - run), rng)
        to_go -= left_out[run]
    left_out.flags.writeable = False
    return left_out


def _systematic(probability: Float[np.ndarray, "unit"], rng: np.random.Generator) -> Bool[np.ndarray, "unit"]:
    """Draw units with these inclusion probabilities, as nearly a fixed number as they allow (Madow 1949)."""
    order = rng.permutation(len(probability))
    edges = np.concatenate([[0.0], np.cumsum(probability[order])])
    edges = np.where(np.abs(edges - np.round(edges)) < 1e-9, np.round(edges), edges)
    ticks = np.floor(edges - rng.random() + 1.0)
    chosen = np.zeros(len(probability), bool)
    chosen[order] = np.diff(ticks) > 0
    return chosen


def sample_positions(task: Task, sample: Sample | None) -> Positions:
    """Which training and test examples a study looks at: all, or a seeded, stratified part of each."""
    if sample is None:
        return Positions(np.arange(len(task.train)), np.arange(len(task.test)))
    rng = np.random.default_rng(derive(sample.draw, "sample"))
    strata = (None, None) if task.regression else (task.train.y, task.test.y)
    return Positions(
        stratified_sample(len(task.train), sample.train, strata[0], rng),
        stratified_sample(len(task.test), sample.test, strata[1], rng),
    )


def stratified_sample(
    num_examples: int, size: int, strata: Int[np.ndarray, "example"] | None, rng: np.random.Generator
) -> Int[np.ndarray, "chosen"]:
    """Draw positions, ascending: a systematic sample along the examples sorted by stratum, in random order within each.

    So every stratum has its share of the sample, to less than one example.
    """
    if size >= num_examples:
        return np.arange(num_examples)
    order = rng.permutation(num_examples)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    ticks = (np.arange(size) + rng.random()) * (num_examples / size)
    return np.sort(order[ticks.astype(int)])
