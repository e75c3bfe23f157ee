"""How sharply the loss bends along its sharpest direction, taken while a population trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from byrote.measures import (
    Objective,
    curvature_variance,
    gradient_alignment,
    preconditioned_sharpness,
    top_eigenvalues,
)
from byrote.probing.objectives import Examined, Numbers, of_each_run
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

NAMES = (
    "top",
    "top_residual",
    "preconditioned",
    "preconditioned_residual",
    "curvature_variance",
    "alignment",
    "by_chance",
    "cost",
)


@final
@dataclass(frozen=True, kw_only=True)
class TopCurvature(AbstractProbe):
    """The largest eigenvalue of the Hessian and what hangs on its direction, as `top_eigenvalues`,
    `curvature_variance` and `gradient_alignment` say; under Adam the preconditioned sharpness, too.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    examined: Examined = field(default_factory=Examined)
    num_products: int | None = None
    """Of the search, from a random start; None: 10, or 14 where its residual is above 5 %."""
    among_examples: bool = True
    """Whether the examples' curvatures along the direction are told apart, for 4 gradients more; their variance is NaN
    otherwise."""
    seed: int = 0
    """Of the random start."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "top-curvature"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """[run] of each: `top` eigenvalue and `top_residual`; `preconditioned`, NaN but under Adam after its first
        step, and its residual; `curvature_variance` s² of the examples along the sharpest direction; `alignment`, the
        gradient's share in it, and that `by_chance`; `cost` in gradients.
        """
        return attempt(lambda: self._found(moment), num_runs=len(moment.targets), optional=self.optional)

    def _found(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        scales, rows = moment.scales(), iter(range(len(moment.targets)))

        def measure(objective: Objective) -> Numbers:
            row = next(rows)
            return self._measure(objective, {name: part[row] for name, part in scales.items()})

        return of_each_run(
            moment, examined=self.examined, shapes=dict.fromkeys(NAMES, ()), measure=measure, joined=True
        )

    def _measure(self, objective: Objective, scales: Mapping[str, Tensor]) -> Numbers:
        found = top_eigenvalues(objective, num_products=self.num_products, seed=self.seed)
        along, numbers = found.top.vectors[:1], {"top": found.value, "top_residual": found.residual}
        if scales:
            flat = torch.cat([scales[name].reshape(-1) for name in objective.weights.names])
            felt = preconditioned_sharpness(objective, scale=flat, num_products=self.num_products, seed=self.seed)
            numbers |= {"preconditioned": felt.value, "preconditioned_residual": felt.residual}
        spent = objective.spent
        if not np.isfinite(found.value) or not bool(along.any()):
            return numbers | {"cost": spent}
        aligned = gradient_alignment(objective, directions=along)
        numbers |= {"alignment": aligned.value, "by_chance": aligned.by_chance}
        if self.among_examples:
            varied = curvature_variance(objective, direction=along[0])
            numbers["curvature_variance"] = varied.value
            spent += varied.cost
        return numbers | {"cost": spent}
