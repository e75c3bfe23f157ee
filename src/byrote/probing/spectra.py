"""The Hessian's spectrum, taken while a population trains."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from byrote.measures import Objective
from byrote.measures.curvature import (
    block_eigenvalues,
    curvature_trace,
    preconditioned_sharpness,
    spectral_density,
    top_eigenvalues,
)
from byrote.probing.objectives import Examined, objectives
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

BLOCK = "block:"
"""What the names of layers' values begin with."""

Values = dict[str, np.ndarray | float]


@final
@dataclass(frozen=True, kw_only=True)
class HessianSpectra(AbstractProbe):
    """Both ends of the Hessian's spectrum, its trace and how its eigenvalues are spread, on some training examples of
    each run, against the targets that it is trained on.

    All come from products with the same kept graphs. None survives Dinh's rescaling, nor does what Adam feels.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    examined: Examined = field(default_factory=lambda: Examined(num_batches=2, batch_size=256))
    num_eigenvalues: int = 3
    """Of the largest, fewer where the network has not so many parameters."""
    num_lowest: int = 1
    num_trace_products: int = 15
    """0: no trace."""
    preconditioned: bool = True
    """Whether, of a run that Adam trains, the sharpness is measured that Adam feels."""
    num_density_probes: int = 0
    """Random directions from which the eigenvalues' density is seen; 0: none."""
    num_density_steps: int = 24
    """Products for each of them."""
    blocks: bool = False
    """Whether the largest eigenvalue of each layer's block is looked for."""
    seed: int = 0
    """Of the random starts and directions."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "hessian-spectra"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`loss`, `eigenvalues` and their `residuals` [run, pair] from the largest down, then the `lowest` with
        `lowest_residuals` from the lowest up; `trace` and `trace_se`; `density_nodes` and `density_weights`
        [run, probe, step]; `preconditioned` with `preconditioned_residual`; `block:LAYER` and `block:LAYER_residual`.

        NaN where a run's loss is not finite.
        """
        return attempt(lambda: self._computed(moment), num_runs=len(moment.targets), optional=self.optional)

    def _computed(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        scales = moment.scales() if self.preconditioned else {}
        found = [
            self._of_run(objective, None if not scales else _flat(scales, row, objective))
            for row, objective in enumerate(objectives(moment, examined=self.examined))
        ]
        return {name: torch.from_numpy(np.stack([np.asarray(own[name]) for own in found])) for name in found[0]}

    def _of_run(self, objective: Objective, scale: Float[Tensor, "parameter"] | None) -> Values:
        with objective.opened():
            values: Values = {"loss": objective.value()}
            for part in self._parts(objective, scale):
                values |= part
        return values

    def _parts(self, objective: Objective, scale: Float[Tensor, "parameter"] | None) -> Iterator[Values]:
        size = objective.num_parameters
        num = min(self.num_eigenvalues, size)
        ends = top_eigenvalues(objective, num=num, num_lowest=min(self.num_lowest, size - num), seed=self.seed)
        yield {"eigenvalues": ends.top.values, "residuals": ends.top.residuals}
        yield {"lowest": ends.lowest.values, "lowest_residuals": ends.lowest.residuals}
        if self.num_trace_products:
            trace = curvature_trace(objective, num_products=self.num_trace_products, seed=self.seed)
            yield {"trace": trace.value, "trace_se": trace.se}
        if scale is not None:
            felt = preconditioned_sharpness(objective, scale=scale, seed=self.seed)
            yield {"preconditioned": felt.value, "preconditioned_residual": felt.residual}
        if self.num_density_probes:
            density = spectral_density(
                objective,
                num_probes=self.num_density_probes,
                num_steps=min(self.num_density_steps, size),
                seed=self.seed,
            )
            yield {"density_nodes": density.nodes, "density_weights": density.weights}
        if self.blocks:
            for name, own in block_eigenvalues(objective, seed=self.seed).items():
                yield {f"{BLOCK}{name}": own.value, f"{BLOCK}{name}_residual": own.residual}


def _flat(scales: Mapping[str, Float[Tensor, "run ..."]], row: int, objective: Objective) -> Float[Tensor, "parameter"]:
    return torch.cat([scales[name][row].reshape(-1) for name in objective.weights.names])
