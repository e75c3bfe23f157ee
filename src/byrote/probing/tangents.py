"""The tangent kernel of a population's networks, taken while it trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Shaped
from torch import Tensor

from byrote.measures import empirical_ntk
from byrote.probing.objectives import Examined, drawn_places
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

ROWS = 640
"""Derivatives of single outputs at most; fewer examples are looked at where a network has many outputs."""
FEWEST = 16
"""Examples, however many outputs there are."""


@final
@dataclass(frozen=True, kw_only=True)
class TangentKernels(AbstractProbe):
    """The empirical neural tangent kernel, summed over outputs, of some held-out examples."""

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    examined: Examined = field(default_factory=lambda: Examined(num_batches=1, batch_size=64))
    """Fewer, if each has more than ten outputs."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "tangent-kernels"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`kernel` [run, example, other_example]: Θ_ij = Σ_a ⟨J_ia, J_ja⟩ as from `empirical_ntk`; NaN where a network
        diverged.
        """
        return attempt(lambda: self._computed(moment), num_runs=len(moment.targets), optional=self.optional)

    def _computed(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        places = drawn_places(len(moment.heldout), examined=self.examined, purpose="held out").flatten()
        x = moment.heldout.take(torch.as_tensor(places, device=moment.heldout.device))
        kernels: list[Tensor] = []
        for module in moment.modules():
            with torch.no_grad():
                num_outputs = module(x[:1]).numel()
            own = x[: max(FEWEST, ROWS // num_outputs)]
            with torch.no_grad():
                is_finite = bool(module(own).isfinite().all())
            if is_finite:
                kernels.append(torch.from_numpy(empirical_ntk(module, x=own).kernel))
            else:
                kernels.append(torch.full((len(own), len(own)), torch.nan, dtype=torch.float64))
        return {"kernel": torch.stack(kernels)}
