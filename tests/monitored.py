"""Small trainings for a monitor to watch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from byrote import Monitor

IMAGES, DIGITS = load_digits(return_X_y=True)
X: Tensor = torch.tensor(IMAGES[:64] / 16, dtype=torch.float64)
Y: Tensor = torch.tensor(DIGITS[:64])
ALWAYS = float("inf")


def network(*, seed: int = 0) -> nn.Sequential:
    """Two layers, in float64."""
    net = nn.Sequential(nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in net.parameters():
            part.copy_(torch.randn(part.shape, generator=generator, dtype=torch.float64) / part.shape[-1] ** 0.5)
    return net


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Of each example."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def watching(model: nn.Module, **options: Any) -> Monitor:
    """A monitor that measures everything at every step."""
    settings: dict[str, Any] = {"loss": cross_entropy, "probe": (X, Y), "overhead": ALWAYS}
    return Monitor(model, **settings | options)


def train(model: nn.Module, optimiser: torch.optim.Optimizer, *, steps: int, after: Callable[[int], Any]) -> None:
    """Full-batch steps."""
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        cross_entropy(model, (X, Y)).mean().backward()
        optimiser.step()
        after(step)


def known(row: Mapping[str, float] | None) -> Mapping[str, float]:
    """A row that is there."""
    assert row is not None
    return row
