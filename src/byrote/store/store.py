"""Runs and fits by their keys, whole or not at all."""

from abc import ABC, abstractmethod
from typing import final

from byrote.records import Fit, FitSpec, Run, RunSpec


class AbstractStore(ABC):
    """What every store can do. A key that is in a store reads back whole."""

    @abstractmethod
    def __contains__(self, spec: RunSpec | FitSpec) -> bool:
        """Whether this run or fit is here."""

    @abstractmethod
    def read_run(self, spec: RunSpec) -> Run:
        """The run of a spec. Raises KeyError when it is not here."""

    @abstractmethod
    def write_run(self, run: Run) -> None:
        """Keep a run. Writing it again changes nothing."""

    @abstractmethod
    def read_fit(self, spec: FitSpec) -> Fit:
        """The fit of a spec. Raises KeyError when it is not here."""

    @abstractmethod
    def write_fit(self, fit: Fit) -> None:
        """Keep a fit. Writing it again changes nothing."""


@final
class MemoryStore(AbstractStore):
    """Keeps everything in memory, for as long as the process lives."""

    def __init__(self) -> None:
        """Begin empty."""
        self._runs: dict[str, Run] = {}
        self._fits: dict[str, Fit] = {}

    def __contains__(self, spec: RunSpec | FitSpec) -> bool:
        return spec.key in (self._runs if isinstance(spec, RunSpec) else self._fits)

    def read_run(self, spec: RunSpec) -> Run:
        return self._runs[spec.key]

    def write_run(self, run: Run) -> None:
        self._runs.setdefault(run.spec.key, run)

    def read_fit(self, spec: FitSpec) -> Fit:
        return self._fits[spec.key]

    def write_fit(self, fit: Fit) -> None:
        self._fits.setdefault(fit.spec.key, fit)
