"""What is shown of the ends of trainings."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from byrote.core import ModelError
from byrote.data import Task
from byrote.measures import mean_interval
from byrote.probing import TopCurvature
from byrote.records import Bars, Column, Curves, Figure, Interval, Series, Table
from byrote.studies.bars_and_bands import band, bar
from byrote.studies.basins import Basins
from byrote.studies.certainty import crossed_interval
from byrote.studies.end_claims import associations, possible
from byrote.studies.endings import EXAMINED, KINDS, Ended, Endings, Labels, of_labels, said_of_first
from byrote.studies.ends import ADAPTIVE, LAMBDA_MAX, MEASURES, PRECONDITIONED, End, Measure, target_noun
from byrote.studies.landscapes import block_figure, density_figure, line_figures, plane_figures, trajectory_figure
from byrote.studies.study import heldout_qualities, score_name, shift
from byrote.studies.wording import capitalised
from byrote.training import reason_of

LARGEST = 709.0
"""Of which the exponential is a number."""


def end_figures(task: Task, part: Task, found: Endings, basins: Basins) -> Iterator[Figure]:
    """All that is shown.

    Args:
        task: the whole one.
        part: of it that was looked at.
        found: where training ended.
        basins: of the learner's own recipe on true labels.
    """
    if not any(ended.runs for ended in found.values()):
        return
    unit = "squared error, standardised" if part.regression else "cross-entropy"
    yield _ends_table(part, found)
    yield from _beside(part, found)
    yield _ranks_table(part, found)
    yield from _on_the_way(part, found)
    said = {_kind(part, labels): said_of_first(found, labels) for labels in KINDS}
    name = found["own", "true"].condition.variant.name
    own = {kind: recipes[name] for kind, recipes in said.items() if name in recipes}
    yield from (figure for figure in (density_figure(own), block_figure(own)) if figure is not None)
    for kind, recipes in said.items():
        yield from line_figures(recipes, labels=kind, unit=unit)
    for kind, recipes in said.items():
        yield from plane_figures(recipes, labels=kind, unit=unit)
    yield from _way(task, found["own", "true"], unit=unit)
    if basins.ways:
        yield _heights(part, basins)


def _kind(part: Task, labels: Labels) -> str:
    return f"{labels} {target_noun(part)}"


def _ends_table(part: Task, found: Endings) -> Table:
    score = score_name(part)
    under_adam = any(math.isfinite(end.preconditioned) for ended in found.values() for end in ended.ends)
    felt = (Column(name=PRECONDITIONED.title, digits=PRECONDITIONED.digits),) if under_adam else ()
    return Table(
        title="Where training ends",
        columns=(
            Column(name="recipe"),
            Column(name="targets"),
            Column(name="runs", digits=0),
            Column(name=f"held-out {score}", digits=3),
            Column(name=f"training {score}", digits=3),
            Column(name="training loss", digits=4),
            *(Column(name=measure.title, digits=measure.digits) for measure in MEASURES.values()),
            Column(name="λ_min", digits=3),
            *felt,
        ),
        rows=tuple(_row(ended, under_adam=under_adam) for ended in found.values() if ended.ends),
        caption="Means over seeds; sharpness on training examples, against the targets trained on. "
        + " ".join(
            f"{_titled(measure)}: {measure.meaning}, which "
            f"{'survives' if measure.survives else 'does not survive'} a rescaling of layers."
            for measure in MEASURES.values()
        ),
    )


def _titled(measure: Measure) -> str:
    """Fit to begin a sentence; a symbol stays as it is."""
    return measure.title if measure.title.startswith("λ") else capitalised(measure.title)


def _row(ended: Ended, *, under_adam: bool) -> tuple[str | float | int | None, ...]:
    ends = ended.ends
    felt = (_mean([end.preconditioned for end in ends]),) if under_adam else ()
    return (
        ended.condition.variant.name,
        ended.condition.labels,
        len(ends),
        _mean([end.score for end in ends]),
        _mean([end.fit for end in ends]),
        _mean([end.loss for end in ends]),
        *(_mean([end.sharpness[name] for end in ends]) for name in MEASURES),
        _mean([end.lowest for end in ends]),
        *felt,
    )


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else None


def _beside(part: Task, found: Endings) -> Iterator[Figure]:
    """Held-out accuracy beside sharpness, of every network on true labels."""
    recipes = {name: own for name, own in of_labels(found, "true").items() if own.ends}
    score = f"held-out {score_name(part)}"
    for name in (ADAPTIVE, LAMBDA_MAX):
        series = tuple(_dots(recipe, own.ends, name) for recipe, own in recipes.items())
        if not any(line.x for line in series):
            continue
        survives = "survives" if MEASURES[name].survives else "does not survive"
        yield Curves(
            title=f"{score.capitalize()} beside {MEASURES[name].title}",
            x_label=f"{MEASURES[name].title}, log scale",
            y_label=score,
            series=tuple(line for line in series if line.x),
            log_x=True,
            points=True,
            caption=f"A dot for every network on true {target_noun(part)}. This {survives} a rescaling of layers.",
        )
    yield Bars(
        title=f"{score.capitalize()} of each recipe",
        x_label=score,
        bars=tuple(bar(recipe, _score(part, own), group=recipe, shift=shift(part)) for recipe, own in recipes.items()),
        caption=f"After training on true {target_noun(part)}; 95 % intervals over seeds and held-out examples.",
    )


def _score(part: Task, own: Ended) -> Interval:
    """Held out, as a mean quality; of answers that are right or wrong within 0 and 1."""
    found = crossed_interval(
        heldout_qualities(part, list(own.runs)), groups=part.test.groups, binary=not part.regression
    )
    if part.regression or not math.isfinite(found.low):
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _dots(recipe: str, ends: Sequence[End], measure: str) -> Series:
    known = [end for end in ends if end.sharpness[measure] > 0 and math.isfinite(end.sharpness[measure])]
    return Series(name=recipe, x=tuple(end.sharpness[measure] for end in known), y=tuple(end.score for end in known))


def _ranks_table(part: Task, found: Endings) -> Table:
    ranked = associations(found)
    return Table(
        title=f"Does sharpness rank held-out {score_name(part)} over recipes?",
        columns=(
            Column(name="sharpness"),
            Column(name="survives rescaling"),
            Column(name="recipes", digits=0),
            Column(name="seeds", digits=0),
            Column(name="rank correlation", digits=2),
            Column(name="from", digits=2),
            Column(name="to", digits=2),
            Column(name="p, flatter tests better", digits=3),
            Column(name="p, sharper tests better", digits=3),
        ),
        rows=tuple(
            (
                MEASURES[name].title,
                "yes" if MEASURES[name].survives else "no",
                own.num_recipes,
                own.num_seeds,
                *_ends(possible(own.interval)),
                own.p_flatter,
                own.p_sharper,
            )
            for name, own in ranked.items()
        ),
        caption="Spearman's, within each seed, then the mean over seeds; the interval covers what any one recipe left "
        f"out would give. The {len(MEASURES) - 1} measures that do not survive a rescaling of layers decide nothing, "
        "and their intervals hold for all of them at once with 95 %.",
    )


def _ends(interval: Interval) -> tuple[float | None, float | None, float | None]:
    value, low, high = (end if math.isfinite(end) else None for end in (interval.value, interval.low, interval.high))
    return value, low, high


def _on_the_way(part: Task, found: Endings) -> Iterator[Curves]:
    """λ_max of the learner's own recipe, from the start to the end."""
    series: list[Series] = []
    for labels in KINDS:
        rows = list(_tops(found["own", labels]))
        if rows and all((values > 0).all() and np.isfinite(values).all() for _, values in rows):
            columns = np.log(np.stack([values for _, values in rows]).T)
            levels = [_exponential(mean_interval(column)) for column in columns]
            series.append(band(_kind(part, labels), rows[0][0].tolist(), levels))
    if series:
        yield Curves(
            title="Sharpness along training",
            x_label="optimiser steps",
            y_label="λ_max, log scale",
            series=tuple(series),
            log_y=True,
            caption="Own recipe; geometric mean over seeds, with 95 % intervals where there are several. Does not "
            "survive a rescaling of layers.",
        )


def _exponential(logs: Interval) -> Interval:
    return Interval(
        value=math.exp(logs.value),
        low=math.exp(logs.low) if math.isfinite(logs.low) else -math.inf,
        high=math.exp(logs.high) if logs.high < LARGEST else math.inf,
        se=logs.se,
        count=logs.count,
    )


def _tops(ended: Ended) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Steps and λ_max there, of every run."""
    for run, probes in zip(ended.runs, ended.probes, strict=True):
        for probe in probes:
            if isinstance(probe, TopCurvature) and probe.key in run.probes:
                result = run.probes[probe.key]
                if not reason_of(result.values):
                    yield result.steps, result.values["top"]


def _way(task: Task, ended: Ended, *, unit: str) -> Iterator[Figure]:
    first = ended.first()
    kept = [result for run, result in ended.checkpoints() if first is not None and run is first[0]]
    try:
        drawn = [trajectory_figure(ended.specs[0], one, task=task, examined=EXAMINED, unit=unit) for one in kept]
    except ModelError:  # Why networks cannot be made again is said where they are compared.
        return
    yield from (figure for figure in drawn if figure is not None)


def _heights(part: Task, basins: Basins) -> Curves:
    return Curves(
        title="From one seed's end to another's",
        x_label="share of the straight way between their weights",
        y_label="mean squared error, standardised" if part.regression else "held-out error",
        series=tuple(
            Series(name=kind, x=tuple(ways.alphas.tolist()), y=tuple(ways.heights.mean(0).tolist()))
            for kind, ways in basins.ways.items()
        ),
        caption="Mean over all pairs of networks of the own recipe on true targets.",
    )
