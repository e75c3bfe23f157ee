"""Whether runs do better on what they were trained on, as they must unless something is the wrong way round."""

import numpy as np
from jaxtyping import Bool, Num
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

MOST_EXAMPLES = 2000
"""Looked at, spread evenly."""
FEWEST_RUNS = 4
NEGLIGIBLE = 0.02
"""A lead of the others so small could be of the way in which examples were left out."""
LEVEL = 1e-6
"""Of the test: how often a call is refused for nothing."""


def check_orientation(
    inclusion: Bool[np.ndarray, "run example"], quality: Num[np.ndarray, "run example"] | Bool[np.ndarray, "..."]
) -> None:
    """Refuse a mask that says what was left out, or answers that are negated.

    Of each example runs are counted as better or worse than the median run, 1, ½ or 0. a_r, the mean over the examples
    that run r was trained on minus that over the others, is tested by Student's t: is its mean below 0?

    >>> inclusion = np.arange(6)[:, None] % 3 != np.arange(30) % 3
    >>> check_orientation(inclusion, inclusion)
    >>> check_orientation(inclusion, ~inclusion)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: Expected runs to do better on what they were trained on, got runs that do worse there, each of them...

    Args:
        inclusion: which examples each run was trained on.
        quality: the larger the better; NaN is not looked at.

    Raises:
        ValueError: the mean is significantly below 0, and not by little.
    """
    chosen = np.unique(np.linspace(0, inclusion.shape[1] - 1, MOST_EXAMPLES).round().astype(int))
    mask, values = inclusion[:, chosen], quality[:, chosen].astype(np.float64)
    told = np.isfinite(values).all(0) & mask.any(0) & ~mask.all(0)
    mask, values = mask[:, told], values[:, told]
    usable = mask.any(1) & ~mask.all(1)
    if usable.sum() < FEWEST_RUNS:
        return
    better = (np.sign(values - np.median(values, axis=0)) + 1) / 2
    mask, better = mask[usable], better[usable]
    sides = [np.where(side, better, 0.0).sum(1) / side.sum(1) for side in (mask, ~mask)]
    lead = sides[0] - sides[1]
    error = max(float(lead.std(ddof=1)) / len(lead) ** 0.5, 1e-12)
    if lead.mean() > -NEGLIGIBLE or special.stdtr(len(lead) - 1, lead.mean() / error) > LEVEL:
        return
    how_many = "each of them" if (lead < 0).all() else "almost all of them"
    raise ValueError(
        f"Expected runs to do better on what they were trained on, got runs that do worse there, {how_many}. "
        "Does inclusion say what was left out (then give ~inclusion), or are the outputs negated, or of other runs?"
    )
