"""What several studies found out, to look at, to save and to load."""

import html
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import final

import pyarrow as pa

from byrote.auditing.folder import claim_folder, findings_table, read_record, read_table, write_audit
from byrote.core import ByroteError, UnknownNameError, did_you_mean
from byrote.records import Finding, Record
from byrote.report import write_report
from byrote.scoring import Table


@final
class Audit:
    """What several studies found out about one learner on one task."""

    def __init__(
        self,
        record: Record,
        examples: pa.Table | None,
        *,
        labels: pa.Table | None = None,
        interrupted: bool = False,
    ) -> None:
        """Wrap a record, its per-example scores, and what it says of the labels."""
        self.record = record
        self.interrupted = interrupted
        """Whether a person stopped it before it was complete."""
        self._examples, self._labels = examples, labels

    @property
    def findings(self) -> Table:
        """One row per claim."""
        return Table(findings_table(tuple(finding for section in self.record.sections for finding in section.findings)))

    @property
    def examples(self) -> Table:
        """One row per training example: every score, and the memorisation score's standard error.

        Raises:
            ByroteError: no study of this audit scored examples.
        """
        if self._examples is None:
            raise ByroteError("No study of this audit scored single examples: add 'memorisation' to its studies.")
        return Table(self._examples)

    @property
    def labels(self) -> Table:
        """One row per training example: the probability that its label is wrong, what it may be instead, and why.

        Raises:
            ByroteError: no study of this audit judged labels.
        """
        if self._labels is None:
            raise ByroteError("No study of this audit judged labels: add 'labels' to its studies.")
        return Table(self._labels)

    def finding(self, claim: str) -> Finding:
        """The finding of a claim.

        Raises:
            UnknownNameError: no study of this audit made it.
        """
        made = {finding.claim: finding for section in self.record.sections for finding in section.findings}
        if claim not in made:
            raise UnknownNameError(f"No claim {claim!r} here.{did_you_mean(claim, made)} There are: {', '.join(made)}.")
        return made[claim]

    def save(self, folder: str | Path) -> Path:
        """Write findings, examples and report into a folder."""
        self.save_if(lambda: True, folder=folder)
        return Path(folder)

    def save_if(self, still: Callable[[], bool], *, folder: str | Path) -> bool:
        """As `save`, if it still is to be when the report is drawn, which takes a while; says whether it was."""
        place = Path(folder)
        claim_folder(place, about={"task": self.record.task.name, "fingerprint": self.record.task.fingerprint})
        drawn = write_report(self.record, path=place / f".report.html-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            wanted = still()
            if wanted:
                os.replace(drawn, place / "report.html")
                tables = {"examples": self._examples, "labels": self._labels}
                write_audit(place, record=self.record, tables=tables)
        finally:
            drawn.unlink(missing_ok=True)
        return wanted

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report, one HTML file."""
        return write_report(self.record, path=Path(path))

    @classmethod
    def load(cls, folder: str | Path) -> "Audit":
        """Read an audit from its folder."""
        place = Path(folder)
        return cls(read_record(place), read_table(place, "examples"), labels=read_table(place, "labels"))

    def __repr__(self) -> str:
        return f"{self.record.title}\n\n{self.record.verdict}\n\n{self.findings!r}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.record.verdict)}</p>{self.findings._repr_html_()}"
