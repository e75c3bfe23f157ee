"""What was run: task, recipe, cost, seeds, versions, machine and command."""

import shlex
from dataclasses import dataclass
from typing import assert_never, final

from byrote.records import (
    SAM,
    SGD,
    Adam,
    AdamW,
    BatchSize,
    Constant,
    Cosine,
    Cost,
    Learner,
    Linear,
    Optimiser,
    Provenance,
    Record,
    Regularisers,
    Schedule,
    Step,
    Switch,
    TaskCard,
    Trajectory,
    WarmUp,
    share_of_rest,
)
from byrote.report.labels import brief, printable
from byrote.report.numerals import counted, duration, grouped, significant

_SHOWN_CLASSES = 20


@final
@dataclass(frozen=True, kw_only=True)
class FactSheet:
    """Names and values under one heading."""

    title: str
    rows: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def fact_sheets(record: Record) -> tuple[FactSheet, ...]:
    """Everything needed to judge the record and to run it again."""
    return (
        FactSheet(title="Task", rows=_task(record.task), notes=tuple(map(printable, record.task.notes))),
        FactSheet(title="Recipe", rows=_learner(record.learner)),
        FactSheet(title="Cost", rows=_cost(record.cost), notes=tuple(map(printable, record.cost.failures))),
        FactSheet(title="Machine and versions", rows=_machine(record.provenance)),
    )


def trajectory_sheets(trajectory: Trajectory) -> tuple[FactSheet, ...]:
    """The same for a training that was watched."""
    rows = tuple((brief(name), brief(value)) for name, value in trajectory.facts)
    return (
        FactSheet(title="Measuring", rows=rows),
        FactSheet(title="Machine and versions", rows=_machine(trajectory.provenance)),
    )


def command_line(made: Provenance) -> str:
    """The command that made the record, as it would be typed."""
    return printable(shlex.join(made.argv))


def task_line(task: TaskCard) -> str:
    """The task in one line."""
    kind = f"{len(task.classes)} classes" if task.classes else "regression"
    return f"{grouped(task.num_train)} training and {grouped(task.num_test)} test examples, {kind}"


def learner_line(learner: Learner) -> str:
    """The learner in one line."""
    return brief(str(learner), limit=300)


def shortfall(cost: Cost) -> str:
    """How much of the plan there is, when there is less than all."""
    if cost.planned_runs <= cost.num_runs:
        return ""
    return f"{grouped(cost.num_runs)} of {counted(cost.planned_runs, one='planned training', many='planned trainings')}"


def _task(task: TaskCard) -> tuple[tuple[str, str], ...]:
    shown = ", ".join(brief(name, limit=40) for name in task.classes[:_SHOWN_CLASSES])
    more = f" and {grouped(len(task.classes) - _SHOWN_CLASSES)} more" if len(task.classes) > _SHOWN_CLASSES else ""
    chance = (("chance: always the commonest answer", significant(task.chance)),) if task.classes else ()
    return (
        ("name", brief(task.name)),
        ("kind of data", brief(task.modality)),
        ("training examples", grouped(task.num_train)),
        ("test examples", grouped(task.num_test)),
        ("input shape", " × ".join(grouped(size) for size in task.input_shape) or "one number"),
        ("target", f"{grouped(len(task.classes))} classes: {shown}{more}" if task.classes else "a number (regression)"),
        *chance,
        ("fingerprint", brief(task.fingerprint, limit=64)),
    )


def _learner(learner: Learner) -> tuple[tuple[str, str], ...]:
    recipe = learner.recipe
    return (
        ("model", brief(str(learner.model), limit=300)),
        ("optimiser", _optimiser(recipe.optimiser)),
        ("learning rate", f"{recipe.optimiser.lr:g}, {_schedule(recipe.schedule)}"),
        ("batch size", _batch_size(recipe.batch_size)),
        ("epochs", grouped(recipe.epochs)),
        *_regularisers(recipe.regularisers),
        ("precision", f"{recipe.dtype}, computing in bfloat16" if recipe.autocast else recipe.dtype),
        *(_switch(switch) for switch in recipe.switches),
    )


def _optimiser(optimiser: Optimiser) -> str:
    match optimiser:
        case SGD():
            kind = "Nesterov momentum" if optimiser.nesterov else "momentum"
            return f"SGD, {kind} {optimiser.momentum:g}, weight decay {optimiser.weight_decay:g}"
        case Adam() | AdamW():
            betas = f"β₁ {optimiser.beta1:g}, β₂ {optimiser.beta2:g}, ε {optimiser.eps:g}"
            return f"{type(optimiser).__name__}, {betas}, weight decay {optimiser.weight_decay:g}"
        case SAM():
            return f"SAM within ρ {optimiser.rho:g} of {_optimiser(optimiser.base)}"
        case _:
            assert_never(optimiser)


def _schedule(schedule: Schedule) -> str:
    match schedule:
        case Constant():
            return "constant"
        case Step():
            return f"times {schedule.factor:g} every {counted(schedule.every, one='epoch', many='epochs')}"
        case Cosine():
            return "falling to 0 along half a cosine"
        case Linear():
            return "falling to 0 along a line"
        case WarmUp():
            return f"warmed up for {counted(schedule.steps, one='step', many='steps')}, {_schedule(schedule.then)}"
        case _:
            assert_never(schedule)


def _batch_size(size: BatchSize) -> str:
    return "all examples: full-batch gradient descent" if size == "all" else grouped(size)


def _regularisers(chosen: Regularisers) -> tuple[tuple[str, str], ...]:
    """One row for each that is on."""
    rows = (
        ("dropout", chosen.dropout),
        ("label smoothing", chosen.label_smoothing or None),
        ("input noise", chosen.input_noise or None),
        ("longest gradient", chosen.clip_norm),
        ("Fisher penalty", chosen.fisher_penalty or None),
    )
    return tuple((name, f"{value:g}") for name, value in rows if value is not None)


def _switch(switch: Switch) -> tuple[str, str]:
    """All that holds from a step on."""
    regularisers = (f"{name} {value}" for name, value in _regularisers(switch.regularisers))
    parts = (
        _optimiser(switch.optimiser),
        f"learning rate {switch.optimiser.lr:g}, {_schedule(switch.schedule)}",
        f"batches of {_batch_size(switch.batch_size)}",
        *regularisers,
    )
    return f"from step {grouped(switch.step)} on", "; ".join(parts)


def _cost(cost: Cost) -> tuple[tuple[str, str], ...]:
    planned = f" of {grouped(cost.planned_runs)} planned" if cost.planned_runs > cost.num_runs else ""
    rows = [
        ("trainings", f"{grouped(cost.num_runs)}{planned}"),
        ("of these read from disk", grouped(cost.num_reused)),
        ("time in training", duration(cost.training_seconds)),
    ]
    if cost.probing_seconds:
        share = share_of_rest(cost.probing_seconds, of=cost.training_seconds)
        rows.append(("of it in probes", f"{duration(cost.probing_seconds)}, {100 * share:.1f} % of the rest"))
    if cost.num_fits:
        rows += [("fits of baselines", grouped(cost.num_fits)), ("time in fitting", duration(cost.fitting_seconds))]
    return (*rows, ("workers", grouped(cost.num_workers)), ("this call took", duration(cost.seconds)))


def _machine(made: Provenance) -> tuple[tuple[str, str], ...]:
    return (
        ("seed", str(made.seed)),
        ("device", brief(made.device)),
        ("precision", brief(made.dtype)),
        ("threads", grouped(made.num_threads)),
        ("made", brief(made.created)),
        ("git revision", brief(made.git_revision) or "outside a repository"),
        ("platform", brief(made.platform)),
        ("Python", brief(made.python)),
        *((brief(name), brief(version)) for name, version in made.versions),
    )
