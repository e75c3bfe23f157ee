"""Where something is in a batch, or in what a model says."""

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from torch import Tensor

Part = str | int | tuple[str | int, ...] | Callable[[Any], Any]
"""A key or an attribute; a place; several of these, one within the other; or a function that finds it."""


def part_of(whole: Any, part: Part, *, name: str) -> Any:
    """What is there.

    >>> part_of({"image": 7, "meta": (8, 9)}, ("meta", 1), name="ids")
    9
    >>> part_of([5, 6], lambda batch: batch[0] + 1, name="ids")
    6

    Args:
        whole: a dictionary, a sequence, or anything with attributes.
        part: where in it.
        name: of the argument that says so, for the message.

    Raises:
        ValueError: nothing is there.
    """
    if callable(part):
        return part(whole)
    found = whole
    for step in part if isinstance(part, tuple) else (part,):
        try:
            found = getattr(found, step) if _is_attribute(step, found) else found[step]
        except (AttributeError, KeyError, IndexError, TypeError):
            raise ValueError(
                f"Expected {name} at {part!r}, got {described(whole)}. Say where they are with {name}=…: a key, a "
                f"place, several of these in a tuple, or a function of it."
            ) from None
    return found


def _is_attribute(step: str | int, found: Any) -> TypeGuard[str]:
    return isinstance(step, str) and not isinstance(found, Mapping)


def described(whole: Any) -> str:
    """What somebody has to know of it who looks for a part.

    >>> described({"x": 1, "y": 2}), described((1, 2))
    ('a dict of x, y', 'a tuple of int, int')
    """
    kind = type(whole).__name__
    if isinstance(whole, Tensor):
        return f"a tensor of shape {tuple(whole.shape)}"
    if isinstance(whole, Mapping):
        return f"a {kind} of {', '.join(map(str, whole)) or 'nothing'}"
    if isinstance(whole, (list, tuple)):
        return f"a {kind} of {', '.join(type(each).__name__ for each in whole) or 'nothing'}"
    return f"a {kind}"
