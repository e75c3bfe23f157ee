"""`byrote runs`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from byrote.auditing import condition
from byrote.cli.console import DONE, exit_status, say
from byrote.cli.quantities import duration, space
from byrote.execution import describe
from byrote.records import BalancedSubset, FitSpec, Learner, RunSpec, Sample, dumps, encode
from byrote.store import StoredRun, list_runs

STYLES = {"diverged": "yellow", "in progress": "cyan", "interrupted": "yellow", "unreadable": "red"}
KEY_DIGITS = 8
"""Of a key's 20, enough to find its folder."""
SEED_DIGITS = 4
"""Of a seed in hexadecimal digits, enough to tell the runs of one audit apart."""


def run(*, folder: Path, as_json: bool) -> int:
    """List what a folder holds. Returns the exit status."""
    return exit_status(lambda: _list(folder, as_json))


def _list(folder: Path, as_json: bool) -> int:
    stored = sorted(list_runs(folder), key=lambda one: (one.written is not None, one.written, one.key))
    if as_json:
        typer.echo(dumps([_plain(one) for one in stored]))
    elif stored:
        _show(stored)
    if not stored:
        say(f"There are no runs in {folder}.{_hint(folder)}")
    return DONE


def _plain(one: StoredRun) -> dict[str, Any]:
    """What JSON can hold."""
    written = None if one.written is None else one.written.isoformat(timespec="seconds")
    return {**{name: encode(value) for name, value in vars(one).items() if name != "written"}, "written": written}


def _show(stored: Sequence[StoredRun]) -> None:
    console = Console()
    learners = list(dict.fromkeys(one.spec.learner for one in stored if isinstance(one.spec, RunSpec)))
    letters = {learner: _letter(place) for place, learner in enumerate(learners)}
    console.print()
    console.print(_table(stored, letters))
    console.print()
    for learner, letter in letters.items():
        console.print(Text(f"{letter}  {learner}"))
    console.print(Text(_totals(stored)))
    for one in stored:
        if one.message and one.status in STYLES:
            console.print()
            console.print(Text(f"{one.key[:KEY_DIGITS]}, {one.status}: {one.message}"), soft_wrap=True)


def _table(stored: Sequence[StoredRun], letters: dict[Learner, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("key", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("when", no_wrap=True)
    for one in stored:
        table.add_row(
            one.key[:KEY_DIGITS],
            _what(one, letters),
            Text(one.status, style=STYLES.get(one.status, "")),
            duration(one.seconds) if one.seconds else "",
            space(one.bytes) if one.bytes else "",
            "" if one.written is None else f"{one.written.astimezone():%d %b %H:%M}",
        )
    return table


def _what(one: StoredRun, letters: dict[Learner, str]) -> str:
    """The learner's letter, what sets the run apart and the end of its seed; of a fit, the baseline."""
    match one.spec:
        case RunSpec() as spec:
            number = f" no. {spec.subset.index + 1}" if isinstance(spec.subset, BalancedSubset) else ""
            extras = [*one.probes, *(["weights"] if one.has_weights else [])]
            cost = f" (probes took {100 * one.probing_share:.0f} % more)" if one.probes else ""
            more = "".join(f" + {extra}" for extra in extras) + cost
            seed = f"{spec.seed:016x}"[-SEED_DIGITS:]
            return f"{letters[spec.learner]} {condition(spec)}{number}{_of(spec.sample)}, …{seed}{more}"
        case FitSpec() as spec:
            number = f" no. {spec.subset.index + 1}" if isinstance(spec.subset, BalancedSubset) else ""
            return f"{describe(spec)}{number}{_of(spec.sample)}"
        case None:
            return one.kind or ""


def _of(sample: Sample | None) -> str:
    return "" if sample is None else f" of {sample.train:,} examples"


def _letter(place: int) -> str:
    """A, B, …, Z, A2, B2, …

    >>> _letter(0), _letter(25), _letter(27)
    ('A', 'Z', 'B2')
    """
    turn, rest = divmod(place, 26)
    return f"{chr(ord('A') + rest)}{turn + 1 if turn else ''}"


def _totals(stored: Sequence[StoredRun]) -> str:
    runs, fits = (sum(one.kind == kind for one in stored) for kind in ("run", "fit"))
    seconds, size = sum(one.seconds for one in stored), sum(one.bytes for one in stored)
    states = {status: sum(one.status == status for one in stored) for status in STYLES}
    odd = "".join(f", {number:,} {status}" for status, number in states.items() if number)
    return f"{runs:,} runs and {fits:,} fits{odd}: {duration(seconds)} of work in {space(size)}."


def _hint(folder: Path) -> str:
    """Where there may be some instead."""
    below = sorted(str(path.parent) for path in folder.glob("*/byrote.json"))
    above = [str(path) for path in folder.resolve().parents if (path / "byrote.json").is_file()][:1]
    return f" There are some in {' and in '.join([*above, *below])}." if above or below else ""
