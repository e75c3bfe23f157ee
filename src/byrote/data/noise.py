"""Labels made wrong on purpose, and classes made rare: what finders of label errors are tried on."""

import numpy as np
from jaxtyping import Float, Int

from byrote.core import derive
from byrote.data.randomise import RandomisedTargets

Targets = Int[np.ndarray, "example"]


def uniform_flips(targets: Targets, *, num_classes: int, fraction: float, seed: int) -> RandomisedTargets:
    """Give a share of the examples, drawn at random, another class, all others equally likely.

    Unlike `CorruptedLabels`, no example drawn keeps its label: exactly round(q·n) change.

    >>> uniform_flips(np.zeros(10, int), num_classes=3, fraction=0.2, seed=0).changed.sum()
    np.int64(2)

    Args:
        targets: class codes in [0, k).
        num_classes: k, at least 2.
        fraction: q in [0, 1].
        seed: the root of the draw.

    Raises:
        ValueError: any is out of range.
    """
    _check(targets, num_classes=num_classes, fraction=fraction)
    rng = np.random.default_rng(derive(seed, "uniform-flips"))
    chosen = rng.permutation(len(targets))[: round(fraction * len(targets))]
    flipped = targets.copy()
    flipped[chosen] = (targets[chosen] + rng.integers(1, num_classes, len(chosen))) % num_classes
    return RandomisedTargets(flipped, flipped != targets)


def class_pair_flips(targets: Targets, *, num_classes: int, fraction: float, seed: int) -> RandomisedTargets:
    """Give a share of the examples, drawn at random, the class after their own: y → y + 1 mod k.

    >>> class_pair_flips(np.array([0, 1, 2]), num_classes=3, fraction=1.0, seed=0).targets
    array([1, 2, 0])

    Args:
        targets: class codes in [0, k).
        num_classes: k, at least 2.
        fraction: q in [0, 1]; exactly round(q·n) labels change.
        seed: the root of the draw.

    Raises:
        ValueError: any is out of range.

    Han et al. 2018, Co-teaching, https://arxiv.org/abs/1804.06872 (pair flipping)
    """
    _check(targets, num_classes=num_classes, fraction=fraction)
    rng = np.random.default_rng(derive(seed, "class-pair-flips"))
    chosen = rng.permutation(len(targets))[: round(fraction * len(targets))]
    flipped = targets.copy()
    flipped[chosen] = (targets[chosen] + 1) % num_classes
    return RandomisedTargets(flipped, flipped != targets)


def feature_dependent_flips(
    targets: Targets, *, probability: Float[np.ndarray, "example class"], fraction: float, seed: int
) -> RandomisedTargets:
    """Make labels wrong where a reference model is unsure, as a hasty annotator would.

    Examples are drawn without replacement with weights 1 − p(y | x); each gets a class c ≠ y with probability
    p(c | x)/(1 − p(y | x)).

    >>> sure = np.array([[1.0, 0.0], [0.5, 0.5]])
    >>> feature_dependent_flips(np.array([0, 0]), probability=sure, fraction=0.5, seed=0).targets
    array([0, 1])

    Args:
        targets: class codes in [0, k).
        probability: of each class by a model that was not trained on the example; rows sum to 1.
        fraction: q in [0, 1]; exactly round(q·n) labels change.
        seed: the root of the draw.

    Raises:
        ValueError: any is out of range, or the model is unsure of too few labels.

    Xia et al. 2020, Part-dependent Label Noise, https://arxiv.org/abs/2006.07836 (instance-dependent noise)
    """
    _check(targets, num_classes=probability.shape[1], fraction=fraction)
    if len(probability) != len(targets) or not np.allclose(probability.sum(1), 1, atol=1e-3):
        raise ValueError("Expected probabilities of every class for each target, each row with the sum 1.")
    rng = np.random.default_rng(derive(seed, "feature-dependent-flips"))
    others = probability.astype(np.float64)
    others[np.arange(len(targets)), targets] = 0
    doubt = others.sum(1)
    number = round(fraction * len(targets))
    if int((doubt > 0).sum()) < number:
        raise ValueError(f"Expected a model that is unsure of at least {number} labels, got {int((doubt > 0).sum())}.")
    arrival = np.divide(rng.exponential(size=len(doubt)), doubt, out=np.full(len(doubt), np.inf), where=doubt > 0)
    chosen = np.argsort(arrival, kind="stable")[:number]
    below = np.cumsum(others[chosen], axis=1)
    flipped = targets.copy()
    flipped[chosen] = (below <= rng.random((number, 1)) * below[:, -1:]).sum(1)
    return RandomisedTargets(flipped, flipped != targets)


def long_tail(targets: Targets, *, num_classes: int, ratio: float, seed: int) -> Int[np.ndarray, "kept"]:
    """Choose examples so that class sizes fall geometrically, which class is how rare being drawn.

    The j-th class in a random order keeps n·ratio^{−j/(k−1)} of its examples, n being the smallest class's size now.

    >>> kept = long_tail(np.repeat([0, 1], 100), num_classes=2, ratio=10, seed=0)
    >>> sorted(np.bincount(np.repeat([0, 1], 100)[kept]).tolist())
    [10, 100]

    Args:
        targets: class codes in [0, k).
        num_classes: k, at least 2.
        ratio: how many times as large the largest class is as the smallest, at least 1.
        seed: the root of the draw.

    Returns:
        Positions, ascending; every class keeps at least one example.

    Raises:
        ValueError: any is out of range, or a class has no example.

    Cui et al. 2019, Class-Balanced Loss, https://arxiv.org/abs/1901.05555 (long-tailed CIFAR)
    """
    _check(targets, num_classes=num_classes, fraction=0.0)
    if ratio < 1:
        raise ValueError(f"Expected a ratio of at least 1, got {ratio!r}.")
    sizes = np.bincount(targets, minlength=num_classes)
    if sizes.min() == 0:
        raise ValueError(f"Expected examples of every class, got none of class {int(sizes.argmin())}.")
    rng = np.random.default_rng(derive(seed, "long-tail"))
    kept: list[np.ndarray] = []
    for place, code in enumerate(rng.permutation(num_classes)):
        number = max(1, round(int(sizes.min()) * ratio ** (-place / (num_classes - 1))))
        kept.append(rng.permutation(np.flatnonzero(targets == code))[:number])
    return np.sort(np.concatenate(kept))


def _check(targets: np.ndarray, *, num_classes: int, fraction: float) -> None:
    if num_classes < 2:
        raise ValueError(f"Expected at least two classes, got {num_classes}.")
    if not 0 <= fraction <= 1:
        raise ValueError(f"Expected a fraction in [0, 1], got {fraction!r}.")
    if targets.dtype.kind not in "iu" or (len(targets) and not 0 <= targets.min() <= targets.max() < num_classes):
        raise ValueError(f"Expected targets that are class codes in [0, {num_classes}).")
