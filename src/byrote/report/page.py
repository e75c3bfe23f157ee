"""A record as one HTML file that needs nothing else."""

import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import final

import jinja2

from byrote.core import StoreError
from byrote.records import Record, Section
from byrote.report.claims import Claim, claims
from byrote.report.drawings import Drawing, drawings
from byrote.report.facts import command_line, fact_sheets, learner_line, shortfall, task_line
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
    chapters = tuple(_chapter(section, number=number) for number, section in enumerate(record.sections, start=1))
    assets = files("byrote.report") / "templates"
    page = _TEMPLATES.get_template("page.html").render(
        title=brief(record.title) or "byrote audit",
        task_name=brief(record.task.name, limit=80),
        task_line=task_line(record.task),
        learner_line=learner_line(record.learner),
        verdict=_paragraphs(record.verdict),
        complete=record.complete,
        shortfall=shortfall(record.cost),
        chapters=chapters,
        fact_sheets=fact_sheets(record),
        command_line=command_line(record.provenance),
        made=brief(record.provenance.created),
        mark_width=WIDTH,
        css=(assets / "page.css").read_text(encoding="utf-8"),
        script=(assets / "page.js").read_text(encoding="utf-8"),
        plotly=plotly_script(),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


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
    target = Path(path)
    page = render(record)
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
