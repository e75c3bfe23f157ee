"""Which examples are set aside for test, when a source does not say."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Shaped

from byrote.core import DataError, derive
from byrote.data.subsets import Positions, stratified_sample
from byrote.data.task import refuse_numbers


def split(
    targets: Shaped[np.ndarray, "example"],
    *,
    regression: bool,
    test_fraction: float,
    seed: int,
    groups: Shaped[np.ndarray, "example"] | None = None,
    classes: Sequence[str] = (),
) -> Positions:
    """Set a seeded, stratified part of the examples aside for test; groups go to one side whole.

    Every class has its share of the test examples, to less than one example (with groups: as nearly as they allow),
    and keeps at least one training example. Numbers to predict are not stratified.

    >>> positions = split(np.array(["cat", "dog"] * 10), regression=False, test_fraction=0.2, seed=0)
    >>> len(positions.train), len(positions.test)
    (16, 4)

    Args:
        targets: labels or numbers.
        regression: whether targets are numbers to predict.
        test_fraction: share of the examples to set aside, in (0, 1).
        seed: the same seed draws the same split.
        groups: equal values stay together.
        classes: names of integer labels 0 … k−1, for messages.

    Returns:
        Positions of the training and the test examples, ascending.

    Raises:
        DataError: too few examples or groups, a class with a single example, a quantity where labels are meant.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"Expected test_fraction between 0 and 1, got {test_fraction!r}.")
    num_test = round(len(targets) * test_fraction)
    if num_test < 1 or len(targets) - num_test < 2:
        raise DataError(
            f"Too few examples to split: {test_fraction:.0%} of {len(targets)} leaves {len(targets) - num_test} for "
            f"training and {num_test} for test. Bring more examples, or training and test examples of your own."
        )
    codes = np.zeros(len(targets), int) if regression else _labels(targets, classes)
    rng = np.random.default_rng(derive(seed, "split"))
    if groups is None:
        test = np.isin(np.arange(len(codes)), stratified_sample(len(codes), num_test, codes, rng))
        _give_back(test, codes)
    else:
        test = _grouped(groups, codes, test_fraction, rng)
    return Positions(np.flatnonzero(~test), np.flatnonzero(test))


def _labels(targets: Shaped[np.ndarray, "example"], classes: Sequence[str]) -> Int[np.ndarray, "example"]:
    """Labels as 0 … k−1, each of them of at least two examples."""
    names, codes, counts = np.unique(targets, return_inverse=True, return_counts=True)
    if classes:
        names = np.asarray(classes)[names]
    refuse_numbers(names, num_examples=len(targets))
    single = names[counts == 1]
    if len(single):
        more = f" (and {len(single) - 1} more classes)" if len(single) > 1 else ""
        quantity = " Or, if the target is a quantity: --regression." if names.dtype.kind in "iuf" else ""
        raise DataError(
            f"Class {str(single[0])!r} has a single example{more}, which cannot be both in training and in test. "
            f"Drop it, or merge it with another class.{quantity}"
        )
    return codes


def _give_back(test: Bool[np.ndarray, "example"], codes: Int[np.ndarray, "example"]) -> None:
    """Let every class keep one training example (a test fraction above a half may take them all)."""
    for code in np.setdiff1d(codes[test], codes[~test]):
        test[np.flatnonzero(codes == code)[0]] = False


def _grouped(
    groups: Shaped[np.ndarray, "example"],
    codes: Int[np.ndarray, "example"],
    test_fraction: float,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "example"]:
    """Take groups in random order, each one that brings the classes of the test set nearer to their shares.

    The distance is Σ_c (test share of class c − test_fraction)². No group is taken with the last of a class.
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"Expected at least 2 groups to split, got {len(names)} ({str(names[0])!r}). "
            f"Leave the group out, or choose one that differs between examples."
        )
    num_classes = int(codes.max()) + 1
    counts = np.bincount(member * num_classes + codes, minlength=len(names) * num_classes).reshape(-1, num_classes)
    shares = counts / counts.sum(0)
    order = rng.permutation(len(names))
    candidates = order[shares[order].max(1) < 1]
    if not len(candidates):
        raise DataError(
            f"Expected classes that reach over groups, but each of the {len(names)} groups holds the whole of a class, "
            f"so none can be set aside for test. Leave the group out, or choose a finer one."
        )
    nearest = candidates[np.square(shares[candidates] - test_fraction).sum(1).argmin()]
    chosen, share = [], np.zeros(num_classes)
    for group in candidates:
        taken = share + shares[group]
        if taken.max() < 1 - 1e-9 and np.square(taken - test_fraction).sum() < np.square(share - test_fraction).sum():
            chosen.append(group)
            share = taken
    return np.isin(member, chosen or [nearest])
