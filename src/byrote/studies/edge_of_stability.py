"""Whether full-batch training comes to the edge of stability, and stays. (Cohen et al. 2021)"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from byrote.measures import stability_ratio
from byrote.records import Curves, Finding, Interval, Verdict, within
from byrote.studies.claims import NOTHING, claim
from byrote.studies.early_conditions import EDGE, NAME, Design
from byrote.studies.papers import COHEN
from byrote.studies.rates_and_batches import Seen, felt, seen_of
from byrote.studies.watching import UNSEEN, Watched, line, mean_of, within_bounds
from byrote.studies.wording import percent_within

MARGIN = 0.2
"""A sharpness this close to the limit, as a share of it, is at the edge."""
LATE = 2 / 3
"""Of the steps, from when on it is late."""
PAST = 0.9
"""Of its highest value, from which on down a curve is past its peak."""


class Edge(NamedTuple):
    """How close full-batch training comes to the stability limit."""

    late: Interval
    """Median over the last third, as a share of the limit; over seeds."""
    is_rising: bool
    """Whether the mean curve is highest at its end, or nearly so."""


def edge_of(made: Design, seen: Seen) -> tuple[Edge, Watched]:
    """What the full-batch runs came to, and their curves as `share` of the limit."""
    own = UNSEEN if made.edge is None else seen_of(seen, made.edge, EDGE)
    shares = _shares(made, own)
    if shares is None:
        return Edge(NOTHING, is_rising=True), own
    at_end = own.steps >= LATE * own.steps[-1]
    late = {seed: float(np.median(row[at_end])) for seed, row in zip(own.seeds, shares, strict=True)}
    curve = shares.mean(0)
    known = curve[np.isfinite(curve)]
    is_rising = not len(known) or bool(known[-1] >= PAST * known.max())
    return Edge(mean_of(late), is_rising), own._replace(values={"share": shares})


def _shares(made: Design, own: Watched) -> Float[np.ndarray, "seed moment"] | None:
    if made.edge is None or not own.seeds:
        return None
    rows = own.values[felt(made.edge.recipe)]
    return np.stack([stability_ratio(row, optimiser=made.edge.recipe.optimiser) for row in rows])


def edge_finding(made: Design, seen: Seen) -> Finding:
    """Late in training the sharpness is at the limit. Below it and still rising, training was too short to say."""
    edge, own = edge_of(made, seen)
    return claim(
        "edge-of-stability",
        _statement(made, edge, own),
        study=NAME,
        paper=COHEN,
        unit="share of the stability limit",
        interval=edge.late,
        null=1.0,
        num_runs=edge.late.count,
        verdict=verdict_of(edge),
        least=0.0 if edge.late.value >= 0 else -math.inf,
    )


def verdict_of(edge: Edge) -> Verdict:
    """At the limit, give or take a fifth; open where the sharpness was still rising towards it.

    >>> inside = Interval(value=1.0, low=0.9, high=1.1, se=0.05, count=3)
    >>> verdict_of(Edge(inside, is_rising=True))
    'holds'
    >>> low = Interval(value=0.3, low=0.2, high=0.4, se=0.05, count=3)
    >>> verdict_of(Edge(low, is_rising=True)), verdict_of(Edge(low, is_rising=False))
    ('inconclusive', 'does not hold')
    """
    found = within(low=edge.late.low, high=edge.late.high, null=1.0, margin=MARGIN)
    return "inconclusive" if found == "does not hold" and edge.is_rising and edge.late.value < 1 else found


def _statement(made: Design, edge: Edge, own: Watched) -> str:
    if made.edge is None:
        return "No limit of stability is known for this optimiser, so how close training comes to it cannot be said."
    if not edge.late.count:
        reason = f"could not be measured: {own.reason}" if own.reason else "is unknown: no such network finished"
        return f"How close full-batch training comes to the limit of stability {reason}".rstrip(".") + "."
    steps = made.edge.recipe.epochs
    ending = ", and still rising" if edge.is_rising and edge.late.value < 1 - MARGIN else ""
    return (
        f"After {steps:,} steps of full-batch training the sharpness is {percent_within(_shown(edge.late))} of "
        f"the most that the steps can bear{ending}."
    )


def _shown(late: Interval) -> Interval:
    """A share that is above 0 has an interval that is."""
    return within_bounds(late, min(0.0, late.value), math.inf)


def edge_figures(made: Design, seen: Seen) -> list[Curves]:
    """The sharpness as a share of the limit."""
    _, own = edge_of(made, seen)
    if "share" not in own.values or made.edge is None:
        return []
    series = line(made.edge.name, own, "share", positive=False)
    return [
        Curves(
            title="Full-batch training and the edge of stability",
            x_label="step",
            y_label="sharpness, as a share of the limit",
            series=(series,),
            reference=1.0,
            reference_label="edge of stability",
            caption=f"Trained on {'all' if made.edge.sample is None else f'{made.edge.sample.train:,}'} examples at "
            "once, at the recipe's own rate, held constant. Mean over seeds, with a 95 % band.",
        )
    ]
