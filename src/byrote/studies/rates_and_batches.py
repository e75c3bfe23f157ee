"""What a learning rate and a batch size make of the early curvature."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float

from byrote.measures import break_even, peak, stability_limit, stability_ratio
from byrote.records import SGD, Column, Curves, Finding, Interval, Recipe, Series, Table, above
from byrote.studies.claims import claim
from byrote.studies.early_conditions import (
    CURVATURE,
    FISHER,
    GRADIENTS,
    NAME,
    REACH,
    Design,
    Kind,
    is_plain,
    limit_of,
)
from byrote.studies.papers import BREAK_EVEN, EXPLOSION
from byrote.studies.recipe_changes import batch_of
from byrote.studies.watching import UNSEEN, Watched, highest, judged, line, mean_of, ratio, within_bounds
from byrote.studies.wording import percent_within, times
from byrote.training import Clock, learning_rate, phases

LEVEL = 0.95
EARLY = 0.2
"""Of the steps, until when the Fisher's trace is early."""
PEAK_EARLY = 0.25
"""Of the steps, before which a peak is early."""

Seen = Mapping[tuple[str, str], Watched]
"""What probes said, by the name of the condition and of the probe."""


@final
class Compared(NamedTuple):
    """A claim that a quantity peaks higher under one condition than under another."""

    claim: str
    about: Literal["rate", "batch"]
    probe: str
    value: str
    words: str
    """What peaks."""
    lowers: bool
    """Whether it is the larger rate, or the smaller batch, that makes it lower."""
    paper: str
    early: bool = False
    """Whether it is looked at early in training alone."""


GRADIENT_PEAK = "the largest eigenvalue of the gradients' covariance"
SHARPNESS_PEAK = "the largest eigenvalue of the Hessian"
CONDITION_PEAK = "the ratio of that covariance's trace to its largest eigenvalue"
COMPARED = (
    Compared("rate-lowers-gradient-variance", "rate", GRADIENTS, "top", GRADIENT_PEAK, True, BREAK_EVEN),
    Compared("rate-lowers-sharpness", "rate", CURVATURE, "top", SHARPNESS_PEAK, True, BREAK_EVEN),
    Compared("rate-improves-conditioning", "rate", GRADIENTS, "trace_over_top", CONDITION_PEAK, False, BREAK_EVEN),
    Compared(
        "small-rate-raises-fisher", "rate", FISHER, "trace", "the early trace of the Fisher", True, EXPLOSION, True
    ),
    Compared("small-batch-lowers-gradient-variance", "batch", GRADIENTS, "top", GRADIENT_PEAK, True, BREAK_EVEN),
    Compared("small-batch-lowers-sharpness", "batch", CURVATURE, "top", SHARPNESS_PEAK, True, BREAK_EVEN),
    Compared(
        "small-batch-improves-conditioning", "batch", GRADIENTS, "trace_over_top", CONDITION_PEAK, False, BREAK_EVEN
    ),
)


def seen_of(seen: Seen, kind: Kind, probe: str) -> Watched:
    """What a probe said of a condition, or nothing."""
    return seen.get((kind.name, probe), UNSEEN)


def grid_findings(made: Design, seen: Seen) -> tuple[Finding, ...]:
    """One for each comparison, and one about when the peak is."""
    return (*(_compared(made, seen, one) for one in COMPARED), _peak_finding(made, seen))


def _compared(made: Design, seen: Seen, one: Compared) -> Finding:
    """Intervals of one comparison hold together. Where training only ever lowers what it began with, no peak is there
    to be compared.
    """
    pair = _pair(made, one)
    level = 1 - (1 - LEVEL) / sum(other.about == one.about for other in COMPARED)
    steep, mild = ({}, {}) if pair is None else (_peaks(seen_of(seen, kind, one.probe), one) for kind in pair)
    numerator, denominator = (mild, steep) if one.lowers else (steep, mild)
    found = ratio(numerator, denominator, level=level)
    is_open = found.count > 0 and steep == mild
    return claim(
        one.claim,
        _statement(one, pair, seen, found, is_open=is_open),
        study=NAME,
        paper=one.paper,
        unit="ratio of peaks",
        interval=found,
        null=1.0,
        num_runs=2 * found.count,
        verdict=judged(found, null=1.0),
        least=0.0,
    )


def _pair(made: Design, one: Compared) -> tuple[Kind, Kind] | None:
    """The large rate and the small one, or the small batches and the large ones."""
    if one.about == "rate":
        return made.own, made.slow
    return (made.batches[0], made.batches[-1]) if len(made.batches) > 1 else None


def _peaks(own: Watched, one: Compared) -> dict[int, float]:
    if not len(own.steps):
        return {}
    until = int((own.steps <= EARLY * own.steps[-1]).sum()) if one.early else None
    return highest(own.of(one.value), until=until)


def _statement(one: Compared, pair: tuple[Kind, Kind] | None, seen: Seen, found: Interval, *, is_open: bool) -> str:
    if pair is None:
        return "There are too few examples for batches of another size."
    first, second = (_named(kind) for kind in (pair if one.lowers else pair[::-1]))
    words = one.words[:1].upper() + one.words[1:]
    if is_open:
        return f"{words} is largest before the first step, with {first} and with {second}: no peak can be compared."
    if found.count:
        verb = "is" if one.early else "peaks"
        return f"{words} {verb} {times(found)} as high with {second} as with {first}."
    reason = next((why for kind in pair if (why := seen_of(seen, kind, one.probe).reason)), "")
    lacking = f"could not be measured: {reason}" if reason else "is unknown: no seed was finished with both"
    return f"{words} with {first} and with {second} {lacking}".rstrip(".") + "."


def _named(kind: Kind) -> str:
    return "the recipe's own rate and batches" if kind.name == "own recipe" else f"{kind.name}"


def _peak_finding(made: Design, seen: Seen) -> Finding:
    """When the loss is sharpest; without second derivatives, when the gradients' covariance is largest."""
    curvature, gradients = (seen_of(seen, made.own, probe) for probe in (CURVATURE, GRADIENTS))
    own, what = (curvature, SHARPNESS_PEAK) if curvature.seeds else (gradients, GRADIENT_PEAK)
    peaks = {seed: peak(top, steps=own.steps) for seed, top in own.of("top").items()}
    share = mean_of({seed: found.step / float(own.steps[-1]) for seed, found in peaks.items()})
    scores = {
        seed: float(gradients.of("score")[seed][found.index])
        for seed, found in peaks.items()
        if found.index is not None and seed in gradients.seeds
    }
    score = mean_of(scores)
    told = f", when the training score is {percent_within(within_bounds(score))}" if score.count else ""
    return claim(
        "peak-is-early",
        f"With the recipe's own rate and batches {what} is largest before the first step: it has no peak."
        if share.count and share.value == 0
        else f"With the recipe's own rate and batches {what} peaks after {percent_within(within_bounds(share))} of the "
        f"steps{told}."
        if share.count
        else "When the loss is sharpest is unknown: that was not measured in any network that finished.",
        study=NAME,
        paper=BREAK_EVEN,
        unit="share of the steps",
        interval=share,
        null=PEAK_EARLY,
        num_runs=share.count,
        verdict="inconclusive" if share.value == 0 else _below(share, PEAK_EARLY),
        least=0.0,
        most=1.0,
    )


def _below(interval: Interval, null: float) -> Literal["holds", "does not hold", "inconclusive"]:
    return above(low=-interval.high, high=-interval.low, null=-null)


QUANTITIES = (
    (CURVATURE, "top", "Largest eigenvalue of the Hessian", "λ¹(H)"),
    (GRADIENTS, "top", "Largest eigenvalue of the gradients' covariance", "λ¹(K)"),
    (GRADIENTS, "trace_over_top", "How many directions gradients vary in", "Tr K/λ¹(K)"),
    (FISHER, "trace", "Trace of the Fisher", "Tr F"),
    (GRADIENTS, "noise_scale", "Gradient-noise scale", "examples"),
    (REACH, "alpha", "How many times longer a step could be", "α*"),
    (CURVATURE, "alignment", "Share of the gradient along the sharpest direction", "share of ‖g‖²"),
)
CAPTIONS = {
    (GRADIENTS, "top"): "Published, a small CNN on CIFAR-10: it peaks at 0.87 at a rate of 0.1 and at 3.01 at 0.01 "
    "(L = 25 batches of 128; comparable only at the same L and batch size).",
    (
        GRADIENTS,
        "trace_over_top",
    ): "Published, a small CNN on CIFAR-10: its maximum is 14.29 at a rate of 0.1 and "
    "10.69 at 0.01 (L = 25 batches of 128).",
    (
        GRADIENTS,
        "noise_scale",
    ): "So many examples have to be averaged before the gradient outweighs its noise. Gaps: "
    "the gradient cannot be told from noise.",
    (
        REACH,
        "alpha",
    ): "In lengths of a plain gradient step at the condition's own rate and batch size: one so many "
    "times as long raises the loss by a fifth. Momentum is left out.",
}


def grid_figures(made: Design, seen: Seen, *, number: int) -> list[Curves | Table]:
    """Curves over epochs, and what they come to."""
    figures: list[Curves | Table] = []
    for probe, value, title, label in QUANTITIES:
        series = [
            line(kind.name, own, value) for kind in made.grid if len((own := seen_of(seen, kind, probe)).of(value))
        ]
        if (probe, value) == (CURVATURE, "top"):
            series += _marks(made, seen, number=number)
        if series:
            usual = "Geometric means over seeds, with 95 % bands."
            caption = " ".join(part for part in (usual, CAPTIONS.get((probe, value), "")) if part)
            figures.append(_curves(title, label, series, caption=caption))
    ratios = [one for kind in made.grid if (one := _stability(kind, seen_of(seen, kind, CURVATURE), number=number))]
    if ratios:
        curves = _curves(
            "Sharpness against the most that the steps can bear",
            "share of the stability limit",
            ratios,
            caption="λη/2 for plain gradient descent, with the corrections for momentum and, preconditioned, for Adam. "
            "On noisy batches training may become unstable below 1.",
        )
        figures.append(replace(curves, reference=1.0, reference_label="stability limit of full batches"))
    table = _table(made, seen, number=number)
    return [*figures, *([] if table is None else [table])]


def _curves(title: str, label: str, series: list[Series], *, caption: str) -> Curves:
    return Curves(
        title=title, x_label="epoch", y_label=label, series=tuple(series), caption=caption, log_x=True, log_y=True
    )


def _stability(kind: Kind, own: Watched, *, number: int) -> Series | None:
    """The sharpness as a share of the limit at the learning rate of the moment; None where no limit is known."""
    optimiser, value = limit_of(kind.recipe.optimiser), felt(kind.recipe)
    if optimiser is None or not own.of(value) or kind.recipe.switches:
        return None
    rates = np.array([rate_at(kind.recipe, int(step), number=number) for step in own.steps])
    shares = np.stack([stability_ratio(row, optimiser=optimiser, lr=rates) for row in own.values[value]])
    return line(kind.name, own._replace(values={"share": shares}), "share")


def felt(recipe: Recipe) -> str:
    """Which sharpness the optimiser feels."""
    return "top" if is_plain(recipe.optimiser) else "preconditioned"


def rate_at(recipe: Recipe, step: int, *, number: int) -> float:
    """The learning rate of the step that follows, or of the last one."""
    per_epoch = -(-number // batch_of(recipe.batch_size, number))
    total = per_epoch * recipe.epochs
    now = min(step, total - 1)
    return learning_rate(
        recipe.optimiser, phases(recipe)[0].schedule, Clock(step=now, epoch=now // per_epoch, total=total)
    )


@final
class Even(NamedTuple):
    """A break-even point, of the mean curves over seeds."""

    epoch: float | None
    """None: never."""
    sharpness: float | None
    """There."""


def _marks(made: Design, seen: Seen, *, number: int) -> list[Series]:
    """Break-even points as single marks."""
    return [
        Series(name=f"break-even, {kind.name}", x=(even.epoch,), y=(even.sharpness,))
        for kind in made.grid
        if (even := _even(kind, kind, seen, number=number)) is not None and even.epoch and even.sharpness
    ]


def _even(kind: Kind, measured: Kind, seen: Seen, *, number: int) -> Even | None:
    """The break-even point of a condition, by curves measured under it or, as a prediction, under another one.

    None where none is known: for what is no gradient descent, or where curves are missing.
    """
    own = seen_of(seen, measured, CURVATURE)
    if not (is_plain(kind.recipe.optimiser) and is_plain(measured.recipe.optimiser) and own.of("curvature_variance")):
        return None
    top, variance = _means(own, "top"), _means(own, "curvature_variance")
    known = np.isfinite(top) & np.isfinite(variance)
    if not known.any():
        return None
    size = batch_of(kind.recipe.batch_size, number)
    rate = effective_rate(kind.recipe)
    found = break_even(
        top[known],
        curvature_variance=np.maximum(variance[known], 0.0),
        learning_rate=rate,
        batch_size=size,
        num_examples=number,
        steps=own.steps[known].astype(np.float64),
        measured_at=effective_rate(measured.recipe),
    )
    if found.index is None:
        return Even(None, None)
    return Even(found.value * size / number, float(np.interp(found.value, own.steps[known], top[known])))


def effective_rate(recipe: Recipe) -> float:
    """2 over the stability limit: the learning rate of plain gradient descent that becomes unstable as soon.

    >>> round(effective_rate(Recipe(optimiser=SGD(lr=0.19, momentum=0.9))), 9)
    0.1
    """
    optimiser = recipe.optimiser
    assert isinstance(optimiser, SGD)
    return 2 / stability_limit(replace(optimiser, weight_decay=0.0))


def _means(own: Watched, value: str) -> Float[np.ndarray, "moment"]:
    return own.values[value].mean(0)


def _table(made: Design, seen: Seen, *, number: int) -> Table | None:
    rows = [row for kind in made.grid if (row := _row(made, kind, seen, number=number)) is not None]
    if not rows:
        return None
    return Table(
        title="Peaks, and when training breaks even",
        columns=(
            Column(name="condition"),
            Column(name="networks"),
            Column(name="max λ¹(H)", digits=2),
            Column(name="max λ¹(K)", digits=4),
            Column(name="max Tr K/λ¹(K)", digits=2),
            Column(name="max Tr F, early", digits=2),
            Column(name="break-even epoch", digits=2),
            Column(name="predicted", digits=2),
        ),
        rows=tuple(rows),
        caption="Means over seeds. At the break-even point (1 − ηλ)² + s²η²(N − S)/(S(N − 1)) reaches 1, of plain "
        "gradient descent at the rate that becomes unstable as soon; — means never. It is predicted from the curves at "
        "a tenth of the rate, as if training followed these until then.",
    )


def _row(made: Design, kind: Kind, seen: Seen, *, number: int) -> tuple[str | float | int | None, ...] | None:
    curvature, gradients = seen_of(seen, kind, CURVATURE), seen_of(seen, kind, GRADIENTS)
    fisher = seen_of(seen, kind, FISHER)
    networks = max(len(own.seeds) for own in (curvature, gradients, fisher))
    if not networks:
        return None
    peaks = [
        _mean_peak(seen_of(seen, kind, one.probe), one) for one in (COMPARED[1], COMPARED[0], COMPARED[2], COMPARED[3])
    ]
    own, predicted = (_even(kind, measured, seen, number=number) for measured in (kind, made.slow))
    evens = [None if even is None else even.epoch for even in (own, None if kind == made.slow else predicted)]
    return (kind.name, networks, *peaks, *evens)


def _mean_peak(own: Watched, one: Compared) -> float | None:
    found = mean_of(_peaks(own, one))
    return found.value if found.count else None
