"""In how many directions features spread."""

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Float
from torch import Tensor

RankStatus = Literal["measured", "too few examples", "constant features", "not finite"]
FEWEST = 2
ROUNDING = 1e-7
"""Of the largest number: a spread of less is rounding."""


@final
@dataclass(frozen=True, kw_only=True)
class EffectiveRank:
    """In how many directions features spread, or why that is not known."""

    entropy: float | None
    """exp of the entropy of the singular values' shares, from 1 to the rank; None where it is not measured."""
    participation: float | None
    """Participation ratio of the variances, from 1 to the rank, and never above `entropy`."""
    rank: int | None
    """Directions that are more than rounding."""
    status: RankStatus
    count: int
    """Examples; no rank exceeds their number less 1."""


def effective_rank(features: Float[Tensor, "example _"]) -> EffectiveRank:
    """Count the directions in which centred features spread, the weaker ones for less.

    With singular values σ_i of the centred features and p_i = σ_i/Σσ: exp(−Σ p_i log p_i); with variances λ_i = σ_i²,
    (Σλ)²/Σλ², the participation ratio. In float64.

    Three directions of equal spread:

    >>> import torch
    >>> x = torch.cat([torch.eye(3), -torch.eye(3)])
    >>> found = effective_rank(x)
    >>> round(found.entropy, 9), round(found.participation, 9), found.rank
    (3.0, 3.0, 3)

    Args:
        features: of a layer with more than one axis, flattened.

    Returns:
        The ranks, unchanged by a rotation, a shift or one scale.

    Roy & Vetterli 2007, The Effective Rank; Gao et al. 2017, A Theory of Multineuronal Dimensionality, Dynamics and
    Measurement, https://doi.org/10.1101/214262
    """
    count = len(features)
    if count < FEWEST:
        return _unknown("too few examples", count)
    if not bool(features.isfinite().all()):
        return _unknown("not finite", count)
    wide: Float[np.ndarray, "example _"] = features.detach().cpu().double().numpy()
    wide = wide / (float(np.abs(wide).max(initial=0.0)) or 1.0)
    values = np.linalg.svd(wide - wide.mean(0), compute_uv=False) if wide.size else np.zeros(0)
    values = values[values > ROUNDING * np.sqrt(wide.size)]
    if not len(values):
        return _unknown("constant features", count)
    shares, variances = values / values.sum(), values**2
    return EffectiveRank(
        entropy=math.exp(-float((shares * np.log(shares)).sum())),
        participation=float(variances.sum() ** 2 / np.square(variances).sum()),
        rank=len(values),
        status="measured",
        count=count,
    )


def _unknown(status: RankStatus, count: int) -> EffectiveRank:
    return EffectiveRank(entropy=None, participation=None, rank=None, status=status, count=count)
