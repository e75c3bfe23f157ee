"""Where a low area under the margin begins to mean a wrong label (Pleiss et al. 2020)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from byrote.core import derive


class AumFlags(NamedTuple):
    """Examples whose area under the margin is as low as if their label were wrong."""

    flagged: Bool[np.ndarray, "example"]
    """False for threshold samples themselves, and where the area is unknown."""
    threshold: float
    """In logits."""
    num_threshold: int
    """Threshold samples with a known area."""


def threshold_samples(
    num_examples: int, *, num_classes: int, seed: int, num_sets: int = 2
) -> Bool[np.ndarray, "set example"]:
    """Choose examples to be given, for one training, the label of a class that does not exist.

    ⌊n/(k + 1)⌋ in each set, as many as a class of average size has. Their labels become k, so the model needs k + 1
    outputs. Sets are disjoint, so two trainings leave no example without an area under its true label's margin.

    >>> sets = threshold_samples(100, num_classes=9, seed=0)
    >>> sets.sum(1), int(sets.sum(0).max())
    (array([10, 10]), 1)

    Args:
        num_examples: n.
        num_classes: k, without the extra one.
        seed: which examples.
        num_sets: trainings, one set each.

    Returns:
        One mask for each training.

    Raises:
        ValueError: fewer than 2 classes, no set, or too few examples for a threshold sample in every set.

    Pleiss et al. 2020, Identifying Mislabeled Data using the Area Under the Margin Ranking,
    https://arxiv.org/abs/2001.10528
    """
    if num_classes < 2 or num_sets < 1:
        raise ValueError(f"Expected at least 2 classes and 1 set, got {num_classes} and {num_sets}.")
    size = num_examples // (num_classes + 1)
    if size < 1 or size * num_sets > num_examples:
        raise ValueError(
            f"Expected examples enough for {num_sets} sets of 1/{num_classes + 1} of them, got {num_examples}."
        )
    order = np.random.default_rng(derive(seed, "threshold samples")).permutation(num_examples)
    sets = np.zeros((num_sets, num_examples), bool)
    for mask, begin in zip(sets, range(0, size * num_sets, size), strict=True):
        mask[order[begin : begin + size]] = True
    return sets


def aum_flags(
    area: Float[np.ndarray, "example"], is_threshold: Bool[np.ndarray, "example"], *, percentile: float = 99
) -> AumFlags:
    """Flag examples whose area under the margin is no larger than that of labels known to be wrong.

    flagged(i) = AUM(i) ≤ the 99th percentile of the threshold samples' AUM.

    Threshold samples bear the label of an extra class, which cannot be learnt from what they have in common. A model
    that cannot have one more output gives no threshold: giving these examples wrong labels among the true classes
    instead would damage what is measured. The ranking by AUM stands without it, and `label_suspicion` from held-out
    networks needs no extra class.

    >>> area, threshold = np.array([3.0, -1.0, 0.5, 0.0]), np.array([False, False, False, True])
    >>> aum_flags(area, threshold)
    AumFlags(flagged=array([False,  True, False, False]), threshold=0.0, num_threshold=1)

    Args:
        area: from `aum`, of one training.
        is_threshold: its threshold samples.
        percentile: of their areas, interpolated linearly.

    Returns:
        Flags; few threshold samples (fewer than a hundred) place the threshold near the largest of them.

    Raises:
        ValueError: no threshold sample has an area, the lengths differ, or a percentile outside [0, 100].

    Pleiss et al. 2020, Identifying Mislabeled Data using the Area Under the Margin Ranking,
    https://arxiv.org/abs/2001.10528
    """
    if area.shape != is_threshold.shape or is_threshold.dtype.kind != "b":
        raise ValueError(
            f"Expected a mask of threshold samples, one entry for each of {len(area)} areas, got {is_threshold.dtype} "
            f"of shape {is_threshold.shape}."
        )
    if not 0 <= percentile <= 100:
        raise ValueError(f"Expected a percentile in [0, 100], got {percentile!r}.")
    known = area[is_threshold & ~np.isnan(area)].astype(np.float64)
    if len(known) == 0:
        raise ValueError(
            "Expected at least one threshold sample with an area, got none. Threshold samples bear an extra class's "
            "label, which needs a model with one output more; without it, rank by AUM, or use label_suspicion."
        )
    threshold = float(np.percentile(known, percentile))
    return AumFlags(flagged=(area <= threshold) & ~is_threshold, threshold=threshold, num_threshold=len(known))
