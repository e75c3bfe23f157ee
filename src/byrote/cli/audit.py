"""`byrote audit` and `byrote study`."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from byrote.auditing import Audit, audit, default_learner
from byrote.cli.console import complain, err, expected, progress_bar
from byrote.core import SpecError, did_you_mean
from byrote.data import Task, load
from byrote.models import MODELS, named_model
from byrote.records import Learner, dumps

ALL_STUDIES = ("random-data", "lookup", "memorisation")
MARKS = {"holds": ("✓", "green"), "does not hold": ("✗", "yellow"), "inconclusive": ("?", "dim")}
CLAIMS = (
    "random-labels-are-fitted",
    "random-labels-test-at-chance",
    "true-labels-fit-faster",
    "random-inputs-start-faster",
    "test-error-rises-with-corruption",
    "no-leak",
    "beats-lookup-table",
    "beats-forest",
    "beats-kernel",
    "learnt-share",
)
GATES = {"leak": "no-leak", **{claim: claim for claim in CLAIMS}}
"""What `--fail-on` understands, and the claim whose failure it means."""


def run(
    *,
    studies: list[str] | None,
    task: str,
    model: str,
    width: int | None,
    epochs: int | None,
    lr: float | None,
    batch_size: int | None,
    runs: int | None,
    budget: str | None,
    seed: int,
    device: str | None,
    out: Path | None,
    as_json: bool,
    fail_on: list[str] | None,
    **data: Any,
) -> int:
    """Load, audit, save, print. Returns the exit status."""
    try:
        with warnings.catch_warnings(), progress_bar() as on_progress:
            warnings.simplefilter("ignore", category=FutureWarning)
            loaded = load(task, seed=seed, **data)
            learner = _learner(loaded, model=model, width=width, epochs=epochs, lr=lr, batch_size=batch_size)
            _check_gates(fail_on or [])
            folder = out or Path("runs") / loaded.name
            result = audit(
                loaded,
                learner=learner,
                studies=studies or ALL_STUDIES,
                budget=budget,
                runs=runs,
                seed=seed,
                device=device,
                out=folder,
                on_progress=on_progress,
                keep_partial=True,
            )
            result.save(folder)
    except KeyboardInterrupt:
        err.print("Stopped. Every finished run is kept: run the same command again to go on.")
        return 130
    except Exception as error:
        if not expected(error):
            raise
        complain(error)
        return 2
    if as_json:
        typer.echo(dumps(_findings(result)))
    else:
        _show(result, folder)
    if not result.record.complete:
        cost = result.record.cost
        err.print(
            f"Stopped early: {cost.num_runs} of {cost.planned_runs} networks are trained. "
            f"Run the same command again to go on from there."
        )
    return _gate(result, fail_on or [])


def _learner(
    task: Task, *, model: str, width: int | None, epochs: int | None, lr: float | None, batch_size: int | None
) -> Learner:
    """The default learner with what was asked for in its place."""
    if model in MODELS or ":" in model:
        arguments = {} if width is None else {"width": width}
    else:
        MODELS[model]
        arguments = {}
    base = default_learner(task, model=named_model(model, **arguments))
    recipe = base.recipe
    if lr is not None:
        recipe = replace(recipe, optimiser=replace(recipe.optimiser, lr=lr))
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    if batch_size is not None:
        recipe = replace(recipe, batch_size=batch_size)
    return replace(base, recipe=recipe)


def _findings(result: Audit) -> tuple[Any, ...]:
    return tuple(finding for section in result.record.sections for finding in section.findings)


def _show(result: Audit, folder: Path) -> None:
    """The verdict, a line a finding, and where the report is."""
    console = Console()
    console.print()
    console.print(Text(result.record.verdict), soft_wrap=False)
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for name in ("", "claim", "value", "95 % interval", "runs", "verdict"):
        table.add_column(name, justify="right" if name in ("value", "runs") else "left")
    for finding in _findings(result):
        mark, style = MARKS[finding.verdict]
        interval = "" if finding.low is None or finding.high is None else f"{finding.low:.3g} to {finding.high:.3g}"
        table.add_row(
            Text(mark, style=style),
            finding.claim,
            "" if finding.value is None else f"{finding.value:.3g}",
            interval,
            str(finding.num_runs),
            Text(finding.verdict, style=style),
        )
    console.print()
    console.print(table)
    console.print()
    console.print(Text(f"Report: {folder / 'report.html'}"), soft_wrap=True)


def _check_gates(gates: list[str]) -> None:
    for gate in gates:
        if gate not in GATES:
            raise SpecError(f"Unknown gate {gate!r}.{did_you_mean(gate, GATES)} Known: {', '.join(GATES)}.")


def _gate(result: Audit, gates: list[str]) -> int:
    """1 when a claim that the user insists on does not hold."""
    failed = [f for f in _findings(result) for gate in gates if f.claim == GATES[gate] and f.verdict == "does not hold"]
    for finding in failed:
        err.print(Text(f"--fail-on: {finding.claim}: {finding.statement}"), soft_wrap=True)
    return 1 if failed else 0
