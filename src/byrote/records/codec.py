"""Records to JSON and back. Unknown keys are refused by name; nothing is ever unpickled."""

import dataclasses
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydantic

from byrote.core import SpecError, did_you_mean

R = TypeVar("R")


def encode(record: Any) -> Any:
    """Turn a record into what JSON can hold. Non-finite numbers become null, callables are left out."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        named = ((part.name, getattr(record, part.name)) for part in dataclasses.fields(record))
        return {name: encode(value) for name, value in named if not _is_code(value) and name != "factory"}
    if isinstance(record, dict):
        return {str(key): encode(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [encode(value) for value in record]
    if isinstance(record, np.ndarray):
        return encode(record.tolist())
    if isinstance(record, np.generic):
        return encode(record.item())
    if isinstance(record, float):
        return record if math.isfinite(record) else None
    if isinstance(record, Path):
        return str(record)
    return record


def canonical(record: Any) -> str:
    """One text for one record: sorted keys, no spaces, shortest floats. What keys are hashes of."""
    return json.dumps(encode(record), sort_keys=True, separators=(",", ":"), allow_nan=False)


def dumps(record: Any) -> str:
    """JSON for people: indented, in the order of the fields."""
    return json.dumps(encode(record), indent=2, allow_nan=False, ensure_ascii=False)


def decode(kind: type[R], data: Any, *, source: str = "the record") -> R:
    """Build a record of a kind from parsed JSON.

    Args:
        kind: the record's class.
        data: what `encode` made, or what a user wrote.
        source: where it came from, for the message.

    Raises:
        SpecError: a key is unknown or missing, or a value is of the wrong kind; the message names it.
    """
    try:
        return _adapter(kind).validate_python(data)
    except pydantic.ValidationError as error:
        lines = [_describe(detail, kind) for detail in error.errors(include_url=False)]
        raise SpecError(f"{source} is not a valid {kind.__name__}: " + "; ".join(lines)) from error


def loads(kind: type[R], text: str, *, source: str = "the record") -> R:
    """Build a record of a kind from JSON text; as `decode`."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(f"{source} is not JSON: {error}.") from error
    return decode(kind, data, source=source)


def _is_code(value: Any) -> bool:
    return isinstance(value, Callable) and not isinstance(value, type) and not dataclasses.is_dataclass(value)


@cache
def _adapter(kind: Any) -> Any:
    _forbid_unknown_keys(kind)
    return pydantic.TypeAdapter(kind)


def _forbid_unknown_keys(kind: Any) -> None:
    """Pydantic ignores unknown keys of dataclasses unless each class, nested ones too, says otherwise."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if "__pydantic_config__" not in kind.__dict__:
            kind.__pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # pyright: ignore
            for part in dataclasses.fields(kind):
                _forbid_unknown_keys(part.type)
    else:
        for argument in getattr(kind, "__args__", ()):
            _forbid_unknown_keys(argument)


def _describe(detail: Any, kind: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "unexpected_keyword_argument":
        known = [part.name for part in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        return f"unknown key '{place}'.{did_you_mean(str(detail['loc'][-1]), known)}"
    return f"{place}: {detail['msg']}, got {detail.get('input')!r:.80}"
