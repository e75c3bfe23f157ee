"""Where finished work goes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from byrote.records import Extras, Fit, FitSpec, Run, RunSpec


@runtime_checkable
class Keeper(Protocol):
    """A store, or anything else that keeps what was made, says what it has and who is making what."""

    def has(self, spec: RunSpec | FitSpec, /, *, extras: Extras = ...) -> bool:
        """Whether this run or fit is here, with these probe results and weights."""
        ...

    def claim(self, specs: Sequence[RunSpec | FitSpec], /) -> AbstractContextManager[tuple[RunSpec | FitSpec, ...]]:
        """Those that nobody else holds, held until the context ends or the process dies."""
        ...

    def write_run(self, run: Run, /) -> None:
        """Keep a run. Several may be written at once, by several threads."""
        ...

    def write_fit(self, fit: Fit, /) -> None:
        """Keep a fit."""
        ...


def is_kept(store: Keeper, spec: RunSpec | FitSpec, *, extras: Extras) -> bool:
    """Whether a run is there with these extras, or a fit, which has none."""
    return store.has(spec, extras=extras) if isinstance(spec, RunSpec) else store.has(spec)
