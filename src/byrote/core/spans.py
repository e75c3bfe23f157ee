"""Time spans in words."""


def time_span(seconds: float) -> str:
    """A time span in the two units that matter, to the second.

    >>> time_span(48.2), time_span(125), time_span(4800)
    ('48 s', '2 min 5 s', '1 h 20 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"
