"""How far the loss rises near the weights, taken while a population trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from byrote.measures import Objective
from byrote.measures.curvature import Sharpness, adaptive_sharpness, keskar_sharpness, sam_sharpness
from byrote.probing.objectives import Examined, objectives
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt


@final
@dataclass(frozen=True, kw_only=True)
class Sharpnesses(AbstractProbe):
    """The largest rise of the loss within a ball, a box, and a ball in proportion to the weights, on some training
    examples of each run, against the targets that it is trained on. First derivatives are enough.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    examined: Examined = field(default_factory=lambda: Examined(num_batches=2, batch_size=256))
    radius: float = 0.05
    """ρ of the ball, as SAM has it."""
    relative_radius: float = 0.5
    """ρ of the ball in units of the weights."""
    box: float = 1e-3
    """ε of Keskar's box."""
    num_steps: int = 5
    """Of each ascent, at most."""
    seed: int = 0
    """Of a first step where the gradient is 0."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "sharpnesses"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`loss`, and of each of `sam`, `keskar` (in percent of 1 + loss) and `adaptive` the rise, `…_one_step`,
        `…_residual` and whether it `…_survives` Dinh's rescaling: [run].
        """
        return attempt(lambda: self._computed(moment), num_runs=len(moment.targets), optional=self.optional)

    def _computed(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        found = [self._of_run(objective) for objective in objectives(moment, examined=self.examined)]
        names = list(found[0])
        values: dict[str, Tensor] = {"loss": _column([own["sam"].start for own in found])}
        for name in names:
            values[name] = _column([own[name].value for own in found])
            values[f"{name}_one_step"] = _column([own[name].one_step for own in found])
            values[f"{name}_residual"] = _column([own[name].residual for own in found])
            values[f"{name}_survives"] = torch.tensor([own[name].survives_rescaling for own in found])
        return values

    def _of_run(self, objective: Objective) -> dict[str, Sharpness]:
        steps, seed = self.num_steps, self.seed
        with objective.opened():
            return {
                "sam": sam_sharpness(objective, radius=self.radius, num_steps=steps, seed=seed),
                "keskar": keskar_sharpness(objective, epsilon=self.box, num_steps=steps, seed=seed),
                "adaptive": adaptive_sharpness(objective, radius=self.relative_radius, num_steps=steps, seed=seed),
            }


def _column(values: Sequence[float]) -> Float[Tensor, "run"]:
    return torch.tensor(values, dtype=torch.float64)
