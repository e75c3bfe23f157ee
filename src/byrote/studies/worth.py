"""What are the memorised examples worth? (Feldman & Zhang 2020)"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float

from byrote.core import derive
from byrote.data import Task
from byrote.measures import memorisation
from byrote.records import (
    MEMORISED,
    Bars,
    Column,
    Finding,
    Interval,
    Learner,
    LeftOut,
    ReplacedLabels,
    RunSpec,
    Section,
    Table,
    above,
)
from byrote.studies.bars_and_bands import bar
from byrote.studies.certainty import crossed_interval
from byrote.studies.claims import NOTHING, claim
from byrote.studies.example_scores import doubt, suspects
from byrote.studies.papers import FELDMAN, NORTHCUTT
from byrote.studies.study import (
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    describe_sample,
    heldout_qualities,
    inclusion_mask,
    quality,
    run_seed,
    sampled,
    sampled_part,
    score_name,
    shift,
    subset_runs,
)
from byrote.studies.wording import counted, decimal, minus, percent, points

DECIDING = (10, 20, 40, 80, 160)
"""So many networks on subsets decide what is left out: the largest of these numbers that is planned, so that a few more
networks do not make another choice."""
THERE = 0.9
"""Of the deciding networks that have to be there; the others may have diverged."""
MOST_LEFT_OUT = 0.3
"""Of the examples: where more are memorised, only the most memorised are left out."""

Change = Literal[
    "without the most memorised", "without as many at random", "without suspected errors", "with suggested targets"
]
MEMORISED_OUT: Change = "without the most memorised"
RANDOM_OUT: Change = "without as many at random"
SUSPECTS_OUT: Change = "without suspected errors"
CORRECTED: Change = "with suggested targets"
CHANGES: tuple[Change, ...] = (MEMORISED_OUT, RANDOM_OUT, SUSPECTS_OUT, CORRECTED)
ALL = "all examples"


class Choice(NamedTuple):
    """Which examples are changed; positions ascend."""

    memorised: tuple[int, ...]
    suspects: tuple[int, ...]
    suggested: tuple[float, ...]
    """What each suspect's target may be instead: a class code, or a number."""


NOT_YET = Choice((), (), ())
"""Stands for a choice that is made later: training without it takes as long."""

Scored = Mapping[str, Float[np.ndarray, "run example"]]
"""Held-out qualities of networks on all examples and of each change, a row for each seed; NaN where there is no run."""


@final
@dataclass(frozen=True, kw_only=True)
class Worth(AbstractStudy):
    """Train again without what is memorised, without as many examples at random, without suspected label errors and
    with the targets suggested for them, and compare on held-out examples.

    What to change is chosen by networks on subsets, from training examples alone, and other networks are compared. So
    the choice does not favour any side on the held-out examples.
    """

    name: ClassVar[str] = "worth"
    uses_runs: ClassVar[bool] = True
    uses_subsets: ClassVar[bool] = True
    fewest_subsets: ClassVar[int] = DECIDING[0]
    question: ClassVar[str] = "What are the memorised examples worth?"

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """Networks on all examples and on random subsets, and time for the changes."""
        later = self._all_changed(CHANGES, NOT_YET, task, learner, budget) if deciding(budget.subsets) else ()
        return Plan((*_whole(task, learner, budget), *subset_runs(task, learner, budget)), (), later=later)

    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """Every change for the first seed, then for the second, and so on, once it is known what to change."""
        choice = choose(results, budget)
        if choice is None:
            return ()
        return self._all_changed(possible(choice), choice, results.task, results.learner, budget)

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Compare on the held-out examples."""
        task, choice = results.task, choose(results, budget)
        part = sampled_part(task, budget.sample)
        specs: dict[str, tuple[RunSpec, ...]] = {ALL: _whole(task, results.learner, budget)}
        for change in possible(choice or NOT_YET):
            specs[change] = self._all_changed((change,), choice or NOT_YET, task, results.learner, budget)
        scored = {name: _qualities(part, results, own) for name, own in specs.items()}
        findings = tuple(_finding(part, name, scored, choice) for name in COMPARED)
        section = Section(
            study=self.name,
            title=self.question,
            summary=_summary(findings, choice),
            findings=findings,
            figures=() if choice is None else (_bars(part, scored, choice), _table(part, scored, choice)),
            notes=(
                *self._notes(task, budget, choice),
                *results.lost(tuple(spec for own in specs.values() for spec in own)),
            ),
        )
        return Outcome(section, None)

    def _all_changed(
        self, changes: tuple[Change, ...], choice: Choice, task: Task, learner: Learner, budget: StudyBudget
    ) -> tuple[RunSpec, ...]:
        number = len(sampled_part(task, budget.sample).train) if choice != NOT_YET else 0
        whole = _whole(task, learner, budget)
        return tuple(changed(spec, change, choice, number=number) for spec in whole for change in changes)

    def _notes(self, task: Task, budget: StudyBudget, choice: Choice | None) -> tuple[str, ...]:
        networks = counted(deciding(budget.subsets), one="network", many="networks")
        notes = [
            f"What is left out was chosen by the first {networks} on random subsets: scores of {MEMORISED:g} and more, "
            f"at most {100 * MOST_LEFT_OUT:.0f} % of the examples; and targets that networks which never saw them "
            "contradict. As many at random are drawn anew for every network."
            if choice is not None
            else f"At least {DECIDING[0]} networks on random subsets are needed to say which examples to leave out; "
            f"give the study more time, or more runs."
        ]
        if budget.sample is not None:
            notes.append(f"This study looks at {describe_sample(task, budget.sample, test=True)}.")
        return tuple(notes)


def deciding(subsets: int) -> int:
    """How many of the networks on subsets decide what is changed; 0: too few.

    >>> deciding(9), deciding(10), deciding(75), deciding(1000)
    (0, 10, 40, 160)
    """
    return max((number for number in DECIDING if number <= subsets), default=0)


def choose(results: Results, budget: StudyBudget) -> Choice | None:
    """Which examples to change, by the networks on subsets that are there; None while too many of them are missing."""
    asked = subset_runs(results.task, results.learner, replace(budget, subsets=deciding(budget.subsets)))
    runs = results.completed(asked)
    if not asked or len(runs) < THERE * len(asked):
        return None
    part = sampled_part(results.task, budget.sample)
    mask, most = inclusion_mask(part, runs), int(MOST_LEFT_OUT * len(part.train))
    value = np.nan_to_num(memorisation(mask, quality(part, runs)).value, nan=-np.inf)
    top = np.argsort(-value, kind="stable")[:most]
    doubts = doubt(part, mask, runs)
    doubted = np.sort(suspects(part, doubts)[:most])
    suggested = [doubts.suggested[place] for place in doubted]
    targets = [one if isinstance(one, float) else float(part.classes.index(str(one))) for one in suggested]
    memorised = np.sort(top[value[top] >= MEMORISED])
    return Choice(tuple(memorised.tolist()), tuple(doubted.tolist()), tuple(targets))


def possible(choice: Choice) -> tuple[Change, ...]:
    """The changes that change anything."""
    left_out: tuple[Change, ...] = (MEMORISED_OUT, RANDOM_OUT) if choice.memorised else ()
    corrected: tuple[Change, ...] = (SUSPECTS_OUT, CORRECTED) if choice.suspects else ()
    return (*left_out, *corrected)


def changed(spec: RunSpec, change: Change, choice: Choice, *, number: int) -> RunSpec:
    """A run on all examples, changed.

    Args:
        spec: the run.
        change: what is changed.
        choice: which examples.
        number: of training examples in all.
    """
    match change:
        case "without the most memorised":
            return replace(spec, subset=LeftOut(positions=choice.memorised, reason="most memorised"))
        case "without as many at random":
            rng = np.random.default_rng(derive(spec.seed, "left out at random"))
            drawn = np.sort(rng.permutation(number)[: len(choice.memorised)])
            return replace(spec, subset=LeftOut(positions=tuple(drawn.tolist()), reason="random ones"))
        case "without suspected errors":
            return replace(spec, subset=LeftOut(positions=choice.suspects, reason="suspected errors"))
        case "with suggested targets":
            return replace(spec, labels=ReplacedLabels(positions=choice.suspects, targets=choice.suggested))


def _whole(task: Task, learner: Learner, budget: StudyBudget) -> tuple[RunSpec, ...]:
    """Networks on all examples; other studies ask for the same ones."""
    own, seeds = sampled(learner, task, budget.sample), [run_seed(budget, index) for index in range(budget.runs)]
    return tuple(
        RunSpec(task=task.fingerprint, learner=own, seed=seed, order=seed, sample=budget.sample) for seed in seeds
    )


def _qualities(part: Task, results: Results, specs: tuple[RunSpec, ...]) -> Float[np.ndarray, "run example"]:
    """On held-out examples, a row for every spec; NaN where there is no such run."""
    found = np.full((len(specs), len(part.test)), np.nan)
    for place, spec in enumerate(specs):
        runs = results.completed((spec,))
        if runs:
            found[place] = heldout_qualities(part, runs)[0]
    return found


class Comparison(NamedTuple):
    """Two kinds of network that are compared, seed by seed."""

    first: str
    second: str
    """The value is the mean of first − second."""
    about: Literal["memorised", "suspects"]
    """Which of the chosen examples it is about."""
    paper: str


COMPARED: Mapping[str, Comparison] = {
    "memorised-examples-matter": Comparison(RANDOM_OUT, MEMORISED_OUT, "memorised", FELDMAN),
    "dropping-suspects-helps": Comparison(SUSPECTS_OUT, ALL, "suspects", NORTHCUTT),
    "correcting-suspects-helps": Comparison(CORRECTED, ALL, "suspects", NORTHCUTT),
}


def _finding(part: Task, name: str, scored: Scored, choice: Choice | None) -> Finding:
    compared = COMPARED[name]
    interval = _difference(part, compared, scored)
    return claim(
        name,
        _statement(part, compared, scored, interval, choice),
        study=Worth.name,
        paper=compared.paper,
        unit=f"difference in {score_name(part)}",
        interval=interval,
        null=0.0,
        num_runs=len(_pairs(compared, scored)),
        verdict=above(low=interval.low, high=interval.high, null=0.0) if interval.count else "inconclusive",
    )


def _pairs(compared: Comparison, scored: Scored) -> Float[np.ndarray, "pair example"]:
    """Differences between networks of the same seed, where both are there."""
    if compared.first not in scored or compared.second not in scored:
        return np.empty((0, scored[ALL].shape[1]))
    differences = scored[compared.first] - scored[compared.second]
    return differences[np.isfinite(differences).all(1)]


def _difference(part: Task, compared: Comparison, scored: Scored) -> Interval:
    pairs = _pairs(compared, scored)
    if not len(pairs):
        return NOTHING
    return crossed_interval(pairs, groups=part.test.groups, binary=not part.regression)


def _statement(part: Task, compared: Comparison, scored: Scored, interval: Interval, choice: Choice | None) -> str:
    if choice is None:
        return "Too few networks on random subsets were finished to say which examples to change."
    memorised = compared.about == "memorised"
    number = len(choice.memorised if memorised else choice.suspects)
    if not number:
        return (
            f"No training example is {'memorised' if memorised else 'suspected of a wrong target'}: nothing to change."
        )
    chosen = _chosen(number, memorised=memorised)
    if not interval.count:
        return "No network was finished that shows what that changes."
    first, second = (_shown(part, _level(part, scored[side])) for side in (compared.first, compared.second))
    score, gap = f"held-out {score_name(part)}", _gap(part, interval)
    if memorised:
        return f"Without {chosen} {score} is {second}, without as many at random {first}: a difference of {gap}."
    how = "Without" if compared.first == SUSPECTS_OUT else "With suggested targets for"
    return f"{how} {chosen} {score} is {first}, with all examples as they are {second}: a difference of {gap}."


def _chosen(number: int, *, memorised: bool) -> str:
    if memorised:
        return "the most memorised example" if number == 1 else f"the {number:,} most memorised examples"
    return "the example of suspect target" if number == 1 else f"the {number:,} examples of suspect targets"


def _level(part: Task, qualities: Float[np.ndarray, "run example"]) -> Interval:
    known = qualities[np.isfinite(qualities).all(1)]
    return crossed_interval(known, groups=part.test.groups, binary=not part.regression) if len(known) else NOTHING


def _shown(part: Task, level: Interval) -> str:
    return minus(f"{level.value + shift(part):.3f}") if part.regression else percent(level.value)


def _gap(part: Task, interval: Interval) -> str:
    return decimal(interval) if part.regression else points(interval)


def _summary(findings: tuple[Finding, ...], choice: Choice | None) -> str:
    told = [finding.statement for finding in findings if finding.num_runs]
    if told:
        return " ".join(told)
    if choice is not None and choice == NOT_YET:
        return "No training example is memorised or suspected of a wrong target: there is nothing to leave out."
    return findings[0].statement


def _labels(scored: Scored, choice: Choice) -> dict[str, str]:
    """What every kind of network is called, with the number of examples that are changed."""
    number = {MEMORISED_OUT: choice.memorised, RANDOM_OUT: choice.memorised}
    return {name: name if name == ALL else f"{name} ({len(number.get(name, choice.suspects)):,})" for name in scored}


def _bars(part: Task, scored: Scored, choice: Choice) -> Bars:
    labels = _labels(scored, choice)
    levels = {name: _level(part, qualities) for name, qualities in scored.items()}
    return Bars(
        title=f"Held-out {score_name(part)} after training again",
        x_label=f"held-out {score_name(part)}",
        bars=tuple(
            bar(labels[name], level, group=name, shift=shift(part)) for name, level in levels.items() if level.count
        ),
        caption="Networks of the same seeds, on other training examples or targets. Intervals hold for new networks "
        "and new held-out examples; compare kinds of network by the table, which pairs seeds and examples.",
    )


def _table(part: Task, scored: Scored, choice: Choice) -> Table:
    labels = _labels(scored, choice)
    rows: list[tuple[str, float | None, float | None, float | None, int]] = []
    for name in scored:
        if name == ALL:
            continue
        compared = Comparison(name, ALL, "suspects", "")
        interval = _difference(part, compared, scored)
        value, low, high = (_finite(end) for end in (interval.value, interval.low, interval.high))
        rows.append((labels[name], value, low, high, len(_pairs(compared, scored))))
    return Table(
        title="Against networks on all examples",
        columns=(
            Column(name="change"),
            Column(name=f"difference in held-out {score_name(part)}", digits=4),
            Column(name="from", digits=4),
            Column(name="to", digits=4),
            Column(name="pairs of networks"),
        ),
        rows=tuple(rows),
        caption="95 % intervals. Held-out targets are taken as they are: where they have errors, too, gains look "
        "smaller.",
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
