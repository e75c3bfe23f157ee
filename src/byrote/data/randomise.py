"""Random data: the transformations of Zhang et al. 2017, each drawn once and fixed over epochs."""

from typing import NamedTuple, assert_never

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from byrote.core import DataError, derive
from byrote.data.task import Task
from byrote.records import (
    CorruptedLabels,
    GaussianInputs,
    Inputs,
    Labels,
    PermutedColumns,
    PermutedLabels,
    RandomInputs,
    ReplacedLabels,
    ShuffledInputs,
    TrueAfterRandom,
    TrueInputs,
    TrueLabels,
)


class RandomisedTargets(NamedTuple):
    """Targets to train on, and which of them differ from the true ones."""

    targets: Shaped[np.ndarray, "example"]
    changed: Bool[np.ndarray, "example"]


class RandomisedInputs(NamedTuple):
    """Normalised inputs to train and test on, and which examples differ from the true ones."""

    train: Float[np.ndarray, "example *feature"]
    test: Float[np.ndarray, "test_example *feature"]
    changed: Bool[np.ndarray, "example"]


def randomise_targets(task: Task, labels: Labels) -> RandomisedTargets:
    """Draw the training targets a run is trained on.

    With probability q a label becomes a uniformly random class, so a fraction q(1 − 1/k) really changes; for
    regression the selected examples exchange their numbers, so the marginal stays. Of one draw, a larger q changes a
    superset. Permuted targets are exchanged among all examples or, if asked for, within groups only: what a group has
    in common stays as it is then, and what tells its examples apart is lost. Zhang et al. 2017,
    https://arxiv.org/abs/1611.03530; Ojala & Garriga 2010, Permutation Tests for Studying Classifier Performance
    """
    true = task.train.y
    match labels:
        case TrueLabels() | TrueAfterRandom():
            return RandomisedTargets(true.copy(), np.zeros(len(true), bool))
        case CorruptedLabels():
            rng = np.random.default_rng(derive(labels.draw, "labels"))
            redrawn = rng.random(len(true)) < labels.fraction
            if task.regression:
                drawn = true.copy()
                drawn[redrawn] = rng.permutation(true[redrawn])
            else:
                drawn = np.where(redrawn, rng.integers(task.num_classes, size=len(true)), true)
            return RandomisedTargets(drawn, drawn != true)
        case ReplacedLabels():
            return _replaced(task, labels)
        case PermutedLabels():
            groups = task.train.groups if labels.within_groups else None
            drawn = _permuted(true, groups, np.random.default_rng(derive(labels.draw, "permuted-labels")))
            return RandomisedTargets(drawn, drawn != true)
        case _:
            assert_never(labels)


def _permuted(
    targets: Shaped[np.ndarray, "example"], groups: Shaped[np.ndarray, "example"] | None, rng: np.random.Generator
) -> Shaped[np.ndarray, "example"]:
    """Targets exchanged, among all examples or among those of each group, all orders being equally likely."""
    if groups is None:
        return rng.permutation(targets)
    member = np.unique(groups, return_inverse=True)[1]
    drawn = np.empty_like(targets)
    drawn[np.argsort(member, kind="stable")] = targets[np.lexsort((rng.random(len(targets)), member))]
    return drawn


def _replaced(task: Task, labels: ReplacedLabels) -> RandomisedTargets:
    true, positions = task.train.y, np.array(labels.positions, dtype=np.int64)
    if len(positions) and positions[-1] >= len(true):
        raise DataError(f"Expected positions below {len(true)}, the number of training examples, got {positions[-1]}.")
    chosen = np.array(labels.targets, dtype=np.float64)
    if not task.regression and not np.isin(chosen, np.arange(task.num_classes)).all():
        raise DataError(
            f"Expected class codes from 0 to {task.num_classes - 1}, got {chosen.min():g} to {chosen.max():g}."
        )
    targets = true.copy()
    targets[positions] = chosen.astype(true.dtype)
    return RandomisedTargets(targets, targets != true)


def randomise_inputs(task: Task, inputs: Inputs) -> RandomisedInputs:
    """Draw the inputs a run is trained and tested on, after normalisation.

    Shuffled: one permutation of features (pixels; channels stay together) for all examples. Random: a permutation for
    each example. Gaussian: N(mean, variance) of all training inputs. Permuted columns: each raw column keeps its
    values, among the training and among the test examples, and loses the rows that they belong to; features that were
    encoded from one column stay together. Zhang et al. 2017, §2.1; Rücker et al. 2007, y-Randomization and Its Variants
    in QSPR/QSAR
    """
    train, test = task.normalise(task.train.x), task.normalise(task.test.x)
    everywhere = np.ones(len(train), bool)
    match inputs:
        case TrueInputs():
            return RandomisedInputs(train, test, ~everywhere)
        case ShuffledInputs():
            rng = np.random.default_rng(derive(inputs.draw, "shuffled-inputs"))
            order = rng.permutation(_as_positions(train[:1]).shape[-1])
            shuffled = [_as_positions(x)[..., order].reshape(x.shape) for x in (train, test)]
            return RandomisedInputs(shuffled[0], shuffled[1], everywhere)
        case RandomInputs():
            rng = np.random.default_rng(derive(inputs.draw, "random-inputs"))
            randomised = [_permute_each(x, rng) for x in (train, test)]
            return RandomisedInputs(randomised[0], randomised[1], everywhere)
        case GaussianInputs():
            rng = np.random.default_rng(derive(inputs.draw, "gaussian-inputs"))
            mean, scale = train.mean(dtype=np.float64), train.std(dtype=np.float64)
            drawn = [
                (mean + scale * rng.standard_normal(x.shape, dtype=np.float32)).astype(x.dtype) for x in (train, test)
            ]
            return RandomisedInputs(drawn[0], drawn[1], everywhere)
        case PermutedColumns():
            rng = np.random.default_rng(derive(inputs.draw, "permuted-columns"))
            dealt = [_deal_columns(x, columns_of(task), rng) for x in (train, test)]
            return RandomisedInputs(dealt[0], dealt[1], everywhere)
        case _:
            assert_never(inputs)


def columns_of(task: Task) -> Int[np.ndarray, "feature"]:
    """Of each feature the number of the raw column that it was encoded from."""
    size = task.train.x[0].size
    return np.unique(task.feature_columns, return_inverse=True)[1] if task.feature_columns else np.arange(size)


def _deal_columns(
    x: Float[np.ndarray, "example *feature"], columns: Int[np.ndarray, "feature"], rng: np.random.Generator
) -> Float[np.ndarray, "example *feature"]:
    flat = x.reshape(len(x), -1)
    dealt = np.empty_like(flat)
    for column in np.unique(columns):
        own = columns == column
        dealt[:, own] = flat[rng.permutation(len(flat))][:, own]
    return dealt.reshape(x.shape)


def _as_positions(x: Float[np.ndarray, "example *feature"]) -> Float[np.ndarray, "example channel position"]:
    """Images as channels × pixels, everything else as one channel of features."""
    return x.reshape(len(x), x.shape[1], -1) if x.ndim == 4 else x.reshape(len(x), 1, -1)


def _permute_each(
    x: Float[np.ndarray, "example *feature"], rng: np.random.Generator
) -> Float[np.ndarray, "example *feature"]:
    flat = _as_positions(x)
    permuted = np.empty_like(flat)
    for start in range(0, len(flat), 4096):
        block = flat[start : start + 4096]
        order = np.argsort(rng.random((len(block), flat.shape[-1]), dtype=np.float32), axis=1)
        permuted[start : start + 4096] = np.take_along_axis(block, order[:, None, :], axis=2)
    return permuted.reshape(x.shape)
