"""Which examples are hard, and how does the network hang on each? (Arpit et al. 2017, and after)"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, TypeVar, final

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy import stats

from byrote.core import derive
from byrote.data import Task
from byrote.measures import (
    FirstEpochDifficulty,
    csg,
    data_map,
    first_epoch_difficulty,
    gini,
    grand,
    mean_interval,
    over_draws,
)
from byrote.records import (
    SAM,
    SCORE_COLUMNS,
    Bars,
    Column,
    CorruptedLabels,
    Curves,
    Figure,
    Finding,
    Gallery,
    Interval,
    Learner,
    Run,
    RunSpec,
    ScoreColumn,
    Scores,
    Section,
    Series,
    Table,
    above,
    has_column,
)
from byrote.scoring import (
    CriticalInputs,
    GradientNorms,
    InputCurvature,
    InputGradients,
    LossSensitivities,
    PredictionDepths,
    evenly_spaced,
    typed_table,
)
from byrote.studies.bars_and_bands import bar
from byrote.studies.certainty import crossed_interval
from byrote.studies.claims import NOTHING, claim
from byrote.studies.papers import ARPIT
from byrote.studies.showing import identified, shown, spread
from byrote.studies.study import (
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    describe_sample,
    run_seed,
    sampled,
    sampled_part,
    sampled_positions,
)
from byrote.studies.wording import decimal, p_text, percent, points
from byrote.training import AbstractProbe, Given, batches, reason_of

PROBING = 2
"""Measuring takes about so many times as long as the training itself; time for that is kept."""
NUM_EXAMPLES = 5000
"""The first so many of the training examples are scored."""
NUM_MOMENTS = 6
"""Of a training, at which input gradients are looked at."""
LEVEL = 0.01
"""Of the test whether examples differ."""
NUM_SHOWN = 12
NUM_POINTS = 101
"""Of a Lorenz curve."""
T = TypeVar("T")

TRUE, RANDOM = "true labels", "random labels"
COMPUTED = {
    "grand": "norm",
    "csg": "squared_norm",
    "input_curvature": "curvature",
    "prediction_depth": "depth",
    "loss_sensitivity": "sensitivity",
    "critical": "critical",
}
"""What a probe calls it."""
SPACED = ("prediction_depth", "loss_sensitivity")
"""Scores of evenly spaced examples, where there are many; the others are of the first."""


OF_EACH = (
    "grand",
    "csg",
    "input_curvature",
    "prediction_depth",
    "loss_sensitivity",
    "first_epoch_error",
    "confidence",
    "mean_residual",
    "variability",
    "correctness",
)
SCORES: Mapping[str, ScoreColumn] = {name: SCORE_COLUMNS[name] for name in OF_EACH}
"""Scores of each example."""


class _Probed(NamedTuple):
    """The runs of one kind of label, and what their probes say, or the reason why nothing."""

    runs: list[Run]
    values: Mapping[str, Float[np.ndarray, "run moment example"]]
    reasons: Mapping[str, str]


@final
@dataclass(frozen=True, kw_only=True)
class Difficulty(AbstractStudy):
    """Score training examples by extra passes through networks on true labels, and look for critical held-out inputs
    and for how unevenly sensitivity is spread, on true and on random labels.
    """

    name: ClassVar[str] = "difficulty"
    uses_runs: ClassVar[bool] = True
    largest_task: ClassVar[int | None] = 20_000
    question: ClassVar[str] = "Which examples are hard, and how does the network hang on each?"

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """For each seed a network on true and one on random labels."""
        kinds = [_specs(task, learner, budget, kind) for kind in (TRUE, RANDOM)]
        runs = tuple(spec for pair in zip(*kinds, strict=True) for spec in pair)
        asked = [tuple(_probes(task, own[0]).values()) if own else () for own in kinds]
        probes = {spec: same for own, same in zip(kinds, asked, strict=True) for spec in own}
        as_long = {
            spec: tuple(replace(spec, order=spec.order + more) for more in range(1, PROBING + 1)) for spec in runs
        }
        return Plan(runs, (), probes=probes, alongside=as_long)

    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """None."""
        return ()

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Scores, how they go together, and what random labels change."""
        task, part = results.task, sampled_part(results.task, budget.sample)
        specs = {kind: _specs(task, results.learner, budget, kind) for kind in (TRUE, RANDOM)}
        probed = {kind: _probed(task, results.completed(own)) for kind, own in specs.items()}
        lost = results.lost(tuple(spec for own in specs.values() for spec in own))
        uneven, critical = _unevenness(probed), _critical(part, probed)
        early = _first_epoch(part, probed[TRUE].runs)
        findings = (
            _differing_finding(part, early, num_runs=len(probed[TRUE].runs)),
            _uneven_finding(uneven, probed),
            _critical_finding(critical, probed),
        )
        scores = _scores(probed[TRUE]) | _from_traces(part, probed[TRUE].runs, early)
        section = Section(
            study=self.name,
            title=self.question,
            summary=_summary(findings, probed),
            findings=findings,
            figures=tuple(_figures(part, probed, scores)),
            notes=(*self._notes(task, budget, probed), *lost),
        )
        if not scores:
            return Outcome(section, None)
        return Outcome(section, _table(task, scores, sampled_positions(task, budget.sample)))

    def _notes(self, task: Task, budget: StudyBudget, probed: Mapping[str, _Probed]) -> tuple[str, ...]:
        notes: list[str] = []
        part, there = sampled_part(task, budget.sample), probed[TRUE].values
        if "grand" in there:
            notes.append(
                "GraNd is taken after a tenth of the training, never at initialisation, where it says nothing of an "
                "example."
            )
        if "critical" in there:
            search = CriticalInputs()
            notes.append(
                f"Of {min(search.num_examples, len(part.test)):,} held-out inputs, one is critical when a search of "
                f"{search.num_steps} steps finds another answer within {search.radius} grey levels of 256, or that "
                "share of a column's range; more steps would find more."
            )
        if "loss_sensitivity" in there:
            notes.append(
                f"Loss-sensitivity is of a short training of its own: {LossSensitivities.num_steps} steps on "
                f"{min(LossSensitivities.num_examples, len(part.train)):,} of the training examples, unrolled."
            )
        if "prediction_depth" in there and len(part.train) > PredictionDepths.num_examples:
            notes.append(f"Prediction depth is of {PredictionDepths.num_examples:,} of the training examples.")
        if len(part.train) > NUM_EXAMPLES:
            notes.append(
                f"Scores from gradients are of the first {NUM_EXAMPLES:,} training examples that networks saw."
            )
        for name, reason in probed[TRUE].reasons.items():
            title = SCORES[name].title if name in SCORES else "Whether held-out inputs are critical"
            notes.append(f"{title[:1].upper()}{title[1:]} could not be measured: {reason}")
        if task.regression:
            notes.append(
                "The data map of numbers is of |prediction − target|, in standard deviations of the target: its mean "
                "over training is mean_residual, its standard deviation variability."
            )
        if budget.sample is not None:
            notes.append(f"This study looks at {describe_sample(task, budget.sample, test=True)}.")
        return tuple(notes)


def _specs(task: Task, learner: Learner, budget: StudyBudget, kind: str) -> tuple[RunSpec, ...]:
    own, seeds = sampled(learner, task, budget.sample), [run_seed(budget, index) for index in range(budget.runs)]
    true = [RunSpec(task=task.fingerprint, learner=own, seed=seed, order=seed, sample=budget.sample) for seed in seeds]
    if kind == TRUE:
        return tuple(true)
    return tuple(
        replace(spec, labels=CorruptedLabels(fraction=1.0, draw=derive(spec.seed, "random labels"))) for spec in true
    )


def _probes(task: Task, spec: RunSpec) -> dict[str, AbstractProbe]:
    """By the name of the score; networks on random labels are asked for what is compared alone."""
    recipe = spec.learner.recipe
    number = len(task.train) if spec.sample is None else min(spec.sample.train, len(task.train))
    total = sum(map(len, batches(spec, num_examples=number)))
    early, end = Given(steps=(max(1, math.ceil(total / 10)),)), Given(steps=(total,))
    through = Given(steps=tuple(sorted({max(1, round(total * k / NUM_MOMENTS)) for k in range(1, NUM_MOMENTS + 1)})))
    few = min(NUM_EXAMPLES, number)
    optimiser = recipe.optimiser.base if isinstance(recipe.optimiser, SAM) else recipe.optimiser
    size = 32 if recipe.batch_size == "all" else recipe.batch_size
    compared: dict[str, AbstractProbe] = {
        "loss_sensitivity": LossSensitivities(optimiser=optimiser, batch_size=size, optional=True),
        "critical": CriticalInputs(at=end, each_feature=task.modality != "image", optional=True),
    }
    if spec.labels.kind != "true":
        return compared
    return compared | {
        "grand": GradientNorms(at=early, num_examples=few, optional=True),
        "csg": InputGradients(at=through, num_examples=few, optional=True),
        "input_curvature": InputCurvature(at=end, num_examples=few, optional=True),
        "prediction_depth": PredictionDepths(at=end, optional=True),
    }


def _probed(task: Task, runs: list[Run]) -> _Probed:
    values: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    for name, probe in (_probes(task, runs[0].spec) if runs else {}).items():
        found = [run.probes[probe.key].values for run in runs if probe.key in run.probes]
        reason = next((reason for one in found if (reason := reason_of(one))), "")
        if reason:
            reasons[name] = reason
        elif len(found) == len(runs):
            computed = np.stack([one[COMPUTED[name]] for one in found]).astype(np.float64)
            values[name] = computed if name == "critical" else _placed(computed, runs[0], evenly=name in SPACED)
    return _Probed(runs, values, reasons)


def _placed(
    computed: Float[np.ndarray, "run moment chosen"], run: Run, *, evenly: bool
) -> Float[np.ndarray, "run moment example"]:
    """Of some examples, where they belong among all that the run saw; NaN elsewhere."""
    number, some = run.trace.loss.shape[1], computed.shape[2]
    placed = np.full((*computed.shape[:2], number), np.nan)
    placed[..., evenly_spaced(number, most=some) if evenly else np.arange(some)] = computed
    return placed


def _scores(true: _Probed) -> dict[str, Scores]:
    """Of every score that there is, over the networks on true labels."""
    found: dict[str, Scores] = {}
    for name, values in true.values.items():
        if name == "grand":
            steps = next(one.steps for one in true.runs[0].probes.values() if one.name == GradientNorms.name)
            found[name] = grand(values, steps=steps).scores
        elif name == "csg":
            found[name] = csg(values).scores
        elif name in SCORES:
            found[name] = over_draws(values[:, -1]).scores
    return {name: found[name] for name in SCORES if name in found}


def _first_epoch(part: Task, runs: list[Run]) -> FirstEpochDifficulty | None:
    """After each example's first epoch; None where there is nothing to compare."""
    if not runs or len(part.train) < 2:
        return None
    if part.regression:
        losses = np.stack([run.trace.loss[1] for run in runs]).astype(np.float64)
        return first_epoch_difficulty(loss=losses) if np.isfinite(losses).all() else None
    return first_epoch_difficulty(np.stack([run.trace.margin[1] > 0 for run in runs]))


def _from_traces(part: Task, runs: list[Run], early: FirstEpochDifficulty | None) -> dict[str, Scores]:
    """What training says by itself."""
    found: dict[str, Scores] = {}
    if early is not None:
        found["first_epoch_error"] = early.error_rate
    if runs and part.regression:
        sizes = [np.sqrt(np.maximum(run.trace.loss.astype(np.float64), 0)) for run in runs]
        found["mean_residual"] = over_draws(np.stack([size.mean(0) for size in sizes])).scores
        found["variability"] = over_draws(np.stack([size.std(0) for size in sizes])).scores
    elif runs:
        maps = [data_map(np.exp(-run.trace.loss.astype(np.float64)), run.trace.margin > 0) for run in runs]
        for name in ("confidence", "variability", "correctness"):
            found[name] = over_draws(np.stack([getattr(one, name) for one in maps])).scores
    return found


def _differing_finding(part: Task, early: FirstEpochDifficulty | None, *, num_runs: int) -> Finding:
    """Arpit et al. find real examples to differ far more than examples that are equally hard would."""
    rates = "mean ranks by squared error" if part.regression else "error rates"
    told = early if early is not None and math.isfinite(early.p_value) and early.expected_spread > 0 else None
    return claim(
        "examples-differ-in-difficulty",
        f"After one epoch single examples' {rates} over networks spread by {told.spread:.3f}, where those of equally "
        f"hard examples would spread by {told.expected_spread:.3f} ({p_text(told.p_value)})."
        if told
        else "Whether examples differ in difficulty is unknown: that takes two networks, and examples that some miss "
        "after one epoch.",
        study=Difficulty.name,
        paper=ARPIT,
        unit="spread over that of equally hard examples",
        interval=replace(NOTHING, value=told.spread / told.expected_spread) if told else NOTHING,
        null=1.0,
        p_value=told.p_value if told else None,
        num_runs=num_runs,
        verdict="holds" if told and told.p_value < LEVEL else "inconclusive",
    )


def _unevenness(probed: Mapping[str, _Probed]) -> dict[str, dict[int, float]]:
    """The Gini coefficient of every network's loss-sensitivities, by its seed."""
    return {
        kind: {seed: gini(row[np.isfinite(row)]).value for seed, row in _sensitivities(own).items()}
        for kind, own in probed.items()
    }


def _sensitivities(own: _Probed) -> dict[int, Float[np.ndarray, "example"]]:
    """Of every network that has some, by its seed."""
    rows = _last(own, "loss_sensitivity")
    return {seed: row for seed, row in rows.items() if np.isfinite(row).any()}


def _last(own: _Probed, name: str) -> dict[int, Float[np.ndarray, "example"]]:
    """What a probe said of every network in the end, by its seed."""
    return {run.spec.seed: row[-1] for run, row in zip(own.runs, own.values.get(name, ()), strict=False)}


def _by_seed(values: Mapping[str, Mapping[int, T]]) -> list[tuple[T, T]]:
    """With true and with random labels, of networks of the same seed."""
    return [(one, values[RANDOM][seed]) for seed, one in values[TRUE].items() if seed in values[RANDOM]]


def _uneven_finding(uneven: Mapping[str, Mapping[int, float]], probed: Mapping[str, _Probed]) -> Finding:
    """Arpit et al. find the coefficient higher on real than on random data."""
    pairs = np.array([(true, random) for true, random in _by_seed(uneven) if math.isfinite(true - random)])
    known = pairs[:, 0] - pairs[:, 1] if len(pairs) else np.empty(0)
    interval = _possible(mean_interval(known)) if len(known) else NOTHING
    levels = pairs.mean(0) if len(pairs) else (math.nan, math.nan)
    return claim(
        "sensitivity-is-uneven",
        f"Spread over training examples, loss-sensitivity has a Gini coefficient of {levels[0]:.2f} with true labels "
        f"and of {levels[1]:.2f} with random ones: a difference of {decimal(interval)}."
        if len(known)
        else _missing("loss_sensitivity", "Loss-sensitivity", probed),
        study=Difficulty.name,
        paper=ARPIT,
        unit="difference in Gini coefficient",
        interval=interval,
        null=0.0,
        num_runs=len(known),
        verdict=above(low=interval.low, high=interval.high, null=0.0) if len(known) else "inconclusive",
    )


def _missing(name: str, title: str, probed: Mapping[str, _Probed]) -> str:
    """Why nothing is said."""
    if any(name in own.reasons for own in probed.values()):
        return f"{title} could not be measured of this network."
    if any(own.runs and name not in own.values for own in probed.values()):
        return f"{title} is unknown: the networks that are there were trained without measuring it."
    return f"{title} is unknown: too few networks were finished."


def _differences(probed: Mapping[str, _Probed]) -> Float[np.ndarray, "pair test_example"]:
    """Critical or not, with random labels minus with true ones, of networks of the same seed; NaN where unknown."""
    pairs = _by_seed({kind: _last(own, "critical") for kind, own in probed.items()})
    return np.stack([random - true for true, random in pairs]) if pairs else np.empty((0, 0))


def _critical(part: Task, probed: Mapping[str, _Probed]) -> Interval:
    """How many more held-out inputs are critical with random labels."""
    return _over_inputs(part, _differences(probed), least=-1.0)


def _over_inputs(part: Task, rows: Float[np.ndarray, "run test_example"], *, least: float) -> Interval:
    """The mean over networks and held-out inputs, from `least` to 1; groups of the task are not taken apart."""
    known = np.isfinite(rows).all(0)
    if not known.any() or not len(rows):
        return NOTHING
    groups = part.test.groups
    if groups is not None:
        groups = groups[evenly_spaced(len(part.test), most=rows.shape[1])][known]
    found = crossed_interval(rows[:, known], groups=groups, binary=True)
    if not math.isfinite(found.low):
        return found
    return replace(found, low=max(least, found.low), high=min(1.0, found.high))


def _possible(difference: Interval) -> Interval:
    """Of two shares, within what can be; without ends where nothing bounds it."""
    if not math.isfinite(difference.low):
        return difference
    return replace(difference, low=max(-1.0, difference.low), high=min(1.0, difference.high))


def _critical_finding(more: Interval, probed: Mapping[str, _Probed]) -> Finding:
    known = math.isfinite(more.value)
    shares = [_level(own) for own in probed.values()]
    return claim(
        "random-labels-make-inputs-critical",
        f"With true labels {percent(shares[0])} of held-out inputs are critical, with random ones "
        f"{percent(shares[1])}: a difference of {points(more)}."
        if known
        else _missing("critical", "The share of critical inputs", probed),
        study=Difficulty.name,
        paper=ARPIT,
        unit="difference in the share of critical inputs",
        interval=more,
        null=0.0,
        num_runs=len(_differences(probed)) if known else 0,
        verdict=above(low=more.low, high=more.high, null=0.0) if known else "inconclusive",
    )


def _level(own: _Probed) -> float:
    rows = own.values.get("critical", np.empty(0))
    return float(np.nanmean(rows)) if np.isfinite(rows).any() else math.nan


def _summary(findings: tuple[Finding, ...], probed: Mapping[str, _Probed]) -> str:
    told = [finding.statement for finding in findings if finding.value is not None]
    if told:
        return " ".join(told)
    if probed[TRUE].values:
        return "Training examples are scored; what random labels change could not be measured."
    return "No network was finished, so no example has a score."


def _figures(part: Task, probed: Mapping[str, _Probed], scores: Mapping[str, Scores]) -> Iterator[Figure]:
    if len(scores) > 1:
        yield _agreement(scores)
    rows = {kind: _sensitivities(own) for kind, own in probed.items()}
    lorenz = {kind: np.mean([_lorenz(row) for row in own.values()], axis=0) for kind, own in rows.items() if own}
    if lorenz:
        yield _shares_of_sensitivity(lorenz)
    critical = {kind: list(_last(own, "critical").values()) for kind, own in probed.items()}
    levels = {kind: _over_inputs(part, np.stack(rows), least=0.0) for kind, rows in critical.items() if rows}
    if any(level.count for level in levels.values()):
        yield Bars(
            title="Critical held-out inputs",
            x_label="share of held-out inputs that have another answer nearby",
            bars=tuple(bar(kind, level, group=kind) for kind, level in levels.items() if level.count),
            caption="95 % intervals, for other networks and other held-out inputs. A bound from below: a longer search "
            "finds more.",
        )
    for name in ("prediction_depth", "input_curvature"):
        if name in scores:
            yield _hardest(part, name, scores)


def _lorenz(row: Float[np.ndarray, "example"]) -> Float[np.ndarray, "point"]:
    """The least sensitive examples' share of all sensitivity, by their share of all examples."""
    ordered = np.sort(row[np.isfinite(row)])
    total = np.concatenate([[0.0], np.cumsum(ordered)]) / (ordered.sum() or 1.0)
    return np.interp(np.linspace(0, 1, NUM_POINTS), np.linspace(0, 1, len(total)), total)


def _shares_of_sensitivity(lorenz: Mapping[str, Float[np.ndarray, "point"]]) -> Curves:
    x = tuple(np.linspace(0, 1, NUM_POINTS).tolist())
    even = Series(name="all alike", x=(0.0, 1.0), y=(0.0, 1.0))
    return Curves(
        title="How unevenly loss-sensitivity is spread",
        x_label="share of training examples, the least sensitive first",
        y_label="their share of all sensitivity",
        series=(*(Series(name=kind, x=x, y=tuple(y.tolist())) for kind, y in lorenz.items()), even),
        caption="Mean over networks. The lower a curve hangs, the more the loss hangs on few examples.",
    )


def _agreement(scores: Mapping[str, Scores]) -> Table:
    names = list(scores)
    rows: list[tuple[str | float | None, ...]] = []
    for one in names:
        agree = [_rank_correlation(scores[one].value, scores[other].value) for other in names]
        rows.append((SCORES[one].title, SCORES[one].meaning, *agree))
    return Table(
        title="How the scores go together",
        columns=(
            Column(name="score"),
            Column(name="of each example"),
            *(Column(name=SCORES[name].title, digits=2) for name in names),
        ),
        rows=tuple(rows),
        caption="Spearman's rank correlation over training examples that have both. All scores are in "
        "examples.parquet.",
    )


def _rank_correlation(first: Float[np.ndarray, "example"], second: Float[np.ndarray, "example"]) -> float | None:
    known = np.isfinite(first) & np.isfinite(second)
    one, other = first[known], second[known]
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.asarray(stats.spearmanr(one, other))[0])


def _hardest(part: Task, name: str, scores: Mapping[str, Scores]) -> Gallery:
    value, error = scores[name].value, scores[name].se
    order = np.argsort(-np.nan_to_num(value, nan=-np.inf), kind="stable")[:NUM_SHOWN]
    return Gallery(
        title=f"Highest {SCORES[name].title}",
        items=tuple(
            shown(part, place, notes=((SCORES[name].title, _with_error(value[place], error[place])),))
            for place in map(int, order)
            if np.isfinite(value[place])
        ),
        caption=f"{SCORES[name].meaning[:1].upper()}{SCORES[name].meaning[1:]}; mean and standard error over networks.",
    )


def _with_error(value: float, error: float) -> str:
    return f"{value:.3g} ± {error:.2g}" if math.isfinite(error) else f"{value:.3g}"


def _table(task: Task, scores: Mapping[str, Scores], positions: Int[np.ndarray, "example"]) -> pa.Table:
    """Every score and its standard error over networks; null where there is none."""
    kind = "numbers" if task.regression else "classes"
    columns: dict[str, pa.Array] = {}
    for name in (name for name, column in SCORES.items() if has_column(column, kind)):
        for ending, field in (("", "value"), ("_se", "se")):
            values = getattr(scores[name], field) if name in scores else np.full(len(positions), np.nan)
            columns[f"{name}{ending}"] = spread(values, positions=positions, number=len(task.train))
    return typed_table({**identified(task), **columns})
