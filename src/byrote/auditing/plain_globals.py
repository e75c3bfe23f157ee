"""Which plain values a function reads from its module, such as a learning rate at the top of the file."""

import functools
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

Plain = bool | int | float | complex | str | bytes | None


def plain_globals(function: Callable[..., Any]) -> dict[str, Any]:
    """Numbers, texts, and lists and dictionaries of these that a function reads by name, and the functions it reads.

    Functions that it reads from its own module are looked into, too. Modules, classes and arrays are not.

    >>> RATE = 0.1
    >>> list(plain_globals(lambda indices, seed: RATE).values())
    [0.1]
    """
    found: dict[str, Any] = {}
    _add(function, found=found, seen=set())
    return dict(sorted(found.items()))


def _add(function: object, *, found: dict[str, Any], seen: set[int]) -> None:
    if isinstance(function, functools.partial):
        _add(function.func, found=found, seen=seen)
    elif isinstance(function, MethodType):
        _add(function.__func__, found=found, seen=seen)
    elif isinstance(function, FunctionType) and id(function) not in seen:
        seen.add(id(function))
        for cell in function.__closure__ or ():
            _add(_contents(cell), found=found, seen=seen)
        for name in sorted(_names(function.__code__) & function.__globals__.keys()):
            value = function.__globals__[name]
            if _is_plain(value) and not name.startswith("__"):
                found[f"{function.__module__}.{name}"] = value
            elif isinstance(value, FunctionType) and value.__module__ == function.__module__:
                _add(value, found=found, seen=seen)


def _contents(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # Not assigned yet.
        return None


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*map(_names, _inner(code)))


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (each for each in code.co_consts if isinstance(each, CodeType))


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, Plain)
