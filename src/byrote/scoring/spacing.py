"""Some of many examples."""

import numpy as np
from jaxtyping import Int


def evenly_spaced(number: int, *, most: int) -> Int[np.ndarray, "chosen"]:
    """Positions of at most so many of them, ascending and equally far apart, so that data in the order of their
    classes are met as others are.

    >>> evenly_spaced(10, most=4)
    array([0, 3, 6, 9])
    >>> evenly_spaced(3, most=4)
    array([0, 1, 2])
    """
    return np.linspace(0, number - 1, min(number, most)).round().astype(np.int64)
