"""Whether runs do better on what they were trained on, as they must unless something is the wrong way round."""

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

MOST_EXAMPLES = 2000
"""Looked at, spread evenly."""
FEWEST_RUNS = 4
NEGLIGIBLE = 0.02
"""A lead of the others so small could be of the way in which examples were left out."""
LEVEL = 1e-6
"""Of the test: how often a call is refused for nothing."""
DOUBT = 1e-3
"""How often something is said for nothing."""
ADVICE = "Does inclusion say what was left out (then give ~inclusion), or are the outputs negated, or of other runs?"


def check_orientation(
    inclusion: Bool[np.ndarray, "run example"], quality: Num[np.ndarray, "run example"] | Bool[np.ndarray, "..."]
) -> str:
    """Refuse a mask that says what was left out, or answers that are negated.

    Of each example runs are counted as better or worse than the median run, 1, ½ or 0. a_r, the mean over the examples
    that run r was trained on minus that over the others, is tested twice: is its mean below 0 by Student's t, which
    knows that examples of one run may go together; and, since a few runs can agree by chance, by the normal
    distribution, as if no examples did.

    >>> inclusion = np.arange(6)[:, None] % 3 != np.arange(30) % 3
    >>> check_orientation(inclusion, inclusion)
    ''
    >>> check_orientation(inclusion, ~inclusion)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: Expected runs to do better on what they were trained on, got runs that do worse there, each of them...

    Args:
        inclusion: which examples each run was trained on.
        quality: the larger the better; NaN is not looked at.

    Returns:
        What to say where runs do worse and are too few to be sure of it; else nothing.

    Raises:
        ValueError: the mean is significantly below 0, and not by little.
    """
    chosen = np.unique(np.linspace(0, inclusion.shape[1] - 1, MOST_EXAMPLES).round().astype(int))
    mask, values = inclusion[:, chosen], quality[:, chosen].astype(np.float64)
    told = np.isfinite(values).all(0) & mask.any(0) & ~mask.all(0)
    mask, values = mask[:, told], values[:, told]
    usable = mask.any(1) & ~mask.all(1)
    if usable.sum() < FEWEST_RUNS:
        return ""
    better = (np.sign(values - np.median(values, axis=0)) + 1) / 2
    mask, better = mask[usable], better[usable]
    sides = [np.where(side, better, 0.0).sum(1) / side.sum(1) for side in (mask, ~mask)]
    lead = sides[0] - sides[1]
    chance = _chance(lead, mask, spread=float(better.std())) if lead.mean() < -NEGLIGIBLE else 1.0
    if chance > LEVEL:
        return f"Runs seem to do worse on what they were trained on. {ADVICE}" if chance <= DOUBT else ""
    how_many = "each of them" if (lead < 0).all() else "almost all of them"
    raise ValueError(
        f"Expected runs to do better on what they were trained on, got runs that do worse there, {how_many}. {ADVICE}"
    )


def _chance(lead: Float[np.ndarray, "run"], mask: Bool[np.ndarray, "run example"], *, spread: float) -> float:
    """How probable it is that leads lie so far below 0, by the milder of both tests."""
    number, chosen = len(lead), mask.sum(1)
    among_runs = max(float(lead.std(ddof=1)), 1e-12) / number**0.5
    alone = spread * float(np.mean(1 / chosen + 1 / (mask.shape[1] - chosen)) / number) ** 0.5
    return max(special.stdtr(number - 1, lead.mean() / among_runs), special.ndtr(lead.mean() / alone))
