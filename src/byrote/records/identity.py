"""Which code it is: a text that is the same in every process, and another for other code."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def place(code: Callable[..., Any]) -> str:
    """Where it is defined: `module:qualname`, of a partial what it wraps, of an object its class.

    >>> place(dict), place(functools.partial(dict, width=4))
    ('builtins:dict', 'builtins:dict')
    """
    if isinstance(code, functools.partial):
        return place(cast("functools.partial[Any]", code).func)
    named = code if hasattr(code, "__qualname__") else type(code)
    return f"{named.__module__}:{named.__qualname__}"


def identity(value: object) -> str:
    """Write down what a function, class or object is made of: source, constants, defaults, bound and enclosed values.

    Two lambdas on one line differ by their constants and names, two closures by what they enclose, two partials by
    their arguments. What a function reads from its module is not seen.

    >>> identity(functools.partial(dict, width=4)) == identity(functools.partial(dict, width=8))
    False
    """
    return _written(value, seen=())


def _written(value: object, *, seen: tuple[int, ...]) -> str:
    if id(value) in seen:
        return "itself"
    inner = functools.partial(_written, seen=(*seen, id(value)))
    if isinstance(value, functools.partial):
        bound = cast("functools.partial[Any]", value)
        return f"partial({inner(bound.func)}, {inner(bound.args)}, {inner(bound.keywords)})"
    if isinstance(value, MethodType):
        return f"method({inner(value.__func__)}, {inner(value.__self__)})"
    if isinstance(value, FunctionType):
        enclosed = dict(zip(value.__code__.co_freevars, map(_contents, value.__closure__ or ()), strict=True))
        parts = (_source(value), inner(value.__code__), inner(value.__defaults__), inner(value.__kwdefaults__))
        return f"function({', '.join(parts)}, {inner(enclosed)})"
    if isinstance(value, CodeType):
        return f"code({value.co_names}, {inner(value.co_consts)})"
    if isinstance(value, type):
        return f"class({place(value)}, {_source(value)})"
    if isinstance(value, ModuleType):
        return f"module({value.__name__})"
    return _data(value, inner)


def _data(value: object, inner: Callable[[object], str]) -> str:
    if isinstance(value, np.ndarray):
        array = cast("np.ndarray[Any, Any]", value)
        return f"array({array.dtype}, {array.shape}, {array.tobytes().hex()})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {inner(item)}' for key, item in cast('Mapping[Any, Any]', value).items())}}}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(inner, cast('list[Any]', value)))})"
    if isinstance(value, (set, frozenset)):
        return f"set({', '.join(sorted(map(inner, cast('set[Any]', value))))})"
    if type(value).__repr__ is object.__repr__ and hasattr(value, "__dict__"):
        return f"object({inner(type(value))}, {inner(vars(value))})"
    return _ADDRESS.sub("", repr(value))


def _contents(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # Not assigned yet.
        return None


def _source(code: Any) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return place(code)
