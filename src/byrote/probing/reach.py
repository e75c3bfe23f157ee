"""How much longer a step could be before the loss rises, taken while a population trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar, final

from jaxtyping import Shaped
from torch import Tensor

from byrote.measures import Objective, critical_step
from byrote.probing.objectives import Examined, Numbers, of_each_run
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

NAMES = ("alpha", "alpha_residual", "cost")
SHORTEST, LONGEST = 0.25, 1024.0
"""Steps that are tried, in lengths of the step."""


@final
@dataclass(frozen=True, kw_only=True)
class CriticalStep(AbstractProbe):
    """α*, as `critical_step` finds it for the step −η·g of plain gradient descent, g being the gradient of the first
    mini-batch: how many times as long that could be before the loss on all examined examples rises by a fifth.

    Momentum and whatever else an optimiser makes of a gradient are left out.
    """

    learning_rate: float
    """η."""
    at: Given | LogSpaced = field(default_factory=LogSpaced)
    examined: Examined = field(default_factory=Examined)
    """Its mini-batches are best as large as those of the training."""
    tolerance: float = 0.1
    """Of α*, as a share of it."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "critical-step"

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"Expected a finite learning rate above 0, got {self.learning_rate!r}.")

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """[run] of each: `alpha`, infinite where no step up to 1,024 times as long goes too far and NaN where the loss
        is 0; `alpha_residual`; `cost` in gradients.
        """
        return attempt(
            lambda: of_each_run(moment, examined=self.examined, shapes=dict.fromkeys(NAMES, ()), measure=self._measure),
            num_runs=len(moment.targets),
            optional=self.optional,
        )

    def _measure(self, objective: Objective) -> Numbers:
        if not objective.value() > 0:
            return {"cost": objective.spent}
        here = objective.flat_weights()
        (gradient,) = islice(objective.batch_gradients(), 1)

        def loss(alpha: float) -> float:
            with objective.at(here - alpha * self.learning_rate * gradient):
                return objective.value()

        found = critical_step(loss, shortest=SHORTEST, longest=LONGEST, tolerance=self.tolerance)
        return {"alpha": found.value, "alpha_residual": found.residual, "cost": objective.spent}
