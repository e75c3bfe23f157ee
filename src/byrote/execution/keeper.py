"""Where finished work goes."""

from typing import Protocol, runtime_checkable

from byrote.records import Fit, FitSpec, Run, RunSpec


@runtime_checkable
class Keeper(Protocol):
    """A store, or anything else that can keep what was trained and say what it has."""

    def __contains__(self, spec: RunSpec | FitSpec, /) -> bool:
        """Whether this run or fit is here."""
        ...

    def write_run(self, run: Run) -> None:
        """Keep a run."""
        ...

    def write_fit(self, fit: Fit) -> None:
        """Keep a fit."""
        ...
