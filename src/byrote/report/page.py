"""A record as one HTML file that needs nothing else."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import final

import jinja2

from byrote.core import StoreError
from byrote.records import Provenance, Record, Section, Trajectory
from byrote.report.claims import Claim, claims
from byrote.report.drawings import Drawing, drawings
from byrote.report.facts import command_line, fact_sheets, learner_line, shortfall, task_line, trajectory_sheets
from byrote.report.intervals import WIDTH
from byrote.report.labels import anchor, brief, printable
from byrote.report.plots import plotly_script

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("byrote.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@final
@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One study's part of the page."""

    id: str
    study: str
    title: str
    paragraphs: tuple[str, ...]
    claims: tuple[Claim, ...]
    drawings: tuple[Drawing, ...]
    notes: tuple[str, ...]


def render(record: Record) -> str:
    """Draw a record as one self-contained HTML page: no other file and no network is needed to read it.

    The same record gives the same page, byte for byte. All text from the record is escaped.

    Args:
        record: an audit as it is stored.

    Returns:
        The page.

    Raises:
        ValueError: a figure contradicts itself, such as an image with too few pixels.
    """
    return _page(
        lead_title="Verdict",
        title=brief(record.title) or "byrote audit",
        name=brief(record.task.name, limit=80),
        line=task_line(record.task),
        second_line=learner_line(record.learner),
        lead=_paragraphs(record.verdict),
        complete=record.complete,
        shortfall=shortfall(record.cost),
        chapters=_chapters(record.sections),
        fact_sheets=fact_sheets(record),
        made=record.provenance,
        closing="Intervals are 95 % intervals. A claim that does not hold here is a finding about this task and this "
        "learner, not an error.",
    )


def render_trajectory(trajectory: Trajectory) -> str:
    """Draw a training that was watched as one self-contained HTML page, as `render` does an audit.

    Args:
        trajectory: its curves.

    Returns:
        The page.

    Raises:
        ValueError: a figure contradicts itself, such as a line with fewer y than x.
    """
    line, second_line = trajectory.setting
    return _page(
        lead_title="Summary",
        title=brief(trajectory.title) or "byrote monitor",
        name=brief(trajectory.model, limit=80),
        line=brief(line),
        second_line=brief(second_line),
        lead=_paragraphs(trajectory.summary),
        complete=True,
        shortfall="",
        chapters=_chapters(trajectory.sections),
        fact_sheets=trajectory_sheets(trajectory),
        made=trajectory.provenance,
        closing="Bands are two standard errors, or residuals, to either side.",
    )


def write_report(record: Record, *, path: str | os.PathLike[str]) -> Path:
    """Write a record's page, whole or not at all: under a temporary name first, then renamed.

    Args:
        record: an audit as it is stored.
        path: the HTML file; its folder is made if need be, and a file of that name is replaced.

    Returns:
        The file's path.

    Raises:
        StoreError: the file cannot be written.
        ValueError: as `render`.
    """
    return _written(render(record), path=path)


def write_trajectory(trajectory: Trajectory, *, path: str | os.PathLike[str]) -> Path:
    """Write the page of a training that was watched, whole or not at all, as `write_report` does an audit's.

    Args:
        trajectory: its curves.
        path: the HTML file; its folder is made if need be, and a file of that name is replaced.

    Returns:
        The file's path.

    Raises:
        StoreError: the file cannot be written.
        ValueError: as `render_trajectory`.
    """
    return _written(render_trajectory(trajectory), path=path)


def _page(*, made: Provenance, **parts: object) -> str:
    assets = files("byrote.report") / "templates"
    page = _TEMPLATES.get_template("page.html").render(
        **parts,
        command_line=command_line(made),
        made=brief(made.created),
        mark_width=WIDTH,
        css=(assets / "page.css").read_text(encoding="utf-8"),
        script=(assets / "page.js").read_text(encoding="utf-8"),
        plotly=plotly_script(),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _written(page: str, *, path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, page)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"Cannot write the report to {target}: {reason}. Choose another path, in a folder that can be written to."
        ) from error
    return target


def _replace(target: Path, text: str) -> None:
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _chapters(sections: Sequence[Section]) -> tuple[Chapter, ...]:
    return tuple(_chapter(section, number=number) for number, section in enumerate(sections, start=1))


def _chapter(section: Section, *, number: int) -> Chapter:
    place = f"{anchor(section.study) or 'study'}-{number}"
    return Chapter(
        id=place,
        study=brief(section.study, limit=60),
        title=brief(section.title, limit=300),
        paragraphs=_paragraphs(section.summary),
        claims=claims(section.findings, prefix=place),
        drawings=drawings(section.figures, prefix=place),
        notes=tuple(printable(note) for note in section.notes),
    )


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in re.split(r"\n\s*\n", printable(text)) if part.strip())
