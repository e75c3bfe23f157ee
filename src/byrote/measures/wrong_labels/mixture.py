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
DEVIANCE = 3.841458820694124
"""Within the 95 % set twice the log-likelihood is lower than at its best by at most this: χ², one degree of freedom."""
NEAR = 0.05
"""To so much the ends of the set are found, in log-odds, outwards; what is as near to a bound sits at it."""
FIRST_SHARE = 0.1
"""Where the search for it begins."""

Bins = Float[np.ndarray, "bin"]
Shape = Callable[[Float[np.ndarray, "parameter"]], Bins]


class Odds(NamedTuple):
    """How likely a label of a given doubt is wrong."""

    doubt: Bins
    probability: Bins
    """Never falling."""
    parameters: Float[np.ndarray, "parameter"]
    """Of the right labels' shape, and the log-odds of a label's being wrong."""

    @property
    def share(self) -> float:
        """Of wrong labels."""
        return float(special.expit(self.parameters[-1]))

    @property
    def at_lower_bound(self) -> bool:
        """Whether the share of wrong labels is the smallest that is looked for."""
        return float(self.parameters[-1]) <= log_odds_of(SHARES[0]) + NEAR

    @property
    def at_upper_bound(self) -> bool:
        """Whether the share of wrong labels is the largest that is looked for."""
        return float(self.parameters[-1]) >= log_odds_of(SHARES[1]) - NEAR

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


class Shares(NamedTuple):
    """The likeliest share of wrong labels, and the smallest and the largest that fit about as well."""

    best: Odds
    low: Odds
    high: Odds


def fit(
    bins: Binned,
    right: Shape,
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
    share = (log_odds_of(SHARES[0]), log_odds_of(SHARES[1]))
    best = _minimum(lambda parameters: _loss(parameters, bins, right), start, bounds=[*bounds, share])
    return _odds(best, bins, right)


def shares(
    best: Odds,
    bins: Binned,
    right: Shape,
    *,
    start: Float[np.ndarray, "parameter"],
    bounds: list[tuple[float, float]],
    num_invented: int,
) -> Shares:
    """Bound the share of wrong labels by the likelihood that is left when right ones take the shape that suits it best.

    The set {π: 2·(ℓ(π̂) − max_g ℓ(π, g)) ≤ χ²·(1 + n/m)}: what m invented labels look like is itself known from a
    sample, beside the n given ones.

    Args:
        best: from `fit`.
        bins: as for `fit`.
        right: as for `fit`.
        start: as for `fit`; the outermost shares begin there, too, lest they be stuck where the best one was.
        bounds: as for `fit`.
        num_invented: how many invented labels are in the bins.
    """
    number = float(bins.given.sum())
    allowed = _loss(best.parameters, bins, right) + DEVIANCE * (1 + number / num_invented) / (2 * number)

    def at(log_odds: float, *starts: np.ndarray) -> Float[np.ndarray, "parameter"]:
        def loss(shape: np.ndarray) -> float:
            return _loss(np.append(shape, log_odds), bins, right)

        tried = [_minimum(loss, begin[:-1], bounds=bounds) for begin in starts]
        return np.append(min(tried, key=loss), log_odds)

    def end(bound: float) -> Odds:
        outside, inside = at(bound, best.parameters, start), best.parameters
        if _loss(outside, bins, right) <= allowed:
            return _odds(outside, bins, right)
        while abs(outside[-1] - inside[-1]) > NEAR:
            middle = at(float(outside[-1] + inside[-1]) / 2, inside)
            if _loss(middle, bins, right) <= allowed:
                inside = middle
            else:
                outside = middle
        return _odds(outside, bins, right)

    return Shares(best, end(log_odds_of(SHARES[0])), end(log_odds_of(SHARES[1])))


def _terms(parameters: np.ndarray, bins: Binned, right: Shape) -> tuple[Bins, Bins]:
    log_odds = parameters[-1]
    return right(parameters[:-1]) - np.logaddexp(0, log_odds), bins.wrong - np.logaddexp(0, -log_odds)


def _loss(parameters: np.ndarray, bins: Binned, right: Shape) -> float:
    """The mean negative log-likelihood."""
    return -float(bins.given @ np.logaddexp(*_terms(parameters, bins, right))) / float(bins.given.sum())


def _minimum(
    loss: Callable[[Float[np.ndarray, "parameter"]], float],
    start: Float[np.ndarray, "parameter"],
    *,
    bounds: list[tuple[float, float]],
) -> Float[np.ndarray, "parameter"]:
    found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return np.asarray(found.x)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _odds(parameters: np.ndarray, bins: Binned, right: Shape) -> Odds:
    log_right, log_wrong = _terms(parameters, bins, right)
    return Odds(bins.middle, np.maximum.accumulate(special.expit(log_wrong - log_right)), parameters)


def log_odds_of(share: float) -> float:
    """log(share/(1 − share))."""
    return float(special.logit(share))


def log_normalised(values: Bins) -> Bins:
    """Less the logarithm of the sum of their exponentials."""
    return values - np.logaddexp.reduce(values)
