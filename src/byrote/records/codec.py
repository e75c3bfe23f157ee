"""Records to JSON and back. Unknown keys are refused by name; nothing is ever unpickled."""

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin

import numpy as np
import pydantic

from byrote.core import SpecError, did_you_mean

R = TypeVar("R")
UNIONS = (UnionType, Union)
"""`int | str` is the one, `int | Literal["all"]` the other."""

LATER: Mapping[str, Any] = MappingProxyType({"later": True})
"""Metadata of a field that joined its class when keys were already in use. At its default, which must never change, it
is left out of `canonical`, so that what was stored before is found again."""


def encode(record: Any) -> Any:
    """Turn a record into what JSON can hold. Non-finite numbers become null, callables are left out."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        named = [(part.name, getattr(record, part.name)) for part in dataclasses.fields(record)]
        return {name: encode(value) for name, value in named if not _is_code(value) and name != "factory"}
    if isinstance(record, dict):
        return {str(key): encode(value) for key, value in cast("dict[Any, Any]", record).items()}
    if isinstance(record, (list, tuple)):
        return [encode(value) for value in cast("list[Any] | tuple[Any, ...]", record)]
    if isinstance(record, np.ndarray):
        return encode(record.tolist())
    if isinstance(record, np.generic):
        return encode(cast("Any", record.item()))
    if isinstance(record, float):
        return record if math.isfinite(record) else None
    if isinstance(record, Path):
        return str(record)
    return record


def canonical(record: Any) -> str:
    """One text for one record: sorted keys, no spaces, shortest numbers. What keys are hashes of.

    Equal records have equal texts, so a whole float is written as the integer it equals.

    >>> canonical({"lr": 1.0, "epochs": 40}) == canonical({"epochs": 40, "lr": 1})
    True
    """
    return json.dumps(
        _whole(encode(_without_later_defaults(record))), sort_keys=True, separators=(",", ":"), allow_nan=False
    )


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
        lines = [_describe(detail, kind, data) for detail in error.errors(include_url=False)]
        distinct = dict.fromkeys(line for line in lines if line is not None)
        raise SpecError(f"{source} is not a valid {kind.__name__}: " + "; ".join(distinct)) from error


def loads(kind: type[R], text: str, *, source: str = "the record") -> R:
    """Build a record of a kind from JSON text; as `decode`."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(f"{source} is not JSON: {error}.") from error
    return decode(kind, data, source=source)


def _is_code(value: object) -> bool:
    return callable(value) and not isinstance(value, type) and not dataclasses.is_dataclass(value)


def _without_later_defaults(record: Any) -> Any:
    """Records as dictionaries, without the fields that came later and are at their defaults."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        parts = [(part, getattr(record, part.name)) for part in dataclasses.fields(record)]
        kept = [(part.name, value) for part, value in parts if not _is_later_default(part, value)]
        named = [(name, value) for name, value in kept if not _is_code(value) and name != "factory"]
        return {name: _without_later_defaults(value) for name, value in named}
    if isinstance(record, (list, tuple)):
        return [_without_later_defaults(value) for value in cast("list[Any] | tuple[Any, ...]", record)]
    return record


def _is_later_default(part: dataclasses.Field[Any], value: Any) -> bool:
    default = part.default_factory() if part.default_factory is not dataclasses.MISSING else part.default
    return bool(part.metadata.get("later")) and value == default


def _whole(encoded: Any) -> Any:
    if isinstance(encoded, dict):
        return {key: _whole(value) for key, value in cast("dict[str, Any]", encoded).items()}
    if isinstance(encoded, list):
        return [_whole(value) for value in cast("list[Any]", encoded)]
    if isinstance(encoded, float) and encoded.is_integer() and abs(encoded) < 2**53:
        return int(encoded)
    return encoded


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
        for argument in get_args(kind):
            _forbid_unknown_keys(argument)


def _describe(detail: Any, kind: Any, data: Any) -> str | None:
    """One complaint in plain words; None for one about an alternative that was not meant.

    Pydantic tries every member of a union and complains about each, so the way to the wrong place is walked again
    beside the types: a union's member is the one whose `kind` the data names.
    """
    *way, last = detail["loc"] or ("",)
    place: list[str] = []
    for part in way:
        kind = _required(kind)
        if get_origin(kind) in UNIONS:
            meant = _meant(kind, data)
            if isinstance(meant, str):
                return f"{'.'.join(place)}: {meant}"
            if meant is not None and meant.__name__ != part:
                return None
            kind = meant
        else:
            kind, data = _inside(kind, data, part)
            place.append(str(part))
    return _complaint(detail, _required(kind), data, [*place, str(last)])


def _complaint(detail: Any, kind: Any, data: Any, place: list[str]) -> str | None:
    """The words for a complaint about the last part of a place, which lies inside `kind`."""
    *outer, last = place
    where = ".".join(place)
    if get_origin(kind) in UNIONS:
        meant = _meant(kind, data)
        where = ".".join(outer)
        if isinstance(meant, str):
            return f"{where}: {meant}"
        if meant is not None and meant.__name__ != last:
            return None
    if detail["type"] == "unexpected_keyword_argument":
        return f"unknown key '{where}'.{did_you_mean(last, _fields(kind))}"
    if detail["type"] == "missing":
        return f"missing key '{where}'"
    prefix = f"{where}: " if where else ""
    if detail["type"] == "value_error":
        return f"{prefix}{detail['ctx']['error']}"
    return f"{prefix}{detail['msg']}, got {detail.get('input')!r:.80}"


def _required(kind: Any) -> Any:
    """`X` for `X | None`, which pydantic's places do not tell apart."""
    if get_origin(kind) not in UNIONS:
        return kind
    members = [member for member in get_args(kind) if member is not NoneType]
    return members[0] if len(members) == 1 else kind


def _meant(union: Any, data: Any) -> Any:
    """The member of a union of records that the data names by its `kind`; a complaint when it names none of them.

    None when the union is not one of records, or the data is not one.
    """
    members = {str(_fields(member)["kind"].default): member for member in get_args(union) if "kind" in _fields(member)}
    if not members or not isinstance(data, dict):
        return None
    known = ", ".join(f"'{name}'" for name in members)
    named = cast("dict[str, Any]", data).get("kind")
    if named is None:
        return f"missing key 'kind', one of {known}"
    return members.get(str(named), f"unknown kind {named!r}.{did_you_mean(str(named), members)} Known: {known}")


def _inside(kind: Any, data: Any, part: str | int) -> tuple[Any, Any]:
    """The type and the data one step further in; None where they do not go further."""
    if isinstance(part, str):
        field = _fields(kind).get(part)
        return field and field.type, cast("dict[str, Any]", data).get(part) if isinstance(data, dict) else None
    arguments = get_args(kind)
    inner = arguments[0] if arguments[1:] == (...,) else arguments[part] if part < len(arguments) else None
    return inner, cast("list[Any]", data)[part] if isinstance(data, (list, tuple)) else None


def _fields(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    return {part.name: part for part in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
