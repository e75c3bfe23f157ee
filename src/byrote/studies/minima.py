"""What does the bottom look like? (Li et al. 2018; Keskar et al. 2017; Dinh et al. 2017; Frankle et al. 2020)"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from byrote.core import ModelError
from byrote.data import Task
from byrote.records import Finding, Learner, RunSpec, Section
from byrote.studies.basins import Basins, find_basins
from byrote.studies.end_claims import FITTED, end_findings
from byrote.studies.end_figures import end_figures
from byrote.studies.endings import EXAMINED, Ended, Endings, conditions, endings, num_examples, planned
from byrote.studies.ends import ADAPTIVE, MEASURES, score_text, target_noun
from byrote.studies.landscapes import state_of
from byrote.studies.study import (
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    describe_sample,
    sampled,
    sampled_part,
    score_name,
)
from byrote.studies.wording import capitalised, counted, listed

TOLD = ("sharpness-ranks-accuracy", "random-labels-end-sharper", "sam-tests-better", "seeds-share-a-basin")
"""What the summary says first."""


@final
@dataclass(frozen=True, kw_only=True)
class Minima(AbstractStudy):
    """Train by the recipe and by a few around it, on true and on random labels, and look at where each ends.

    Sharpness is measured of every network on training examples, in many ways, held-out accuracy beside it; how the loss
    looks around the end, of one network of each kind; and how high the loss is between networks of the same kind.
    Memorising takes longer than learning, so every run of this study takes `stretch` times the recipe's epochs, or as
    many as runs on a sample take, where it looks at one.
    """

    name: ClassVar[str] = "minima"
    uses_runs: ClassVar[bool] = True
    largest_task: ClassVar[int | None] = 20_000
    question: ClassVar[str] = "What does the bottom look like?"

    stretch: int = 2

    def __post_init__(self) -> None:
        if self.stretch < 1:
            raise ValueError(f"Expected stretch at least 1, got {self.stretch}.")

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """Every recipe on both kinds of labels for the first seed, then for the second, and so on."""
        columns = [
            planned(condition, task, learner, budget)
            for condition in conditions(task, learner, budget, stretch=self._times(budget))
        ]
        runs = [column[index] for index in range(budget.runs) for column in columns]
        return Plan(
            tuple(run.spec for run in runs),
            (),
            probes={run.spec: run.probes for run in runs},
            alongside={run.spec: (run.as_long,) for run in runs},
        )

    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """None."""
        return ()

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """Where each recipe and each kind of labels ended."""
        task, part = results.task, sampled_part(results.task, budget.sample)
        found = endings(part, results, budget, stretch=self._times(budget))
        basins = _basins(task, found["own", "true"])
        findings = end_findings(part, found, basins)
        section = Section(
            study=self.name,
            title=self.question,
            summary=_summary(findings),
            findings=findings,
            figures=tuple(end_figures(task, part, found, basins)),
            notes=(
                *self._notes(results, part, found, basins, budget),
                *results.lost(tuple(spec for ended in found.values() for spec in ended.specs)),
            ),
        )
        return Outcome(section, None)

    def _times(self, budget: StudyBudget) -> int:
        return self.stretch if budget.sample is None else 1

    def _notes(
        self, results: Results, part: Task, found: Endings, basins: Basins, budget: StudyBudget
    ) -> Iterator[str]:
        task, learner = results.task, results.learner
        epochs = self._times(budget) * sampled(learner, task, budget.sample).recipe.epochs
        yield (
            f"Memorising takes longer than learning: every run of this study takes "
            f"{counted(epochs, one='epoch', many='epochs')}, the recipe asks for {learner.recipe.epochs}."
        )
        count, size = EXAMINED.of(num_examples(task, budget))
        yield (
            f"Sharpness is measured on {count * size:,} of the training examples, of the loss without regularisers and "
            "in evaluation mode. A rescaling of layers changes it without changing an answer, by every measure but "
            f"{MEASURES[ADAPTIVE].title} (Dinh et al. 2017)."
        )
        yield from _unfitted(part, found)
        for reason in sorted({reason for ended in found.values() for reason in ended.reasons()}):
            yield f"Not all could be measured: {reason.rstrip('.')}."
        if basins.reason:
            yield f"Units could not be matched between networks: {basins.reason.rstrip('.')}."
        if budget.sample is not None:
            yield f"This study looks at {describe_sample(task, budget.sample, test=True)}."


def _unfitted(part: Task, found: Endings) -> Iterator[str]:
    """Where training did not get to a minimum."""
    for labels in ("true", "random"):
        short = [own for own in found.values() if own.condition.labels == labels and own.ends and own.fit < FITTED]
        if short:
            told = [f"{own.condition.variant.name} ({score_text(part, own.fit)})" for own in short]
            yield capitalised(
                f"on {labels} {target_noun(part)} training {score_name(part)} stays below {score_text(part, FITTED)} "
                f"with {listed(told)}: where these end there is no minimum."
            )


def _basins(task: Task, ended: Ended) -> Basins:
    """Of the learner's own recipe on true labels: networks that learnt different labels have nothing to share."""
    kept = [(run.spec, state_of(result)) for run, result in ended.checkpoints()]
    try:
        return find_basins(kept, task=task, examined=EXAMINED)
    except ModelError as error:
        return Basins({}, str(error))


def _summary(findings: Sequence[Finding]) -> str:
    told = [finding.statement for finding in findings if finding.value is not None and finding.claim in TOLD]
    return " ".join(told) if told else findings[0].statement
