"""Time and space as a terminal says them."""

from byrote.core import time_span

UNITS = ("B", "kB", "MB", "GB", "TB")


def duration(seconds: float) -> str:
    """A time span in the two units that matter.

    >>> duration(0.4), duration(48.2), duration(125), duration(4800)
    ('0.4 s', '48 s', '2 min 5 s', '1 h 20 min')
    """
    return f"{seconds:.1f} s" if seconds < 9.95 else time_span(seconds)


def space(size: float) -> str:
    """Bytes, in the unit that leaves one to three digits before the point.

    >>> space(312), space(48_300), space(1_250_000)
    ('312 B', '48 kB', '1.2 MB')
    """
    for unit in UNITS[:-1]:
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.0f} {UNITS[-1]}"
