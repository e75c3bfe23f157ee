"""Kernel machines: ridge regression in the feature space of a Gaussian or a Laplacian kernel."""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Num, Shaped
from scipy.linalg import cho_factor, cho_solve, get_blas_funcs

from byrote.baselines.outputs import BaselineOutputs, as_outputs

KernelName = Literal["gaussian", "laplacian"]

MOST_EXACT = 6000
"""Training examples up to which the system is solved exactly."""
NUM_LANDMARKS = 3000
"""Landmarks of the Nyström approximation beyond that."""
MOST_TUNING = 2000
"""Training examples on which bandwidth and ridge are chosen."""
LEAST_TUNING = 20
"""Training examples below which nothing is chosen and the first of each grid is used."""
BANDWIDTHS = (0.5, 0.125, 0.25, 1.0, 2.0)
"""In median distances between training examples."""
RIDGES = (1e-6, 1e-4, 1e-2)
"""Per training example."""
BLOCK = 2048
"""Rows of a kernel matrix that are made at a time."""


class Choice(NamedTuple):
    """Bandwidth and ridge, relative to the median distance and to the number of examples."""

    bandwidth: float
    ridge: float
    note: str


class _Solution(NamedTuple):
    centres: Float[np.ndarray, "centre feature"]
    weights: Float[np.ndarray, "centre output"]
    note: str


def kernel_machine(
    x: Num[np.ndarray, "example feature"],
    y: Shaped[np.ndarray, "example"],
    queries: Num[np.ndarray, "query feature"],
    *,
    kernel: KernelName,
    num_classes: int,
    seed: int,
) -> BaselineOutputs:
    """Answer by kernel ridge regression on centred targets, one-hot ones for classes.

    f(q) = ȳ + k(q, X)·(K + λI)⁻¹(Y − ȳ), with the Gaussian kernel exp(−‖u − v‖²/2σ²) or the Laplacian exp(−‖u − v‖/σ).
    σ (from ⅛ to 2 median distances) and λ (from 10⁻⁶n, which nearly interpolates, to 10⁻²n) are the best of a grid on a
    fifth of at most 2,000 seeded training examples. Up to 6,000 training examples the system is solved exactly; beyond
    that with 3,000 seeded landmarks (Nyström).

    >>> x = np.linspace(0, 6, 60)[:, None]
    >>> outputs = kernel_machine(x, np.sin(x[:, 0]), x, kernel="gaussian", num_classes=0, seed=0).outputs
    >>> bool(np.abs(outputs[:, 0] - np.sin(x[:, 0])).max() < 0.01)
    True

    Belkin, Ma & Mandal 2018, To Understand Deep Learning We Need to Understand Kernel Learning,
    https://arxiv.org/abs/1802.01396
    """
    offset = x.mean(0, dtype=np.float64)
    inputs, rows = x - offset, queries - offset
    targets = as_outputs(y, num_classes=num_classes)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(inputs))
    median = _median_distance(inputs[order[:MOST_TUNING]])
    choice = _choose(
        inputs[order[:MOST_TUNING]], targets[order[:MOST_TUNING]], kernel=kernel, median=median, classes=num_classes > 0
    )
    sigma, mean = choice.bandwidth * median, targets.mean(0)
    solution = _solve(inputs, targets - mean, order=order, kernel=kernel, sigma=sigma, ridge=choice.ridge * len(inputs))
    outputs = mean + _apply(rows, solution, kernel=kernel, sigma=sigma)
    return BaselineOutputs(outputs, "; ".join(part for part in (choice.note, solution.note) if part))


def _choose(
    x: Float[np.ndarray, "example feature"],
    targets: Float[np.ndarray, "example output"],
    *,
    kernel: KernelName,
    median: float,
    classes: bool,
) -> Choice:
    """Hold out a fifth; the best accuracy (or least squared error) wins, then the least squared error."""
    if len(x) < LEAST_TUNING:
        return Choice(BANDWIDTHS[0], RIDGES[0], f"bandwidth {BANDWIDTHS[0]:g} median distances, not tuned")
    cut = len(x) // 5
    known, mean = targets[cut:], targets[cut:].mean(0)
    best, chosen = (np.inf, np.inf), (BANDWIDTHS[0], RIDGES[0])
    squared = _squared_distances(x, x[cut:])
    for bandwidth in BANDWIDTHS:
        similarity = _kernel(squared.copy(), kernel=kernel, sigma=bandwidth * median)
        for ridge in RIDGES:
            weights = _ridge_weights(similarity[cut:].copy(), known - mean, ridge=ridge * len(known))
            guess = mean + similarity[:cut] @ weights
            wrong = float((guess.argmax(1) != targets[:cut].argmax(1)).mean()) if classes else 0.0
            loss = (wrong, float(((guess - targets[:cut]) ** 2).mean()))
            if loss < best:
                best, chosen = loss, (bandwidth, ridge)
    note = (
        f"bandwidth {chosen[0]:g} median distances and ridge {chosen[1]:g}·n, chosen on {cut:,} of {len(x):,} training "
        f"examples"
    )
    return Choice(*chosen, note)


def _solve(
    x: Float[np.ndarray, "example feature"],
    targets: Float[np.ndarray, "example output"],
    *,
    order: np.ndarray,
    kernel: KernelName,
    sigma: float,
    ridge: float,
) -> _Solution:
    if len(x) <= MOST_EXACT:
        similarity = _kernel(_squared_distances(x, x), kernel=kernel, sigma=sigma)
        return _Solution(x, _ridge_weights(similarity, targets, ridge=ridge), "")
    landmarks = x[np.sort(order[:NUM_LANDMARKS])]
    add_product: Any = get_blas_funcs("syrk", dtype=np.float64)
    gram = np.zeros((len(landmarks), len(landmarks)), order="F")
    moments = np.zeros((len(landmarks), targets.shape[1]))
    for start in range(0, len(x), BLOCK):
        block = _kernel(_squared_distances(x[start : start + BLOCK], landmarks), kernel=kernel, sigma=sigma)
        gram = add_product(1.0, block.T, beta=1.0, c=gram, lower=1, overwrite_c=1)
        moments += block.T @ targets[start : start + BLOCK]
    gram += ridge * _kernel(_squared_distances(landmarks, landmarks), kernel=kernel, sigma=sigma)
    diagonal = np.einsum("ii->i", gram)
    diagonal += len(landmarks) * np.finfo(np.float64).eps * diagonal.max()
    weights = cho_solve(cho_factor(gram, lower=True, overwrite_a=True), moments)
    return _Solution(landmarks, weights, f"Nyström with {len(landmarks):,} landmarks of {len(x):,} training examples")


def _ridge_weights(
    similarity: Float[np.ndarray, "example example"], targets: Float[np.ndarray, "example output"], *, ridge: float
) -> Float[np.ndarray, "example output"]:
    """(K + λI)⁻¹Y by Cholesky, in K's own memory."""
    diagonal = np.einsum("ii->i", similarity)
    diagonal += ridge
    return cho_solve(cho_factor(similarity, lower=True, overwrite_a=True), targets)


def _apply(
    rows: Float[np.ndarray, "query feature"], solution: _Solution, *, kernel: KernelName, sigma: float
) -> Float[np.ndarray, "query output"]:
    blocks = [
        _kernel(_squared_distances(rows[start : start + BLOCK], solution.centres), kernel=kernel, sigma=sigma)
        @ solution.weights
        for start in range(0, len(rows), BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, solution.weights.shape[1]))


def _kernel(
    squared: Float[np.ndarray, "row centre"], *, kernel: KernelName, sigma: float
) -> Float[np.ndarray, "row centre"]:
    """Turn squared distances into similarities, in place."""
    if kernel == "gaussian":
        squared *= -0.5 / sigma**2
    else:
        np.sqrt(squared, out=squared)
        squared *= -1 / sigma
    return np.exp(squared, out=squared)


def _squared_distances(
    rows: Float[np.ndarray, "row feature"], centres: Float[np.ndarray, "centre feature"]
) -> Float[np.ndarray, "row centre"]:
    """‖u‖² − 2u·v + ‖v‖²; what rounding makes negative or leaves of identical rows is 0."""
    lengths, others = np.einsum("nd,nd->n", rows, rows), np.einsum("nd,nd->n", centres, centres)
    squared = rows @ centres.T
    squared *= -2
    squared += lengths[:, None]
    squared += others
    largest = max(float(lengths.max(initial=0)), float(others.max(initial=0)))
    squared[squared < 16 * np.finfo(np.float64).eps * largest] = 0
    return squared


def _median_distance(x: Float[np.ndarray, "example feature"]) -> float:
    """Over pairs that differ; 1 when none does."""
    half = len(x) // 2
    distances = np.sqrt(((x[:half] - x[half : 2 * half]) ** 2).sum(1))
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else 1.0
