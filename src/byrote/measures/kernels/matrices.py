"""Kernels of inputs and of features: Gaussian, Laplacian, and the conjugate kernel of a network."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Num
from sklearn.metrics.pairwise import euclidean_distances  # pyright: ignore
from torch import Tensor

KernelName = Literal["gaussian", "laplacian"]

MOST = 1000
"""Examples among which the median distance is looked for."""
ROUNDING = 1e-7
"""Of the largest number: distances that identical examples may seem to have."""


def kernel_matrix(
    x: Num[np.ndarray, "example feature"],
    others: Num[np.ndarray, "other feature"] | None = None,
    *,
    kernel: KernelName,
    bandwidth: float,
) -> Float[np.ndarray, "example _"]:
    """Measure how alike examples are.

    exp(−‖u − v‖²/2σ²) for the Gaussian kernel, exp(−‖u − v‖/σ) for the Laplacian, both with the Euclidean distance.

    >>> x = np.array([[0.0, 0.0], [3.0, 4.0]])
    >>> [kernel_matrix(x, kernel=kernel, bandwidth=5.0)[0, 1].round(6).item() for kernel in ("gaussian", "laplacian")]
    [0.606531, 0.367879]

    Args:
        x: examples.
        others: the columns' examples; None: the same, each then exactly 1 from itself.
        kernel: which of the two.
        bandwidth: σ, above 0.

    Raises:
        ValueError: the bandwidth is not above 0, or the kernel is none of the two.

    Belkin, Ma & Mandal 2018, To Understand Deep Learning We Need to Understand Kernel Learning,
    https://arxiv.org/abs/1802.01396
    """
    if not (0 < bandwidth < np.inf):
        raise ValueError(f"Expected a bandwidth above 0, such as the median distance, got {bandwidth!r}.")
    if kernel not in ("gaussian", "laplacian"):
        raise ValueError(f"Expected kernel 'gaussian' or 'laplacian', got {kernel!r}.")
    middle = x.mean(0, dtype=np.float64)
    columns = None if others is None else others - middle
    found = np.asarray(euclidean_distances(x - middle, columns, squared=kernel == "gaussian"), np.float64)
    found *= -1 / (2 * bandwidth**2) if kernel == "gaussian" else -1 / bandwidth
    return np.exp(found, out=found)


def median_distance(x: Num[np.ndarray, "example feature"]) -> float:
    """Find a bandwidth: the median Euclidean distance between examples that differ.

    Among at most 1,000 examples, evenly spaced.

    >>> median_distance(np.array([[0.0], [1.0], [3.0], [3.0]]))
    2.0

    Args:
        x: examples, in no particular order.

    Raises:
        ValueError: no two examples differ.
    """
    few = x[np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST)).round().astype(int))].astype(np.float64)
    distances = np.asarray(euclidean_distances(few - few.mean(0)), np.float64)[np.triu_indices(len(few), 1)]
    distances = distances[distances > ROUNDING * float(np.abs(few).max(initial=0.0))]
    if not len(distances):
        raise ValueError(f"Expected at least two different examples, got {len(x):,} that are all the same.")
    return float(np.median(distances))


def conjugate_kernel(features: Float[Tensor, "example feature"]) -> Float[np.ndarray, "example example"]:
    """Measure how alike examples are to a network's last layer: its inputs' inner products.

    K = ΦΦᵀ. It is what the last layer's own weights contribute to the tangent kernel, once for each output. In float64.

    >>> conjugate_kernel(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    array([[5., 6.],
           [6., 9.]])

    Args:
        features: Φ, what the last layer is given.

    Fan & Wang 2020, Spectra of the Conjugate Kernel and Neural Tangent Kernel, https://arxiv.org/abs/2005.11879
    """
    wide = features.detach().to(torch.float32 if features.device.type == "mps" else torch.float64)
    return (wide @ wide.T).cpu().double().numpy()
