"""What would be done, for a terminal of 80 columns."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from byrote.auditing import AuditPlan
from byrote.cli.quantities import duration


def show_plan(plan: AuditPlan) -> None:
    """Print what would be trained and fitted, for each study and kind, and how long it would take in all."""
    console = Console()
    console.print()
    console.print(Text(f"{plan.task}: {plan.learner}"))
    console.print()
    console.print(_runs(plan))
    if plan.fits:
        console.print()
        console.print(_fits(plan))
    console.print()
    console.print(Text(_total(plan)))


def _runs(plan: AuditPlan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("study", no_wrap=True)
    table.add_column("networks trained on", overflow="fold")
    for name in ("number", "stored", "examples", "epochs", "time"):
        table.add_column(name, justify="right")
    study = ""
    for line in plan.runs:
        shared = line.num_shared == line.num_runs > 0
        table.add_row(
            "" if line.study == study else line.study,
            line.condition,
            f"{line.num_runs:,}",
            f"{line.num_stored:,}",
            f"{line.num_train:,}",
            f"{line.epochs:,}",
            "shared" if shared else duration(line.seconds),
        )
        study = line.study
    return table


def _fits(plan: AuditPlan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("study", no_wrap=True)
    table.add_column("baselines", overflow="fold")
    for name in ("number", "stored", "examples"):
        table.add_column(name, justify="right")
    study = ""
    for line in plan.fits:
        name = "" if line.study == study else line.study
        table.add_row(name, line.baseline, f"{line.num_fits:,}", f"{line.num_stored:,}", f"{line.num_train:,}")
        study = line.study
    return table


def _total(plan: AuditPlan) -> str:
    """One paragraph: how much is new, how long it takes, and whether that fits."""
    new, helpers = plan.num_runs - plan.num_stored, plan.workers
    networks = f"{new:,} of {plan.num_runs:,} networks would be trained, in about {duration(plan.training_seconds)}"
    by_whom = f" by {helpers} workers" if helpers > 1 else ""
    fits = sum(line.num_fits - line.num_stored for line in plan.fits)
    if plan.budget is None:
        baselines = f" {fits:,} baselines would be fitted; how long they take is not predicted." if fits else ""
        return f"{networks}{by_whom}.{baselines} Nothing was trained or written."
    most = plan.fitting_seconds or 0.0
    baselines = f" {fits:,} baselines would be fitted, in {duration(most)} at most." if fits else ""
    if fits and not most:
        baselines = f" There is no time for the {fits:,} baselines."
    total = plan.training_seconds + most + plan.other_seconds
    fitting = "which fits" if plan.fits_budget else "which does not fit"
    return (
        f"{networks}{by_whom}.{baselines} With {duration(plan.other_seconds)} for looking at the data and for the "
        f"report that is {duration(total)} at most, {fitting} into the budget of {duration(plan.budget)}. Nothing was "
        f"trained or written."
    )
