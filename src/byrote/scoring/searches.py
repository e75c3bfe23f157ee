"""The critical sample ratio, taken while a population trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from byrote.measures import critical_samples
from byrote.scoring.spacing import evenly_spaced
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

MEASURED = 2000
"""Training examples that a grey level's size is read off."""
GREY_LEVELS = 255
"""Of 8-bit images, from black to white."""


@final
@dataclass(frozen=True, kw_only=True)
class CriticalInputs(AbstractProbe):
    """Which held-out inputs have one nearby that is classified otherwise, as `critical_samples`.

    A grey level is 1/255 of the range of the inputs, over all features together or of each by itself.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    num_examples: int = 200
    """So many of the test examples, evenly spaced."""
    each_feature: bool = False
    """Whether every feature has a range of its own, as columns of a table have and pixels have not."""
    radius: float = 0.3
    """In grey levels."""
    num_steps: int = 50
    """Of the search for each input."""
    seed: int = 0
    """Of the noise."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "critical-inputs"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`critical`: [run, test_example], 1 or 0, NaN where logits are not finite; `passes`: [run], forward passes of
        single examples.

        Raises:
            ModelError: the network has one output only, or does not depend smoothly on its inputs.
        """
        return attempt(lambda: self._search(moment), num_runs=len(moment.targets), optional=self.optional)

    def _search(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        device = moment.inputs.device
        tests = torch.from_numpy(evenly_spaced(len(moment.heldout), most=self.num_examples)).to(device)
        measured = torch.from_numpy(evenly_spaced(len(moment.inputs), most=MEASURED)).to(device)
        x, unit = moment.heldout.take(tests), self._unit(moment.inputs.take(measured))
        found = [
            critical_samples(module, x=x, unit=unit, seed=self.seed, radius=self.radius, num_steps=self.num_steps)
            for module in moment.modules()
        ]
        rows = [np.where(one.status == "measured", one.critical, np.nan) for one in found]
        return {
            "critical": torch.from_numpy(np.stack(rows)),
            "passes": torch.tensor([one.num_passes for one in found]),
        }

    def _unit(self, x: Float[Tensor, "example ..."]) -> Float[Tensor, "..."]:
        """0 for a constant feature, along which nothing is searched."""
        return (x.amax(0) - x.amin(0) if self.each_feature else x.max() - x.min()) / GREY_LEVELS
