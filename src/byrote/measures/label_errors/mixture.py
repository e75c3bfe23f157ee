"""Two groups of doubts, right and wrong, told apart by the shape of each."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special  # pyright: ignore[reportMissingTypeStubs]

MOST_BINS = 300
"""Into so many bins, equally full, doubts are sorted at most."""
SHARES = (0.001, 0.5)
"""Shares of wrong labels that are looked for. Were it more than half, they would be what the networks learn."""
FIRST_SHARE = 0.1
"""Where the search for it begins."""

Bins = Float[np.ndarray, "bin"]


class Odds(NamedTuple):
    """How likely a label of a given doubt is wrong."""

    doubt: Bins
    probability: Bins
    """Never falling."""
    parameters: Float[np.ndarray, "parameter"]
    """Of the right labels' shape, and the log-odds of a label's being wrong."""

    def of(self, doubt: Float[np.ndarray, "example"]) -> Float[np.ndarray, "example"]:
        """Probabilities, on straight lines between bins."""
        return np.interp(doubt, self.doubt, self.probability)


class Binned(NamedTuple):
    """Doubts of given and of invented labels, sorted into the same bins."""

    edges: Float[np.ndarray, "edge"]
    """Between bins; the outer ones have no end."""
    middle: Bins
    given: Int[np.ndarray, "bin"]
    """How many given labels."""
    invented: Float[np.ndarray, "bin"]
    """Logarithm of the share of the invented labels."""
    wrong: Bins
    """The same of invented labels, each as often as wrong ones are like it."""


def binned(
    doubt: Float[np.ndarray, "example"],
    invented: Float[np.ndarray, "invented"],
    *,
    weight: Float[np.ndarray, "invented"],
) -> Binned:
    """Sort them into bins that are about equally full."""
    number = int(np.clip(len(doubt) // 10, 10, MOST_BINS))
    thinned = invented[:: max(1, len(invented) // (4 * len(doubt)))]
    edges = np.unique(np.quantile(np.concatenate([doubt, thinned]), np.linspace(0, 1, number + 1)[1:-1]))
    middle = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    given = np.bincount(np.searchsorted(edges, doubt), minlength=len(middle))
    place = np.searchsorted(edges, invented)
    count = np.bincount(place, minlength=len(middle)) + 0.5
    weighted = np.bincount(place, weight, len(middle))
    weighted += 0.5 * weighted.sum() / count.sum()
    return Binned(edges, middle, given, np.log(count / count.sum()), np.log(weighted / weighted.sum()))


def fit(
    bins: Binned,
    right: Callable[[Float[np.ndarray, "parameter"]], Bins],
    *,
    start: Float[np.ndarray, "parameter"],
    bounds: list[tuple[float, float]],
) -> Odds:
    """Find the share of wrong labels and the shape of right ones, by maximum likelihood.

    Args:
        bins: what is known.
        right: the logarithm of right labels' distribution over the bins, given its parameters.
        start: where to begin: those parameters, and the log-odds of a label's being wrong.
        bounds: of the parameters.
    """

    def terms(parameters: np.ndarray) -> tuple[Bins, Bins]:
        log_odds = parameters[-1]
        return right(parameters[:-1]) - np.logaddexp(0, log_odds), bins.wrong - np.logaddexp(0, -log_odds)

    def loss(parameters: np.ndarray) -> float:
        return -float(bins.given @ np.logaddexp(*terms(parameters))) / float(bins.given.sum())

    share = tuple(float(special.logit(end)) for end in SHARES)
    found = optimize.minimize(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        loss, start, method="L-BFGS-B", bounds=[*bounds, share]
    )
    best: Float[np.ndarray, "parameter"] = np.asarray(found.x)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    log_right, log_wrong = terms(best)
    return Odds(bins.middle, np.maximum.accumulate(special.expit(log_wrong - log_right)), best)


def log_odds_of(share: float) -> float:
    """log(share/(1 − share))."""
    return float(special.logit(share))


def log_normalised(values: Bins) -> Bins:
    """Less the logarithm of the sum of their exponentials."""
    return values - np.logaddexp.reduce(values)
