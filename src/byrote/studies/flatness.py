"""Whether what ends flatter is right more often on held-out examples, over a few recipes and a few seeds."""

import itertools
import math
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float
from scipy import stats

from byrote.measures import mean_interval
from byrote.records import Interval, Verdict
from byrote.studies.claims import NOTHING

FEWEST_RECIPES = 3
"""Fewer cannot be ranked."""
FEWEST_SEEDS = 3
"""Fewer say too little of how much a rank correlation varies: it takes few values, so that two often agree."""
LEVEL = 0.05
"""Of the test by exchanging recipes."""


@final
class Association(NamedTuple):
    """How a sharpness and held-out accuracy are ranked over recipes."""

    interval: Interval
    """Mean over seeds of Spearman's correlation over recipes; the interval covers those over seeds that any one recipe
    left out would give."""
    p_flatter: float | None
    """Of a mean this low if it were drawn by lot which recipe has which accuracies; None: too few recipes."""
    p_sharper: float | None
    """Of one this high."""
    num_seeds: int
    num_recipes: int

    def verdict(self) -> Verdict:
        """Of the claim that what ends flatter is right more often."""
        if self.num_seeds < FEWEST_SEEDS or self.p_flatter is None or self.p_sharper is None:
            return "inconclusive"
        if self.interval.high < 0 and self.p_flatter <= LEVEL:
            return "holds"
        return "does not hold" if self.interval.low > 0 and self.p_sharper <= LEVEL else "inconclusive"


UNKNOWN = Association(NOTHING, None, None, 0, 0)


def association(
    sharpness: Float[np.ndarray, "seed recipe"], score: Float[np.ndarray, "seed recipe"], *, level: float = 0.95
) -> Association:
    """Rank recipes by sharpness and by held-out score within each seed, and see how far the ranks agree.

    ρ̄ = mean over seeds of Spearman's ρ over recipes. Networks of one seed begin alike, so seeds are compared within
    themselves. Few recipes are no sample of all recipes: the interval is the union of the t-intervals over seeds with
    all recipes and with each one left out, so that none decides alone; and the p-values exchange whole recipes.

    >>> steep = np.array([[1.0, 2.0, 3.0, 4.0]] * 3)
    >>> found = association(steep, -steep)
    >>> found.interval.value, round(found.interval.high, 6), round(found.p_flatter, 4), found.verdict()
    (-1.0, -1.0, 0.0417, 'holds')

    Args:
        sharpness: of each network; NaN where it was not measured. A recipe that less than half of the seeds have is
            left out, and then a seed that lacks one.
        score: held-out accuracy, or R²; NaN where there is no network.
        level: of the interval; higher where several are looked at.

    Returns:
        Unknown where fewer than three recipes have a network of the same seed.
    """
    known = np.isfinite(sharpness) & np.isfinite(score)
    recipes = known.any(0) & (2 * known.sum(0) >= known.any(1).sum())
    seeds = known[:, recipes].all(1)
    x, y = sharpness[np.ix_(seeds, recipes)], score[np.ix_(seeds, recipes)]
    if x.shape[1] < FEWEST_RECIPES or not len(x):
        return UNKNOWN
    ranks, others = _standard_ranks(x), _standard_ranks(y)
    each = _correlations(ranks, others)
    varied = np.isfinite(each)
    if not varied.any():
        return UNKNOWN
    number = x.shape[1]
    without = [list(kept) for kept in itertools.combinations(range(number), number - 1)]
    sets = [list(range(number)), *(without if number > FEWEST_RECIPES else [])]
    intervals = [_over_seeds(x[:, kept], y[:, kept], level) for kept in sets]
    interval = Interval(
        value=float(each[varied].mean()),
        low=min(own.low for own in intervals),
        high=max(own.high for own in intervals),
        se=intervals[0].se,
        count=int(varied.sum()),
    )
    lower, higher = _exchanged(ranks[varied], others[varied])
    return Association(interval, lower, higher, int(varied.sum()), number)


def _over_seeds(x: Float[np.ndarray, "seed recipe"], y: Float[np.ndarray, "seed recipe"], level: float) -> Interval:
    """Of the seeds whose networks differ; the whole line if too few do."""
    each = _correlations(_standard_ranks(x), _standard_ranks(y))
    known = each[np.isfinite(each)]
    return mean_interval(known, level=level) if len(known) else NOTHING


def _standard_ranks(values: Float[np.ndarray, "seed recipe"]) -> Float[np.ndarray, "seed recipe"]:
    """Ranks within each row, of mean 0 and length 1; NaN where all are alike."""
    ranks = stats.rankdata(values, axis=1)
    centred = ranks - ranks.mean(1, keepdims=True)
    lengths = np.sqrt(np.square(centred).sum(1, keepdims=True))
    return np.where(lengths > 0, centred / np.where(lengths > 0, lengths, 1), math.nan)


def _correlations(one: Float[np.ndarray, "seed recipe"], other: Float[np.ndarray, "seed recipe"]) -> np.ndarray:
    return np.clip((one * other).sum(1), -1, 1)


def _exchanged(one: Float[np.ndarray, "seed recipe"], other: Float[np.ndarray, "seed recipe"]) -> tuple[float, float]:
    """Shares of all orders of the recipes, the same for every seed, with a mean correlation as low, and as high."""
    orders = itertools.permutations(range(one.shape[1]))
    means = np.array([(one * other[:, list(order)]).sum(1).mean() for order in orders])
    found = (one * other).sum(1).mean()
    return float((means <= found + 1e-9).mean()), float((means >= found - 1e-9).mean())
