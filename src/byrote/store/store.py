"""Runs and fits by their keys, whole or not at all."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import final

from typing_extensions import override

from byrote.records import NOTHING, Extras, Fit, FitSpec, Run, RunSpec


class AbstractStore(ABC):
    """What every store can do. A key that is in a store reads back whole."""

    @abstractmethod
    def __contains__(self, spec: RunSpec | FitSpec, /) -> bool:
        """Whether this run or fit is here."""

    @abstractmethod
    def has(self, spec: RunSpec | FitSpec, /, *, extras: Extras = NOTHING) -> bool:
        """Whether this run or fit is here, with these probe results and weights."""

    @abstractmethod
    def claim(self, specs: Sequence[RunSpec | FitSpec], /) -> AbstractContextManager[tuple[RunSpec | FitSpec, ...]]:
        """Those that may be worked on now, because nobody else holds them: no other process, no other thread.

        They are held until the context ends or the process dies, even by kill -9; a forked child does not hold what
        its parent holds. Whoever held one before may have finished it: ask again what is here once it is claimed.

        Raises:
            StoreError: no claim can be made.
        """

    @abstractmethod
    def read_run(self, spec: RunSpec, *, extras: Extras | None = None) -> Run:
        """The run of a spec.

        Args:
            spec: which.
            extras: the probe results and weights to read; None: all there are.

        Raises:
            KeyError: it is not here, or not with these extras.
            StoreError: it is here but cannot be read; the message says what to do.
        """

    @abstractmethod
    def write_run(self, run: Run, /) -> None:
        """Keep a run. Of one that is here already only the extras are kept that were missing.

        Raises:
            StoreError: it cannot be kept. What was here before is intact.
        """

    @abstractmethod
    def read_fit(self, spec: FitSpec) -> Fit:
        """The fit of a spec; as `read_run`."""

    @abstractmethod
    def write_fit(self, fit: Fit, /) -> None:
        """Keep a fit; as `write_run`."""


@final
class MemoryStore(AbstractStore):
    """Keeps everything in memory, for as long as the process lives."""

    def __init__(self) -> None:
        """Begin empty."""
        self._runs: dict[str, Run] = {}
        self._fits: dict[str, Fit] = {}
        self._claimed: set[str] = set()
        self._turn = threading.Lock()

    @override
    def __contains__(self, spec: RunSpec | FitSpec, /) -> bool:
        return self.has(spec)

    @override
    def has(self, spec: RunSpec | FitSpec, /, *, extras: Extras = NOTHING) -> bool:
        if isinstance(spec, FitSpec):
            return spec.key in self._fits and extras == NOTHING
        run = self._runs.get(spec.key)
        return run is not None and not extras.missing_from(run)

    @override
    @contextmanager
    def claim(self, specs: Sequence[RunSpec | FitSpec], /) -> Iterator[tuple[RunSpec | FitSpec, ...]]:
        with self._turn:
            mine = tuple(spec for spec in dict.fromkeys(specs) if spec.key not in self._claimed)
            self._claimed.update(spec.key for spec in mine)
        try:
            yield mine
        finally:
            with self._turn:
                self._claimed.difference_update(spec.key for spec in mine)

    @override
    def read_run(self, spec: RunSpec, *, extras: Extras | None = None) -> Run:
        run = self._runs[spec.key]
        if extras is None:
            return run
        probes = {key: run.probes[key] for key in extras.probes}
        if extras.weights and run.weights is None:
            raise KeyError(f"the weights of {spec.key}")
        return replace(run, probes=probes, weights=run.weights if extras.weights else None)

    @override
    def write_run(self, run: Run, /) -> None:
        with self._turn:
            there = self._runs.get(run.spec.key, run)
            weights = run.weights if there.weights is None else there.weights
            self._runs[run.spec.key] = replace(there, probes={**run.probes, **there.probes}, weights=weights)

    @override
    def read_fit(self, spec: FitSpec) -> Fit:
        return self._fits[spec.key]

    @override
    def write_fit(self, fit: Fit, /) -> None:
        self._fits.setdefault(fit.spec.key, fit)
