"""Names that a user may type, and what they stand for."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar, final

from byrote.core.errors import UnknownNameError

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Say which known name a mistyped one was probably meant to be.

    >>> did_you_mean("lokup", ["lookup", "memorisation"])
    ' Did you mean: lookup?'
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean: {close[0]}?" if close else ""


@final
class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to things of one kind that suggests the right name for a wrong one."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str) -> Callable[[T], T]:
        """Register what is decorated under a name; a name is taken once."""

        def register(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"The {self._kind} name {name!r} is already taken.")
            self._entries[name] = entry
            return entry

        return register

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            known = ", ".join(sorted(self._entries))
            hint = did_you_mean(name, self._entries)
            raise UnknownNameError(f"Unknown {self._kind} {name!r}.{hint} Known: {known}.")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)
