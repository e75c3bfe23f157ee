"""Which examples are memorised? (Feldman 2020; Feldman & Zhang 2020)"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int
from scipy import special, stats

from byrote.data import Task, content
from byrote.measures import (
    aum,
    csl,
    error_bound,
    forgetting_events,
    heldout_mean,
    included_mean,
    label_suspicion,
    masked_over_runs,
    memorisation,
    proportion_interval,
    residual_suspicion,
)
from byrote.records import (
    Column,
    Counts,
    Figure,
    Finding,
    Gallery,
    GalleryItem,
    Histogram,
    Learner,
    Run,
    Scores,
    Section,
    Table,
    above,
)
from byrote.studies.papers import FELDMAN
from byrote.studies.study import (
    SUBSET_FRACTION,
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    inclusion_mask,
    percent,
    quality,
    sampled_part,
    sampled_positions,
    subset_runs,
)

MEMORISED = 0.25
"""The threshold of Feldman & Zhang 2020."""
NUM_SHOWN = 24
NUM_LISTED = 100
RARELY_FITTED = 0.01
"""A recipe that leaves more than this share of its training examples unfitted is said to."""
LOSS_FITTED = 0.1
"""Regression: an example is fitted when its squared error is below this share of the target's variance."""


@final
class ExampleScores(NamedTuple):
    """Everything the subset runs say of each training example of the part they saw."""

    memorisation: Scores
    heldout: Scores
    """For classification the C-score: how often it is right when left out."""
    included: Scores
    csl: Scores
    aum: Scores
    forgetting: Scores
    el2n: Scores
    suspicion: Float[np.ndarray, "example"]
    suggested: tuple[str, ...]
    """The class, or the number, that networks which never saw the example give it."""
    status: tuple[str, ...]
    """`learnt`, `memorised`, `never fitted`, or `too few runs`."""


@final
@dataclass(frozen=True, kw_only=True)
class Memorisation(AbstractStudy):
    """Score every training example by networks that did and that did not see it."""

    name: ClassVar[str] = "memorisation"
    uses_subsets: ClassVar[bool] = True
    question: ClassVar[str] = "Which examples are memorised?"

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """Networks on balanced random subsets of 70 %."""
        return Plan(subset_runs(task, learner, budget), ())

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Scores, their distribution, the most memorised examples, the suspected label errors."""
        task = results.task
        part = sampled_part(task, budget.sample)
        runs = results.completed(subset_runs(task, results.learner, budget))
        if not runs:
            return Outcome(self._empty(), None)
        scores = score_examples(part, runs)
        finding = _never_fitted(scores, num_runs=len(runs))
        section = Section(
            study=self.name,
            title=self.question,
            summary=_summary(part, scores, finding),
            findings=(finding,),
            figures=_figures(part, scores),
            notes=self._notes(results, budget, runs),
        )
        return Outcome(section, _table(task, part, scores, sampled_positions(task, budget.sample)))

    def _empty(self) -> Section:
        nothing = "No network on a subset was finished, so no example has a score."
        finding = Finding(
            study=self.name,
            claim="never-fitted-share",
            statement=nothing,
            value=None,
            low=None,
            high=None,
            unit="share of training examples",
            null=RARELY_FITTED,
            p_value=None,
            num_runs=0,
            verdict="inconclusive",
            paper=FELDMAN,
        )
        return Section(study=self.name, title=self.question, summary=nothing, findings=(finding,), figures=(), notes=())

    def _notes(self, results: Results, budget: StudyBudget, runs: list[Run]) -> tuple[str, ...]:
        task, recipe = results.task, runs[0].spec.learner.recipe
        bound = error_bound(num_runs=len(runs), fraction=SUBSET_FRACTION)
        notes = [
            f"From {len(runs)} networks, each trained on a random {SUBSET_FRACTION:.0%}; every example left out "
            "equally "
            f"often, as nearly as that number allows. The root mean squared error of a memorisation score is at most "
            f"{np.sqrt(bound):.2f}; each score carries its own standard error.",
            f"The scores are of this recipe: {recipe.epochs} epochs. An example that no network fits cannot be "
            f"memorised, however wrong its label: look at 'never fitted', too.",
        ]
        if task.train.groups is not None:
            notes.append("Groups are left out whole: a score says what is known without the example's group.")
        if budget.sample is not None:
            notes.append(
                f"Scores are for a stratified sample of {budget.sample.train:,} of {len(task.train):,} training "
                "examples, "
                f"with {recipe.epochs} epochs in place of {results.learner.recipe.epochs}, since each has fewer steps."
            )
        if task.regression:
            notes.append(
                "For numbers, memorisation is how much smaller the squared error is when the example was trained "
                "on, in "
                f"units of the target's variance; fitted means an error below {LOSS_FITTED:g} of it."
            )
        return tuple(notes)


def score_examples(part: Task, runs: list[Run]) -> ExampleScores:
    """Score each training example of the part that the runs saw."""
    mask = inclusion_mask(part, runs)
    values = quality(part, runs)
    included, heldout = included_mean(mask, values), heldout_mean(mask, values)
    mem = memorisation(mask, values)
    suspicion, suggested = _suspicion(part, mask, runs)
    traces = [run.trace for run in runs]
    nothing = np.full(mask.shape, np.nan)
    margins = nothing if part.regression else np.stack([aum(trace.margin) for trace in traces]).astype(np.float64)
    events = (
        nothing if part.regression else np.stack([forgetting_events(t.margin > 0).events for t in traces]).astype(float)
    )
    return ExampleScores(
        memorisation=mem,
        heldout=heldout,
        included=included,
        csl=masked_over_runs(np.stack([csl(trace.loss) for trace in traces]).astype(np.float64), mask),
        aum=masked_over_runs(margins, mask),
        forgetting=masked_over_runs(events, mask),
        el2n=masked_over_runs(np.stack([trace.early_error for trace in traces]).astype(np.float64), mask),
        suspicion=suspicion,
        suggested=suggested,
        status=_status(part, included, mem),
    )


def _suspicion(
    part: Task, mask: Bool[np.ndarray, "run example"], runs: list[Run]
) -> tuple[Float[np.ndarray, "example"], tuple[str, ...]]:
    """1 − the probability that networks which never saw an example give its label, and what they say instead."""
    total = np.zeros((len(part.train), part.num_outputs))
    for included, run in zip(mask, runs, strict=True):
        outputs = run.trace.train_outputs.astype(np.float64)
        total[~included] += (outputs if part.regression else special.softmax(outputs, axis=1))[~included]
    count = (~mask).sum(0)
    mean = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], np.nan)
    known = count > 0
    suspicion = np.full(len(count), np.nan)
    suggested = [""] * len(count)
    if part.regression:
        suspicion[known] = residual_suspicion(mean[known, 0], part.train.y[known])
        suggested = [f"{value:.6g}" if ok else "" for value, ok in zip(mean[:, 0], known, strict=True)]
    elif known.any():
        found = label_suspicion(mean[known], part.train.y[known])
        suspicion[known] = found.suspicion
        for position, code in zip(np.flatnonzero(known), found.suggested, strict=True):
            suggested[position] = part.classes[code]
    return suspicion, tuple(suggested)


def _status(part: Task, included: Scores, mem: Scores) -> tuple[str, ...]:
    fitted = included.value > (-LOSS_FITTED if part.regression else 0.5)
    unknown = ~np.isfinite(mem.value)
    chosen = np.select(
        [unknown, ~fitted, mem.value >= MEMORISED], ["too few runs", "never fitted", "memorised"], "learnt"
    )
    return tuple(chosen.tolist())


def _never_fitted(scores: ExampleScores, *, num_runs: int) -> Finding:
    known = sum(status != "too few runs" for status in scores.status)
    count = scores.status.count("never fitted")
    interval = proportion_interval(count, known)
    return Finding(
        study=Memorisation.name,
        claim="never-fitted-share",
        statement=f"{count:,} of {known:,} training examples ({percent(count / max(known, 1))}) are never "
        "fitted, even by "
        f"networks that were trained on them.",
        value=interval.value,
        low=interval.low,
        high=interval.high,
        unit="share of training examples",
        null=RARELY_FITTED,
        p_value=None,
        num_runs=num_runs,
        verdict=above(low=interval.low, high=interval.high, null=RARELY_FITTED),
        paper=FELDMAN,
    )


def _summary(part: Task, scores: ExampleScores, finding: Finding) -> str:
    counts = {status: scores.status.count(status) for status in ("learnt", "memorised", "never fitted")}
    known = max(1, sum(counts.values()))
    suspects = len(_suspects(part, scores))
    return (
        f"{counts['learnt']:,} of {known:,} training examples ({percent(counts['learnt'] / known)}) are learnt, "
        f"{counts['memorised']:,} ({percent(counts['memorised'] / known)}) are memorised with a score of "
        f"{MEMORISED:g} or "
        f"more, {counts['never fitted']:,} are never fitted. "
        f"{suspects:,} have a target that networks which never saw them find unlikely."
    )


def _suspects(part: Task, scores: ExampleScores) -> Int[np.ndarray, "suspect"]:
    """Most suspicious first: held-out networks favour another class; or a residual beyond 99 of 100."""
    if part.regression:
        chosen = scores.suspicion > 0.99
    else:
        given = np.array([part.classes[code] for code in part.train.y])
        chosen = (scores.suspicion > 0.5) & (np.array(scores.suggested) != given)
    order = np.argsort(-np.nan_to_num(scores.suspicion, nan=-1.0), kind="stable")
    return order[chosen[order]]


def _figures(part: Task, scores: ExampleScores) -> tuple[Figure, ...]:
    value = scores.memorisation.value
    order = np.argsort(-np.nan_to_num(value, nan=-np.inf), kind="stable")
    top = [int(i) for i in order[:NUM_SHOWN] if value[i] >= MEMORISED]
    suspects = _suspects(part, scores)
    figures: list[Figure] = [_histogram(scores)]
    if top:
        figures.append(
            Gallery(
                title="The most memorised training examples",
                items=tuple(_item(part, scores, position) for position in top),
                caption="Networks get these right only when they were trained on them: rare, odd, or mislabelled.",
            )
        )
    if len(suspects):
        figures.append(_suspect_gallery(part, scores, suspects))
        figures.append(_suspect_table(part, scores, suspects))
    figures.append(_agreement(scores))
    return tuple(figures)


def _histogram(scores: ExampleScores) -> Histogram:
    value = scores.memorisation.value
    finite = value[np.isfinite(value)]
    span = (min(-0.5, float(finite.min())), max(1.0, float(finite.max()))) if len(finite) else (-0.5, 1.0)
    edges = np.linspace(*np.clip(span, -2, 3), 61)
    status = np.array(scores.status)
    series = tuple(
        Counts(
            name=name,
            edges=tuple(edges.tolist()),
            counts=tuple(np.histogram(np.clip(value[status == name], edges[0], edges[-1]), bins=edges)[0].tolist()),
        )
        for name in ("learnt", "memorised", "never fitted")
    )
    return Histogram(
        title="How much of each example is memorised",
        x_label="memorisation score: P(right | trained on) − P(right | left out)",
        y_label="training examples",
        series=series,
        log_y=True,
        caption=f"Counts on a logarithmic scale. At {MEMORISED:g} and above an example counts as memorised.",
    )


def _item(part: Task, scores: ExampleScores, position: int) -> GalleryItem:
    given = _given(part, position)
    suggested = scores.suggested[position]
    mem = scores.memorisation
    return GalleryItem(
        id=str(part.train.ids[position]),
        content=content(part, part.train, position=position),
        target=given,
        suggested=suggested if suggested != given else "",
        notes=(
            ("memorisation", f"{mem.value[position]:.2f} ± {mem.se[position]:.2f}"),
            ("suspicion", f"{scores.suspicion[position]:.2f}"),
        ),
    )


def _suspect_gallery(part: Task, scores: ExampleScores, suspects: Int[np.ndarray, "suspect"]) -> Gallery:
    return Gallery(
        title="Suspected label errors",
        items=tuple(_item(part, scores, int(position)) for position in suspects[:NUM_SHOWN]),
        caption="Networks that never saw these examples give their target little probability. Look before you "
        "change it: "
        "a rare or ambiguous example looks the same.",
    )


def _suspect_table(part: Task, scores: ExampleScores, suspects: Int[np.ndarray, "suspect"]) -> Table:
    mem = scores.memorisation
    rows = tuple(
        (
            str(part.train.ids[i]),
            _given(part, i),
            scores.suggested[i],
            _number(scores.suspicion[i]),
            _number(mem.value[i]),
            _number(mem.se[i]),
            scores.status[i],
        )
        for i in map(int, suspects[:NUM_LISTED])
    )
    return Table(
        title="Suspected label errors, listed",
        columns=(
            Column(name="id"),
            Column(name="target"),
            Column(name="suggested"),
            Column(name="suspicion", digits=3),
            Column(name="memorisation", digits=2),
            Column(name="± standard error", digits=2),
            Column(name="status"),
        ),
        rows=rows,
        caption=f"{min(len(suspects), NUM_LISTED):,} of {len(suspects):,}; all scores are in examples.parquet.",
    )


def _agreement(scores: ExampleScores) -> Table:
    """How well what is free agrees with what takes many runs."""
    mem = scores.memorisation.value
    proxies = {
        "CSL (summed loss)": scores.csl.value,
        "AUM (mean margin)": -scores.aum.value,
        "forgetting events": scores.forgetting.value,
        "EL2N (early error)": scores.el2n.value,
        "wrong when left out": -scores.heldout.value,
    }
    rows: list[tuple[str, float | None]] = []
    for name, proxy in proxies.items():
        known = np.isfinite(mem) & np.isfinite(proxy)
        varies = known.sum() > 2 and np.ptp(proxy[known]) > 0 and np.ptp(mem[known]) > 0
        rows.append((name, float(stats.spearmanr(proxy[known], mem[known]).statistic) if varies else None))
    return Table(
        title="Cheap scores against the memorisation score",
        columns=(Column(name="score"), Column(name="rank correlation with memorisation", digits=2)),
        rows=tuple(rows),
        caption="Spearman's ρ over training examples, each score signed so that more means more memorised.",
    )


def _table(task: Task, part: Task, scores: ExampleScores, positions: Int[np.ndarray, "example"]) -> pa.Table:
    """One row per training example of the whole task; those outside the sample have no scores."""
    number = len(task.train)

    def spread(values: Float[np.ndarray, "example"]) -> pa.Array:
        whole = np.full(number, np.nan)
        whole[positions] = values
        return pa.array(whole, from_pandas=True)

    status = np.full(number, "not in the sample", dtype=object)
    status[positions] = scores.status
    suggested = np.full(number, None, dtype=object)
    suggested[positions] = [text or None for text in scores.suggested]
    return pa.table(
        {
            "id": pa.array(task.train.ids),
            "target": pa.array(task.train.y if task.regression else [task.classes[code] for code in task.train.y]),
            "memorisation": spread(scores.memorisation.value),
            "memorisation_se": spread(scores.memorisation.se),
            "heldout_correct": spread(scores.heldout.value),
            "csl": spread(scores.csl.value),
            "aum": spread(scores.aum.value),
            "forgetting": spread(scores.forgetting.value),
            "el2n": spread(scores.el2n.value),
            "label_suspicion": spread(scores.suspicion),
            "suggested_target": pa.array(suggested.tolist(), type=pa.string()),
            "status": pa.array(status.tolist()),
        }
    )


def _given(part: Task, position: int) -> str:
    value = part.train.y[position]
    return f"{value:.6g}" if part.regression else part.classes[value]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
