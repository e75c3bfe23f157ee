"""Memorisation scores against the exact ones of a 1-nearest-neighbour learner, in units of their own standard errors.

With m of n points drawn, P(the nearest included point is the rank-k one) = C(n−k−1, m−1)/C(n−1, m), so the score of
every example is known. Estimates from t = 400 subsets give z = (estimate − exact)/standard error, of which the mean is
0 and the standard deviation 1 if the standard error is right. Twenty such sequences of 400, fixed beforehand, give
twenty means and standard deviations; their own scatter says how near 0 and 1 their averages have to be: four standard
errors, which chance exceeds once in 1,300 times (Student's t with 19 degrees of freedom).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from byrote.data import balanced_subset
from byrote.measures import memorisation
from byrote.records import Scores

NUM_EXAMPLES, SIZE, NUM_RUNS, NUM_SEQUENCES = 240, 168, 400, 20
STANDARD_ERRORS = 4


class Neighbours(NamedTuple):
    """A data set with label noise, and what a 1-NN learner does on it."""

    y: np.ndarray
    order: np.ndarray
    """Each example's neighbours, itself first."""
    exact: np.ndarray
    undecided: np.ndarray
    """Examples with an exact score away from 0 and 1, where the binomial approximation is good."""


@pytest.fixture(scope="module")
def neighbours() -> Neighbours:
    rng = np.random.default_rng(0)
    y = np.arange(NUM_EXAMPLES) % 3
    angle = 2 * np.pi * y / 3
    x = rng.normal(size=(NUM_EXAMPLES, 2)) + 1.2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    order = np.linalg.norm(x[:, None] - x, axis=2).argsort(1)
    ways = [math.comb(NUM_EXAMPLES - rank - 1, SIZE - 1) for rank in range(1, NUM_EXAMPLES)]
    probability = np.array([way / math.comb(NUM_EXAMPLES - 1, SIZE) for way in ways])
    exact = 1 - (y[order[:, 1:]] == y[:, None]) @ probability
    return Neighbours(y, order, exact, (exact > 0.1) & (exact < 0.9))


def estimate(neighbours: Neighbours, inclusion: np.ndarray) -> Scores:
    first = inclusion[:, neighbours.order].argmax(2)
    nearest = neighbours.order[np.arange(NUM_EXAMPLES), first]
    return memorisation(inclusion, neighbours.y[nearest] == neighbours.y)


def independent_subsets(sequence: int) -> np.ndarray:
    chosen = np.tile(np.arange(NUM_EXAMPLES) < SIZE, (NUM_RUNS, 1))
    return np.random.default_rng(sequence).permuted(chosen, axis=1)


def balanced_subsets(sequence: int) -> np.ndarray:
    subsets = range(NUM_RUNS)
    return np.stack([balanced_subset(num_units=NUM_EXAMPLES, fraction=0.7, draw=sequence, index=i) for i in subsets])


def z_scores(neighbours: Neighbours, subsets: Callable[[int], np.ndarray]) -> np.ndarray:
    drawn = [estimate(neighbours, subsets(sequence)) for sequence in range(NUM_SEQUENCES)]
    return np.stack([((each.value - neighbours.exact) / each.se)[neighbours.undecided] for each in drawn])


def deviation(values: np.ndarray, expected: float) -> float:
    """How many of its own standard errors the mean of independent values is from what is expected."""
    return abs(values.mean() - expected) / (values.std(ddof=1) / len(values) ** 0.5)


def test_independent_subsets_give_standard_z_scores(neighbours):
    z = z_scores(neighbours, independent_subsets)
    assert z.shape[1] > 50
    assert deviation(z.mean(1), 0) < STANDARD_ERRORS
    assert deviation(z.std(1, ddof=1), 1) < STANDARD_ERRORS


def test_balanced_subsets_give_z_scores_as_narrow_as_their_design(neighbours):
    """In each block of ten, a neighbour is left out exactly three times: less is left to chance than the error says."""
    z = z_scores(neighbours, balanced_subsets)
    expected = math.sqrt(np.mean([design_effect(agrees) for agrees in agreements(neighbours)]))
    assert math.sqrt(7 / 9) < expected < 1
    assert deviation(z.mean(1), 0) < STANDARD_ERRORS
    assert deviation(z.std(1, ddof=1), expected) < STANDARD_ERRORS


def agreements(neighbours: Neighbours) -> np.ndarray:
    return (neighbours.y[neighbours.order[:, 1:]] == neighbours.y[:, None])[neighbours.undecided]


def design_effect(agrees: np.ndarray) -> float:
    """The variance of a left-out mean over blocks of ten subsets, relative to independent subsets.

    Two runs of a block that both leave the example out share every other point's fate as two of ten cards drawn
    without replacement do: both have it with probability 7·6/90, one alone 21/90, neither 6/90. Walking along the
    ranks, `open_` is the chance that both runs are still undecided, `half` that one has agreed and the other not yet
    decided.
    """
    both, one, neither = 42 / 90, 21 / 90, 6 / 90
    open_, half, agree_twice, agree = 1.0, 0.0, 0.0, 0.0
    for rank, same in enumerate(agrees):
        agree += same * 0.7 * 0.3**rank
        agree_twice += same * (open_ * both + half * 0.7)
        half = half * 0.3 + same * open_ * 2 * one
        open_ *= neither
    variance = agree * (1 - agree)
    return 1 + 2 * (agree_twice - agree**2) / variance


def test_real_values_give_standard_z_scores():
    """4,000 independent examples: the standard deviation of z is known to 1/√8000 and is √(ν/(ν − 2)) for ν ≈ 98."""
    rng = np.random.default_rng(3)
    inclusion = rng.permuted(np.tile(np.arange(100) < 50, (4000, 1)), axis=1).T
    loss = rng.normal(size=inclusion.shape) - 0.7 * inclusion
    scores = memorisation(inclusion, loss)
    z = (scores.value + 0.7) / scores.se
    assert abs(z.mean()) < STANDARD_ERRORS / 4000**0.5
    assert abs(z.std() - math.sqrt(98 / 96)) < STANDARD_ERRORS / 8000**0.5
