"""Where a claim comes from: a citation with its address as a link."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from byrote.report.labels import brief

_ADDRESS = re.compile(r"https?://[^\s<>\"'`]+", re.IGNORECASE)


class CitationPart(NamedTuple):
    """A stretch of a citation; `href` is empty for plain text."""

    text: str
    href: str


def citation(paper: str) -> tuple[CitationPart, ...]:
    """Find the addresses in a citation. Only http and https become links.

    >>> citation("Zhang et al. 2017, Rethinking generalization, https://arxiv.org/abs/1611.03530")[1]
    CitationPart(text='arxiv.org/abs/1611.03530', href='https://arxiv.org/abs/1611.03530')
    >>> citation("javascript:alert(1)")
    (CitationPart(text='javascript:alert(1)', href=''),)
    """
    text = brief(paper, limit=600)
    parts, end = [], 0
    for match in _ADDRESS.finditer(text):
        address = match.group().rstrip(".,;:)]")
        if not _is_web(address):
            continue
        parts.append(CitationPart(text[end : match.start()], ""))
        parts.append(CitationPart(re.sub(r"^https?://(www\.)?", "", address, flags=re.IGNORECASE), address))
        end = match.start() + len(address)
    parts.append(CitationPart(text[end:], ""))
    return tuple(part for part in parts if part.text)


def _is_web(address: str) -> bool:
    try:
        split = urlsplit(address)
    except ValueError:
        return False
    return split.scheme in ("http", "https") and bool(split.hostname)
