"""What networks on subsets say of every training example."""

from dataclasses import replace
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from byrote.data import Task
from byrote.measures import (
    aum,
    csl,
    efficient_memorisation,
    forgetting_events,
    heldout_mean,
    included_mean,
    label_suspicion,
    masked_over_runs,
    memorisation,
    residual_suspicion,
)
from byrote.records import LOSS_FITTED, MEMORISED, Run, Scores
from byrote.studies.study import inclusion_mask, quality

TOO_FEW = "too few runs"
"""The status of an example that no network, or every network, was trained on."""
FALSE_SUSPECTS = 0.05
"""Regression: so many suspects there would be on average if all residuals were Gaussian."""


@final
class Doubts(NamedTuple):
    """What networks that never saw an example say against its target."""

    suspicion: Float[np.ndarray, "example"]
    """In [0, 1]; NaN where nothing was held out."""
    suggested: tuple[str | float | None, ...]
    """The class, or the number, that they give it; None where nothing was held out."""

    def text(self, position: int) -> str:
        """What they give it, to be read; empty where nothing was held out."""
        value = self.suggested[position]
        return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


@final
class ExampleScores(NamedTuple):
    """Everything the subset runs say of each training example of the part they saw."""

    memorisation: Scores
    """For classes by the efficient estimator; for numbers as published."""
    memorisation_interval: tuple[Float[np.ndarray, "example"], Float[np.ndarray, "example"]]
    """Its 95 % interval's ends; NaN where there is none."""
    published: Scores
    """The difference of means of Feldman & Zhang 2020."""
    heldout: Scores
    """The C-score: how often it is right when left out; of numbers the squared error, in variances of the target."""
    included: Scores
    """The same when trained on."""
    csl: Scores
    aum: Scores
    forgetting_events: Scores
    never_learnt: Scores
    """Share of the networks trained on it that never answered it right; of numbers nothing."""
    heldout_probability: Scores
    """Of the target, by networks that were not trained on it; of numbers nothing."""
    self_confidence: Scores
    """The same by networks that were."""
    el2n: Scores
    doubts: Doubts
    status: tuple[str, ...]
    """`learnt`, `memorised`, `never fitted` (by more than half of the networks trained on it), or `too few runs`."""


def score_examples(part: Task, runs: list[Run]) -> ExampleScores:
    """Score each training example of the part that the runs saw."""
    mask = inclusion_mask(part, runs)
    values = quality(part, runs)
    included, heldout = included_mean(mask, values), heldout_mean(mask, values)
    published = memorisation(mask, values)
    doubts = doubt(part, mask, runs)
    traces = [run.trace for run in runs]
    nothing = np.full(mask.shape, np.nan)
    margins = nothing if part.regression else np.stack([aum(trace.margin) for trace in traces]).astype(np.float64)
    sure = nothing if part.regression else np.exp(-np.stack([trace.loss[-1] for trace in traces]).astype(np.float64))
    forgotten = [] if part.regression else [forgetting_events(trace.margin > 0) for trace in traces]
    events = np.stack([one.events for one in forgotten]).astype(float) if forgotten else nothing
    never = np.stack([one.never_learnt for one in forgotten]).astype(float) if forgotten else nothing
    mem, interval = (
        _memorised(mask, values, margins, runs) if not part.regression else (published, (nothing[0], nothing[0]))
    )
    return ExampleScores(
        memorisation=mem,
        memorisation_interval=interval,
        published=published,
        heldout=_negative(heldout) if part.regression else heldout,
        included=_negative(included) if part.regression else included,
        csl=masked_over_runs(np.stack([csl(trace.loss) for trace in traces]).astype(np.float64), mask),
        aum=masked_over_runs(margins, mask),
        forgetting_events=masked_over_runs(events, mask),
        never_learnt=masked_over_runs(never, mask),
        heldout_probability=heldout_mean(mask, sure),
        self_confidence=included_mean(mask, sure),
        el2n=masked_over_runs(np.stack([trace.early_error for trace in traces]).astype(np.float64), mask),
        doubts=doubts,
        status=_status(part, included, mem),
    )


def _negative(scores: Scores) -> Scores:
    """Errors of minus errors."""
    return replace(scores, value=-scores.value)


def _memorised(
    mask: Bool[np.ndarray, "run example"],
    correct: Float[np.ndarray, "run example"],
    mean_margins: Float[np.ndarray, "run example"],
    runs: list[Run],
) -> tuple[Scores, tuple[Float[np.ndarray, "example"], Float[np.ndarray, "example"]]]:
    """Scores of classes, from margins after training, on average and late in it."""
    margins = [run.trace.margin for run in runs]
    final = np.stack([margin[-1] for margin in margins]).astype(np.float64)
    late = np.stack([margin[len(margin) // 2 :].mean(0, dtype=np.float64) for margin in margins])
    best = efficient_memorisation(mask, correct, margin=final, covariates=(mean_margins, late))
    return Scores(value=best.value, se=best.se, count=best.count), (best.low, best.high)


def doubt(part: Task, mask: Bool[np.ndarray, "run example"], runs: list[Run]) -> Doubts:
    """1 − the probability that networks which never saw an example give its label, and what they say instead."""
    total = np.zeros((len(part.train), part.num_outputs))
    for included, run in zip(mask, runs, strict=True):
        outputs = run.trace.train_outputs.astype(np.float64)
        total[~included] += (outputs if part.regression else special.softmax(outputs, axis=1))[~included]
    count = (~mask).sum(0)
    mean = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], np.nan)
    known = count > 0
    suspicion = np.full(len(count), np.nan)
    suggested: list[str | float | None] = [None] * len(count)
    if part.regression:
        suspicion[known] = residual_suspicion(mean[known, 0], part.train.y[known])
        suggested = [float(value) if ok else None for value, ok in zip(mean[:, 0], known, strict=True)]
    elif known.any():
        found = label_suspicion(mean[known], part.train.y[known])
        suspicion[known] = found.suspicion
        for position, code in zip(np.flatnonzero(known), found.suggested, strict=True):
            suggested[position] = part.classes[code]
    return Doubts(suspicion, tuple(suggested))


def _status(part: Task, included: Scores, mem: Scores) -> tuple[str, ...]:
    fitted = included.value > (-LOSS_FITTED if part.regression else 0.5)
    unknown = ~np.isfinite(mem.value)
    chosen = np.select([unknown, ~fitted, mem.value >= MEMORISED], [TOO_FEW, "never fitted", "memorised"], "learnt")
    return tuple(chosen.tolist())


def suspects(part: Task, doubts: Doubts) -> Int[np.ndarray, "suspect"]:
    """Most suspicious first: held-out networks give the target less than half and favour another class; for numbers, a
    residual that one in twenty such tasks would have by chance.
    """
    if part.regression:
        chosen = doubts.suspicion > 1 - FALSE_SUSPECTS / len(part.train)
    else:
        given = np.array([part.classes[code] for code in part.train.y])
        chosen = (doubts.suspicion > 0.5) & (np.array([text or "" for text in doubts.suggested]) != given)
    order = np.argsort(-np.nan_to_num(doubts.suspicion, nan=-1.0), kind="stable")
    return order[chosen[order]]
