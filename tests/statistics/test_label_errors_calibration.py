"""Probabilities that labels are wrong, held against the truth that `label_errors` is not told.

Simulated networks know the true class's posterior up to their own noise; how sharp it is differs from example to
example, so that some right labels are as doubtful as wrong ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from byrote import models
from byrote.data import (
    Examples,
    Task,
    class_pair_flips,
    feature_dependent_flips,
    inclusion,
    load,
    long_tail,
    uniform_flips,
)
from byrote.measures import aum, csl, flag_label_errors, label_errors, nearest, residual_errors
from byrote.records import SGD, BalancedSubset, Learner, Recipe, RunSpec, TrueInputs
from byrote.training import Path, train, training_data

EXAMPLES, CLASSES, RUNS, SEEDS = 3000, 6, 8, 5
FRACTION, RATE = 0.1, 0.1
Flip = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


class World(NamedTuple):
    """What networks see of it, and what is so."""

    inclusion: np.ndarray
    logits: np.ndarray
    true: np.ndarray
    posterior: np.ndarray


class Pooled(NamedTuple):
    """Several worlds together."""

    probability: np.ndarray
    wrong: np.ndarray
    flagged: np.ndarray


def world(seed: int, *, runs: int = RUNS, number: int = EXAMPLES) -> World:
    rng = np.random.default_rng(seed)
    true = rng.integers(CLASSES, size=number)
    sharpness = rng.choice([1.0, 2.0, 4.0], size=(number, 1))
    evidence = sharpness * (sharpness * np.eye(CLASSES)[true] + rng.normal(size=(number, CLASSES)))
    posterior = np.exp(evidence - np.logaddexp.reduce(evidence, axis=1, keepdims=True))
    logits = evidence + rng.normal(size=(runs, number, CLASSES))
    left_out = np.arange(runs)[:, None] % 4 == np.arange(number) % 4
    return World(~left_out, logits, true, posterior)


def uniformly(true: np.ndarray, posterior: np.ndarray, seed: int) -> np.ndarray:
    return uniform_flips(true, num_classes=CLASSES, fraction=FRACTION, seed=seed).targets


def in_pairs(true: np.ndarray, posterior: np.ndarray, seed: int) -> np.ndarray:
    return class_pair_flips(true, num_classes=CLASSES, fraction=FRACTION, seed=seed).targets


def where_unsure(true: np.ndarray, posterior: np.ndarray, seed: int) -> np.ndarray:
    return feature_dependent_flips(true, probability=posterior, fraction=FRACTION, seed=seed).targets


def pooled(flip: Flip) -> Pooled:
    probabilities, wrongs, flags = [], [], []
    for seed in range(SEEDS):
        case = world(seed)
        given = flip(case.true, case.posterior, seed)
        found = label_errors(case.inclusion, case.logits, given).probability.value
        probabilities.append(found)
        wrongs.append(given != case.true)
        flags.append(flag_label_errors(found, false_discovery_rate=RATE))
    return Pooled(*(np.concatenate(parts) for parts in (probabilities, wrongs, flags)))


def standard_error(share: float, number: int) -> float:
    return (max(share * (1 - share), 1 / number) / number) ** 0.5


@pytest.mark.parametrize("flip", [uniformly, in_pairs], ids=["uniform", "pairs"])
def test_of_labels_at_a_probability_so_many_are_wrong(flip: Flip):
    """Within four standard errors and five hundredths, in every fifth of the range."""
    found = pooled(flip)
    assert found.probability.mean() == pytest.approx(FRACTION, abs=0.03)
    for low in np.arange(0, 1, 0.2):
        here = (found.probability >= low) & (found.probability <= low + 0.2)
        expected = float(found.probability[here].mean())
        allowed = 0.05 + 4 * standard_error(expected, int(here.sum()))
        assert found.wrong[here].mean() == pytest.approx(expected, abs=allowed)


@pytest.mark.parametrize("flip", [uniformly, in_pairs], ids=["uniform", "pairs"])
def test_flags_keep_their_false_discovery_rate(flip: Flip):
    found = pooled(flip)
    number = int(found.flagged.sum())
    assert number > 100
    assert (~found.wrong[found.flagged]).mean() <= RATE + 2 * standard_error(RATE, number)


def test_where_flips_hide_among_the_hard_probabilities_are_too_low_and_nothing_right_is_flagged():
    """Flips drawn from the very posterior that networks have: no held-out evidence tells them from what is hard."""
    found = pooled(where_unsure)
    assert found.wrong.mean() == pytest.approx(FRACTION, abs=1e-3)
    assert found.probability.mean() < FRACTION / 2
    assert (found.flagged & ~found.wrong).sum() <= 5


def test_rare_but_right_labels_are_not_flagged():
    """The third of the classes that is rarest, twenty times rarer than the commonest."""
    flagged_right, right = 0, 0
    for seed in range(SEEDS):
        case = world(seed)
        kept = long_tail(case.true, num_classes=CLASSES, ratio=20.0, seed=seed)
        true = case.true[kept]
        given = uniformly(true, case.posterior[kept], seed)
        common = np.log(np.bincount(true) / len(true))
        found = label_errors(case.inclusion[:, kept], case.logits[:, kept] + common, given)
        rare = np.isin(true, np.argsort(np.bincount(true))[:2]) & (given == true)
        flagged_right += int((flag_label_errors(found.probability.value) & rare).sum())
        right += int(rare.sum())
    assert right > 200
    assert flagged_right / right < 0.03


def coverage(*, seeds: range, number: int) -> list[bool]:
    """Whether the interval of the share of wrong labels has the true share, at several shares."""
    covered: list[bool] = []
    for seed in seeds:
        case = world(100 + seed, number=number)
        for fraction in (0.0, 0.03, 0.1, 0.25):
            given = uniform_flips(case.true, num_classes=CLASSES, fraction=fraction, seed=seed).targets
            wrong = label_errors(case.inclusion, case.logits, given).wrong
            assert wrong.count == number
            covered.append(wrong.low <= (given != case.true).mean() <= wrong.high)
    return covered


def test_the_interval_of_the_share_of_wrong_labels_has_it():
    """Eight data sets; at a coverage of 95 % three misses or more would be drawn less than once in a hundred times."""
    assert sum(coverage(seeds=range(2), number=500)) >= 6


@pytest.mark.slow
def test_the_interval_of_the_share_of_wrong_labels_has_it_as_often_as_it_says():
    """Two hundred data sets; at 95 % fewer than 90 % would be drawn less than once in three hundred times."""
    covered = coverage(seeds=range(50), number=1000)
    assert np.mean(covered) >= 0.9


def test_other_runs_change_probabilities_by_their_standard_errors():
    """Two halves of the runs: where the probability is not settled, differences have their stated size."""
    case = world(11, runs=32)
    given = uniformly(case.true, case.posterior, 11)
    halves = [
        label_errors(case.inclusion[part], case.logits[part], given).probability for part in np.split(np.arange(32), 2)
    ]
    open_ = (np.mean([half.value for half in halves], axis=0) > 0.1) & (halves[0].value < 0.9)
    spread = np.hypot(halves[0].se, halves[1].se)[open_]
    z = (halves[0].value - halves[1].value)[open_] / spread
    assert len(z) > 100
    assert 0.6 < np.median(np.abs(z)) / 0.6745 < 1.5


def test_wrong_numbers_are_as_many_as_their_probabilities_say():
    rng = np.random.default_rng(3)
    true = rng.normal(size=6000)
    given = np.where(rng.random(6000) < FRACTION, rng.permutation(true), true)
    left_out = np.arange(RUNS)[:, None] % 4 == np.arange(6000) % 4
    predictions = true + 0.3 * rng.normal(size=6000) + 0.1 * rng.normal(size=(RUNS, 6000))
    found = residual_errors(~left_out, predictions, given).probability.value
    wrong = given != true
    assert found.mean() == pytest.approx(FRACTION, abs=0.03)
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0)):
        here = (found >= low) & (found <= high)
        assert wrong[here].mean() == pytest.approx(found[here].mean(), abs=0.05 + 4 * standard_error(0.5, here.sum()))


@pytest.mark.parametrize("freedom", [1, 1.5, 2])
def test_very_heavy_tails_of_right_numbers_are_not_called_wrong(freedom: float) -> None:
    """Of ten data sets without a wrong number at most one gets flags."""
    flagged: list[int] = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        true, off = rng.normal(size=(2, 1000))
        given = true + 0.3 * rng.standard_t(freedom, size=1000)
        left_out = np.arange(RUNS)[:, None] % 4 == np.arange(1000) % 4
        predictions = true + 0.3 * off + 0.1 * rng.normal(size=(RUNS, 1000))
        found = residual_errors(~left_out, predictions, given)
        flagged.append(int(flag_label_errors(np.nan_to_num(found.probability.value)).sum()))
    assert sum(number > 0 for number in flagged) <= 1


class Real(NamedTuple):
    wrong: np.ndarray
    probability: np.ndarray
    rank: np.ndarray
    heldout: np.ndarray
    """1 − mean held-out probability of the label."""


def real(flip: str) -> Real:
    """Sixteen networks on subsets of MNIST-1D with a tenth of the labels wrong."""
    clean = load("mnist-1d", seed=42)
    x, y = clean.normalise(clean.train.x), clean.train.y
    flipped = {"uniform": uniform_flips, "pairs": class_pair_flips}[flip](y, num_classes=10, fraction=0.1, seed=0)
    task = Task(train=Examples(x, flipped.targets), test=clean.test)
    recipe = Recipe(optimiser=SGD(lr=0.05, momentum=0.9), batch_size=64, epochs=40)
    learner = Learner(model=models.mlp(width=128, depth=2), recipe=recipe)
    specs = [
        RunSpec(
            task=task.fingerprint,
            learner=learner,
            seed=index,
            order=index,
            subset=BalancedSubset(fraction=0.7, draw=0, index=index),
        )
        for index in range(16)
    ]
    device = torch.device("cpu")
    data = training_data(task, inputs=TrueInputs(), sample=None, device=device, dtype=torch.float32)
    runs = train(specs, data, path=Path("dense", 8, num_threads=1))
    mask = np.stack([inclusion(task, spec.subset) for spec in specs])
    logits = np.stack([run.trace.train_outputs for run in runs])
    found = label_errors(
        mask,
        logits,
        flipped.targets,
        csl=np.stack([csl(run.trace.loss) for run in runs]),
        aum=np.stack([aum(run.trace.margin) for run in runs]),
        neighbours=nearest(x, x, num_neighbours=10, exclude_self=True).index,
    )
    loss = -np.log(np.exp(-np.stack([run.trace.loss[-1] for run in runs])) + 1e-12)
    heldout = 1 - (np.exp(-loss) * ~mask).sum(0) / (~mask).sum(0)
    return Real(flipped.changed, found.probability.value, found.rank, heldout)


@pytest.mark.slow
@pytest.mark.parametrize(("flip", "least"), [("uniform", 0.93), ("pairs", 0.91)], ids=["uniform", "pairs"])
def test_real_networks_find_real_flips_and_say_how_surely(flip: str, least: float):
    pytest.importorskip("mnist1d")
    found = real(flip)
    auroc = roc_auc_score(found.wrong, -found.rank)
    assert auroc > least
    assert auroc > roc_auc_score(found.wrong, found.heldout) + 0.01
    likely, unlikely = found.probability > 0.7, found.probability < 0.3
    assert found.wrong[likely].mean() == pytest.approx(found.probability[likely].mean(), abs=0.1)
    assert found.wrong[unlikely].mean() == pytest.approx(found.probability[unlikely].mean(), abs=0.03)
    flagged = flag_label_errors(found.probability, false_discovery_rate=RATE)
    assert flagged.sum() > 50
    assert (~found.wrong[flagged]).mean() <= RATE + 2 * standard_error(RATE, int(flagged.sum()))
