"""How gradients of mini-batches differ, taken while a population trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Shaped
from torch import Tensor

from byrote.measures import Objective, gradient_covariance, noise_scale
from byrote.probing.objectives import Examined, Numbers, of_each_run
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

NAMES = (
    "top",
    "top_se",
    "trace",
    "trace_se",
    "trace_over_top",
    "trace_over_top_se",
    "smallest_over_largest",
    "noise_scale",
    "noise_scale_se",
    "squared_gradient",
    "loss",
    "score",
    "num_batches",
    "batch_size",
    "cost",
)


@final
@dataclass(frozen=True, kw_only=True)
class BatchGradients(AbstractProbe):
    """The covariance K of mini-batch gradients and the noise scale, as `gradient_covariance` and `noise_scale` say of
    L disjoint mini-batches, with the loss and the accuracy on the same examples. To be compared at equal L and size.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    examined: Examined = field(default_factory=Examined)
    """L and the size of the mini-batches."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "batch-gradients"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """[run] of each: `top` λ¹, `trace` and `trace_over_top` of K with standard errors, `smallest_over_largest`
        non-zero eigenvalue, `noise_scale` in examples, `squared_gradient` (that of the mean gradient, unbiased),
        `loss`, `score` (accuracy, or R²), `num_batches` L and `batch_size` as they came to be, `cost` in gradients.
        """

        def measure(objective: Objective) -> Numbers:
            return _measure(objective, population=len(moment.inputs), regression=moment.regression)

        return attempt(
            lambda: of_each_run(moment, examined=self.examined, shapes=dict.fromkeys(NAMES, ()), measure=measure),
            num_runs=len(moment.targets),
            optional=self.optional,
        )


def _measure(objective: Objective, *, population: int, regression: bool) -> Numbers:
    loss, score = objective.value(), _score(objective, regression=regression)
    covariance = gradient_covariance(objective, drawn="disjoint", population=population)
    noise = noise_scale(covariance)
    return {
        "top": covariance.value,
        "top_se": covariance.top_se,
        "trace": covariance.trace,
        "trace_se": covariance.trace_se,
        "trace_over_top": covariance.trace_over_top,
        "trace_over_top_se": covariance.trace_over_top_se,
        "smallest_over_largest": covariance.smallest_over_largest,
        "noise_scale": noise.value,
        "noise_scale_se": noise.se,
        "squared_gradient": noise.squared_gradient,
        "loss": loss,
        "score": score,
        "num_batches": covariance.num_batches,
        "batch_size": covariance.batch_size,
        "cost": objective.spent,
    }


@torch.no_grad()
def _score(objective: Objective, *, regression: bool) -> float:
    """Accuracy, or R²; NaN where numbers do not vary."""
    outputs = torch.cat([objective.model(x) for x, _ in objective.batches]).double()
    targets = torch.cat([own for _, own in objective.batches])
    if not regression:
        return float((outputs.argmax(1) == targets).double().mean())
    spread = float(targets.double().var(correction=0))
    error = float((outputs.reshape(-1) - targets).square().mean())
    return 1 - error / spread if spread > 0 else float("nan")
