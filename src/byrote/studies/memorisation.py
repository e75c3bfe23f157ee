"""Which examples are memorised? (Feldman 2020; Feldman & Zhang 2020)"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy import stats

from byrote.data import Task
from byrote.measures import (
    InfluencePairs,
    error_bound,
    proportion_interval,
)
from byrote.records import (
    LOSS_FITTED,
    MEMORISED,
    Column,
    Counts,
    Figure,
    Finding,
    Gallery,
    GalleryItem,
    Histogram,
    Run,
    Scores,
    Section,
    Table,
    above,
)
from byrote.scoring import typed_table
from byrote.studies.claims import NOTHING, claim
from byrote.studies.example_scores import TOO_FEW, ExampleScores, score_examples, suspects
from byrote.studies.influence import find_influence, influence_columns, influence_gallery
from byrote.studies.papers import FELDMAN
from byrote.studies.showing import identified, shown, spread, target_text
from byrote.studies.study import (
    SUBSET_FRACTION,
    AbstractSubsetStudy,
    Outcome,
    Results,
    StudyBudget,
    describe_sample,
    inclusion_mask,
    sampled_part,
    sampled_positions,
    subset_runs,
)
from byrote.studies.wording import counted, how_many, minus, percent

ROUGH = 0.15
"""From this median standard error on, a count of examples above the threshold is said to be uncertain."""
NUM_SHOWN = 24
NUM_LISTED = 100
RARELY_FITTED = 0.01
"""A recipe that leaves more than this share of its training examples unfitted is said to."""
TIGHT_BOUND = 0.25
"""The published worst-case error is told when it is below this; above it says little."""


@final
@dataclass(frozen=True, kw_only=True)
class Memorisation(AbstractSubsetStudy):
    """Score every training example by networks that did and that did not see it."""

    name: ClassVar[str] = "memorisation"
    uses_values: ClassVar[bool] = True
    question: ClassVar[str] = "Which examples are memorised?"

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Scores, their distribution, the most memorised examples, the suspected label errors."""
        task = results.task
        part = sampled_part(task, budget.sample)
        runs = results.completed(subset_runs(task, results.learner, budget))
        lost = results.lost(subset_runs(task, results.learner, budget))
        if not runs:
            return Outcome(self._empty(lost), None)
        scores = score_examples(part, runs)
        pairs = find_influence(part, inclusion_mask(part, runs), runs, memorisation=scores.memorisation.value)
        positions, values = sampled_positions(task, budget.sample), results.background.values
        finding = _fitted(scores.status, num_runs=len(runs))
        section = Section(
            study=self.name,
            title=self.question,
            summary=_summary(part, scores),
            findings=(finding,),
            figures=_figures(part, scores, pairs, worth=values.value[positions]),
            notes=(*self._notes(results, budget, runs, scores), *lost),
        )
        columns = {
            **_columns(part, scores, positions, number=len(task.train)),
            **influence_columns(part, pairs, positions=positions, number=len(task.train)),
            "knn_shapley": pa.array(values.value, from_pandas=True),
            "knn_shapley_se": pa.array(values.se, from_pandas=True),
        }
        return Outcome(section, typed_table({**identified(task), **columns}))

    def _empty(self, lost: tuple[str, ...]) -> Section:
        nothing = "No network on a subset was finished, so no example has a score."
        finding = _fitted((), num_runs=0)
        return Section(
            study=self.name, title=self.question, summary=nothing, findings=(finding,), figures=(), notes=lost
        )

    def _notes(self, results: Results, budget: StudyBudget, runs: list[Run], scores: ExampleScores) -> tuple[str, ...]:
        task, recipe = results.task, runs[0].spec.learner.recipe
        notes = [
            _accuracy_note(len(runs), scores),
            f"The scores are of this recipe: {counted(recipe.epochs, one='epoch', many='epochs')}. An example that no "
            f"network fits cannot be memorised, however wrong its target: look at 'never fitted', too.",
        ]
        if task.train.groups is not None:
            notes.append("Groups are left out whole: a score says what is known without the example's group.")
        if budget.sample is not None:
            longer = recipe.epochs != results.learner.recipe.epochs
            more = f", with {recipe.epochs} epochs in place of {results.learner.recipe.epochs}" if longer else ""
            notes.append(f"Scores are for {describe_sample(task, budget.sample)}{more}.")
        if task.regression:
            notes.append(
                "For numbers, memorisation is how much smaller the squared error is when the example was trained "
                f"on, in units of the target's variance; fitted means an error below {LOSS_FITTED:g} of it."
            )
        return tuple(notes)


def _accuracy_note(num_runs: int, scores: ExampleScores) -> str:
    """How sure the scores are."""
    networks = counted(num_runs, one="network", many="networks")
    errors = scores.memorisation.se[np.isfinite(scores.memorisation.se)]
    bound = math.sqrt(error_bound(num_runs=num_runs, fraction=SUBSET_FRACTION))
    typical = f" Their standard error is {np.median(errors):.2f} in the median." if len(errors) else ""
    worst = f" In the worst case the root mean squared error is {bound:.2f}." if bound < TIGHT_BOUND else ""
    return (
        f"Scores are from {networks} trained on random subsets of {100 * SUBSET_FRACTION:.0f} %; every example is left "
        f"out equally often, as nearly as that number allows.{typical}{worst}"
    )


def _fitted(status: Sequence[str], *, num_runs: int) -> Finding:
    known = len(status) - status.count(TOO_FEW)
    missed = status.count("never fitted")
    interval = proportion_interval(known - missed, known) if known else NOTHING
    examples = counted(known, one="training example", many="training examples")
    return claim(
        "training-examples-are-fitted",
        f"{known - missed:,} of {examples} ({percent(1 - missed / known)}) {'is' if known - missed == 1 else 'are'} "
        f"fitted; {how_many(missed)} {'is' if missed < 2 else 'are'} never or seldom fitted, that is, missed by most "
        "networks that were trained on them."
        if known
        else "No training example has been both trained on and left out, so how many are fitted cannot be said.",
        study=Memorisation.name,
        paper=FELDMAN,
        unit="share of training examples",
        interval=interval,
        null=1 - RARELY_FITTED,
        num_runs=num_runs,
        verdict=above(low=interval.low, high=interval.high, null=1 - RARELY_FITTED) if known else "inconclusive",
    )


def _summary(part: Task, scores: ExampleScores) -> str:
    known = len(scores.status) - scores.status.count(TOO_FEW)
    if not known:
        return "With so few networks on subsets no training example has been both trained on and left out."
    memorised, never = scores.status.count("memorised"), scores.status.count("never fitted")
    doubts = len(suspects(part, scores.doubts))
    examples = counted(known, one="training example", many="training examples")
    by_rote = f"{memorised:,} of {examples} ({percent(memorised / known)}) {'is' if memorised == 1 else 'are'} known by"
    doubted = f"{how_many(doubts)} {'has' if doubts < 2 else 'have'} a target that networks which never saw it doubt"
    unfitted = f"{how_many(never)} {'is' if never < 2 else 'are'} never or seldom fitted"
    return f"{by_rote} rote (memorisation score {MEMORISED:g} or more), {unfitted}, and {doubted}.{_roughness(scores)}"


def _roughness(scores: ExampleScores) -> str:
    """What to add when single scores rest on few networks."""
    errors = scores.memorisation.se[np.isfinite(scores.memorisation.se)]
    if not len(errors):
        return " So few networks do not say how uncertain single scores are."
    error = float(np.median(errors))
    return f" So few networks leave single scores uncertain by ± {error:.2f}." if error > ROUGH else ""


def _figures(
    part: Task, scores: ExampleScores, pairs: InfluencePairs, *, worth: Float[np.ndarray, "example"]
) -> tuple[Figure, ...]:
    value = scores.memorisation.value
    order = np.argsort(-np.nan_to_num(value, nan=-np.inf), kind="stable")
    top = [int(i) for i in order[:NUM_SHOWN] if value[i] >= MEMORISED]
    doubted = suspects(part, scores.doubts)
    figures: list[Figure] = [_histogram(part, scores)]
    if top:
        figures.append(
            Gallery(
                title="The most memorised training examples",
                items=tuple(_item(part, scores, position) for position in top),
                caption="Networks get these right only when they were trained on them: rare, odd, or mislabelled.",
            )
        )
    decided = influence_gallery(part, pairs)
    if decided is not None:
        figures.append(decided)
    if len(doubted):
        figures.append(_suspect_gallery(part, scores, doubted))
        figures.append(_suspect_table(part, scores, doubted))
    figures.append(_agreement(part, scores, worth))
    return tuple(figures)


def _histogram(part: Task, scores: ExampleScores) -> Histogram:
    value = scores.memorisation.value
    finite = value[np.isfinite(value)]
    span = (min(-0.5, float(finite.min())), max(1.0, float(finite.max()))) if len(finite) else (-0.5, 1.0)
    edges = np.linspace(max(-2.0, span[0]), min(3.0, span[1]), 61)
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
        x_label="memorisation score: fall of the squared error when trained on, in variances of the target"
        if part.regression
        else "memorisation score: P(right | trained on) − P(right | left out)",
        y_label="training examples",
        series=series,
        log_y=True,
        caption=f"Counts on a logarithmic scale. At {MEMORISED:g} and above an example counts as memorised.",
    )


def _item(part: Task, scores: ExampleScores, position: int) -> GalleryItem:
    mem = scores.memorisation
    notes = (
        ("memorisation", _with_error(mem.value[position], mem.se[position])),
        ("suspicion", f"{scores.doubts.suspicion[position]:.2f}"),
    )
    return shown(part, position, notes=notes, suggested=scores.doubts.text(position))


def _suspect_gallery(part: Task, scores: ExampleScores, suspects: Int[np.ndarray, "suspect"]) -> Gallery:
    return Gallery(
        title="Suspected label errors",
        items=tuple(_item(part, scores, int(position)) for position in suspects[:NUM_SHOWN]),
        caption="Networks that never saw these examples contradict their target. Look before you change it: a rare or "
        "ambiguous example looks the same.",
    )


def _suspect_table(part: Task, scores: ExampleScores, suspects: Int[np.ndarray, "suspect"]) -> Table:
    mem = scores.memorisation
    rows = tuple(
        (
            str(part.train.ids[i]),
            target_text(part, i),
            scores.doubts.text(i),
            _number(scores.doubts.suspicion[i]),
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


def _agreement(part: Task, scores: ExampleScores, worth: Float[np.ndarray, "example"]) -> Table:
    """How well what is free agrees with what takes many runs."""
    mem = scores.memorisation.value
    proxies = {
        "CSL (summed loss)": scores.csl.value,
        "AUM (mean margin)": -scores.aum.value,
        "forgetting events": scores.forgetting_events.value,
        "EL2N (early error)": scores.el2n.value,
        "wrong when left out": scores.heldout.value if part.regression else -scores.heldout.value,
        "KNN-Shapley (harm to a nearest-neighbour table)": -worth,
    }
    rows: list[tuple[str, float | None]] = []
    for name, proxy in proxies.items():
        known = np.isfinite(mem) & np.isfinite(proxy)
        rows.append((name, _rank_correlation(proxy[known], mem[known])))
    return Table(
        title="Cheap scores against the memorisation score",
        columns=(Column(name="score"), Column(name="rank correlation with memorisation", digits=2)),
        rows=tuple(rows),
        caption="Spearman's ρ over training examples, each score signed so that more means more memorised.",
    )


def _rank_correlation(first: Float[np.ndarray, "example"], second: Float[np.ndarray, "example"]) -> float | None:
    """Spearman's; None where there is nothing to rank."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def _columns(
    part: Task, scores: ExampleScores, positions: Int[np.ndarray, "example"], *, number: int
) -> dict[str, pa.Array]:
    """One row per training example of the whole task; those outside the sample have no scores."""
    single = {
        "memorisation_low": scores.memorisation_interval[0],
        "memorisation_high": scores.memorisation_interval[1],
    }
    sides = (
        {"heldout_error": scores.heldout, "self_error": scores.included}
        if part.regression
        else {
            "heldout_correct": scores.heldout,
            "heldout_probability": scores.heldout_probability,
            "self_confidence": scores.self_confidence,
        }
    )
    estimated = {
        "memorisation_raw": scores.published,
        **sides,
        "csl": scores.csl,
        "aum": scores.aum,
        "forgetting_events": scores.forgetting_events,
        "never_learnt": scores.never_learnt,
        "el2n": scores.el2n,
    }
    columns = {
        **_with_errors({"memorisation": scores.memorisation}),
        **single,
        **_with_errors(estimated),
        "label_suspicion": scores.doubts.suspicion,
        "count": scores.published.count.astype(np.float64),
    }
    status = np.full(number, "not in the sample", dtype=object)
    status[positions] = scores.status
    suggested = np.full(number, None, dtype=object)
    suggested[positions] = scores.doubts.suggested
    return {
        **{name: spread(values, positions=positions, number=number) for name, values in columns.items()},
        "heldout_target": pa.array(suggested.tolist(), type=pa.float64() if part.regression else pa.string()),
        "status": pa.array(status.tolist()),
    }


def _with_errors(scores: Mapping[str, Scores]) -> dict[str, Float[np.ndarray, "example"]]:
    """By name, and the standard errors by the name with `_se`."""
    named = [((name, one.value), (f"{name}_se", one.se)) for name, one in scores.items()]
    return dict(itertools.chain.from_iterable(named))


def _with_error(value: float, error: float) -> str:
    ending = f" ± {error:.2f}" if math.isfinite(error) else ""
    return f"{minus(f'{value:.2f}')}{ending}"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
