"""A training that somebody else ran, as it was watched: what its page is drawn from."""

from dataclasses import dataclass
from typing import final

from byrote.records.provenance import Provenance
from byrote.records.record import Section


@final
@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Curves of one training, with what they say."""

    title: str
    model: str
    """Its class."""
    setting: tuple[str, str]
    """What was looked at, and on what, each in a line."""
    summary: str
    """In two or three plain sentences with their numbers; an empty line parts paragraphs."""
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...]
    """Names and values: what it cost."""
    provenance: Provenance
