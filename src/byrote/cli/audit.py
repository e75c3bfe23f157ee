"""`byrote audit` and `byrote study`; `byrote labels` is the study of this name with more options."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import typer

from byrote.auditing import (
    Audit,
    Workers,
    audit,
    check_amounts,
    default_recipe,
    gives_way,
    has_complete_audit,
    plan,
)
from byrote.cli.console import DONE, GATE_FAILED, err, exit_status, say
from byrote.cli.forecast import show_plan
from byrote.cli.gates import check_gates, gates_hold
from byrote.cli.progress import progress_bar
from byrote.cli.recipe import sort_options
from byrote.cli.start import STOPPED
from byrote.cli.summary import show_summary
from byrote.core import SpecError
from byrote.data import Task, load
from byrote.execution import OnProgress
from byrote.models import MODELS, named_model
from byrote.records import Finding, Learner, ModelSpec, Recipe, dumps
from byrote.studies import AUDITED, STUDIES, AbstractStudy

OnSaved = Callable[[Audit, Path], None]
"""Told what was found, and the folder of its report."""


class _Request(NamedTuple):
    """What was typed, ready for `byrote.audit` or `byrote.plan`."""

    task: Task
    place: Path
    """The folder of the report."""
    arguments: dict[str, Any]


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
    study: str | AbstractStudy | None,
    runs: int | None,
    budget: str | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
    fail_on: list[str] | None,
    on_saved: OnSaved = lambda result, place: None,
    **settings: Any,
) -> int:
    """Check, load, audit, save, print. Returns the exit status."""
    studies = AUDITED if study is None else (study,)
    alone = study.name if isinstance(study, AbstractStudy) else study

    def work() -> int:
        names = AUDITED if alone is None else (alone,)
        for name in names:
            STUDIES[name]
        check_amounts(runs=runs, budget=budget, seed=seed)
        check_gates(fail_on or (), studies=names)
        amounts = {"studies": studies, "runs": runs, "budget": budget, "seed": seed}
        if dry_run:
            return _forecast(alone, amounts, settings, as_json=as_json)
        done = _audit(alone, amounts, settings)
        if done.saved:
            on_saved(done.result, done.place)
        _print(done, as_json=as_json, limited=runs is None)
        hold = gates_hold(fail_on or (), findings=done.findings)
        return STOPPED if done.result.interrupted else DONE if hold else GATE_FAILED

    return exit_status(work)


def _forecast(study: str | None, amounts: dict[str, Any], settings: dict[str, Any], *, as_json: bool) -> int:
    """Say what would be done."""
    with _quiet_progress(settings["task"]) as on_progress:
        asked = _request(study, seed=amounts["seed"], **settings)
        made = plan(asked.task, on_progress=on_progress, **amounts, **asked.arguments)
    if as_json:
        typer.echo(dumps(made))
    else:
        show_plan(made)
    return DONE


def _audit(study: str | None, amounts: dict[str, Any], settings: dict[str, Any]) -> _Done:
    """Load and audit."""
    with _quiet_progress(settings["task"]) as on_progress:
        asked = _request(study, seed=amounts["seed"], **settings)
        result = audit(
            asked.task,
            on_progress=on_progress,
            on_interim=partial(_save_interim, place=asked.place),
            keep_partial=True,
            **amounts,
            **asked.arguments,
        )
        saved = gives_way(asked.place, to=result.record, final=not result.interrupted)
        if saved:
            result.save(asked.place)
        return _Done(result, asked.place, saved)


@contextmanager
def _quiet_progress(task: str) -> Iterator[OnProgress]:
    """Progress on standard error, without what libraries will change some day."""
    with warnings.catch_warnings(), progress_bar(err, first=f"loading {task}") as on_progress:
        warnings.simplefilter("ignore", category=FutureWarning)
        yield on_progress


def _request(
    study: str | None,
    *,
    task: str,
    model: str,
    width: int | None,
    seed: int,
    device: str | None,
    workers: str,
    keep_weights: bool,
    out: Path | None,
    began: float | None,
    **settings: Any,
) -> _Request:
    """Make sense of what was typed. A study alone has its report in a folder of its own, beside the runs."""
    recipe, data = sort_options(settings)
    spec, processes = _model(model, width=width), _workers(workers)
    recipe.on(Recipe())  # What is wrong with it is said before data are loaded.
    loaded = load(task, seed=seed, **data)
    folder = out or Path("runs") / _folder_name(loaded)
    arguments = {
        "learner": Learner(model=spec, recipe=recipe.on(default_recipe(loaded))),
        "device": device,
        "out": folder,
        "workers": processes,
        "keep_weights": keep_weights,
        "began": began,
    }
    return _Request(loaded, folder if study is None else folder / study, arguments)


def _save_interim(result: Audit, *, place: Path) -> None:
    """Whoever looks meanwhile, or stops it for good, has a report."""
    may = partial(gives_way, place, to=result.record, final=False)
    if may():
        result.save_if(may, folder=place)


def _workers(text: str) -> Workers:
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise SpecError(f"Expected --workers to be a whole number above 0, or auto, got {text!r}.") from None


def _model(name: str, *, width: int | None) -> ModelSpec:
    """The spec of a model as typed; an unknown name is refused before its arguments are."""
    if ":" not in name:
        MODELS[name]
    return named_model(name, **({} if width is None else {"width": width}))


def _folder_name(task: Task) -> str:
    """A task's name as one part of a path."""
    return re.sub(r"[^\w.-]+", "-", task.name).strip(".-") or "task"


def _print(done: _Done, *, as_json: bool, limited: bool) -> None:
    """Print what was found, and how to go on when something is missing."""
    record = done.result.record
    if as_json:
        typer.echo(dumps(done.findings))
    elif done.saved:
        show_summary(record.verdict, findings=done.findings, report=f"Report: {done.place / 'report.html'}")
    elif not done.result.interrupted:
        show_summary(record.verdict, findings=done.findings, report="Report: none was written for this one.")
    for failure in record.cost.failures:
        say(failure)
    if record.complete:
        return
    who = "Stopped" if done.result.interrupted else "Stopped by the budget" if limited else "Not all could be made"
    fits = "" if record.cost.num_runs < record.cost.planned_runs else ", but not all baselines"
    kept = "" if done.saved or not has_complete_audit(done.place) else f"The report in {done.place} is as it was. "
    say(
        f"{who}: {record.cost.num_runs} of {record.cost.planned_runs} networks are there{fits}. {kept}"
        f"Run the same command again to go on from there."
    )
