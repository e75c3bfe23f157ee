"""A lookup table, or learning? (the network against tables, forests and kernels on the same held-out examples)"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import numpy as np
from jaxtyping import Bool, Float

from byrote.data import Task, inclusion
from byrote.measures import (
    combined_interval,
    heldout_mean,
    included_mean,
    mcnemar,
    mean_interval,
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
    Series,
    Share,
    ShareRow,
    Shares,
    Table,
    above,
)
from byrote.studies.papers import BELKIN, BREIMAN, COVER_HART, FELDMAN
from byrote.studies.study import (
    SUBSET_FRACTION,
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    chance,
    heldout_quality,
    inclusion_mask,
    percent,
    quality,
    run_seed,
    sampled_part,
    subset_runs,
)

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


@final
@dataclass(frozen=True, kw_only=True)
class Lookup(AbstractStudy):
    """Compare the network with tables that really look up, with a forest and with kernels, on the same held-out
    examples, and split its training score into what it learnt and what it memorised.
    """

    name: ClassVar[str] = "lookup"
    uses_runs: ClassVar[bool] = True
    uses_subsets: ClassVar[bool] = True
    question: ClassVar[str] = "A lookup table, or learning?"

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """Networks as the recipe says on all examples, networks on subsets, and every baseline once on all examples
        and a few times on subsets.
        """
        whole = tuple(self._fit(task, baseline, budget) for baseline in (TABLES | FORESTS | KERNELS).values())
        parts = tuple(spec for baseline in DECOMPOSED.values() for spec in self._subset_fits(task, baseline, budget))
        return Plan((*self._networks(task, learner, budget), *subset_runs(task, learner, budget)), (*whole, *parts))

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
            _beats(task, networks, {n: f for n, f in baselines.items() if n in TABLES}, claim="beats-lookup-table"),
            _beats(task, networks, {n: f for n, f in baselines.items() if n in FORESTS}, claim="beats-forest"),
            _beats(task, networks, {n: f for n, f in baselines.items() if n in KERNELS}, claim="beats-kernel"),
            *_share_findings(task, decompositions.get("network")),
        )
        section = Section(
            study=self.name,
            title=self.question,
            summary=" ".join(
                s for s in (_answer(task, decompositions.get("network")), _scores(task, networks, baselines)) if s
            )
            or "Nothing was finished in time, so nothing can be said yet.",
            findings=findings,
            figures=_figures(results, networks, baselines, decompositions),
            notes=self._notes(results, networks, baselines, budget),
        )
        return Outcome(section, None)

    def _networks(self, task: Task, learner: Learner, budget: StudyBudget) -> tuple[RunSpec, ...]:
        return tuple(
            RunSpec(task=task.fingerprint, learner=learner, seed=run_seed(budget, index), order=budget.seed)
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
            notes.append("One network was trained on all examples: intervals leave out how much seeds differ.")
        if budget.sample is not None:
            notes.append(
                f"The network's decomposition is on a stratified sample of {budget.sample.train:,} of "
                f"{len(task.train):,} training examples."
            )
        fits = self._subset_fits(task, ExactMatch(), budget)
        if fits[0].sample is not None:
            notes.append(
                f"The baselines' decomposition is on a stratified sample of {fits[0].sample.train:,} of "
                f"{len(task.train):,} training examples."
            )
        notes.append(
            "Where several tables (or kernels) were fitted, the network is compared with the best of them on the very "
            "test examples, which favours the table."
        )
        return tuple(notes)


def _answer(task: Task, parts: Decomposition | None) -> str:
    """The decomposition in one sentence."""
    if parts is None:
        return ""
    learnt, memorised = _of_100(parts.learnt), _of_100(parts.memorised)
    if task.regression:
        return (
            f"Of the variance of the training targets {learnt} % is learnt (explained for examples that were "
            "left out) and "
            f"{memorised} % is memorised (explained only for examples that were trained on)."
        )
    return (
        f"Of 100 training answers, {learnt} are learnt, {100 * parts.chance:.1f} chance alone would give and "
        f"{memorised} "
        f"are memorised."
    )


def _of_100(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return f"{100 * interval.value:.1f}"
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _scores(task: Task, networks: list[Run], baselines: dict[str, Fit]) -> str:
    """Who scores what on the held-out examples, in one sentence; of several tables or kernels the best."""
    shift = 1.0 if task.regression else 0.0

    def shown(outputs: list[Float[np.ndarray, "example output"]]) -> str:
        score = float(np.mean([heldout_quality(task, part).mean() for part in outputs])) + shift
        return f"an R² of {score:.3f}" if task.regression else percent(score)

    def best(names: dict[str, Baseline]) -> str:
        fitted = {
            name: heldout_quality(task, fit.test_outputs).mean() for name, fit in baselines.items() if name in names
        }
        return max(fitted, key=fitted.__getitem__, default="")

    rivals = [
        f"the {name} {shown([baselines[name].test_outputs])}"
        for group in (TABLES, FORESTS, KERNELS)
        if (name := best(group))
    ]
    own = [f"the network scores {shown([run.trace.test_outputs for run in networks])}"] if networks else []
    if not own and not rivals:
        return ""
    said = ", ".join([*own, *rivals])
    return f"On held-out examples {said}."


def _train_quality(part: Task, fit: Fit) -> Float[np.ndarray, "example"]:
    assert fit.train_outputs is not None
    outputs, y = fit.train_outputs, part.train.y
    if part.regression:
        return -((outputs[:, 0].astype(np.float64) - y) ** 2) / np.var(y)
    return (outputs.argmax(1) == y).astype(np.float64)


def _decompose(
    part: Task, mask: Bool[np.ndarray, "run example"], values: Float[np.ndarray, "run example"]
) -> Decomposition:
    """Scores in and out (for regression, R²); intervals over runs and examples, both taken as drawn at random."""
    scores = values + 1.0 if part.regression else values
    included, heldout = per_run_mean(mask, scores), per_run_mean(~mask, scores)
    level = chance(part)
    return Decomposition(
        included=_over_both(included, included_mean(mask, scores).value),
        learnt=_over_both(heldout - level, heldout_mean(mask, scores).value - level),
        memorised=_over_both(included - heldout, memorisation(mask, scores).value),
        chance=level,
        num_runs=len(mask),
    )


def _over_both(by_run: Float[np.ndarray, "run"], by_example: Float[np.ndarray, "example"]) -> Interval:
    known = by_example[np.isfinite(by_example)]
    runs = by_run[np.isfinite(by_run)]
    if len(runs) < 2 or len(known) < 2:
        return mean_interval(runs[:1] if len(runs) else np.zeros(1))
    return combined_interval(
        float(runs.mean()),
        variances=(
            (float(runs.var(ddof=1)) / len(runs), len(runs) - 1),
            (float(known.var(ddof=1)) / len(known), len(known) - 1),
        ),
    )


def _beats(task: Task, networks: list[Run], rivals: dict[str, Fit], *, claim: str) -> Finding:
    """The network's mean held-out score minus the best rival's, paired by example."""
    paper = {"beats-lookup-table": COVER_HART, "beats-forest": BREIMAN, "beats-kernel": BELKIN}[claim]
    score = "R²" if task.regression else "accuracy"
    if not networks or not rivals:
        missing = "network" if not networks else claim.removeprefix("beats-").replace("-", " ")
        return _finding(claim, f"Whether it does better cannot be said: no {missing} was fitted in time.", paper, score)
    own = np.stack([heldout_quality(task, run.trace.test_outputs) for run in networks])
    others = {name: heldout_quality(task, fit.test_outputs) for name, fit in rivals.items()}
    name, best = max(others.items(), key=lambda item: item[1].mean())
    difference = own.mean(0) - best
    variances = [(float(difference.var(ddof=1)) / len(difference), len(difference) - 1)]
    if len(networks) > 1:
        variances.append((float(own.mean(1).var(ddof=1)) / len(networks), len(networks) - 1))
    interval = combined_interval(float(difference.mean()), variances=tuple(variances))
    shift = 1.0 if task.regression else 0.0
    a, b = own.mean() + shift, best.mean() + shift
    shown = f"R² of {a:.3f}, the {name} {b:.3f}" if task.regression else f"{percent(a)}, the {name} {percent(b)}"
    return _finding(
        claim,
        f"On held-out examples the network scores {shown}.",
        paper,
        score,
        interval=interval,
        p_value=None if task.regression else _mcnemar(own, best),
        num_runs=len(networks),
        margin=WORTHWHILE,
    )


def _mcnemar(own: Float[np.ndarray, "run example"], other: Float[np.ndarray, "example"]) -> float:
    """The exact test for the network of median held-out accuracy."""
    median = own[np.argsort(own.mean(1), kind="stable")[len(own) // 2]]
    return mcnemar(int(((median == 1) & (other == 0)).sum()), int(((median == 0) & (other == 1)).sum()))


def _share_findings(task: Task, parts: Decomposition | None) -> tuple[Finding, Finding]:
    unit = "share of R²" if task.regression else "share of training answers"
    if parts is None:
        why = "No network on a subset was finished, so learnt and memorised cannot be told apart."
        return _finding("learnt-share", why, FELDMAN, unit), _finding("memorised-share", why, FELDMAN, unit)
    if task.regression:
        learnt = (
            f"Left-out training examples are predicted with an R² of {parts.learnt.value:.3f}: that much is learnt."
        )
        known = f"Trained on, they are fitted with an R² that is {parts.memorised.value:.3f} higher: that is memorised."
    else:
        learnt = (
            f"Of 100 training answers {100 * parts.learnt.value:.1f} are learnt: right when left out, beyond the "
            f"{100 * parts.chance:.1f} that always giving the commonest answer would get."
        )
        known = f"Of 100 training answers {100 * parts.memorised.value:.1f} are memorised: right only when trained on."
    return (
        _finding("learnt-share", learnt, FELDMAN, unit, interval=parts.learnt, num_runs=parts.num_runs),
        _finding(
            "memorised-share",
            known,
            FELDMAN,
            unit,
            interval=parts.memorised,
            num_runs=parts.num_runs,
            margin=WORTHWHILE,
        ),
    )


def _finding(
    claim: str,
    statement: str,
    paper: str,
    unit: str,
    *,
    interval: Interval | None = None,
    p_value: float | None = None,
    num_runs: int = 0,
    margin: float = 0.0,
) -> Finding:
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return Finding(
        study=Lookup.name,
        claim=claim,
        statement=statement,
        value=None if interval is None else interval.value,
        low=low,
        high=high,
        unit=unit,
        null=0.0,
        p_value=p_value,
        num_runs=num_runs,
        verdict=above(low=low, high=high, null=0.0, margin=margin),
        paper=paper,
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
    shift = 1.0 if task.regression else 0.0
    bars: list[Bar] = []
    if networks:
        own = np.stack([heldout_quality(task, run.trace.test_outputs) for run in networks])
        bars.append(_bar("network", own.mean(0), shift, group="network"))
        bars.append(_bar("1-NN on the network's outputs", _nearest_outputs(task, networks[0]), shift, group="network"))
    for name, fit in baselines.items():
        group = "tables" if name in TABLES else "forest" if name in FORESTS else "kernels"
        bars.append(_bar(name, heldout_quality(task, fit.test_outputs), shift, group=group))
    return Bars(
        title=f"Held-out {'R²' if task.regression else 'accuracy'}",
        x_label="R²" if task.regression else "accuracy",
        bars=tuple(bars),
        reference=chance(task),
        reference_label="always the commonest answer" if not task.regression else "always the mean",
        caption="The same test examples for all; 95 % intervals over examples.",
    )


def _bar(name: str, values: Float[np.ndarray, "example"], shift: float, *, group: str) -> Bar:
    interval = mean_interval(values)
    return Bar(
        label=name, value=interval.value + shift, low=interval.low + shift, high=interval.high + shift, group=group
    )


def _nearest_outputs(task: Task, run: Run) -> Float[np.ndarray, "example"]:
    """A lookup table in the space of one network's outputs."""
    index = nearest(run.trace.train_outputs, run.trace.test_outputs).index[:, 0]
    if task.regression:
        return heldout_quality(task, task.train.y[index][:, None])
    return (task.train.y[index] == task.test.y).astype(np.float64)


def _shares(task: Task, decompositions: dict[str, Decomposition]) -> Shares:
    rows: list[ShareRow] = []
    for name, parts in decompositions.items():
        learnt, memorised = max(0.0, parts.learnt.value), max(0.0, parts.memorised.value)
        wrong = max(0.0, 1 - parts.chance - learnt - memorised)
        shares = [Share(name="learnt", value=learnt), Share(name="memorised", value=memorised)]
        if not task.regression:
            shares.insert(1, Share(name="chance alone", value=parts.chance))
        rows.append(
            ShareRow(
                label=name, parts=(*shares, Share(name="wrong" if not task.regression else "unexplained", value=wrong))
            )
        )
    return Shares(
        title="Of 100 training answers" if not task.regression else "Of the variance of the training targets",
        rows=tuple(rows),
        caption="Learnt: right when the example was left out of training, beyond what the commonest answer would give. "
        "Memorised: right only when it was trained on.",
    )


def _by_distance(results: Results, networks: list[Run], baselines: dict[str, Fit]) -> list[Figure]:
    task, distance = results.task, results.nearest.distance[:, 0]
    shift = 1.0 if task.regression else 0.0
    edges = np.unique(np.quantile(distance, np.linspace(0, 1, NUM_DISTANCE_BINS + 1)))
    counts, bins = np.histogram(distance, bins=40)
    histogram = Histogram(
        title="How new are the test examples?",
        x_label="distance to the nearest training example",
        y_label="test examples",
        series=(Counts(name="test", edges=tuple(bins.tolist()), counts=tuple(counts.tolist())),),
        caption="Distance 0 is a duplicate.",
    )
    if len(edges) < 3:
        return [histogram]
    bin_of = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(edges) - 2)
    own = np.stack([heldout_quality(task, run.trace.test_outputs) for run in networks]).mean(0)
    lines = {"network": own} | {
        name: heldout_quality(task, baselines[name].test_outputs)
        for name in ("1-NN table", "forest", "Gaussian kernel")
        if name in baselines
    }
    centres = tuple(float(distance[bin_of == number].mean()) for number in range(len(edges) - 1))
    series = tuple(_line(name, values + shift, bin_of, centres) for name, values in lines.items())
    curve = Curves(
        title="Near and far",
        x_label="distance to the nearest training example (mean of each fifth)",
        y_label="R²" if task.regression else "held-out accuracy",
        series=series,
        caption="A lookup table is as good as its nearest entry. What stays right far from every training "
        "example was learnt.",
    )
    return [curve, histogram]


def _line(name: str, values: Float[np.ndarray, "example"], bin_of: np.ndarray, centres: tuple[float, ...]) -> Series:
    intervals = [mean_interval(values[bin_of == number]) for number in range(len(centres))]
    banded = all(np.isfinite(i.low) for i in intervals)
    return Series(
        name=name,
        x=centres,
        y=tuple(i.value for i in intervals),
        low=tuple(i.low for i in intervals) if banded else (),
        high=tuple(i.high for i in intervals) if banded else (),
    )


def _disagreements(task: Task, networks: list[Run], baselines: dict[str, Fit]) -> Table:
    own = np.stack([heldout_quality(task, run.trace.test_outputs) for run in networks])
    median = own[np.argsort(own.mean(1), kind="stable")[len(own) // 2]]
    rows = []
    for name, fit in baselines.items():
        other = heldout_quality(task, fit.test_outputs)
        only_network, only_other = int(((median == 1) & (other == 0)).sum()), int(((median == 0) & (other == 1)).sum())
        rows.append((name, only_network, only_other, mcnemar(only_network, only_other), fit.seconds))
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
