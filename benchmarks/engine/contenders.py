"""Who is compared, and whether they are installed."""

import importlib
import importlib.util
from typing import NamedTuple

from benchmarks.engine.work import Train, Work


class Contender(NamedTuple):
    """A way to train networks."""

    name: str
    """As a table says it."""
    module: str
    """Where its `prepare` is; imported by the process that needs it."""
    needs: str = "torch"
    prepare: str = "prepare"
    populations: bool = False
    """Whether it trains many at once; others train one after the other, at one cost per run."""

    @property
    def installed(self) -> bool:
        """Whether what it needs can be imported."""
        return importlib.util.find_spec(self.needs) is not None

    def ready(self, work: Work) -> Train:
        """Everything but the training done."""
        return getattr(importlib.import_module(self.module), self.prepare)(work)


PLAIN = Contender("plain loop", "benchmarks.engine.plain")
LIGHTNING = Contender("Lightning", "benchmarks.engine.with_lightning", needs="lightning")
BYROTE = Contender("byrote", "benchmarks.engine.population", populations=True)
SHARED = Contender("byrote, shared order", "benchmarks.engine.population", prepare="prepare_shared", populations=True)
CONTENDERS = (
    PLAIN,
    Contender("plain loop with DataLoader", "benchmarks.engine.data_loader"),
    LIGHTNING,
    Contender("skorch", "benchmarks.engine.with_skorch", needs="skorch"),
    BYROTE,
    SHARED,
)
