"""Per-example scores with their errors."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int, Shaped

KNOWN = "known"
UNKNOWN = "too few observations"
ROUGH = "no standard error"
NOT_FINITE = "not finite"


@final
@dataclass(frozen=True, kw_only=True)
class Scores:
    """One number per example, each with its standard error and the number of observations behind it."""

    value: Float[np.ndarray, "*shape"]
    """The estimate; NaN where it is undefined (no observation)."""
    se: Float[np.ndarray, "*shape"]
    """Standard error; NaN where it is undefined (fewer observations than it needs)."""
    count: Int[np.ndarray, "*shape"]
    """Observations behind each value; for a difference of means, the smaller side's."""

    def __post_init__(self) -> None:
        if not self.value.shape == self.se.shape == self.count.shape:
            raise ValueError(
                f"Expected value, se and count of one shape, got {self.value.shape}, {self.se.shape}, "
                f"{self.count.shape}."
            )

    @property
    def status(self) -> Shaped[np.ndarray, "*shape"]:
        """Of each value: `known`, with its error; `no standard error`, from too few observations to say one;
        `too few observations` for a value; `not finite`, because what was observed was not.

        >>> Scores(value=np.array([1.0, np.nan]), se=np.array([0.5, np.nan]), count=np.array([3, 0])).status.tolist()
        ['known', 'too few observations']
        """
        measured = np.isfinite(self.value)
        chosen = [measured & np.isfinite(self.se), measured, np.asarray(self.count) == 0]
        return np.select(chosen, [KNOWN, ROUGH, UNKNOWN], NOT_FINITE)

    def __len__(self) -> int:
        return len(self.value)


@final
@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with a 95 % interval."""

    value: float
    low: float
    high: float
    se: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"
