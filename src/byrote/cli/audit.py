"""`byrote audit` and `byrote study`."""

import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import typer

from byrote.auditing import Audit, audit, check_amounts, default_recipe, has_complete_audit
from byrote.cli.console import DONE, GATE_FAILED, err, exit_status, say
from byrote.cli.gates import check_gates, gates_hold
from byrote.cli.progress import progress_bar
from byrote.cli.recipe import sort_options
from byrote.cli.start import STOPPED
from byrote.cli.summary import show_summary
from byrote.data import Task, load
from byrote.models import MODELS, named_model
from byrote.records import Finding, Learner, ModelSpec, Recipe, dumps
from byrote.studies import STUDIES

AUDITED = ("random-data", "lookup", "memorisation")
"""The studies of an audit."""


class _Done(NamedTuple):
    """An audit that ended, by itself or not."""

    result: Audit
    place: Path
    """The folder of its report."""
    saved: bool

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for section in self.result.record.sections for finding in section.findings)


def run(
    *,
    study: str | None,
    runs: int | None,
    budget: str | None,
    seed: int,
    as_json: bool,
    fail_on: list[str] | None,
    **settings: Any,
) -> int:
    """Check, load, audit, save, print. Returns the exit status."""
    studies = AUDITED if study is None else (study,)

    def work() -> int:
        for name in studies:
            STUDIES[name]
        check_amounts(runs=runs, budget=budget, seed=seed)
        check_gates(fail_on or (), studies=studies)
        done = _audit(study=study, studies=studies, runs=runs, budget=budget, seed=seed, **settings)
        _print(done, as_json=as_json)
        hold = gates_hold(fail_on or (), findings=done.findings)
        return STOPPED if done.result.interrupted else DONE if hold else GATE_FAILED

    return exit_status(work)


def _audit(
    *,
    study: str | None,
    studies: tuple[str, ...],
    task: str,
    model: str,
    width: int | None,
    seed: int,
    out: Path | None,
    runs: int | None,
    budget: str | None,
    device: str | None,
    **settings: Any,
) -> _Done:
    """Load and audit. A study alone has its report in a folder of its own, beside the runs."""
    recipe, data = sort_options(settings)
    with warnings.catch_warnings(), progress_bar(err, first=f"loading {task}") as on_progress:
        warnings.simplefilter("ignore", category=FutureWarning)
        spec = _model(model, width=width)
        recipe.on(Recipe())  # What is wrong with it is said before data are loaded.
        loaded = load(task, seed=seed, **data)
        folder = out or Path("runs") / _folder_name(loaded)
        result = audit(
            loaded,
            learner=Learner(model=spec, recipe=recipe.on(default_recipe(loaded))),
            studies=studies,
            budget=budget,
            runs=runs,
            seed=seed,
            device=device,
            out=folder,
            on_progress=on_progress,
            keep_partial=True,
        )
        return _save(result, folder if study is None else folder / study)


def _save(result: Audit, place: Path) -> _Done:
    """Save it, unless it was stopped and would replace a complete one, or say nothing."""
    saved = not result.interrupted or (result.record.cost.num_runs > 0 and not has_complete_audit(place))
    if saved:
        result.save(place)
    return _Done(result, place, saved)


def _model(name: str, *, width: int | None) -> ModelSpec:
    """The spec of a model as typed; an unknown name is refused before its arguments are."""
    if ":" not in name:
        MODELS[name]
    return named_model(name, **({} if width is None else {"width": width}))


def _folder_name(task: Task) -> str:
    """A task's name as one part of a path."""
    return re.sub(r"[^\w.-]+", "-", task.name).strip(".-") or "task"


def _print(done: _Done, *, as_json: bool) -> None:
    """Print what was found, and how to go on when something is missing."""
    record = done.result.record
    if as_json:
        typer.echo(dumps(done.findings))
    elif done.saved:
        show_summary(record.verdict, findings=done.findings, report=str(done.place / "report.html"))
    if record.complete:
        return
    who = "Stopped" if done.result.interrupted else "Stopped by the budget"
    kept = "" if done.saved or not has_complete_audit(done.place) else f"The report in {done.place} is as it was. "
    say(
        f"{who}: {record.cost.num_runs} of {record.cost.planned_runs} networks are there. {kept}"
        f"Run the same command again to go on from there."
    )
