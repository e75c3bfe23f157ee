"""What if it is trained on random data? (Zhang et al. 2017; Arpit et al. 2017)"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, final

import numpy as np

from byrote.data import Task, randomise_targets
from byrote.measures import (
    mean_interval,
    proportion_interval,
)
from byrote.records import (
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
    PermutedColumns,
    RandomInputs,
    Run,
    RunSpec,
    Section,
    Series,
    ShuffledInputs,
    Step,
    Table,
    TrueInputs,
    TrueLabels,
    Verdict,
    WarmUp,
    above,
    within,
)
from byrote.studies.alarm import PROVING, Alarm, draws_for_alarm, sound_alarm
from byrote.studies.bars_and_bands import band, bar
from byrote.studies.certainty import crossed_interval
from byrote.studies.claims import NOTHING, claim
from byrote.studies.leaks import leak_finding
from byrote.studies.papers import ARPIT, ZHANG
from byrote.studies.slowdown import Arrival, Slowdown, arrival, slowdown
from byrote.studies.study import (
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    chance,
    describe_sample,
    heldout_qualities,
    heldout_quality,
    lengthened,
    run_seed,
    sampled,
    sampled_part,
    score_name,
    shift,
)
from byrote.studies.wording import capitalised, counted, decimal, minus, p_text, percent, percent_within

FITTED = 0.99
"""Training accuracy (or R²) from which a run has fitted its data."""
NEARLY_FITTED = 0.95
"""Where steps to fit are counted: the last few examples take long and vary much."""
STARTED = 0.8
"""A run has started to converge when its training loss is down to this share of that of the best constant guess."""
MARGIN = 0.05
"""Held-out accuracy this close to chance is chance, unless half of chance is less; for regression twice this, of a
correlation."""
WORST_FIRST: tuple[Verdict, ...] = ("does not hold", "inconclusive", "holds")
"""Of a claim with two parts, the worse verdict counts."""
FEWEST_RUNS = 2
"""Fewer than this say nothing of how much runs differ."""
NUM_POINTS = 60
"""On a curve."""


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
COLUMNS = Condition("permuted columns", 0.0, PermutedColumns())


class Measured(NamedTuple):
    """One run in numbers."""

    fit: float
    """Accuracy (R²) after training on the targets trained on."""
    heldout: float
    """Accuracy (R²) after training on the true test targets."""
    fits: Arrival
    """At NEARLY_FITTED."""
    starts: Arrival
    """At STARTED."""
    weight_norm: float


Measurements = dict[str, list[Measured]]
"""By the name of the condition, in the order of the seeds; diverged runs are left out."""


@final
@dataclass(frozen=True, kw_only=True)
class RandomData(AbstractStudy):
    """Train on true, corrupted and random labels and on shuffled, random and Gaussian inputs, and compare.

    Labels are redrawn for every seed and stay fixed over epochs; inputs are drawn once. Memorising takes longer than
    learning, so every run of this study takes `stretch` times the recipe's epochs.
    """

    name: ClassVar[str] = "random-data"
    uses_runs: ClassVar[bool] = True
    uses_leaks: ClassVar[bool] = True
    largest_task: ClassVar[int | None] = 20_000
    question: ClassVar[str] = "What if it is trained on random data?"

    fractions: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Levels of label corruption between 0 and 1."""
    stretch: int = 2

    def __post_init__(self) -> None:
        if any(not 0 < fraction < 1 for fraction in self.fractions):
            raise ValueError(f"Expected fractions strictly between 0 and 1, got {self.fractions}.")
        if self.stretch < 1:
            raise ValueError(f"Expected stretch at least 1, got {self.stretch}.")

    def conditions(self, task: Task) -> tuple[Condition, ...]:
        """All kinds of data that the study compares.

        Pixels trade places within an image; columns of a table and bits of a fingerprint mean something each, so their
        values trade places between examples.
        """
        corrupted = [Condition(f"{100 * q:g} % corrupted", q, TrueInputs()) for q in sorted(set(self.fractions))]
        shuffled = () if _has_columns(task) else (SHUFFLED,)
        return (TRUE, RANDOM_LABELS, *corrupted, *shuffled, scrambled(task), GAUSSIAN)

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """Every condition for the first seed, then for the second, and so on; random labels oftener if the leak
        alarm needs more draws than there are seeds to be able to ring.
        """
        columns = [self._specs(condition, task, learner, budget) for condition in self.conditions(task)]
        further = self._specs(RANDOM_LABELS, task, learner, budget)[budget.runs :]
        return Plan((*(column[index] for index in range(budget.runs) for column in columns), *further), ())

    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """More runs on random labels, when the leak alarm rings on too few of them to prove anything."""
        planned = self._specs(RANDOM_LABELS, results.task, results.learner, budget)
        outputs = [run.trace.test_outputs for run in results.completed(planned)]
        alarm = sound_alarm(sampled_part(results.task, budget.sample), outputs, seed=budget.seed)
        return self._further(results, budget) if alarm is not None and alarm.rings else ()

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Compare the conditions, and look for leaks."""
        conditions = self.conditions(results.task)
        specs = {c.name: self._specs(c, results.task, results.learner, budget) for c in conditions}
        specs[RANDOM_LABELS.name] += self._further(results, budget)
        runs = {name: results.completed(specs[name]) for name in specs}
        part = sampled_part(results.task, budget.sample)
        measured = {name: [_measure(part, run) for run in runs[name]] for name in runs}
        alarm = sound_alarm(part, [run.trace.test_outputs for run in runs[RANDOM_LABELS.name]], seed=budget.seed)
        findings = (
            _fitted(part, measured),
            _at_chance(part, alarm),
            _faster(part, measured),
            _starts_faster(part, measured),
            _error_rises(part, {c: runs[c.name] for c in conditions if c.inputs == TrueInputs()}),
            leak_finding(results.task, results.background.leaks, alarm),
        )
        section = Section(
            study=self.name,
            title=self.question,
            summary=_summary(part, measured, alarm, findings),
            findings=findings,
            figures=_figures(part, [c for c in conditions if runs[c.name]], runs, measured),
            notes=(*self._notes(results, budget), *results.lost(tuple(s for own in specs.values() for s in own))),
        )
        return Outcome(section, None)

    def _specs(self, condition: Condition, task: Task, learner: Learner, budget: StudyBudget) -> tuple[RunSpec, ...]:
        number = max(budget.runs, draws_for_alarm(task)) if condition == RANDOM_LABELS else budget.runs
        return self._draws(condition, task, learner, budget, indices=range(number))

    def _further(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """Runs on random labels beyond those planned, up to as many as prove a leak."""
        task, learner = results.task, results.learner
        planned = len(self._specs(RANDOM_LABELS, task, learner, budget))
        return self._draws(RANDOM_LABELS, task, learner, budget, indices=range(planned, PROVING))

    def _draws(
        self, condition: Condition, task: Task, learner: Learner, budget: StudyBudget, *, indices: range
    ) -> tuple[RunSpec, ...]:
        own = sampled(learner, task, budget.sample)
        recipe = lengthened(own.recipe, epochs=self.stretch * own.recipe.epochs, steps=self.stretch)
        bases = [
            RunSpec(
                task=task.fingerprint,
                learner=replace(own, recipe=recipe),
                seed=run_seed(budget, index),
                order=run_seed(budget, index),
                sample=budget.sample,
            )
            for index in indices
        ]
        return tuple(condition.spec(base, draw=base.seed) for base in bases)

    def _notes(self, results: Results, budget: StudyBudget) -> tuple[str, ...]:
        epochs = self.stretch * sampled(results.learner, results.task, budget.sample).recipe.epochs
        notes = [
            f"Memorising takes longer than learning: every run of this study takes "
            f"{counted(epochs, one='epoch', many='epochs')}, the recipe asks for {results.learner.recipe.epochs}.",
            "Inputs are drawn once for all seeds; labels, initial weights and the order of batches anew for each.",
        ]
        if isinstance(results.learner.recipe.schedule, (Step, WarmUp)) or results.learner.recipe.switches:
            notes.append("Warm-up, falls of the learning rate and switches come at the same share of these epochs.")
        further = sum(spec in results.runs for spec in self._further(results, budget))
        if further:
            networks = counted(further, one="network was", many="networks were")
            notes.append(
                f"The leak alarm rang on fewer than {PROVING} runs, so {networks} trained on random "
                f"{_targets(results.task)} beyond the plan."
            )
        if budget.sample is not None:
            notes.append(f"This study looks at {describe_sample(results.task, budget.sample, test=True)}.")
        return tuple(notes)


def _measure(part: Task, run: Run) -> Measured:
    curves, seed = run.curves, run.spec.seed
    return Measured(
        fit=_final_fit(part, run),
        heldout=float(heldout_quality(part, run.trace.test_outputs).mean()) + shift(part),
        fits=arrival(curves.step, curves.train_score, level=NEARLY_FITTED, seed=seed),
        starts=arrival(curves.step, -curves.train_loss, level=-STARTED * _guess_loss(part, run.spec), seed=seed),
        weight_norm=float(curves.weight_norm[-1]),
    )


def _final_fit(part: Task, run: Run) -> float:
    if part.regression:
        return float(1 - run.trace.loss[-1].mean(dtype=np.float64))
    return float((run.trace.margin[-1] > 0).mean())


def _guess_loss(part: Task, spec: RunSpec) -> float:
    """The loss of the best constant guess on the targets that a run was trained on: their entropy, or variance 1."""
    if part.regression:
        return 1.0
    shares = np.bincount(randomise_targets(part, spec.labels).targets, minlength=part.num_classes) / len(part.train)
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())


def _targets(part: Task) -> str:
    return "targets" if part.regression else "labels"


def _random_class(part: Task) -> float:
    """What a network scores that was trained on uniformly random labels, whatever the classes' shares."""
    return 0.0 if part.regression else 1 / part.num_classes


def _fitted(part: Task, measured: Measurements) -> Finding:
    runs, score = measured[RANDOM_LABELS.name], score_name(part)
    interval = _fit_interval(part, runs)
    return claim(
        "random-labels-are-fitted",
        f"On random {_targets(part)} the network reaches a training {score} of {_shown(part, interval)} within "
        f"{runs[0].fits.last:,.0f} steps."
        if runs
        else f"No run on random {_targets(part)} was finished.",
        study=RandomData.name,
        paper=ZHANG,
        unit=score,
        interval=interval,
        null=FITTED,
        num_runs=len(runs),
        verdict=above(low=interval.low, high=interval.high, null=FITTED),
        most=1.0,
    )


def _fit_interval(part: Task, runs: list[Measured]) -> Interval:
    """Over runs; for classes no narrower than the number of answers alone makes it."""
    if not runs:
        return NOTHING
    interval = mean_interval(np.array([run.fit for run in runs]))
    if part.regression or len(runs) < FEWEST_RUNS:
        return interval
    answers = len(part.train) * len(runs)
    exact = proportion_interval(round(interval.value * answers), answers)
    return replace(interval, low=min(interval.low, exact.low), high=max(interval.high, exact.high))


def _shown(part: Task, interval: Interval) -> str:
    return decimal(interval) if part.regression else percent_within(_clipped(interval))


def _clipped(interval: Interval) -> Interval:
    """A share's interval within 0 and 1."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return interval
    return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))


def _at_chance(part: Task, alarm: Alarm | None) -> Finding:
    interval = NOTHING if alarm is None else alarm.interval
    null, margin = _random_class(part), 2 * MARGIN if part.regression else min(MARGIN, _random_class(part) / 2)
    verdict = within(low=interval.low, high=interval.high, null=null, margin=margin)
    if alarm is not None and alarm.rings:
        verdict = "does not hold" if alarm.proves else "inconclusive"
    return claim(
        "random-labels-test-at-chance",
        f"No run on random {_targets(part)} was finished."
        if alarm is None
        else f"Trained on random {_targets(part)} the network {_chance_clause(part, alarm)} ("
        f"{p_text(alarm.test.p_value)} for being above it).",
        study=RandomData.name,
        paper=ZHANG,
        unit="correlation" if part.regression else "accuracy",
        interval=interval,
        null=null,
        p_value=None if alarm is None else alarm.test.p_value,
        num_runs=0 if alarm is None else alarm.num_runs,
        verdict=verdict,
        least=-1.0 if part.regression else 0.0,
        most=1.0,
    )


def _chance_clause(part: Task, alarm: Alarm) -> str:
    if part.regression:
        return (
            f"gives predictions whose correlation with held-out targets is {decimal(alarm.interval)}, where chance is 0"
        )
    return (
        f"gets {percent_within(_clipped(alarm.interval))} of held-out examples right, where chance is "
        f"{percent(_random_class(part))}"
    )


def _slowdown_of_fit(measured: Measurements) -> Slowdown:
    return slowdown(
        [run.fits for run in measured[TRUE.name]],
        [run.fits for run in measured[RANDOM_LABELS.name]],
        fast_name=TRUE.name,
        slow_name=RANDOM_LABELS.name,
    )


def _faster(part: Task, measured: Measurements) -> Finding:
    slower = _slowdown_of_fit(measured)
    if chance(part) >= NEARLY_FITTED:
        common = percent(chance(part))
        slower = Slowdown(NOTHING, 0, False, f"always the commonest answer is right for {common} without any learning")
    targets, number = _targets(part), slower.interval.count
    ending = f" ({slower.num_never} of {number} never got there)" if slower.num_never else ""
    return claim(
        "true-labels-fit-faster",
        f"How much faster true {targets} are fitted than random ones cannot be said: {slower.unknown}."
        if slower.unknown
        else f"Random {targets} take {slower} as many steps to be {100 * NEARLY_FITTED:.0f} % fitted as true ones"
        f"{ending}.",
        study=RandomData.name,
        paper=ARPIT,
        unit="ratio of steps",
        interval=slower.interval,
        null=1.0,
        num_runs=2 * number,
        verdict=slower.verdict,
        least=0.0,
    )


def _has_columns(task: Task) -> bool:
    """Whether a feature means the same in every example and something else than the next."""
    return task.modality in ("molecule", "table")


def scrambled(task: Task) -> Condition:
    """Inputs whose values are those of the data and whose meaning is gone."""
    return COLUMNS if _has_columns(task) else RANDOM_PIXELS


def _starts_faster(part: Task, measured: Measurements) -> Finding:
    random = scrambled(part)
    labels = [run.starts for run in measured[RANDOM_LABELS.name]]
    pixels, gaussian = (
        slowdown([run.starts for run in measured[c.name]], labels, fast_name=c.name, slow_name=RANDOM_LABELS.name)
        for c in (random, GAUSSIAN)
    )
    unknown = pixels.unknown or gaussian.unknown
    verdicts = {pixels.verdict, gaussian.verdict}
    return claim(
        "random-inputs-start-faster",
        f"Which starts to converge sooner, random inputs or random labels, cannot be said: {unknown}."
        if unknown
        else f"To start converging (training loss down to {100 * STARTED:.0f} % of a constant guess's), random labels "
        f"take {pixels} as many steps as {random.name} and {gaussian} as many as {GAUSSIAN.name}.",
        study=RandomData.name,
        paper=ZHANG,
        unit="ratio of steps, the smaller one",
        interval=NOTHING if unknown else min(pixels.interval, gaussian.interval, key=lambda ratio: ratio.value),
        null=1.0,
        num_runs=0 if unknown else 3 * min(pixels.interval.count, gaussian.interval.count),
        verdict="inconclusive" if unknown else next(v for v in WORST_FIRST if v in verdicts),
        least=0.0,
    )


def _error_rises(part: Task, runs: dict[Condition, list[Run]]) -> Finding:
    present = sorted((c for c in runs if runs[c]), key=lambda c: c.fraction)
    by_seed = [{run.spec.seed: run for run in runs[condition]} for condition in present]
    seeds = [seed for seed in (by_seed[0] if by_seed else ()) if all(seed in own for own in by_seed)]
    unit = f"{'1 − R²' if part.regression else 'error'} per corrupted share"
    name = "test-error-rises-with-corruption"
    if len(present) < 2 or not seeds:
        nothing = "No two levels of corruption were finished for one seed, so how error rises cannot be said."
        return claim(name, nothing, study=RandomData.name, paper=ZHANG, unit=unit, null=0.0)
    wrong = 1 - shift(part) - np.stack([heldout_qualities(part, [own[seed] for own in by_seed]) for seed in seeds])
    fractions = np.array([condition.fraction for condition in present])
    centred = fractions - fractions.mean()
    slopes = np.einsum("rcn,c->rn", wrong, centred) / (centred @ centred)
    slope = crossed_interval(slopes, groups=part.test.groups, binary=not part.regression)
    verdict = above(low=slope.low, high=slope.high, null=0.0)
    ends = [
        f"{error:.3f} with {c.name}{'' if c in (TRUE, RANDOM_LABELS) else ' labels'}"
        for c, error in zip((present[0], present[-1]), wrong.mean((0, 2))[[0, -1]], strict=True)
    ]
    error = "held-out 1 − R²" if part.regression else "held-out error"
    opening = {
        "holds": f"{capitalised(error)} rises with corruption",
        "does not hold": f"{capitalised(error)} does not rise with corruption",
        "inconclusive": f"Whether {error} rises with corruption is open",
    }[verdict]
    return claim(
        name,
        f"{opening}: {ends[0]}, {ends[1]}, a slope of {decimal(slope)} for each unit of corruption.",
        study=RandomData.name,
        paper=ZHANG,
        unit=unit,
        interval=slope,
        null=0.0,
        num_runs=len(seeds) * len(present),
        verdict=verdict,
    )


def _summary(part: Task, measured: Measurements, alarm: Alarm | None, findings: Sequence[Finding]) -> str:
    """What random labels do, and what leaks."""
    leak = findings[-1].statement
    runs, targets, slower = measured[RANDOM_LABELS.name], _targets(part), _slowdown_of_fit(measured)
    if not runs or alarm is None:
        return leak
    fit = float(np.mean([run.fit for run in runs]))
    score = f"an R² of {minus(f'{fit:.3f}')}" if part.regression else percent(fit)
    pace = "" if findings[2].value is None else f", in {slower} as many steps as true ones take"
    return (
        f"On random {targets} the same network reaches {score} in training{pace}, and then "
        f"{_chance_clause(part, alarm)}. {leak}"
    )


def _figures(
    part: Task, present: list[Condition], runs: dict[str, list[Run]], measured: Measurements
) -> tuple[Figure, ...]:
    if not present:
        return ()
    score = score_name(part)
    return (
        Curves(
            title="Training error (squared, standardised)" if part.regression else "Training loss",
            x_label="optimiser steps",
            y_label="loss on the targets trained on",
            series=tuple(_loss_band(c.name, runs[c.name]) for c in present),
            reference=1.0 if part.regression else math.log(part.num_classes),
            reference_label="always the mean" if part.regression else "a uniform guess",
            caption=f"Mean over seeds{_banded(runs)}. Structure is learnt in few steps; noise has to be memorised.",
        ),
        Bars(
            title=f"Held-out {score} after each kind of training",
            x_label=score,
            bars=tuple(
                bar(
                    c.name,
                    _heldout_interval(part, runs[c.name]),
                    group="labels" if c.inputs == TrueInputs() else "inputs",
                )
                for c in present
            ),
            reference=_random_class(part),
            reference_label="always the mean" if part.regression else "a random class",
            caption="On test examples whose inputs were drawn in the same way, against their true targets. 95 % "
            "intervals over seeds and examples.",
        ),
        _conditions_table(part, present, measured),
    )


def _banded(runs: dict[str, list[Run]]) -> str:
    return ", with 95 % intervals" if any(len(own) >= FEWEST_RUNS for own in runs.values()) else ""


def _loss_band(name: str, runs: list[Run]) -> Series:
    values = np.stack([run.curves.train_loss for run in runs]).astype(np.float64)
    kept = np.unique(np.linspace(0, values.shape[1] - 1, NUM_POINTS).astype(int))
    return band(name, runs[0].curves.step[kept].tolist(), [mean_interval(values[:, epoch]) for epoch in kept])


def _heldout_interval(part: Task, runs: list[Run]) -> Interval:
    own = heldout_qualities(part, runs) + shift(part)
    interval = crossed_interval(own, groups=part.test.groups, binary=not part.regression)
    return interval if part.regression else _clipped(interval)


def _conditions_table(part: Task, present: list[Condition], measured: Measurements) -> Table:
    score = score_name(part)
    return Table(
        title="All conditions",
        columns=(
            Column(name="data"),
            Column(name="runs", digits=0),
            Column(name=f"training {score}", digits=3),
            Column(name=f"held-out {score}", digits=3),
            Column(name=f"steps to {100 * NEARLY_FITTED:.0f} % fit", digits=0),
            Column(name="slowdown", digits=1),
            Column(name="‖weights‖", digits=1),
        ),
        rows=tuple(_row(c.name, measured) for c in present),
        caption="Steps and slowdown against true labels are geometric means; — means that at least one run never got "
        "there.",
    )


def _row(name: str, measured: Measurements) -> tuple[str | float | int | None, ...]:
    own, true = measured[name], measured[TRUE.name]
    steps = _geometric_mean([m.fits.at for m in own])
    reference = _geometric_mean([m.fits.at for m in true])
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
