"""What if it is trained on random data? (Zhang et al. 2017; Arpit et al. 2017)"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, final

import numpy as np
from jaxtyping import Float, Int

from byrote.data import Task
from byrote.measures import (
    log_ratio_interval,
    mean_interval,
    relabelling_test,
    sign_flip_test,
    slope_interval,
)
from byrote.records import (
    Bar,
    Bars,
    Column,
    CorruptedLabels,
    Curves,
    Figure,
    Finding,
    GaussianInputs,
    Inputs,
    Interval,
    Learner,
    RandomInputs,
    Run,
    RunSpec,
    Section,
    Series,
    ShuffledInputs,
    Table,
    TrueInputs,
    TrueLabels,
    above,
    within,
)
from byrote.studies.leaks import Alarm, leak_finding
from byrote.studies.papers import ARPIT, ZHANG
from byrote.studies.study import (
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    p_text,
    percent,
    run_seed,
    sampled,
    sampled_part,
)

FITTED = 0.99
"""Training accuracy (or R²) from which a run has fitted its data."""
NEARLY_FITTED = 0.95
"""Where steps to fit are counted: the last few examples take long and vary much."""
STARTED = 0.8
"""A run has started to converge when its training loss is down to this share of that of a uniform guess."""
MARGIN = 0.05
"""Held-out accuracy this close to chance is chance; for regression twice this, of a correlation."""
ALARM_LEVEL = 0.01
"""The leak alarm cries wolf this often at most."""


class Condition(NamedTuple):
    """One kind of random data."""

    name: str
    fraction: float
    """Of labels redrawn."""
    inputs: Inputs

    def spec(self, base: RunSpec, *, draw: int) -> RunSpec:
        """The run of one draw."""
        labels = CorruptedLabels(fraction=self.fraction, draw=draw) if self.fraction else TrueLabels()
        return replace(base, labels=labels, inputs=self.inputs)


TRUE = Condition("true labels", 0.0, TrueInputs())
RANDOM_LABELS = Condition("random labels", 1.0, TrueInputs())
RANDOM_PIXELS = Condition("random inputs", 0.0, RandomInputs())
GAUSSIAN = Condition("Gaussian inputs", 0.0, GaussianInputs())
SHUFFLED = Condition("shuffled inputs", 0.0, ShuffledInputs())


class Measured(NamedTuple):
    """One run in numbers."""

    fit: float
    """Accuracy (R²) after training on the targets trained on."""
    heldout: float
    steps_to_fit: float
    """To NEARLY_FITTED; infinite when never reached."""
    steps_to_start: float
    steps: float
    """Taken in all."""
    weight_norm: float


@final
@dataclass(frozen=True, kw_only=True)
class RandomData(AbstractStudy):
    """Train on true, corrupted and random labels and on shuffled, random and Gaussian inputs, and compare.

    Labels are redrawn for every seed and stay fixed over epochs; inputs are drawn once. Memorising takes longer than
    learning, so every run of this study takes `stretch` times the recipe's epochs.
    """

    name: ClassVar[str] = "random-data"
    uses_runs: ClassVar[bool] = True
    largest_task: ClassVar[int | None] = 5000
    question: ClassVar[str] = "What if it is trained on random data?"

    fractions: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Levels of label corruption between 0 and 1."""
    stretch: int = 3

    def __post_init__(self) -> None:
        if any(not 0 < fraction < 1 for fraction in self.fractions):
            raise ValueError(f"Expected fractions strictly between 0 and 1, got {self.fractions}.")
        if self.stretch < 1:
            raise ValueError(f"Expected stretch at least 1, got {self.stretch}.")

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All kinds of data that the study compares."""
        corrupted = [Condition(f"{100 * q:g} % corrupted", q, TrueInputs()) for q in sorted(self.fractions)]
        return (TRUE, RANDOM_LABELS, *corrupted, SHUFFLED, RANDOM_PIXELS, GAUSSIAN)

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """Every condition for the first seed, then for the second, and so on; random labels oftener if the leak
        alarm needs more draws than there are seeds to be able to ring.
        """
        specs = [
            spec
            for index in range(budget.runs)
            for spec in (self._specs(c, task, learner, budget)[index] for c in self.conditions)
        ]
        return Plan((*specs, *self._specs(RANDOM_LABELS, task, learner, budget)[budget.runs :]), ())

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Compare the conditions, and look for leaks."""
        task, learner = results.task, results.learner
        runs = {c.name: results.completed(self._specs(c, task, learner, budget)) for c in self.conditions}
        part = sampled_part(task, budget.sample)
        measured = {name: [_measure(part, run) for run in runs[name]] for name in runs}
        alarm = _alarm(part, runs[RANDOM_LABELS.name], seed=budget.seed)
        findings = (
            _fitted(part, measured),
            _at_chance(part, measured, alarm),
            _faster(part, measured),
            _starts_faster(measured),
            self._error_rises(part, measured),
            leak_finding(results, alarm, level=ALARM_LEVEL),
        )
        section = Section(
            study=self.name,
            title=self.question,
            summary=" ".join(finding.statement for finding in (findings[0], findings[2], findings[5])),
            findings=findings,
            figures=self._figures(part, runs, measured),
            notes=self._notes(results, budget, measured),
        )
        return Outcome(section, None)

    def _specs(self, condition: Condition, task: Task, learner: Learner, budget: StudyBudget) -> tuple[RunSpec, ...]:
        own = sampled(learner, task, budget.sample)
        own = replace(own, recipe=replace(own.recipe, epochs=self.stretch * own.recipe.epochs))
        number = max(budget.runs, _draws_for_alarm(task)) if condition == RANDOM_LABELS else budget.runs
        bases = [
            RunSpec(
                task=task.fingerprint,
                learner=own,
                seed=run_seed(budget, index),
                order=budget.seed,
                sample=budget.sample,
            )
            for index in range(number)
        ]
        return tuple(condition.spec(base, draw=base.seed) for base in bases)

    def _error_rises(self, part: Task, measured: dict[str, list[Measured]]) -> Finding:
        sweep = [c for c in self.conditions if c.inputs == TrueInputs()]
        sweep = sorted((c for c in sweep if measured[c.name]), key=lambda c: c.fraction)
        number = min((len(measured[c.name]) for c in sweep), default=0)
        fractions = np.array([c.fraction for c in sweep])
        score = "accuracy" if not part.regression else "R²"
        if number == 0 or len(sweep) < 2:
            return _finding("test-error-rises-with-corruption", "There are no runs to say.", None, ZHANG, unit=score)
        errors = 1 - np.array([[m.heldout for m in measured[c.name][:number]] for c in sweep]).T
        slope = slope_interval(fractions, errors)
        first, last = errors.mean(0)[[0, -1]]
        statement = (
            f"Held-out {'error' if not part.regression else '1 − R²'} rises from {first:.3f} with true labels to "
            f"{last:.3f} "
            f"with random ones, {slope.value:.2f} for each unit of corruption."
            if slope.value > 0
            else f"Held-out error does not rise with corruption: {first:.3f} with true labels, {last:.3f} with "
            "random ones."
        )
        return _finding(
            "test-error-rises-with-corruption",
            statement,
            slope,
            ZHANG,
            unit="error per corrupted share",
            null=0.0,
            verdict=above(low=slope.low, high=slope.high, null=0.0),
            num_runs=number * len(sweep),
        )

    def _figures(
        self, part: Task, runs: dict[str, list[Run]], measured: dict[str, list[Measured]]
    ) -> tuple[Figure, ...]:
        score = "accuracy" if not part.regression else "R²"
        present = [c for c in self.conditions if runs[c.name]]
        return (
            Curves(
                title="Training loss" if not part.regression else "Training error (squared, standardised)",
                x_label="optimiser steps",
                y_label="loss on the targets trained on",
                series=tuple(_band(c.name, runs[c.name], lambda run: run.curves.train_loss) for c in present),
                reference=math.log(part.num_classes) if not part.regression else 1.0,
                reference_label="a guess",
                caption="Mean over seeds, with 95 % intervals. Structure is learnt in few steps; noise has to be "
                "memorised.",
            ),
            Bars(
                title=f"Held-out {score}",
                x_label=score,
                bars=tuple(_bar(c, [m.heldout for m in measured[c.name]]) for c in present),
                reference=_chance(part),
                reference_label="chance",
                caption="On test examples whose inputs were drawn in the same way, against their true targets.",
            ),
            Table(
                title="All conditions",
                columns=(
                    Column(name="data"),
                    Column(name="runs", digits=0),
                    Column(name=f"training {score}", digits=3),
                    Column(name=f"held-out {score}", digits=3),
                    Column(name=f"steps to {NEARLY_FITTED:.0%} fit", digits=0),
                    Column(name="slowdown", digits=1),
                    Column(name="‖weights‖", digits=1),
                ),
                rows=tuple(_row(c.name, measured) for c in present),
                caption="Steps and slowdown against true labels are geometric means; — means that at least one "
                "run never got there.",
            ),
        )

    def _notes(self, results: Results, budget: StudyBudget, measured: dict[str, list[Measured]]) -> tuple[str, ...]:
        epochs = self.stretch * sampled(results.learner, results.task, budget.sample).recipe.epochs
        notes = [
            f"Memorising takes longer than learning: every run of this study takes {epochs} epochs, the recipe "
            "asks for "
            f"{results.learner.recipe.epochs}.",
            "Inputs are drawn once for all seeds, labels anew for each; all seeds see one order of batches.",
        ]
        if budget.sample is not None:
            notes.append(
                f"This study looks at a stratified sample of {budget.sample.train:,} of {len(results.task.train):,} "
                f"training and {budget.sample.test:,} of {len(results.task.test):,} test examples."
            )
        lost = [run for run in results.diverged if run.spec.learner.recipe.epochs == epochs]
        if lost:
            notes.append(f"{len(lost)} runs diverged and are left out: {lost[0].message}")
        if not measured[RANDOM_LABELS.name]:
            notes.append("No run on random labels was finished: the leak alarm is silent because it was not asked.")
        return tuple(notes)


def _measure(part: Task, run: Run) -> Measured:
    curves = run.curves
    loss = curves.train_loss / (1.0 if part.regression else math.log(part.num_classes))
    return Measured(
        fit=_final_fit(part, run),
        heldout=float(curves.test_score[-1]),
        steps_to_fit=_crossing(curves.step, curves.train_score, NEARLY_FITTED),
        steps_to_start=_crossing(curves.step, -loss, -STARTED),
        steps=float(curves.step[-1]),
        weight_norm=float(curves.weight_norm[-1]),
    )


def _final_fit(part: Task, run: Run) -> float:
    if part.regression:
        return float(1 - run.trace.loss[-1].mean(dtype=np.float64))
    return float((run.trace.margin[-1] > 0).mean())


def _crossing(step: Float[np.ndarray, "epoch"], rising: Float[np.ndarray, "epoch"], level: float) -> float:
    """Steps until a curve first reaches a level, along straight lines between epochs; infinite when it never does."""
    reached = np.flatnonzero(rising >= level)
    if len(reached) == 0:
        return math.inf
    at = int(reached[0])
    if at == 0:
        return float(step[0])
    below, there = rising[at - 1], rising[at]
    return float(step[at - 1] + (step[at] - step[at - 1]) * (level - below) / (there - below))


def _draws_for_alarm(task: Task) -> int:
    """Random-label runs without which the alarm's p-value could not fall below its level."""
    relabellings = 2 if task.regression else math.factorial(min(task.num_classes, 10))
    return math.ceil(math.log(1 / ALARM_LEVEL) / math.log(relabellings)) + 1


def _alarm(part: Task, runs: Sequence[Run], *, seed: int) -> Alarm | None:
    """Test whether runs trained on random labels know something of the true ones."""
    if not runs:
        return None
    if part.regression:
        correlations = [_correlation(run.trace.test_outputs[:, 0], part.test.y) for run in runs]
        return Alarm(sign_flip_test(np.array(correlations), seed=seed), 0.5 ** len(runs), len(runs))
    confusion = np.stack([_confusion(part, run) for run in runs])
    least = max(1e-4, math.factorial(min(part.num_classes, 10)) ** -float(len(runs)))
    return Alarm(relabelling_test(confusion, seed=seed), least, len(runs))


def _confusion(part: Task, run: Run) -> Int[np.ndarray, "class class"]:
    predicted = run.trace.test_outputs.argmax(1)
    flat = np.bincount(predicted * part.num_classes + part.test.y, minlength=part.num_classes**2)
    return flat.reshape(part.num_classes, part.num_classes)


def _correlation(predicted: Float[np.ndarray, "example"], y: Float[np.ndarray, "example"]) -> float:
    if np.ptp(predicted) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(predicted.astype(np.float64), y)[0, 1])


def _chance(part: Task) -> float:
    """The held-out score of a network that was trained on uniformly random labels."""
    return 0.0 if part.regression else 1 / part.num_classes


def _fitted(part: Task, measured: dict[str, list[Measured]]) -> Finding:
    runs = measured[RANDOM_LABELS.name]
    if not runs:
        return _finding("random-labels-are-fitted", "No run on random labels was finished.", None, ZHANG)
    interval = mean_interval(np.array([m.fit for m in runs]))
    score = "accuracy" if not part.regression else "R²"
    shown = percent(interval.value) if not part.regression else f"{interval.value:.3f}"
    return _finding(
        "random-labels-are-fitted",
        f"On random labels the network reaches a training {score} of {shown} within {runs[0].steps:,.0f} steps.",
        interval,
        ZHANG,
        unit=score,
        null=FITTED,
        verdict=above(low=interval.low, high=interval.high, null=FITTED),
        clip=(None, 1.0),
    )


def _at_chance(part: Task, measured: dict[str, list[Measured]], alarm: Alarm | None) -> Finding:
    runs = measured[RANDOM_LABELS.name]
    if not runs or alarm is None:
        return _finding("random-labels-test-at-chance", "No run on random labels was finished.", None, ZHANG)
    if part.regression:
        value, unit, margin, shown = (
            alarm.test.observed,
            "correlation",
            2 * MARGIN,
            f"a correlation of {alarm.test.observed:.3f}",
        )
        interval = alarm.interval_around(value)
    else:
        interval = mean_interval(np.array([m.heldout for m in runs]))
        unit, margin, shown = "accuracy", MARGIN, f"an accuracy of {percent(interval.value)}"
    null = _chance(part)
    return _finding(
        "random-labels-test-at-chance",
        f"Trained on random labels it reaches {shown} on held-out examples, where chance is "
        f"{percent(null) if not part.regression else '0'} ({p_text(alarm.test.p_value)} for being above it).",
        interval,
        ZHANG,
        unit=unit,
        null=null,
        p_value=alarm.test.p_value,
        verdict=within(low=interval.low, high=interval.high, null=null, margin=margin),
    )


def _faster(part: Task, measured: dict[str, list[Measured]]) -> Finding:
    claim = "true-labels-fit-faster"
    pairs = list(zip(measured[TRUE.name], measured[RANDOM_LABELS.name], strict=False))
    if not pairs or any(math.isinf(true.steps_to_fit) for true, _ in pairs):
        why = "no pair of runs was finished" if not pairs else f"not every run on true labels fits {NEARLY_FITTED:.0%}"
        return _finding(
            claim,
            f"How much faster true labels are fitted cannot be said: {why}.",
            None,
            ARPIT,
            num_runs=2 * len(pairs),
        )
    censored = sum(math.isinf(random.steps_to_fit) for _, random in pairs)
    interval = log_ratio_interval(
        np.array([min(random.steps_to_fit, random.steps) for _, random in pairs]),
        np.array([true.steps_to_fit for true, _ in pairs]),
    )
    least = "at least " if censored else ""
    ending = f" ({censored} of {len(pairs)} never got there)" if censored else ""
    return _finding(
        claim,
        f"Random labels take {least}{interval.value:.1f} times as many steps to be {NEARLY_FITTED:.0%} fitted as true "
        f"ones{ending}.",
        interval,
        ARPIT,
        unit="ratio of steps",
        null=1.0,
        verdict=_censored_above(interval, censored=censored > 0),
        num_runs=2 * len(pairs),
    )


def _censored_above(interval: Interval, *, censored: bool) -> str:
    """A ratio that is only known from below can be found large, never small."""
    verdict = above(low=interval.low, high=interval.high, null=1.0)
    return "inconclusive" if censored and verdict == "does not hold" else verdict


def _starts_faster(measured: dict[str, list[Measured]]) -> Finding:
    claim, unit = "random-inputs-start-faster", "ratio of steps"
    intervals: list[tuple[Interval, str]] = []
    for name in (RANDOM_PIXELS.name, GAUSSIAN.name):
        pairs = list(zip(measured[name], measured[RANDOM_LABELS.name], strict=False))
        if not pairs or any(math.isinf(m.steps_to_start) for pair in pairs for m in pair):
            why = (
                "no pair of runs was finished" if not pairs else f"not every run on {name} or random labels gets there"
            )
            return _finding(claim, f"Which starts to converge sooner cannot be said: {why}.", None, ZHANG, unit=unit)
        ratio = log_ratio_interval(
            np.array([random.steps_to_start for _, random in pairs]), np.array([own.steps_to_start for own, _ in pairs])
        )
        intervals.append((ratio, name))
    interval, name = min(intervals, key=lambda pair: pair[0].value)
    others = " and ".join(f"{ratio.value:.2f} times for {other}" for ratio, other in intervals)
    return _finding(
        claim,
        f"Random labels need {others} as many steps to start converging (loss down to {STARTED:.0%} of a guess's); "
        f"the verdict is on {name}.",
        interval,
        ZHANG,
        unit=unit,
        null=1.0,
        verdict=above(low=interval.low, high=interval.high, null=1.0),
        num_runs=3 * interval.count,
    )


def _finding(
    claim: str,
    statement: str,
    interval: Interval | None,
    paper: str,
    *,
    unit: str = "accuracy",
    null: float | None = None,
    p_value: float | None = None,
    verdict: str = "inconclusive",
    num_runs: int | None = None,
    clip: tuple[float | None, float | None] = (None, None),
) -> Finding:
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    if high is not None and clip[1] is not None:
        high = min(high, clip[1])
    return Finding(
        study=RandomData.name,
        claim=claim,
        statement=statement,
        value=None if interval is None else interval.value,
        low=low,
        high=high,
        unit=unit,
        null=null,
        p_value=p_value,
        num_runs=num_runs if num_runs is not None else (0 if interval is None else interval.count),
        verdict=verdict,  # pyright: ignore
        paper=paper,
    )


def _band(name: str, runs: list[Run], curve: Callable[[Run], Float[np.ndarray, "epoch"]]) -> Series:
    values = np.stack([curve(run) for run in runs]).astype(np.float64)
    kept = np.unique(np.linspace(0, values.shape[1] - 1, 60).astype(int))
    points = [mean_interval(values[:, epoch]) for epoch in kept]
    banded = len(runs) > 1
    return Series(
        name=name,
        x=tuple(runs[0].curves.step[kept].tolist()),
        y=tuple(point.value for point in points),
        low=tuple(point.low for point in points) if banded else (),
        high=tuple(point.high for point in points) if banded else (),
    )


def _bar(condition: Condition, values: list[float]) -> Bar:
    interval = mean_interval(np.array(values))
    known = len(values) > 1
    return Bar(
        label=condition.name,
        value=interval.value,
        low=interval.low if known else None,
        high=interval.high if known else None,
        group="labels" if condition.inputs == TrueInputs() else "inputs",
    )


def _row(name: str, measured: dict[str, list[Measured]]) -> tuple[str | float | int | None, ...]:
    own, true = measured[name], measured[TRUE.name]
    steps = _geometric_mean([m.steps_to_fit for m in own])
    reference = _geometric_mean([m.steps_to_fit for m in true])
    return (
        name,
        len(own),
        float(np.mean([m.fit for m in own])),
        float(np.mean([m.heldout for m in own])),
        steps,
        None if steps is None or not reference else steps / reference,
        float(np.mean([m.weight_norm for m in own])),
    )


def _geometric_mean(values: list[float]) -> float | None:
    return float(np.exp(np.mean(np.log(values)))) if values and all(math.isfinite(v) for v in values) else None
