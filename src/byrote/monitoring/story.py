"""The curves of a monitor, with what they say."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from byrote.core import time_span
from byrote.measures.curvature import Objective
from byrote.monitoring.columns import Row
from byrote.monitoring.warned import Warned
from byrote.records import Cell, Column, Curves, Figure, Section, Series, Table, Trajectory, provenance

BAND = 2.0
"""Standard errors, or residuals, to either side."""


class _Line(NamedTuple):
    column: str
    name: str
    error: str = ""
    """Column of the standard error or residual."""


class _Plot(NamedTuple):
    title: str
    y_label: str
    lines: tuple[_Line, ...]
    caption: str = ""
    log_y: bool = True
    reference: float | None = None
    reference_label: str = ""


class _Chapter(NamedTuple):
    title: str
    summary: str
    plots: tuple[_Plot, ...]


CHAPTERS = (
    _Chapter(
        "How sharp is the loss where training is?",
        "λ is the largest eigenvalue of the Hessian of the probe's mean loss. A large sharpness is not shown to be "
        "bad: it depends on how the weights are scaled and on the learning rate.",
        (
            _Plot(
                "Sharpness",
                "λ",
                (
                    _Line("lambda_max", "of the Hessian", "lambda_max_residual"),
                    _Line("preconditioned_lambda_max", "as Adam feels it", "preconditioned_lambda_max_residual"),
                ),
            ),
            _Plot(
                "Stability",
                "sharpness over the most that steps can bear",
                (_Line("stability", "λη/2, corrected for the optimiser"), _Line("growth", "growth at each step")),
                "Above 1 a step of full-batch training overshoots along the sharpest direction by more than it gains.",
                False,
                1.0,
                "edge of stability",
            ),
            _Plot(
                "Trace of the Fisher",
                "Tr F",
                (_Line("fisher_trace", "Tr F", "fisher_trace_se"),),
                "Labels are drawn from the model itself.",
            ),
        ),
    ),
    _Chapter(
        "How noisy are the gradients?",
        "K is the covariance of the gradients of the probe's mini-batches at frozen weights; to be compared only with "
        "that of as many mini-batches of the same size.",
        (
            _Plot(
                "Covariance of gradients",
                "K",
                (
                    _Line("k_lambda_max", "largest eigenvalue", "k_lambda_max_se"),
                    _Line("k_trace", "trace", "k_trace_se"),
                ),
            ),
            _Plot("Conditioning of K", "smallest over largest eigenvalue", (_Line("k_conditioning", "λ*/λ¹"),)),
            _Plot(
                "Gradient-noise scale",
                "examples",
                (_Line("noise_scale", "Tr Σ/‖g‖²", "noise_scale_se"),),
                "Batches much smaller than this are mostly noise; much larger ones bring little more.",
            ),
        ),
    ),
    _Chapter(
        "Where has training gone?",
        "Loss and gradient are those of the probe.",
        (
            _Plot("Loss", "mean loss of the probe", (_Line("loss", "loss"),), "", False),
            _Plot("Gradient", "‖g‖", (_Line("gradient_norm", "norm of the gradient"),)),
            _Plot(
                "Movement of features",
                "1 − CKA",
                (_Line("feature_movement", "last hidden layer"),),
                "0: up to rotation and scale, the last hidden layer is what it was at the first measurement.",
                False,
            ),
            _Plot("Distance from the start", "‖θ − θ₀‖", (_Line("distance_from_start", "distance"),), "", False),
        ),
    ),
)


def trajectory(
    rows: Sequence[Row],
    *,
    objective: Objective,
    warned: Sequence[Warned],
    notes: Mapping[str, str],
    overhead: float,
    seed: int,
) -> Trajectory:
    """Put what was measured into figures and words.

    Args:
        rows: measurements.
        objective: what they are of.
        warned: warnings given.
        notes: why something was not measured, by column.
        overhead: that was allowed.
        seed: of the monitor.
    """
    model = type(objective.model).__name__
    weights = objective.weights
    first, *others = (_section(chapter, rows, notes, overhead) for chapter in CHAPTERS)
    first = dataclasses.replace(first, notes=(*first.notes, *objective.notes))
    return Trajectory(
        title=f"How {model} was trained",
        model=model,
        setting=(f"{objective.num_parameters:,} parameters", f"a probe of {sum(objective.counts):,} examples"),
        summary=_summary(rows, warned),
        sections=(first, *others, *_warnings(warned)),
        facts=_facts(rows, overhead),
        provenance=provenance(
            seed=seed, device=str(weights.device), dtype=str(weights.dtype), num_threads=torch.get_num_threads()
        ),
    )


def _summary(rows: Sequence[Row], warned: Sequence[Warned]) -> str:
    if not rows:
        return "Nothing was measured yet."
    first, last = rows[0], rows[-1]
    text = f"{len(rows):,} measurements from step {round(first['step']):,} to {round(last['step']):,}."
    for column, name in (("loss", "The loss of the probe"), ("lambda_max", "The sharpness λ")):
        known = [row for row in rows if column in row]
        if known:
            text += f" {name} went from {known[0][column]:.3g} to {known[-1][column]:.3g}."
    given = [each.text for each in warned] or ["No warning was given."]
    return "\n\n".join([text, *given])


def _section(chapter: _Chapter, rows: Sequence[Row], notes: Mapping[str, str], overhead: float) -> Section:
    drawn = [(_curves(plot, rows), {line.column for line in plot.lines}) for plot in chapter.plots]
    figures: list[Figure] = [curves for curves, _ in drawn if curves.series]
    own = dict.fromkeys(note for column, note in notes.items() if any(column in columns for _, columns in drawn))
    missing = [curves.title for curves, columns in drawn if not curves.series and not columns & set(notes)]
    if missing:
        own[_not_yet(missing, overhead)] = None
    return Section(
        study="monitor",
        title=chapter.title,
        summary=chapter.summary,
        findings=(),
        figures=tuple(figures),
        notes=tuple(own),
    )


def _not_yet(missing: Sequence[str], overhead: float) -> str:
    names = ", ".join(name[0].lower() + name[1:] for name in missing)
    if overhead == float("inf"):
        return f"Not measured yet: {names}."
    return (
        f"Not measured: {names}. So far {100 * overhead:g} % of the training's time did not suffice. For more "
        f"measurements give a smaller probe or allow more, Monitor(…, overhead={4 * overhead:g})."
    )


def _curves(plot: _Plot, rows: Sequence[Row]) -> Curves:
    series = [_series(line, rows) for line in plot.lines if any(line.column in row for row in rows)]
    return Curves(
        title=plot.title,
        x_label="step",
        y_label=plot.y_label,
        series=tuple(series),
        caption=plot.caption,
        log_y=plot.log_y,
        reference=plot.reference,
        reference_label=plot.reference_label,
    )


def _series(line: _Line, rows: Sequence[Row]) -> Series:
    known = [row for row in rows if line.column in row]
    errors = [BAND * row.get(line.error, float("nan")) for row in known]
    values = [row[line.column] for row in known]
    return Series(
        name=line.name,
        x=tuple(round(row["step"]) for row in known),
        y=tuple(values),
        low=tuple(value - error for value, error in zip(values, errors, strict=True)) if line.error else (),
        high=tuple(value + error for value, error in zip(values, errors, strict=True)) if line.error else (),
    )


def _warnings(warned: Sequence[Warned]) -> tuple[Section, ...]:
    if not warned:
        return ()
    rows: list[tuple[Cell, ...]] = [(each.step, each.what, each.text) for each in warned]
    table = Table(
        title="Warnings", columns=(Column(name="step"), Column(name="what"), Column(name="text")), rows=tuple(rows)
    )
    return (
        Section(
            study="monitor",
            title="What was warned of?",
            summary="Each warning is given once, when it is first seen.",
            findings=(),
            figures=(table,),
            notes=(),
        ),
    )


def _facts(rows: Sequence[Row], overhead: float) -> tuple[tuple[str, str], ...]:
    allowed = "everything at every step" if overhead == float("inf") else f"{100 * overhead:g} % of the training's time"
    if not rows:
        return (("allowed", allowed),)
    last = rows[-1]
    return (
        ("measurements", f"{len(rows):,}, of these {sum('lambda_max' in row for row in rows):,} with eigenvalues"),
        ("gradients of the probe", f"{sum(row['cost'] for row in rows):,.0f}"),
        ("allowed", allowed),
        ("taken", f"{100 * last['share']:.2g} % of the training's time"),
        ("training until the last of them", time_span(last["seconds"])),
    )
