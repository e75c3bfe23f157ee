"""Text from data and users, made fit to be a label: short, on few lines, without control characters."""

import html
import re
import textwrap

ELLIPSIS = "…"
_PERCENT = re.compile(r"(?<=\d) %")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Drop control characters and those that turn the direction of the text around them; keep a number with its %.

    >>> printable("a\\x00b\\u202ec"), printable("98.7 %")
    ('abc', '98.7\\xa0%')
    """
    return _PERCENT.sub("\u00a0%", _UNPRINTABLE.sub("", text))


def brief(text: str, *, limit: int = 160) -> str:
    """Cut a name that is too long to be one.

    >>> brief("mlp"), brief("x" * 100, limit=5)
    ('mlp', 'xxxx…')
    """
    clean = printable(text).strip()
    return clean if len(clean) <= limit else clean[: limit - 1].rstrip() + ELLIPSIS


def plot_label(text: str, *, width: int = 24, lines: int = 3) -> str:
    """Wrap and escape a text for a plot, where tags would be read as formatting.

    >>> plot_label("<b>forest</b>"), plot_label("one two three", width=8)
    ('&lt;b&gt;forest&lt;/b&gt;', 'one two<br>three')
    """
    clean = " ".join(printable(text).split())
    kept = textwrap.wrap(clean, width=width, max_lines=lines, placeholder=ELLIPSIS) or [brief(clean, limit=width)]
    return "<br>".join(html.escape(line, quote=False) for line in kept)


def spoken(slug: str) -> str:
    """Turn a claim's name into words.

    >>> spoken("random-labels-are-fitted")
    'Random labels are fitted'
    """
    words = slug.replace("-", " ").replace("_", " ").strip()
    return brief(words[:1].upper() + words[1:], limit=60)


def anchor(text: str) -> str:
    """Turn a name into something that may stand after `#`.

    >>> anchor("random-data"), anchor('"><script>')
    ('random-data', 'script')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
