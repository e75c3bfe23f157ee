"""Per-example scores with their errors."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int


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
