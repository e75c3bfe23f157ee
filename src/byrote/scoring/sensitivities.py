"""Loss-sensitivity, taken where a population starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from byrote.core import derive
from byrote.measures import loss_sensitivity
from byrote.records import SGD, Adam, AdamW
from byrote.scoring.spacing import evenly_spaced
from byrote.training import AbstractProbe, Moment, attempt


@final
@dataclass(frozen=True, kw_only=True)
class LossSensitivities(AbstractProbe):
    """How much the training loss of the first steps hangs on each training input, as `loss_sensitivity`: of a short
    training of its own, unrolled, that starts where the run starts.
    """

    optimiser: SGD | Adam | AdamW
    """Of the short training."""
    batch_size: int = 32
    num_steps: int = 64
    """Of the short training."""
    num_moments: int = 8
    """After so many of its steps, equally far apart, the loss is looked at."""
    num_examples: int = 1024
    """It is of so many of the training examples, evenly spaced, and looks at all of them as often."""
    seed: int = 0
    """Of the order of its examples."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "loss-sensitivities"

    def steps(self, total: int) -> Sequence[int]:
        """Before the first."""
        return [0]

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`sensitivity`: [run, example], NaN for an example that no step was on.

        Raises:
            TypeError: the inputs are whole numbers, which have no gradient.
            ModelError: the network has no second derivatives, draws random numbers or mixes examples.
            ValueError: it would take too much memory.
        """
        return attempt(lambda: self._sensitivities(moment), num_runs=len(moment.targets), optional=self.optional)

    def _sensitivities(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        number = min(self.num_examples, len(moment.inputs))
        chosen = torch.from_numpy(evenly_spaced(len(moment.inputs), most=number)).to(moment.inputs.device)
        x = moment.inputs.take(chosen)
        batches = self._batches(number)
        moments = np.unique(np.linspace(1, len(batches), self.num_moments).round().astype(int)).tolist()
        found = [
            loss_sensitivity(
                module,
                x=x,
                targets=targets[chosen],
                optimiser=self.optimiser,
                batches=batches,
                moments=moments,
            )
            for targets, module in zip(moment.targets, moment.modules(), strict=True)
        ]
        return {"sensitivity": torch.from_numpy(np.stack([one.scores.value for one in found]))}

    def _batches(self, number: int) -> list[Int[Tensor, "_"]]:
        """Epoch after epoch in a new order."""
        generator = torch.Generator().manual_seed(derive(self.seed, "unrolled order"))
        batches: list[Tensor] = []
        while len(batches) < self.num_steps:
            batches += torch.randperm(number, generator=generator).split(self.batch_size)
        return batches[: self.num_steps]
