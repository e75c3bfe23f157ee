"""The same curvature on a GPU. Skipped, with the reason, where there is none."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote import Monitor
from byrote.measures.curvature import (
    Objective,
    block_eigenvalues,
    curvature_trace,
    fisher_trace,
    gradient_covariance,
    interpolate,
    noise_scale,
    output_jacobian,
    sam_sharpness,
    sharpest_step,
    spectral_density,
    top_eigenvalues,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch sees none"),
]

DEVICES = ("cpu", "cuda")
Measure = Callable[[Objective], np.ndarray]


def _network() -> nn.Sequential:
    made = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 36, 10)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in made.parameters():
            part.copy_(torch.randn(part.shape, generator=generator, dtype=torch.float64) / part[0].numel() ** 0.5)
    return made


def _losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def _batches(device: str) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 1, 8, 8, generator=generator, dtype=torch.float64).to(device)
    y = torch.randint(10, (64,), generator=generator).to(device)
    return list(zip(x.split(16), y.split(16), strict=True))


def _objective(device: str) -> Objective:
    return Objective(_network().to(device), loss=_losses, batches=_batches(device))


def _covariance(objective: Objective) -> np.ndarray:
    found = gradient_covariance(objective)
    return np.array([*found.eigenvalues, found.trace, noise_scale(found).value])


def _path(objective: Objective) -> np.ndarray:
    other = _network().to(objective.weights.device)
    with torch.no_grad():
        for part in other.parameters():
            part.add_(0.1)
    return np.asarray(interpolate(objective, end=other, num_points=3).train.loss.values)


def _steps(objective: Objective) -> np.ndarray:
    top = top_eigenvalues(objective, num_products=16).top
    found = sharpest_step(objective, direction=top.vectors[0], learning_rate=0.1)
    return np.array([*found.sharpest, *found.random])


def _spectrum(objective: Objective) -> np.ndarray:
    jacobian = output_jacobian(objective.model, x=objective.batches[0][0])
    return np.linalg.eigvalsh(jacobian.kernel())[-5:]


MEASURES: dict[str, Measure] = {
    "top": lambda objective: top_eigenvalues(objective, num=2, num_products=16).top.values,
    "blocks": lambda objective: np.array([block.top.values[0] for block in block_eigenvalues(objective).values()]),
    "trace": lambda objective: np.array([curvature_trace(objective, num_products=12).value]),
    "Fisher": lambda objective: np.array([fisher_trace(objective, num_draws=4).value]),
    "density": lambda objective: spectral_density(objective, num_probes=2, num_steps=8).nodes,
    "covariance": _covariance,
    "SAM": lambda objective: np.array([sam_sharpness(objective).value]),
    "path": _path,
    "steps": _steps,
    "Jacobian": _spectrum,
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_on_cuda_is_that_on_the_cpu(name: str) -> None:
    expected, found = (MEASURES[name](_objective(device)) for device in DEVICES)
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_a_monitor_on_cuda_measures_what_one_on_the_cpu_does() -> None:
    rows = []
    for device in DEVICES:
        monitor = Monitor(_network().to(device), loss=_losses, probe=_batches(device)[0], overhead=float("inf"))
        rows.append(monitor.measure(1, lr=0.001))
    timed = {"seconds", "share"}
    expected, found = ({name: value for name, value in row.items() if name not in timed} for row in rows)
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)
