"""Which labels are wrong?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from byrote.data import Task, content
from byrote.measures import (
    LabelErrors,
    aum,
    csl,
    exact_duplicates,
    flag_label_errors,
    label_errors,
    nearest,
    residual_errors,
)
from byrote.records import (
    Beside,
    Column,
    Counts,
    Figure,
    Finding,
    Gallery,
    GalleryItem,
    Histogram,
    Run,
    Section,
    Table,
    above,
)
from byrote.scoring import typed_table
from byrote.studies.claims import claim
from byrote.studies.papers import NORTHCUTT
from byrote.studies.showing import identified, shown, target_text
from byrote.studies.study import (
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
from byrote.studies.wording import counted, percent, percent_within

FEWEST = 4
"""Networks on subsets, from which a probability is said."""
FALSE_DISCOVERIES = 0.1
"""Of the labels that are flagged, about this share is right after all."""
MOST_WRONG = 0.01
"""Labels are called right when at most this share of them is wrong."""
WELL_BEHAVED = 0.1
"""A label that is wrong with at most this probability is shown as an example of its class."""
NEIGHBOURS = 10
"""That vote on each label."""
MOST_PRODUCTS = 2e11
"""Multiplications that looking for every example's neighbours may take: a few seconds."""
MOST_OUTPUTS = 1 << 28
"""Outputs of networks that are held in memory at once; the first networks are looked at where there are more."""
UNSAID = {
    "no better than chance": "It cannot be said which {noun}s are wrong: networks that never saw an example know its "
    "{noun} no better than chance.",
    "not settled": "It cannot be said which {noun}s are wrong: networks that never saw an example are so unsure of "
    "all that many wrong {noun}s would look no different from none.",
    "not told from noise": "It cannot be said which {noun}s are wrong: those that lie far from what networks predict "
    "that never saw the example go with these predictions, as {noun}s do whose noise is uneven or skewed.",
}
"""What is said instead of a share, by the status of `LabelErrors`."""
ADVICE = {
    "no better than chance": "Either the targets have nothing to do with the inputs, or these networks are too weak, "
    "the examples too few, to find out. Try another recipe, or more examples.",
    "not settled": "More examples, or a recipe that does better on held-out ones, may settle it.",
    "not told from noise": "Look at the first ranks yourself. If the noise grows with the target, give its logarithm.",
}
NUM_SHOWN = 24
NUM_LISTED = 200


class _Judged(NamedTuple):
    """What is known of every example of the part that was looked at."""

    errors: LabelErrors
    flagged: Bool[np.ndarray, "example"]
    suggested: tuple[str | float | None, ...]
    """None where nothing is."""
    num_runs: int
    voted: bool
    """Whether neighbours in the input space had a vote."""

    def text(self, place: int) -> str:
        """What is suggested, to be read; empty where nothing is."""
        value = self.suggested[place]
        return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

    @property
    def is_judged(self) -> bool:
        """Whether any probability is said."""
        return bool(np.isfinite(self.errors.probability.value).any())


@final
@dataclass(frozen=True, kw_only=True)
class Labels(AbstractSubsetStudy):
    """Say of every training label how likely it is wrong, by networks that were and that were not trained on it."""

    name: ClassVar[str] = "labels"
    fewest_subsets: ClassVar[int] = FEWEST
    question: ClassVar[str] = "Which labels are wrong?"

    false_discovery_rate: float = FALSE_DISCOVERIES
    """Share of the flagged labels that may be right."""

    def __post_init__(self) -> None:
        if not 0 < self.false_discovery_rate < 1:
            raise ValueError(f"Expected false_discovery_rate between 0 and 1, got {self.false_discovery_rate!r}.")

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Probabilities, the flagged labels beside well-behaved neighbours, and a table of all."""
        task, specs = results.task, subset_runs(results.task, results.learner, budget)
        part = sampled_part(task, budget.sample)
        runs = _first(results.completed(specs), part)
        lost = results.lost(specs)
        if len(runs) < FEWEST or not _covered(part, runs):
            return Outcome(self._empty(len(runs), lost), None)
        judged = self._judge(part, runs)
        finding = _finding(part, judged)
        section = Section(
            study=self.name,
            title=self.question,
            summary=f"{finding.statement} {self._flags(part, judged)}" if judged.is_judged else finding.statement,
            findings=(finding,),
            figures=_figures(part, judged) if judged.is_judged else (),
            notes=(*self._notes(task, part, budget, judged), *lost),
        )
        return Outcome(section, None, labels=_table(task, judged, sampled_positions(task, budget.sample)))

    def _judge(self, part: Task, runs: list[Run]) -> _Judged:
        mask = inclusion_mask(part, runs)
        outputs = np.stack([run.trace.train_outputs for run in runs])
        neighbours = None if part.regression else _neighbours(part)
        if part.regression:
            errors = residual_errors(mask, outputs[:, :, 0], part.train.y, duplicates=_duplicates(part))
            suggested = tuple(float(value) if np.isfinite(value) else None for value in errors.suggested)
        else:
            errors = label_errors(
                mask,
                outputs,
                part.train.y,
                csl=np.stack([csl(run.trace.loss) for run in runs]),
                aum=np.stack([aum(run.trace.margin) for run in runs]),
                neighbours=neighbours,
                duplicates=_duplicates(part),
            )
            known = errors.probability.count > 0
            suggested = tuple(
                part.classes[code] if said else None for code, said in zip(errors.suggested, known, strict=True)
            )
        flagged = flag_label_errors(errors.probability.value, false_discovery_rate=self.false_discovery_rate)
        return _Judged(errors, flagged, suggested, len(runs), neighbours is not None)

    def _flags(self, part: Task, judged: _Judged) -> str:
        number = int(judged.flagged.sum())
        if not number:
            return f"No {_noun(part)} is so surely wrong that it is flagged."
        are = "is" if number == 1 else "are"
        return (
            f"{counted(number, one=_noun(part), many=f'{_noun(part)}s')} {are} flagged; of flagged ones about "
            f"{percent(self.false_discovery_rate)} would be right after all, {_or(part, judged)}."
        )

    def _empty(self, num_runs: int, lost: tuple[str, ...]) -> Section:
        few = counted(num_runs, one="network", many="networks")
        nothing = (
            f"With {few} on random subsets it cannot be said which labels are wrong: it takes {FEWEST}. Give the study "
            "more time, or more runs."
        )
        finding = _unsaid(nothing, noun="label", num_runs=num_runs)
        return Section(
            study=self.name, title=self.question, summary=nothing, findings=(finding,), figures=(), notes=lost
        )

    def _notes(self, task: Task, part: Task, budget: StudyBudget, judged: _Judged) -> tuple[str, ...]:
        networks = counted(judged.num_runs, one="network", many="networks")
        if not judged.is_judged:
            notes = [
                f"This is from {networks} on random subsets. No probability is given, and nothing is flagged; ranks in "
                "labels.parquet only say what these networks doubt most.",
                ADVICE[judged.errors.status],
            ]
        else:
            notes = [
                f"Probabilities are from {networks} on random subsets, from how their training went, and from examples "
                f"that are equal. They were calibrated on {_noun(part)}s invented for this purpose; no true "
                f"{_noun(part)} was known. {_assumed(part)}",
                "A rare or ambiguous example that is labelled rightly can look like a wrong label. Look before you "
                "change it.",
            ]
        if judged.voted:
            notes.append(f"Each example's {NEIGHBOURS} nearest neighbours in the input space had a vote.")
        elif not part.regression and len(part.train) > NEIGHBOURS:
            notes.append(
                "Neighbours in the input space had no vote: for so many examples and features they would take too long "
                "to find. Without their vote more of the flagged labels are right after all, most of all rare ones."
            )
        if budget.sample is not None:
            notes.append(f"Only {describe_sample(task, budget.sample)} were looked at.")
        return tuple(notes)


def _first(runs: list[Run], part: Task) -> list[Run]:
    """As many as memory holds."""
    return runs[: max(FEWEST, MOST_OUTPUTS // (len(part.train) * part.num_outputs))]


def _covered(part: Task, runs: list[Run]) -> bool:
    mask = inclusion_mask(part, runs)
    return bool((mask.any(0) & ~mask.all(0)).any())


def _inputs(part: Task) -> Float[np.ndarray, "example feature"]:
    return part.normalise(part.train.x).reshape(len(part.train), -1)


def _neighbours(part: Task) -> Int[np.ndarray, "example neighbour"] | None:
    """Of every training example, in the input space; None where that takes too long, or there are too few."""
    number, features = len(part.train), int(np.prod(part.input_shape))
    if number <= NEIGHBOURS or float(number) ** 2 * features > MOST_PRODUCTS:
        return None
    x = _inputs(part)
    return nearest(x, x, num_neighbours=NEIGHBOURS, exclude_self=True).index


def _duplicates(part: Task) -> Int[np.ndarray, "example"]:
    """The first example with the same input, of every one."""
    return exact_duplicates(part.train.x, part.train.x)


def _finding(part: Task, judged: _Judged) -> Finding:
    """The share of labels that are right, with the interval of the sum of their probabilities."""
    noun, wrong = _noun(part), judged.errors.wrong
    if not judged.is_judged:
        return _unsaid(UNSAID[judged.errors.status].format(noun=noun), noun=noun, num_runs=judged.num_runs)
    labels = counted(wrong.count, one=f"training {noun}", many=f"training {noun}s")
    right = replace(wrong, value=1 - wrong.value, low=1 - wrong.high, high=1 - wrong.low)
    return claim(
        "labels-are-right",
        f"Of {labels} about {max(round(wrong.value * wrong.count), 0):,} are wrong, {percent_within(wrong)}, by the "
        "sum of their probabilities.",
        study=Labels.name,
        paper=NORTHCUTT,
        unit=f"share of {noun}s",
        interval=right,
        null=1 - MOST_WRONG,
        num_runs=judged.num_runs,
        verdict=above(low=right.low, high=right.high, null=1 - MOST_WRONG),
    )


def _unsaid(statement: str, *, noun: str, num_runs: int) -> Finding:
    return claim(
        "labels-are-right",
        statement,
        study=Labels.name,
        paper=NORTHCUTT,
        unit=f"share of {noun}s",
        null=1 - MOST_WRONG,
        num_runs=num_runs,
    )


def _assumed(part: Task) -> str:
    """What probabilities hold under."""
    if part.regression:
        return (
            "They take wrong targets to be like those of other examples, and the noise of right ones to be alike for "
            "all, as often above as below: a few outliers of noise are flagged like wrong targets."
        )
    return "They take a label's being wrong to depend on the example through its class alone."


def _or(part: Task, judged: _Judged) -> str:
    """On which side of the false-discovery rate the share may lie: measured with the vote of neighbours and without."""
    return "or fewer" if part.regression or judged.voted else "of rare classes more"


def _noun(part: Task) -> str:
    return "target" if part.regression else "label"


def _order(judged: _Judged) -> Int[np.ndarray, "example"]:
    return np.argsort(judged.errors.rank, kind="stable")


def _figures(part: Task, judged: _Judged) -> tuple[Figure, ...]:
    flagged = [int(place) for place in _order(judged) if judged.flagged[place]]
    figures: list[Figure] = [_histogram(part, judged)]
    if flagged:
        figures += [_gallery(part, judged, flagged[:NUM_SHOWN]), _listed(part, judged, flagged[:NUM_LISTED])]
    return tuple(figures)


def _histogram(part: Task, judged: _Judged) -> Histogram:
    edges = np.linspace(0, 1, 21)
    probability = judged.errors.probability.value
    groups = {"flagged": judged.flagged, "not flagged": np.isfinite(probability) & ~judged.flagged}
    return Histogram(
        title=f"How likely each {_noun(part)} is wrong",
        x_label=f"probability that the {_noun(part)} is wrong",
        y_label="training examples",
        series=tuple(
            Counts(
                name=name,
                edges=tuple(edges.tolist()),
                counts=tuple(np.histogram(probability[chosen], bins=edges)[0].tolist()),
            )
            for name, chosen in groups.items()
        ),
        log_y=True,
        caption="Counts on a logarithmic scale. If what the notes assume is so, about 80 % of the "
        f"{_noun(part)}s at 0.8 are wrong; else, and in rare classes, more.",
    )


def _gallery(part: Task, judged: _Judged, flagged: list[int]) -> Gallery:
    return Gallery(
        title=f"Flagged {_noun(part)}s beside their nearest well-behaved neighbours",
        items=tuple(_item(part, judged, place) for place in flagged),
        caption="Under each example the nearest one that surely has its label, and the nearest one that surely has the "
        "suggested label.",
    )


def _item(part: Task, judged: _Judged, place: int) -> GalleryItem:
    errors = judged.errors
    notes = (
        ("probability of an error", f"{errors.probability.value[place]:.2f}"),
        ("reason", str(errors.reason[place])),
    )
    item = shown(part, place, notes=notes, suggested=judged.text(place))
    return replace(item, beside=tuple(_beside(part, judged, place)))


def _beside(part: Task, judged: _Judged, place: int) -> Iterator[Beside]:
    """The nearest well-behaved example of the given class and of the suggested one; for numbers the nearest."""
    good = judged.errors.probability.value <= WELL_BEHAVED
    good[place] = False
    if part.regression:
        kinds = [("nearest", good)]
    else:
        y = part.train.y
        named = {target_text(part, place): y == y[place], judged.text(place): y == judged.errors.suggested[place]}
        kinds = [(f"nearest {name}", good & alike) for name, alike in named.items()]
    for name, chosen in kinds:
        candidates = np.flatnonzero(chosen)
        if len(candidates):
            x = _inputs(part)
            near = int(candidates[nearest(x[candidates], x[[place]]).index[0, 0]])
            yield Beside(
                name=name,
                id=str(part.train.ids[near]),
                content=content(part, part.train, position=near),
                target=target_text(part, near),
            )


def _listed(part: Task, judged: _Judged, flagged: list[int]) -> Table:
    errors = judged.errors
    rows = tuple(
        (
            str(part.train.ids[place]),
            target_text(part, place),
            judged.text(place),
            float(errors.probability.value[place]),
            str(errors.reason[place]),
        )
        for place in flagged
    )
    return Table(
        title=f"Flagged {_noun(part)}s",
        columns=(
            Column(name="id"),
            Column(name="target"),
            Column(name="suggested"),
            Column(name="probability", digits=3),
            Column(name="reason"),
        ),
        rows=rows,
        caption=f"{len(rows):,} of {int(judged.flagged.sum()):,}; all training examples are in labels.parquet.",
    )


def _table(task: Task, judged: _Judged, positions: Int[np.ndarray, "example"]) -> pa.Table:
    """One row per training example that was looked at."""
    errors = judged.errors
    return typed_table(
        {
            **{name: column.take(positions) for name, column in identified(task).items()},
            "suggested_target": pa.array(judged.suggested, pa.float64() if task.regression else pa.string()),
            "probability": pa.array(errors.probability.value, from_pandas=True),
            "probability_se": pa.array(errors.probability.se, from_pandas=True),
            "rank": pa.array(errors.rank),
            "reason": pa.array(errors.reason.tolist()),
            "flagged": pa.array(judged.flagged),
        }
    )
