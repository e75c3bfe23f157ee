"""What a few runs say of a few examples, made up."""

from typing import NamedTuple

import numpy as np
from scipy import special


class Made(NamedTuple):
    """Runs that know what they were trained on a little better."""

    inclusion: np.ndarray
    logits: np.ndarray
    targets: np.ndarray


def made(*, num_runs: int = 30, num_examples: int = 17, num_classes: int = 3, seed: int = 0) -> Made:
    rng = np.random.default_rng(seed)
    inclusion = rng.random((num_runs, num_examples)) < 0.6
    targets = rng.integers(num_classes, size=num_examples)
    logits = rng.normal(size=(num_runs, num_examples, num_classes))
    logits[..., np.arange(num_examples), targets] += 1.5 * inclusion + rng.normal(size=num_examples)
    return Made(inclusion, logits, targets)


def margins(one: Made) -> np.ndarray:
    own = np.take_along_axis(one.logits, one.targets[None, :, None], 2)[..., 0]
    others = np.array(one.logits)
    np.put_along_axis(others, np.broadcast_to(one.targets[None, :, None], (*own.shape, 1)), -np.inf, 2)
    return own - others.max(2)


def losses(one: Made) -> np.ndarray:
    own = np.take_along_axis(one.logits, one.targets[None, :, None], 2)[..., 0]
    return np.asarray(special.logsumexp(one.logits, axis=2)) - own
