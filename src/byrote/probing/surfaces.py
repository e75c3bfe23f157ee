"""The loss around the weights, taken while a population trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from byrote.measures import Objective
from byrote.measures.curvature import LossSurface, SplitSurface, loss_surface, random_directions, right_class
from byrote.probing.objectives import Examined, objectives
from byrote.probing.restored import heldout_batches
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt


@final
@dataclass(frozen=True, kw_only=True)
class LossSurfaces(AbstractProbe):
    """Training and held-out loss of each run along a random direction, and over the plane of two, the same ones for all
    runs; as long as the weights, filter by filter, so that they survive Dinh's rescaling (Li et al. 2018).
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    examined: Examined = field(default_factory=lambda: Examined(num_batches=2, batch_size=256))
    """As many held-out examples are looked at."""
    num_line_points: int = 21
    """At most; 0: no line."""
    num_plane_points: int = 81
    """At most; 0: no plane."""
    tolerance: float = 0.001
    """As a share of the loss's range, at which points are dense enough."""
    reach: float = 1.0
    """From −reach to reach, in lengths of the weights."""
    seed: int = 0
    """Of the directions."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "loss-surfaces"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """For `line` and `plane`: `…_coordinates` [run, point, axis], and `…_train`, `…_heldout`, with
        `…_train_se` and `…_heldout_se` (s/√n over examples), and for classes `…_train_accuracy` and
        `…_heldout_accuracy`: [run, point]. NaN beyond the points that were needed.
        `…_survives`: [run].
        """
        return attempt(lambda: self._computed(moment), num_runs=len(moment.targets), optional=self.optional)

    def _computed(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        held_out = heldout_batches(moment.heldout, moment.heldout_targets, examined=self.examined)
        found: list[dict[str, np.ndarray]] = []
        for objective in objectives(moment, examined=self.examined):
            values: dict[str, np.ndarray] = {}
            for axes, kind, most in ((1, "line", self.num_line_points), (2, "plane", self.num_plane_points)):
                if most:
                    surface = self._surface(objective, axes, most, held_out, regression=moment.regression)
                    values |= _as_columns(surface, kind=kind, most=most)
            found.append(values)
        return {name: torch.from_numpy(np.stack([own[name] for own in found])) for name in found[0]}

    def _surface(
        self,
        objective: Objective,
        axes: int,
        most: int,
        held_out: Sequence[tuple[Tensor, Tensor]],
        *,
        regression: bool,
    ) -> LossSurface:
        return loss_surface(
            objective,
            directions=random_directions(objective, num=axes, seed=self.seed),
            low=[-self.reach] * axes,
            high=[self.reach] * axes,
            held_out=held_out,
            correct=None if regression else right_class,
            num_points=most,
            tolerance=self.tolerance,
        )


def _as_columns(surface: LossSurface, *, kind: str, most: int) -> dict[str, np.ndarray]:
    """With room for as many points as there may be."""
    columns: dict[str, np.ndarray] = {"coordinates": surface.coordinates}
    for name, split in (("train", surface.train), ("heldout", surface.held_out)):
        if split is not None:
            columns |= _split(split, name)
    padded = {f"{kind}_{name}": _padded(column, most) for name, column in columns.items()}
    return {**padded, f"{kind}_survives": np.array(surface.survives_rescaling)}


def _split(split: SplitSurface, name: str) -> dict[str, np.ndarray]:
    values = {name: split.loss, f"{name}_se": split.loss_spread / split.count**0.5}
    return values if split.accuracy is None else {**values, f"{name}_accuracy": split.accuracy}


def _padded(column: Float[np.ndarray, "point ..."], most: int) -> Float[np.ndarray, "most ..."]:
    whole = np.full((most, *column.shape[1:]), np.nan)
    whole[: len(column)] = column
    return whole
