"""Runs and fits by their keys, whole or not at all."""

from abc import ABC, abstractmethod
from typing import final

from typing_extensions import override

from byrote.records import Fit, FitSpec, Run, RunSpec


class AbstractStore(ABC):
    """What every store can do. A key that is in a store reads back whole."""

    @abstractmethod
    def __contains__(self, spec: RunSpec | FitSpec) -> bool:
        """Whether this run or fit is here."""

    @abstractmethod
    def read_run(self, spec: RunSpec) -> Run:
        """The run of a spec.

        Raises:
            KeyError: it is not here.
            StoreError: it is here but cannot be read; the message says what to do.
        """

    @abstractmethod
    def write_run(self, run: Run) -> None:
        """Keep a run. Writing it again changes nothing.

        Raises:
            StoreError: it cannot be kept. What was here before is intact.
        """

    @abstractmethod
    def read_fit(self, spec: FitSpec) -> Fit:
        """The fit of a spec; as `read_run`."""

    @abstractmethod
    def write_fit(self, fit: Fit) -> None:
        """Keep a fit; as `write_run`."""


@final
class MemoryStore(AbstractStore):
    """Keeps everything in memory, for as long as the process lives."""

    def __init__(self) -> None:
        """Begin empty."""
        self._runs: dict[str, Run] = {}
        self._fits: dict[str, Fit] = {}

    @override
    def __contains__(self, spec: RunSpec | FitSpec) -> bool:
        return spec.key in (self._runs if isinstance(spec, RunSpec) else self._fits)

    @override
    def read_run(self, spec: RunSpec) -> Run:
        return self._runs[spec.key]

    @override
    def write_run(self, run: Run) -> None:
        self._runs.setdefault(run.spec.key, run)

    @override
    def read_fit(self, spec: FitSpec) -> Fit:
        return self._fits[spec.key]

    @override
    def write_fit(self, fit: Fit) -> None:
        self._fits.setdefault(fit.spec.key, fit)
