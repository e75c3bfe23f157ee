"""What steps along the sharpest direction do to the loss, taken while a population trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from byrote.measures import Objective, sharpest_step, top_eigenvalues
from byrote.probing.objectives import Examined, Numbers, of_each_run
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


@final
@dataclass(frozen=True, kw_only=True)
class SharpestSteps(AbstractProbe):
    """Changes of the loss after gradient steps along the sharpest direction alone, along random directions and along
    the whole gradient, as `sharpest_step`.
    """

    learning_rate: float
    """η."""
    at: Given | LogSpaced = field(default_factory=LogSpaced)
    examined: Examined = field(default_factory=Examined)
    multiples: tuple[float, ...] = MULTIPLES
    """γ, of the learning rate."""
    num_random: int = 3
    """Directions to compare with."""
    seed: int = 0
    """Of the search for the direction and of the random ones."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "sharpest-steps"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`sharpest`, `random`, `random_se` and `full`: [run, multiple], changes of the loss; `start`: [run], the loss;
        `cost`: [run], in gradients.
        """
        width = (len(self.multiples),)
        shapes = {"sharpest": width, "random": width, "random_se": width, "full": width, "start": (), "cost": ()}
        return attempt(
            lambda: of_each_run(moment, examined=self.examined, shapes=shapes, measure=self._measure, joined=True),
            num_runs=len(moment.targets),
            optional=self.optional,
        )

    def _measure(self, objective: Objective) -> Numbers:
        direction = top_eigenvalues(objective, seed=self.seed).top.vectors[0]
        if not np.isfinite(float(direction.square().sum())) or not bool(direction.any()):
            return {"cost": objective.spent}
        found = sharpest_step(
            objective,
            direction=direction,
            learning_rate=self.learning_rate,
            multiples=self.multiples,
            num_random=self.num_random,
            seed=self.seed,
        )
        return {
            "sharpest": found.sharpest,
            "random": found.random,
            "random_se": found.random_se,
            "full": found.full,
            "start": found.start,
            "cost": objective.spent,
        }
