"""The trace of the Fisher, taken while a population trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

from jaxtyping import Shaped
from torch import Tensor

from byrote.measures import Fisher, Objective, class_answers, fisher_trace, number_answers
from byrote.probing.objectives import Examined, Numbers, of_each_run
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

NAMES = ("trace", "trace_se", "cost")


@final
@dataclass(frozen=True, kw_only=True)
class FisherTrace(AbstractProbe):
    """The trace of the Fisher with answers drawn from the network itself, as `fisher_trace`: classes from the softmax,
    numbers around its predictions.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    examined: Examined = field(default_factory=Examined)
    """Smaller mini-batches give smaller errors."""
    num_draws: int = 4
    """Gradients that are spent, at least 2."""
    seed: int = 0
    """Of answers and signs."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "fisher-trace"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """[run] of each: `trace`, `trace_se` over draws, `cost` in gradients."""
        matrix = Fisher(likelihood=number_answers if moment.regression else class_answers)

        def measure(objective: Objective) -> Numbers:
            found = fisher_trace(objective, matrix=matrix, num_draws=self.num_draws, seed=self.seed)
            return {"trace": found.value, "trace_se": found.se, "cost": objective.spent}

        return attempt(
            lambda: of_each_run(moment, examined=self.examined, shapes=dict.fromkeys(NAMES, ()), measure=measure),
            num_runs=len(moment.targets),
            optional=self.optional,
        )
