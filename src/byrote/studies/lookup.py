"""A lookup table, or learning? (the network against tables, forests and kernels on the same held-out examples)"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float, Int

from byrote.data import Task, inclusion
from byrote.measures import (
    combined_interval,
    heldout_mean,
    included_mean,
    mcnemar,
    memorisation,
    nearest,
    per_run_mean,
)
from byrote.records import (
    BalancedSubset,
    Bar,
    Bars,
    Baseline,
    Column,
    Counts,
    Curves,
    ExactMatch,
    Figure,
    Finding,
    Fit,
    FitSpec,
    Forest,
    Histogram,
    Interval,
    KernelMachine,
    Learner,
    NearestNeighbours,
    Run,
    RunSpec,
    Sample,
    Section,
    Share,
    ShareRow,
    Shares,
    Table,
    Verdict,
    above,
)
from byrote.studies.bars_and_bands import band, bar
from byrote.studies.certainty import crossed_interval, example_variance, over_runs_and_examples
from byrote.studies.claims import NOTHING, claim
from byrote.studies.papers import BELKIN, BREIMAN, COVER_HART, FELDMAN
from byrote.studies.study import (
    SUBSET_FRACTION,
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    chance,
    describe_sample,
    heldout_qualities,
    heldout_quality,
    inclusion_mask,
    quality,
    run_seed,
    sampled_part,
    score_name,
    shift,
    subset_runs,
)
from byrote.studies.wording import article, capitalised, decimal, hundredths, listed, minus, percent, points

TABLES: dict[str, Baseline] = {
    "exact-match table": ExactMatch(),
    "1-NN table": NearestNeighbours(num_neighbours=1),
    "5-NN table": NearestNeighbours(num_neighbours=5),
}
FORESTS: dict[str, Baseline] = {"forest": Forest()}
KERNELS: dict[str, Baseline] = {
    "Gaussian kernel": KernelMachine(kernel="gaussian"),
    "Laplacian kernel": KernelMachine(kernel="laplacian"),
}
DECOMPOSED: dict[str, Baseline] = {
    "1-NN table": NearestNeighbours(num_neighbours=1),
    "forest": Forest(),
    "Gaussian kernel": KernelMachine(kernel="gaussian"),
}
"""Baselines whose training score is split into learnt and memorised, too."""
NUM_SUBSET_FITS = 5
LARGEST_DECOMPOSED = 5000
"""On more training examples than this, the baselines are decomposed on a stratified sample."""
WORTHWHILE = 0.01
"""A lead whose interval stays below this is no lead."""
NUM_DISTANCE_BINS = 5
NUM_HISTOGRAM_BINS = 40


@final
class Decomposition(NamedTuple):
    """Of all training answers: right when left out, right only when trained on."""

    included: Interval
    """Score on the examples trained on."""
    learnt: Interval
    """Score on the same examples when they were left out, above chance."""
    memorised: Interval
    """The difference between the two scores: the mean memorisation score."""
    chance: float
    num_runs: int


UNKNOWN = Decomposition(NOTHING, NOTHING, NOTHING, 0.0, 0)
"""Before any network on a subset was finished."""


@final
@dataclass(frozen=True, kw_only=True)
class Lookup(AbstractStudy):
    """Compare the network with tables that really look up, with a forest and with kernels, on the same held-out
    examples, and split its training score into what it learnt and what it memorised.
    """

    name: ClassVar[str] = "lookup"
    uses_runs: ClassVar[bool] = True
    uses_subsets: ClassVar[bool] = True
    uses_neighbours: ClassVar[bool] = True
    question: ClassVar[str] = "A lookup table, or learning?"

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """Networks as the recipe says on all examples, networks on subsets, and every baseline once on all examples
        and a few times on subsets.
        """
        whole = tuple(self._fit(task, baseline, budget) for baseline in (TABLES | FORESTS | KERNELS).values())
        parts = tuple(spec for baseline in DECOMPOSED.values() for spec in self._subset_fits(task, baseline, budget))
        return Plan((*self._networks(task, learner, budget), *subset_runs(task, learner, budget)), (*whole, *parts))

    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """None."""
        return ()

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Compare, pair by pair, and decompose."""
        task = results.task
        networks = results.completed(self._networks(task, results.learner, budget))
        baselines = {
            name: results.fits[spec]
            for name, baseline in (TABLES | FORESTS | KERNELS).items()
            if (spec := self._fit(task, baseline, budget)) in results.fits
        }
        decompositions = self._decompositions(results, budget)
        findings = (
            _beats(task, networks, {n: f for n, f in baselines.items() if n in TABLES}, name="beats-lookup-table"),
            _beats(task, networks, {n: f for n, f in baselines.items() if n in FORESTS}, name="beats-forest"),
            _beats(task, networks, {n: f for n, f in baselines.items() if n in KERNELS}, name="beats-kernel"),
            *_share_findings(task, decompositions.get("network", UNKNOWN)),
        )
        said = (_answer(task, decompositions.get("network", UNKNOWN)), _scores(task, networks, baselines))
        section = Section(
            study=self.name,
            title=self.question,
            summary=" ".join(sentence for sentence in said if sentence)
            or "No network and no table was finished, so learnt and memorised cannot be told apart yet.",
            findings=findings,
            figures=_figures(results, networks, baselines, decompositions),
            notes=(
                *self._notes(results, networks, baselines, budget),
                *results.lost(self.plan(task, results.learner, budget).runs),
            ),
        )
        return Outcome(section, None)

    def _networks(self, task: Task, learner: Learner, budget: StudyBudget) -> tuple[RunSpec, ...]:
        return tuple(
            RunSpec(task=task.fingerprint, learner=learner, seed=run_seed(budget, index), order=run_seed(budget, index))
            for index in range(budget.runs)
        )

    def _fit(self, task: Task, baseline: Baseline, budget: StudyBudget) -> FitSpec:
        return FitSpec(task=task.fingerprint, baseline=baseline, seed=budget.seed, evaluate_train=False)

    def _subset_fits(self, task: Task, baseline: Baseline, budget: StudyBudget) -> tuple[FitSpec, ...]:
        sample = None
        if len(task.train) > LARGEST_DECOMPOSED:
            sample = Sample(train=LARGEST_DECOMPOSED, test=min(len(task.test), LARGEST_DECOMPOSED), draw=budget.seed)
        return tuple(
            FitSpec(
                task=task.fingerprint,
                baseline=baseline,
                seed=budget.seed,
                subset=BalancedSubset(fraction=SUBSET_FRACTION, draw=budget.seed, index=index),
                sample=sample,
            )
            for index in range(NUM_SUBSET_FITS)
        )

    def _decompositions(self, results: Results, budget: StudyBudget) -> dict[str, Decomposition]:
        task, found = results.task, dict[str, Decomposition]()
        runs = results.completed(subset_runs(task, results.learner, budget))
        if runs:
            part = sampled_part(task, budget.sample)
            found["network"] = _decompose(part, inclusion_mask(part, runs), quality(part, runs))
        for name, baseline in DECOMPOSED.items():
            fits = [results.fits[spec] for spec in self._subset_fits(task, baseline, budget) if spec in results.fits]
            if fits:
                part = sampled_part(task, fits[0].spec.sample)
                mask = np.stack([inclusion(part, fit.spec.subset) for fit in fits])
                found[name] = _decompose(part, mask, np.stack([_train_quality(part, fit) for fit in fits]))
        return found

    def _notes(
        self, results: Results, networks: list[Run], baselines: dict[str, Fit], budget: StudyBudget
    ) -> tuple[str, ...]:
        task = results.task
        notes = [f"{name}: {fit.note}." for name, fit in baselines.items() if fit.note]
        if len(networks) == 1:
            notes.append("Only one network was trained on all examples, so nothing is known of how much seeds differ.")
        own = self._subset_fits(task, ExactMatch(), budget)[0].sample
        for whose, sample in (("network's", budget.sample), ("baselines'", own)):
            if sample is not None:
                notes.append(f"The {whose} decomposition is on {describe_sample(task, sample)}.")
        notes.append(
            "Where several tables (or kernels) were fitted, the network is compared with the best of them on the very "
            "test examples, which favours the table."
        )
        return tuple(notes)


def _answer(task: Task, parts: Decomposition) -> str:
    """The decomposition in one sentence."""
    if not math.isfinite(parts.memorised.value):
        return ""
    memorised = hundredths(parts.memorised)
    if task.regression:
        return (
            f"Of the variance of the training targets {hundredths(parts.learnt)} % is learnt (explained for examples "
            f"that were left out) and {memorised} % is memorised (explained only for examples that were trained on)."
        )
    if parts.learnt.value < 0:
        return f"{_nothing_learnt(parts)}; {memorised} are memorised."
    learnt, guessed = hundredths(parts.learnt), f"{100 * parts.chance:.1f} chance alone would give"
    wrong = 100 * (1 - parts.included.value)
    if wrong < 0.05:
        return f"Of 100 training answers, {learnt} are learnt, {guessed} and {memorised} are memorised."
    return (
        f"Of 100 training answers, {learnt} are learnt, {guessed}, {memorised} are memorised and {wrong:.1f} are wrong."
    )


def _nothing_learnt(parts: Decomposition) -> str:
    right = 100 * (parts.learnt.value + parts.chance)
    return (
        f"Nothing is learnt: of 100 training answers {right:.1f} are right when left out, fewer than the "
        f"{100 * parts.chance:.1f} that always giving the commonest answer would get"
    )


def _scores(task: Task, networks: list[Run], baselines: dict[str, Fit]) -> str:
    """Who scores what on the held-out examples, in one sentence; of several tables or kernels the best."""

    def shown(qualities: Float[np.ndarray, "run example"]) -> str:
        score = float(qualities.mean()) + shift(task)
        return f"an R² of {minus(f'{score:.3f}')}" if task.regression else percent(score)

    best = [
        _best({name: fit for name, fit in baselines.items() if name in group}, task)
        for group in (TABLES, FORESTS, KERNELS)
    ]
    rivals = listed(
        [
            f"{article(name)} {'would score ' if not place else ''}{shown(_fit_quality(task, baselines[name])[None])}"
            for place, name in enumerate(filter(None, best))
        ]
    )
    own = f"the network scores {shown(heldout_qualities(task, networks))}" if networks else ""
    if not own or not rivals:
        return capitalised(f"{own or rivals} on held-out examples.") if own or rivals else ""
    return f"On held-out examples {own}; {rivals}."


def _best(fits: dict[str, Fit], task: Task) -> str:
    """The name of the one with the highest held-out score; empty when there is none."""
    scores = {name: float(_fit_quality(task, fit).mean()) for name, fit in fits.items()}
    return max(scores, key=scores.__getitem__, default="")


def _fit_quality(task: Task, fit: Fit) -> Float[np.ndarray, "example"]:
    """As `heldout_quality`, for a baseline: of classes that are tied, as few votes often are, it answers the first."""
    if task.regression:
        return heldout_quality(task, fit.test_outputs)
    return (fit.test_outputs.argmax(1) == task.test.y).astype(np.float64)


def _train_quality(part: Task, fit: Fit) -> Float[np.ndarray, "example"]:
    """As `quality`, for a baseline's outputs on all training examples."""
    assert fit.train_outputs is not None
    outputs, y = fit.train_outputs, part.train.y
    if part.regression:
        return -((outputs[:, 0].astype(np.float64) - y) ** 2) / np.var(y)
    return (outputs.argmax(1) == y).astype(np.float64)


def _decompose(
    part: Task, mask: Bool[np.ndarray, "run example"], values: Float[np.ndarray, "run example"]
) -> Decomposition:
    """Scores in and out (for regression, R²); intervals over runs and examples, both taken as drawn at random."""
    scores = values + shift(part)
    included, heldout = per_run_mean(mask, scores), per_run_mean(~mask, scores)
    level = chance(part)

    def bounded(by_run: Float[np.ndarray, "run"], by_example: Float[np.ndarray, "example"]) -> Interval:
        return over_runs_and_examples(by_run, by_example, groups=part.train.groups, binary=not part.regression)

    return Decomposition(
        included=bounded(included, included_mean(mask, scores).value),
        learnt=bounded(heldout - level, heldout_mean(mask, scores).value - level),
        memorised=bounded(included - heldout, memorisation(mask, scores).value),
        chance=level,
        num_runs=len(mask),
    )


def _beats(task: Task, networks: list[Run], rivals: dict[str, Fit], *, name: str) -> Finding:
    """The network's mean held-out score minus the best rival's, paired by example."""
    paper = {"beats-lookup-table": COVER_HART, "beats-forest": BREIMAN, "beats-kernel": BELKIN}[name]
    unit = f"difference in {score_name(task)}"
    if not networks or not rivals:
        missing = "network" if not networks else name.removeprefix("beats-").replace("-", " ")
        statement = f"Whether the network does better cannot be said: no {missing} was fitted in time."
        return claim(name, statement, study=Lookup.name, paper=paper, unit=unit, null=0.0)
    own = heldout_qualities(task, networks)
    rival = _best(rivals, task)
    other = _fit_quality(task, rivals[rival])
    interval = crossed_interval(own - other, groups=task.test.groups, binary=not task.regression)
    verdict = above(low=interval.low, high=interval.high, null=0.0, margin=WORTHWHILE)
    return claim(
        name,
        _comparison(task, own, other, rival=rival, interval=interval, verdict=verdict),
        study=Lookup.name,
        paper=paper,
        unit=unit,
        interval=interval,
        null=0.0,
        p_value=None if task.regression or task.test.groups is not None else _mcnemar(own, other).p_value,
        num_runs=len(networks),
        verdict=verdict,
    )


def _comparison(
    task: Task,
    own: Float[np.ndarray, "run example"],
    other: Float[np.ndarray, "example"],
    *,
    rival: str,
    interval: Interval,
    verdict: Verdict,
) -> str:
    """Who is better, with both scores and the difference."""
    opening = {
        "holds": f"The network beats the {rival}",
        "does not hold": f"The network does not beat the {rival}",
        "inconclusive": f"Whether the network beats the {rival} is open",
    }[verdict]
    first, second = float(own.mean()) + shift(task), float(other.mean()) + shift(task)
    if task.regression:
        scores = f"held-out R² {minus(f'{first:.3f}')} against {minus(f'{second:.3f}')}, difference {decimal(interval)}"
    else:
        scores = f"{percent(first)} of held-out examples right against {percent(second)}, difference {points(interval)}"
    few = "" if len(own) > 1 else "; with one network nothing is known of how much seeds differ"
    return f"{opening}: {scores}{few}."


class Disagreement(NamedTuple):
    """Who is right where the other is wrong."""

    only_network: int
    only_other: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test."""
        return mcnemar(self.only_network, self.only_other)


def _mcnemar(own: Float[np.ndarray, "run example"], other: Float[np.ndarray, "example"]) -> Disagreement:
    """Of the network of median held-out accuracy with another answerer."""
    median = own[np.argsort(own.mean(1), kind="stable")[len(own) // 2]]
    return Disagreement(
        only_network=int(((median == 1) & (other == 0)).sum()), only_other=int(((median == 0) & (other == 1)).sum())
    )


def _share_findings(task: Task, parts: Decomposition) -> tuple[Finding, Finding]:
    unit = "share of R²" if task.regression else "share of training answers"

    def share(name: str, statement: str, interval: Interval, margin: float) -> Finding:
        return claim(
            name,
            statement,
            study=Lookup.name,
            paper=FELDMAN,
            unit=unit,
            interval=interval,
            null=0.0,
            num_runs=parts.num_runs,
            verdict=above(low=interval.low, high=interval.high, null=0.0, margin=margin),
        )

    learnt, memorised = _share_statements(task, parts)
    return (
        share("learnt-share", learnt, parts.learnt, 0.0),
        share("memorised-share", memorised, parts.memorised, WORTHWHILE),
    )


def _share_statements(task: Task, parts: Decomposition) -> tuple[str, str]:
    if not math.isfinite(parts.memorised.value):
        why = "No network on a subset was finished, so learnt and memorised cannot be told apart."
        return why, why
    if task.regression:
        return (
            f"Left-out training examples are predicted with an R² of {decimal(parts.learnt)}: that much is learnt.",
            f"On examples trained on, R² is higher by {decimal(parts.memorised)}: that is memorised.",
        )
    return (
        f"{_nothing_learnt(parts)}."
        if parts.learnt.value < 0
        else f"Of 100 training answers {hundredths(parts.learnt)} are learnt: right when left out, beyond the "
        f"{100 * parts.chance:.1f} that always giving the commonest answer would get.",
        f"Of 100 training answers {hundredths(parts.memorised)} are memorised: right only when trained on.",
    )


def _figures(
    results: Results, networks: list[Run], baselines: dict[str, Fit], decompositions: dict[str, Decomposition]
) -> tuple[Figure, ...]:
    figures: list[Figure] = []
    if networks or baselines:
        figures.append(_score_bars(results.task, networks, baselines))
    if decompositions:
        figures.append(_shares(results.task, decompositions))
    if networks:
        figures += _by_distance(results, networks, baselines)
    if networks and not results.task.regression:
        figures.append(_disagreements(results.task, networks, baselines))
    return tuple(figures)


def _score_bars(task: Task, networks: list[Run], baselines: dict[str, Fit]) -> Bars:
    def drawn(label: str, values: Float[np.ndarray, "run example"], group: str) -> Bar:
        return bar(label, _of_examples(task, values), group=group, shift=shift(task))

    bars: list[Bar] = []
    if networks:
        bars.append(drawn("network", heldout_qualities(task, networks), "network"))
        bars.append(drawn("1-NN on one network's outputs", _nearest_outputs(task, networks[0])[None], "network"))
    for name, fit in baselines.items():
        group = "tables" if name in TABLES else "forest" if name in FORESTS else "kernels"
        bars.append(drawn(name, _fit_quality(task, fit)[None], group))
    return Bars(
        title=f"Held-out {score_name(task)}",
        x_label=score_name(task),
        bars=tuple(bars),
        reference=0.0 if task.regression else _commonest_score(task),
        reference_label="always the mean" if task.regression else "always the commonest answer",
        caption="The same test examples for all; 95 % intervals over examples.",
    )


def _of_examples(task: Task, values: Float[np.ndarray, "run example"]) -> Interval:
    """The mean over runs, bounded over examples alone."""
    variance = example_variance(values.mean(0), groups=task.test.groups, binary=not task.regression)
    interval = combined_interval(float(values.mean()), variances=(variance,))
    if task.regression or not math.isfinite(interval.low):
        return interval
    return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))


def _commonest_score(task: Task) -> float:
    """What the commonest training answer scores on the test examples."""
    return float((task.test.y == np.bincount(task.train.y).argmax()).mean())


def _nearest_outputs(task: Task, run: Run) -> Float[np.ndarray, "example"]:
    """A lookup table in the space of one network's outputs."""
    index = nearest(run.trace.train_outputs, run.trace.test_outputs).index[:, 0]
    if task.regression:
        return heldout_quality(task, task.train.y[index][:, None])
    return (task.train.y[index] == task.test.y).astype(np.float64)


def _shares(task: Task, decompositions: dict[str, Decomposition]) -> Shares:
    return Shares(
        title="Of the variance of the training targets" if task.regression else "Of 100 training answers",
        rows=tuple(_share_row(task, name, parts) for name, parts in decompositions.items()),
        caption="Learnt: right when the example was left out of training, beyond what the commonest answer would give. "
        "Memorised: right only when it was trained on.",
    )


def _share_row(task: Task, name: str, parts: Decomposition) -> ShareRow:
    """Parts of what is right when trained on, which add up to 1 with what is not, whatever the signs."""
    right = min(1.0, max(0.0, parts.included.value))
    heldout = min(right, max(0.0, parts.learnt.value + parts.chance))
    guessed = min(parts.chance, heldout)
    shares = [Share(name="learnt", value=heldout - guessed), Share(name="memorised", value=right - heldout)]
    if not task.regression:
        shares.insert(1, Share(name="chance alone", value=guessed))
    shares.append(Share(name="unexplained" if task.regression else "wrong", value=1 - right))
    return ShareRow(label=name, parts=tuple(shares))


def _by_distance(results: Results, networks: list[Run], baselines: dict[str, Fit]) -> list[Figure]:
    task, distance = results.task, results.background.nearest.distance[:, 0]
    histogram = _novelty(distance)
    edges = np.unique(np.quantile(distance, np.linspace(0, 1, NUM_DISTANCE_BINS + 1)))
    place = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, max(0, len(edges) - 2))
    bins = [np.flatnonzero(place == number) for number in np.unique(place)]
    if len(bins) < 2:
        return [histogram]
    lines = {"network": heldout_qualities(task, networks).mean(0)} | {
        name: _fit_quality(task, baselines[name])
        for name in ("1-NN table", "forest", "Gaussian kernel")
        if name in baselines
    }
    centres = [float(distance[members].mean()) for members in bins]
    curve = Curves(
        title="Near and far",
        x_label="distance to the nearest training example (mean of each fifth)",
        y_label=f"held-out {score_name(task)}",
        series=tuple(
            band(name, centres, [_of_part(task, values, members) for members in bins], shift=shift(task))
            for name, values in lines.items()
        ),
        caption="A lookup table is as good as its nearest entry. What stays right far from every training "
        "example was learnt.",
    )
    return [curve, histogram]


def _of_part(task: Task, values: Float[np.ndarray, "example"], members: Int[np.ndarray, "member"]) -> Interval:
    groups = None if task.test.groups is None else task.test.groups[members]
    variance = example_variance(values[members], groups=groups, binary=not task.regression)
    return combined_interval(float(values[members].mean()), variances=(variance,))


def _novelty(distance: Float[np.ndarray, "example"]) -> Histogram:
    counts, edges = np.histogram(distance, bins=NUM_HISTOGRAM_BINS)
    return Histogram(
        title="How new are the test examples?",
        x_label="distance to the nearest training example",
        y_label="test examples",
        series=(Counts(name="test", edges=tuple(edges.tolist()), counts=tuple(counts.tolist())),),
        caption="Distance 0 is a duplicate.",
    )


def _disagreements(task: Task, networks: list[Run], baselines: dict[str, Fit]) -> Table:
    own = heldout_qualities(task, networks)
    rows = []
    for name, fit in baselines.items():
        found = _mcnemar(own, _fit_quality(task, fit))
        rows.append((name, found.only_network, found.only_other, found.p_value, fit.seconds))
    return Table(
        title="Who is right where the other is wrong",
        columns=(
            Column(name="against"),
            Column(name="only the network is right", digits=0),
            Column(name="only the other is right", digits=0),
            Column(name="McNemar p", digits=3),
            Column(name="seconds to fit", digits=1),
        ),
        rows=tuple(rows),
        caption="The network of median held-out accuracy, on the same test examples. McNemar's exact test.",
    )
