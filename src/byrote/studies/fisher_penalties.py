"""What a penalty on the Fisher's trace does at a small learning rate. (Jastrzębski et al. 2021)"""

import math
from collections.abc import Mapping

import numpy as np

from byrote.data import Task, randomise_targets
from byrote.records import Bars, Finding, Run
from byrote.studies.bars_and_bands import bar
from byrote.studies.claims import claim
from byrote.studies.early_conditions import FISHER, FLIPPED, NAME, Design
from byrote.studies.heldout import gap_text, heldout_difference, heldout_level, heldout_name, level_text, shared
from byrote.studies.papers import EXPLOSION
from byrote.studies.rates_and_batches import EARLY, Seen, seen_of
from byrote.studies.study import quality, score_name, shift
from byrote.studies.watching import Watched, difference, highest, judged, mean_of, paired, ratio, within_bounds
from byrote.studies.wording import minus, percent, times

LEVEL = 1 - 0.05 / 3
"""Of each of three intervals, so that they hold together."""

Runs = Mapping[str, Mapping[int, Run]]
"""By condition and seed."""


def penalty_findings(part: Task, made: Design, runs: Runs, seen: Seen) -> tuple[Finding, ...]:
    """On the early trace, on held-out examples and on flipped targets."""
    return (_trace_finding(made, seen), _heldout_finding(part, made, runs), _flipped_finding(part, made, runs))


def early_traces(own: Watched) -> dict[int, float]:
    """The largest trace of the first fifth of the steps, by seed."""
    return highest(own.of("trace"), until=int((own.steps <= EARLY * own.steps[-1]).sum())) if len(own.steps) else {}


def _trace_finding(made: Design, seen: Seen) -> Finding:
    kinds = made.penalties
    plain, held = (seen_of(seen, kind, FISHER) for kind in (kinds.without, kinds.penalised))
    found = ratio(early_traces(plain), early_traces(held), level=LEVEL)
    reason = (plain.reason or held.reason or "no seed was finished with and without").rstrip(".")
    return claim(
        "penalty-lowers-fisher",
        f"At {made.slow.name} the early trace of the Fisher is {times(found)} as high without a Fisher penalty as with "
        f"one of {made.penalty:g}."
        if found.count
        else f"What a Fisher penalty does to the trace of the Fisher is unknown: {reason}.",
        study=NAME,
        paper=EXPLOSION,
        unit="ratio of traces",
        interval=found,
        null=1.0,
        num_runs=2 * found.count,
        verdict=judged(found, null=1.0),
        least=0.0,
    )


def _heldout_finding(part: Task, made: Design, runs: Runs) -> Finding:
    kinds = made.penalties
    held, plain = (runs[kind.name] for kind in (kinds.penalised, kinds.without))
    interval = heldout_difference(part, held, plain, level=LEVEL)
    ours, theirs = (heldout_level(part, shared(*pair)) for pair in ((held, plain), (plain, held)))
    return claim(
        "penalty-helps-small-rate",
        f"At {made.slow.name} {heldout_name(part)} is {level_text(part, ours)} with a Fisher penalty and "
        f"{level_text(part, theirs)} without: a difference of {gap_text(part, interval)}."
        if interval.count
        else "Whether a Fisher penalty helps a small learning rate is unknown: no seed was finished with and without.",
        study=NAME,
        paper=EXPLOSION,
        unit=f"difference in {score_name(part)}",
        interval=interval,
        null=0.0,
        num_runs=2 * interval.count,
        verdict=judged(interval, null=0.0),
    )


def _flipped_finding(part: Task, made: Design, runs: Runs) -> Finding:
    kinds = made.penalties
    plain, held = (
        {s: flipped_fit(part, run) for s, run in runs[k.name].items()} for k in (kinds.flipped, kinds.flipped_penalised)
    )
    most = math.inf if part.regression else 1.0
    interval = within_bounds(difference(plain, held, level=LEVEL), -most, most)
    without, penalised = paired(plain, held)
    words = "on the targets that were exchanged is" if part.regression else "of the labels that were flipped are"
    return claim(
        "penalty-resists-flipped-labels",
        f"{_fit_text(part, without)} {words} fitted without a Fisher penalty and {_fit_text(part, penalised)} with "
        f"one: a difference of {gap_text(part, interval)}."
        if interval.count
        else "Whether a Fisher penalty keeps flipped labels from being fitted is unknown: no seed was finished with "
        "and without.",
        study=NAME,
        paper=EXPLOSION,
        unit="difference in fit of flipped labels",
        interval=interval,
        null=0.0,
        num_runs=2 * interval.count,
        verdict=judged(interval, null=0.0),
    )


def _fit_text(part: Task, fits: np.ndarray) -> str:
    return f"R² of {minus(f'{fits.mean():.3f}')}" if part.regression else percent(float(fits.mean()))


def flipped_fit(part: Task, run: Run) -> float:
    """The share of the changed training targets that a run gives after training; for numbers 1 minus the squared error
    in units of the targets' variance. NaN where none was changed.
    """
    changed = randomise_targets(part, run.spec.labels).changed
    if not changed.any():
        return float("nan")
    return float(quality(part, [run])[0][changed].mean()) + shift(part)


def penalty_bars(part: Task, made: Design, runs: Runs) -> list[Bars]:
    """Held-out scores with and without, on clean and on flipped labels, and how many flipped labels are fitted."""
    levels = {kind.name: heldout_level(part, runs[kind.name]) for kind in made.penalties}
    bars = tuple(bar(name, level, group=name, shift=shift(part)) for name, level in levels.items() if level.count)
    fits = {
        kind.name: mean_of({seed: flipped_fit(part, run) for seed, run in runs[kind.name].items()})
        for kind in (made.penalties.flipped, made.penalties.flipped_penalised)
    }
    fitted = tuple(
        bar(name, within_bounds(fit, -math.inf if part.regression else 0.0), group=name)
        for name, fit in fits.items()
        if fit.count
    )
    share = f"{100 * FLIPPED:g} %"
    targets = "targets exchanged" if part.regression else "labels drawn anew"
    figures = [
        Bars(
            title=f"A Fisher penalty of {made.penalty:g} at {made.slow.name}",
            x_label=heldout_name(part),
            bars=bars,
            caption=f"Flipped: {share} of the {targets}. Intervals hold for new networks and new held-out examples; "
            "the claims pair seeds.",
        ),
        Bars(
            title="Flipped labels that are fitted",
            x_label="R² on exchanged targets" if part.regression else "share of flipped labels",
            bars=fitted,
            caption=f"Of {share} of the {targets}, those that really changed, after training.",
        ),
    ]
    return [figure for figure in figures if figure.bars]
