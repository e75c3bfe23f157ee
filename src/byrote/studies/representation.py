"""What do kernels and forests lack? (Zhang et al. 2017; Belkin et al. 2018; Fort et al. 2020; Kornblith et al. 2019)"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from byrote.data import Task
from byrote.records import Finding, Learner, RunSpec, Section
from byrote.studies.pretraining import pretraining_curves, pretraining_findings
from byrote.studies.representation_claims import representation_findings
from byrote.studies.representation_figures import representation_figures
from byrote.studies.representation_runs import (
    AFTER,
    HELDOUT,
    KINDS,
    RANDOM,
    RESCALED,
    STUDY,
    TANGENT,
    TRUE,
    Represented,
    finished,
    longer,
    probes_of,
    represented,
    run_specs,
)
from byrote.studies.study import (
    AbstractStudy,
    Outcome,
    Plan,
    Results,
    StudyBudget,
    describe_sample,
    sampled_part,
)

TOLD = ("forest-gains-from-features", "training-improves-features", "kernel-velocity-falls")
"""What the summary says first."""


@final
@dataclass(frozen=True, kw_only=True)
class Representation(AbstractStudy):
    """Give kernels and forests a network's features in the place of its inputs, and follow how features, and the
    tangent kernel, change while networks learn true labels, random ones, and true ones after those.
    """

    name: ClassVar[str] = STUDY
    uses_runs: ClassVar[bool] = True
    largest_task: ClassVar[int | None] = 20_000
    question: ClassVar[str] = "What do kernels and forests lack?"

    def plan(self, task: Task, learner: Learner, budget: StudyBudget) -> Plan:
        """A network on true labels, one on random ones and two on true ones after those for the first seed, then for
        the second, and so on.
        """
        columns = {kind: run_specs(kind, task, learner, budget) for kind in KINDS}
        probes = {kind: probes_of(kind, task, learner, budget) for kind in columns}
        ordered = [(kind, specs[index]) for index in range(budget.runs) for kind, specs in columns.items()]
        return Plan(
            tuple(spec for _, spec in ordered),
            (),
            probes={spec: probes[kind] for kind, spec in ordered if probes[kind]},
            alongside={spec: longer(spec, kind) for kind, spec in ordered},
        )

    def follow_up(self, results: Results, budget: StudyBudget) -> tuple[RunSpec, ...]:
        """None."""
        return ()

    def summarise(self, results: Results, budget: StudyBudget) -> Outcome:
        """What features are worth, and how they came about."""
        part = sampled_part(results.task, budget.sample)
        true, random = (represented(kind, results, budget) for kind in (TRUE, RANDOM))
        begun = {kind: finished(kind, results, budget) for kind in (TRUE, AFTER, RESCALED)}
        findings = (*representation_findings(part, true, random), *pretraining_findings(part, begun))
        specs = tuple(spec for kind in KINDS for spec in run_specs(kind, results.task, results.learner, budget))
        section = Section(
            study=self.name,
            title=self.question,
            summary=_summary(findings),
            findings=findings,
            figures=(*representation_figures(part, true, random), *pretraining_curves(part, begun)),
            notes=(*_notes(results.task, part, true, random, budget), *results.lost(specs)),
        )
        return Outcome(section, None)


def _summary(findings: Sequence[Finding]) -> str:
    told = [finding.statement for finding in findings if finding.num_runs and finding.claim in TOLD]
    return " ".join(told) if told else findings[0].statement


def _notes(task: Task, part: Task, true: Represented, random: Represented, budget: StudyBudget) -> Iterator[str]:
    yield (
        "A forest and a Gaussian kernel machine are given the same features in the place of the same inputs; the "
        "intervals of these two claims are widened so that both hold together with 95 %, and so are those of the two "
        "about training on random ones first."
    )
    heldout, tangent = (examined.of(len(part.test))[1] for examined in (HELDOUT, TANGENT))
    yield (
        f"Layers are looked at on {heldout:,} held-out examples, tangent kernels on at most {tangent}, the same ones "
        "in every network. Layers are named as in the network; an activation stands for the layer before it, and of "
        "deep networks at most eight layers are looked at. Of layers of more than 1,024 numbers forests and kernel "
        "machines are given 1,024, drawn at random."
    )
    if part.regression:
        yield "Targets are numbers: there are no classes that could collapse."
    if true.layers.seeds and not true.hidden:
        yield (
            "The network has no hidden layer that is a module of its own and called once: what features are worth, and "
            "how they change, is left out. Make layers modules of the network to have them looked at."
        )
    if part.test.groups is not None:
        yield "A linear probe may answer an example from others of its group, before training as after it."
    for reason in sorted({reason for own in (true, random) for reason in own.reasons}):
        yield f"Not all could be measured: {reason.rstrip('.')}."
    if budget.sample is not None:
        yield f"This study looks at {describe_sample(task, budget.sample, test=True)}."
