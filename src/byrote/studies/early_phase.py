"""How does the beginning of training steer the rest? (Jastrzębski et al. 2019 to 2021, and others)"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float

from byrote.core import ByroteError
from byrote.data import Task
from byrote.measures import travel
from byrote.probing import SharpestSteps
from byrote.records import (
    SAM,
    SGD,
    Adam,
    AdamW,
    Bars,
    Constant,
    Curves,
    Figure,
    Finding,
    Learner,
    Recipe,
    Run,
    RunSpec,
    Section,
    Series,
)
from byrote.studies.bars_and_bands import band, bar
from byrote.studies.branching import barrier_bars, barriers, branching_finding
from byrote.studies.connectivity import EXAMINED, weights_along
from byrote.studies.early_conditions import (
    PATH,
    STEPS,
    Design,
    as_long,
    design,
    probes_of,
    spec_of,
)
from byrote.studies.edge_of_stability import edge_figures, edge_finding
from byrote.studies.fisher_penalties import penalty_bars, penalty_findings
from byrote.studies.heldout import heldout_level, heldout_name
from byrote.studies.rates_and_batches import Seen, grid_figures, grid_findings
from byrote.studies.recipe_changes import decay_of
from byrote.studies.study import (
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    describe_sample,
    sampled_part,
    shift,
)
from byrote.studies.watching import mean_of, watched
from byrote.studies.when_to_regularise import decay_bars, decay_finding
from byrote.studies.wording import counted
from byrote.training import AbstractProbe

Runs = Mapping[str, Mapping[int, Run]]
"""Finished ones, by condition and seed."""


@final
@dataclass(frozen=True, kw_only=True)
class EarlyPhase(AbstractStudy):
    """Follow curvature and gradients from the first step on, at several learning rates and batch sizes; let the rate
    fall at several steps; regularise early or late; penalise the Fisher's trace; train on full batches.
    """

    name: ClassVar[str] = "early-phase"
    uses_runs: ClassVar[bool] = True
    fewest_runs: ClassVar[int] = 2
    largest_task: ClassVar[int | None] = 20_000
    question: ClassVar[str] = "How does the beginning of training steer the rest?"

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """Every condition for the first seed, then for the second, and so on."""
        made, number = design(task, learner, budget), _number(task, budget)
        specs = [
            (spec_of(kind, task, learner, budget, index=index), kind)
            for index in range(budget.runs)
            for kind in made.kinds
        ]
        longer = {kind: as_long(made, kind, number=number) for kind in made.kinds}
        probes: dict[RunSpec, dict[str, AbstractProbe]] = {}
        for spec, kind in specs:  # Two conditions may be the same training: full batches, where the recipe has them.
            own = probes_of(made, kind, number=number).values()
            probes.setdefault(spec, {}).update({probe.key: probe for probe in own})
        return Plan(
            tuple(probes),
            (),
            probes={spec: tuple(own.values()) for spec, own in probes.items() if own},
            alongside={
                spec: tuple(replace(spec, order=spec.order + more) for more in range(1, longer[kind] + 1))
                for spec, kind in specs[::-1]
            },
        )

    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """None."""
        return ()

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Compare the conditions, seed by seed."""
        task, part = results.task, sampled_part(results.task, budget.sample)
        made, number = design(task, results.learner, budget), _number(task, budget)
        runs = _finished(made, results, budget)
        seen = {
            (kind.name, name): watched(list(runs[kind.name].values()), probe)
            for kind in made.kinds
            for name, probe in probes_of(made, kind, number=number).items()
        }
        found, why_no_barrier = barriers(task, made, runs, number=number)
        findings = (
            *grid_findings(made, seen),
            branching_finding(made, found),
            decay_finding(part, made, runs),
            *penalty_findings(part, made, runs, seen),
            edge_finding(made, seen),
        )
        figures: list[Figure] = [
            *grid_figures(made, seen, number=number),
            *_step_figures(made, seen, number=number),
            *_path_figures(task, made, runs, number=number),
            *barrier_bars(made, found, regression=bool(part.regression)),
            *_branch_bars(part, made, runs),
            *decay_bars(part, made, runs),
            *penalty_bars(part, made, runs),
            *edge_figures(made, seen),
        ]
        specs = [
            spec_of(kind, task, results.learner, budget, index=i) for kind in made.kinds for i in range(budget.runs)
        ]
        section = Section(
            study=self.name,
            title=self.question,
            summary=_summary(findings),
            findings=findings,
            figures=tuple(figures),
            notes=(*_notes(results, budget, made, seen, why_no_barrier), *results.lost(tuple(dict.fromkeys(specs)))),
        )
        return Outcome(section, None)


def _number(task: Task, budget: StudyBudget) -> int:
    """Training examples that are looked at."""
    return len(task.train) if budget.sample is None else min(budget.sample.train, len(task.train))


def _finished(made: Design, results: Results, budget: StudyBudget) -> Runs:
    found: dict[str, dict[int, Run]] = {}
    for kind in made.kinds:
        specs = [spec_of(kind, results.task, results.learner, budget, index=index) for index in range(budget.runs)]
        found[kind.name] = {run.spec.seed: run for run in results.completed(tuple(specs))}
    return found


def _summary(findings: tuple[Finding, ...]) -> str:
    """The surest statements, or that there are none yet."""
    told = {finding.claim: finding for finding in findings if finding.num_runs}
    chosen = ("rate-lowers-gradient-variance", "peak-is-early", "barrier-falls", "small-rate-raises-fisher")
    sentences = [told[name].statement for name in chosen if name in told]
    if sentences:
        return " ".join(sentences)
    return findings[0].statement


def _step_figures(made: Design, seen: Seen, *, number: int) -> list[Curves]:
    """What steps along the sharpest direction do to the loss, early and late."""
    own = seen.get((made.own.name, STEPS))
    if own is None or not own.seeds:
        return []
    probe = probes_of(made, made.own, number=number)[STEPS]
    assert isinstance(probe, SharpestSteps)
    figures: list[Curves] = []
    for place, step in enumerate(own.steps):
        starts = own.values["start"][:, place]
        series = [
            _changes(name, own.values[key][:, place] / starts[:, None], probe.multiples)
            for key, name in (("sharpest", "sharpest direction"), ("random", "random"), ("full", "whole gradient"))
        ]
        if not all(np.isfinite(starts)) or not all(starts > 0):
            continue
        figures.append(
            Curves(
                title=f"Gradient steps along single directions, after {counted(int(step), one='step', many='steps')}",
                x_label="times the learning rate",
                y_label="change of the loss, as a share of it",
                series=tuple(series),
                caption="The gradient's part along the sharpest direction alone, a step as long in a random direction, "
                "downhill, and the whole gradient; momentum left out. Above 0 the loss rises. Mean over seeds, with "
                "95 % bands. Jastrzębski et al. 2019.",
                log_x=True,
                reference=0.0,
            )
        )
    return figures


def _changes(name: str, changes: Float[np.ndarray, "seed multiple"], multiples: tuple[float, ...]) -> Series:
    return band(name, multiples, [mean_of(dict(enumerate(column.tolist()))) for column in changes.T])


def _path_figures(task: Task, made: Design, runs: Runs, *, number: int) -> list[Curves]:
    """How far the weights still have to go, and in which direction they lie."""
    probe = probes_of(made, made.own, number=number)[PATH]
    own = [(run, run.probes[probe.key]) for run in runs[made.own.name].values() if probe.key in run.probes]
    if not own:
        return []
    try:
        paths = [travel(weights_along(task, run, result)) for run, result in own]
    except ByroteError:
        return []
    first, steps = own[0][0], np.asarray(own[0][1].steps)
    epochs = steps / float(first.curves.step[-1]) * len(first.curves.step)
    rows = {
        "still to go, as a share": np.stack([one.from_end / max(one.from_end[0], 1e-12) for one in paths]),
        "cosine to the start": np.stack([one.cosine_to_start for one in paths]),
        "cosine to the end": np.stack([one.cosine_to_end for one in paths]),
    }
    series = [
        band(name, epochs.tolist(), [mean_of(dict(enumerate(column.tolist()))) for column in values.T])
        for name, values in rows.items()
    ]
    return [
        Curves(
            title="How far the weights have come",
            x_label="epoch",
            y_label="share, or cosine",
            series=tuple(series),
            caption="Of the recipe's own runs: the distance to the weights at the end against the whole, and the angle "
            "between the weights and those at the start and at the end. Mean over seeds, with 95 % bands.",
        )
    ]


def _branch_bars(part: Task, made: Design, runs: Runs) -> list[Bars]:
    """Held-out scores by the step at which the learning rate fell."""
    kinds = {f"from step {step:,}": kind for step, kind in made.branches.items()} | {"never": made.own}
    levels = {words: heldout_level(part, runs[kind.name]) for words, kind in kinds.items()}
    bars = tuple(bar(words, level, group="branch", shift=shift(part)) for words, level in levels.items() if level.count)
    if not bars:
        return []
    return [
        Bars(
            title=f"From the recipe's own rate to {made.slow.name}",
            x_label=heldout_name(part),
            bars=bars,
            caption="Networks of the same seeds, whose learning rate falls to a tenth at a step. Intervals hold for "
            "new networks and new held-out examples.",
        )
    ]


def _notes(results: Results, budget: StudyBudget, made: Design, seen: Seen, why_no_barrier: str) -> tuple[str, ...]:
    task, recipe = results.task, made.own.recipe
    return tuple(
        note
        for note in (
            *_how_notes(made),
            *_optimiser_notes(recipe),
            *_reason_notes(made, seen, why_no_barrier),
            *_sample_notes(task, budget, made),
        )
        if note
    )


def _how_notes(made: Design) -> tuple[str, ...]:
    examined = made.extent.examined
    most = EXAMINED.num_batches * EXAMINED.batch_size
    return (
        "Intervals of claims that compare the same two conditions are widened so that all of these hold together with "
        "95 %; claims about different conditions are judged each by itself, so of many one may be wrong by chance.",
        f"Everything is measured on the same training examples at every moment, at most {examined.num_batches} "
        f"mini-batches of {examined.batch_size}, in evaluation mode and without regularisers. The Fisher's trace has "
        "labels drawn from the network.",
        "A branch is compared with the branch whose rate falls last, so that one reference serves all: how soon "
        "training is bound to where it ends. The barrier is of the training loss on at most "
        f"{most} examples.",
        "" if decay_of(made.own.recipe) else f"The recipe has no weight decay: {made.weight_decay:g} was taken.",
    )


def _optimiser_notes(recipe: Recipe) -> Iterator[str]:
    optimiser = recipe.optimiser
    base = optimiser.base if isinstance(optimiser, SAM) else optimiser
    if isinstance(optimiser, SAM):
        yield "No stability limit is known for SAM: sharpness is not set beside one, and full batches are left out."
    elif isinstance(base, (Adam, AdamW)):
        yield (
            "Break-even points are of gradient descent and are left out for Adam; its stability is judged by the "
            "preconditioned sharpness."
        )
        if isinstance(base, Adam) and base.weight_decay:
            yield "No stability limit is known for Adam with weight decay in the gradient: full batches are left out."
    elif isinstance(base, SGD) and base.momentum:
        yield (
            "With momentum, break-even points are those of plain gradient descent at the rate that becomes unstable at "
            "the same sharpness, which is exact for full batches alone."
        )
    if not isinstance(recipe.schedule, Constant):
        yield "The learning rate follows the recipe's schedule; break-even points take it at its full height."
    if recipe.switches:
        yield (
            "The recipe's own switches stay where they are in every condition; the stability limit is not drawn, since "
            "they change it."
        )


def _reason_notes(made: Design, seen: Seen, why_no_barrier: str) -> Iterator[str]:
    reasons = {own.reason for own in seen.values() if own.reason}
    for reason in sorted(reasons):
        yield f"Something could not be measured: {reason}"
    if why_no_barrier:
        yield f"Barriers could not be measured: {why_no_barrier}"
    if len(made.batches) < 2:
        yield "There are too few examples for batches of another size."
    if made.decays is None or len(made.branches) < 2:
        yield "The training has too few steps to be changed on the way."


def _sample_notes(task: Task, budget: StudyBudget, made: Design) -> Iterator[str]:
    if made.edge is not None and made.edge.sample is not None and made.edge.sample != budget.sample:
        yield (
            f"Full-batch training is on {made.edge.sample.train:,} examples, for "
            f"{counted(made.edge.recipe.epochs, one='step', many='steps')}."
        )
    if budget.sample is not None:
        yield (
            "There was no time for the whole task, nor for learning rates and batch sizes between the extremes; "
            "moments and examples that are looked at are fewer, too."
        )
        yield f"This study looks at {describe_sample(task, budget.sample, test=True)}."
