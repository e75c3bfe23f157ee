"""What is held against labels: by networks that never met the example, by how it was learnt, by its neighbours."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from byrote.measures.wrong_labels.found import deviation, lead_of, mean_over, variance_of_mean
from byrote.measures.wrong_labels.surest import most_wrong

VOTES_BEFORE = 5.0
"""Neighbours' votes are taken for so many more, cast as the labels are distributed."""
CLASS_SHARE = 0.5
"""How much of a class's own level of evidence is taken for its difficulty; the rest for labels that are wrong."""
CLASS_BEFORE = 10.0
"""A class's own level counts as much as everybody's when it has so many examples."""


class Evidence(NamedTuple):
    """What is held against labels, each kind in its standard deviations over the given labels."""

    by_label: Float[np.ndarray, "example class"]
    """Against each label that the example might have been given: no network behind it was trained on the example."""
    by_training: Float[np.ndarray, "example"]
    """Against the given label alone: how the training went."""
    se: Float[np.ndarray, "example"]
    """Of what is held against the given label, from run to run."""
    lead: float
    """By how many standard deviations held-out networks are better than chance."""
    most_wrong: float
    """The share of wrong labels is at most this, by those that held-out networks are surest of."""

    def against(self, targets: Int[np.ndarray, "example"]) -> Float[np.ndarray, "example"]:
        """All that is held against the given labels."""
        return of(self.by_label, targets) + self.by_training


def gather(
    inclusion: np.ndarray,
    logits: np.ndarray,
    targets: np.ndarray,
    *,
    csl: np.ndarray | None,
    aum: np.ndarray | None,
    votes: np.ndarray | None,
) -> Evidence:
    """The held-out networks, the training and the neighbours count alike, whatever their number.

    Args:
        inclusion: which examples each run was trained on; each was left out at least once.
        logits: of each run, after training.
        targets: the given labels.
        csl: the trace's sum or mean of losses, per run.
        aum: the trace's mean margin, per run.
        votes: from `votes_against`.
    """
    heldout, probability = _heldout(inclusion, logits)
    by_label = heldout / deviation(of(heldout, targets))
    outside = _gaps_each(logits, targets) / deviation(of(heldout, targets))
    by_training = np.zeros(len(targets))
    if aum is not None:
        by_label /= 2
        missed = -aum / (2 * deviation(mean_over(aum, ~inclusion)))
        by_training += _above_class(mean_over(missed, ~inclusion), targets)
        outside = outside / 2 + missed
    variance = variance_of_mean(outside, ~inclusion)
    parts = [
        sign * part / deviation(mean_over(part, inclusion)) for part, sign in ((csl, 1), (aum, -1)) if part is not None
    ]
    if parts:
        inside = np.mean(parts, axis=0)
        by_training += _above_class(mean_over(inside, inclusion), targets)
        variance += variance_of_mean(inside, inclusion)
    if votes is not None:
        by_label += votes / deviation(of(votes, targets))
    return Evidence(
        by_label, by_training, np.sqrt(variance), _lead(probability, targets), most_wrong(probability, targets)
    )


class _Heldout(NamedTuple):
    gaps: Float[np.ndarray, "example class"]
    """What held-out networks say for the best other class, log p/p̄, beyond what they say for each."""
    probability: Float[np.ndarray, "example class"]
    """Their mean."""


def _heldout(inclusion: np.ndarray, logits: np.ndarray) -> _Heldout:
    total, likely = np.zeros(logits.shape[1:]), np.zeros(logits.shape[1:])
    level = np.zeros(logits.shape[2])
    for included, outputs in zip(inclusion, logits, strict=True):
        outside = outputs[~included].astype(np.float64)
        logs = outside - np.logaddexp.reduce(outside, axis=1, keepdims=True)
        total[~included] += logs
        likely[~included] += np.exp(logs)
        level += np.exp(logs).sum(0)
    count = (~inclusion).sum(0)
    share = (level + 1) / (count.sum() + len(level))
    return _Heldout(_gaps(total / count[:, None] - np.log(share)), likely / count[:, None])


def _lead(probability: np.ndarray, targets: np.ndarray) -> float:
    """Of held-out probabilities of the given labels over those of exchanged ones."""
    share = np.bincount(targets, minlength=probability.shape[1]) / len(targets)
    level = probability.mean(0)
    return lead_of(
        of(probability, targets),
        by_prediction=probability @ share,
        by_target=level[targets],
        mean=float(level @ share),
        mean_square=float((probability**2).mean(0) @ share),
    )


def votes_against(
    neighbours: np.ndarray, targets: np.ndarray, *, num_classes: int
) -> Float[np.ndarray, "example class"]:
    """As from `_heldout`, of the labels that an example's neighbours were given."""
    votes = np.zeros((len(targets), num_classes))
    rows = np.arange(len(targets))
    for column in neighbours.T:
        np.add.at(votes, (rows, targets[column]), 1)
    share = (np.bincount(targets, minlength=num_classes) + 1) / (len(targets) + num_classes)
    return _gaps(np.log(votes / share + VOTES_BEFORE))


def _gaps(evidence: np.ndarray) -> Float[np.ndarray, "example class"]:
    """The best other class's, less each class's own."""
    first = np.partition(evidence, -2, axis=1)
    return np.where(evidence == first[:, -1:], first[:, -2:-1], first[:, -1:]) - evidence


def _gaps_each(logits: np.ndarray, targets: np.ndarray) -> Float[np.ndarray, "run example"]:
    """The best other logit less the label's, of each run."""
    rows = np.arange(len(targets))
    gaps = np.empty(logits.shape[:2])
    for gap, outputs in zip(gaps, logits, strict=True):
        others = outputs.astype(np.float64)
        others[rows, targets] = -np.inf
        gap[:] = others.max(1) - outputs[rows, targets]
    return gaps


def of(gaps: np.ndarray, targets: np.ndarray) -> Float[np.ndarray, "example"]:
    """The given labels' entries."""
    return gaps[np.arange(len(targets)), targets]


def _above_class(values: np.ndarray, targets: np.ndarray) -> Float[np.ndarray, "example"]:
    """Less half of the way from everybody's median to that of the label's class, less still for a small class."""
    everybody = float(np.median(values))
    above = values - everybody
    for code in np.unique(targets):
        here = targets == code
        trusted = CLASS_SHARE * here.sum() / (here.sum() + CLASS_BEFORE)
        above[here] -= trusted * (np.median(values[here]) - everybody)
    return above
