"""How many examples' gradients have to be averaged before the gradient outweighs its noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Real

from byrote.measures.curvature.covariance import GradientCovariance
from byrote.measures.curvature.jackknife import jackknife_error


@final
@dataclass(frozen=True, kw_only=True)
class NoiseScale:
    """Gradient-noise scale with what it is made of."""

    value: float
    """B = Tr Σ/‖g‖², in examples; infinite where the estimate of ‖g‖² is not above 0, that is where the gradient
    cannot be told from noise."""
    se: float
    """By the jackknife; NaN where there are fewer than three observations or some leave-one-out value is infinite."""
    trace: float
    """Tr Σ, the variance of a single example's gradient."""
    trace_se: float
    squared_gradient: float
    """‖g‖², estimated without bias, so that it can come out below 0."""
    squared_gradient_se: float
    count: int
    """Mini-batches, or pairs of a small and a large batch."""
    cost: float
    """In full-data gradients; 0 where the gradients were there already."""
    survives_rescaling: bool = False


def noise_scale(covariance: GradientCovariance) -> NoiseScale:
    """Estimate the gradient-noise scale from mini-batch gradients, with no further gradient.

    B = Tr Σ/‖g‖² with Tr Σ = f·Tr K (`per_example_factor`) and ‖g‖² = ‖ḡ‖² − Tr Var(ḡ), each without bias: each
    mini-batch is the small batch of McCandlish's two and all of them together are the large one. Var(ḡ) is K/L, and
    K/L·(1 − LS/N) for disjoint batches out of N examples, around whose gradient then nothing is left at LS = N.

    Gradients 1 and 3 of single examples: Tr Σ = 2, ‖g‖² = 4 − 2/2:

    >>> import torch
    >>> from byrote.measures.curvature import Objective, gradient_covariance
    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> batches = [torch.tensor([[1.0]]).double(), torch.tensor([[3.0]]).double()]
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0], batches=batches)
    >>> found = noise_scale(gradient_covariance(objective))
    >>> found.trace, found.squared_gradient, round(found.value, 9)
    (2.0, 3.0, 0.666666667)

    Args:
        covariance: from `gradient_covariance`.

    Returns:
        Scale in examples. The ratio of two unbiased estimates is itself biased where ‖g‖² is uncertain.

    McCandlish et al. 2018, An Empirical Model of Large-Batch Training, Appendix A, https://arxiv.org/abs/1812.06162
    """
    num, factor = covariance.num_batches, covariance.per_example_factor
    share = 1.0
    if covariance.drawn == "disjoint" and covariance.population is not None:
        share = max(0.0, 1 - num * covariance.batch_size / covariance.population)

    def parts(kept: Sequence[int]) -> Float[np.ndarray, "3"]:
        own = covariance.products[np.ix_(kept, kept)]
        mean = float(own.mean())
        variance = (float(np.trace(own)) - len(kept) * mean) / max(1, len(kept) - 1)
        left = share if len(kept) == num else 1 - (1 - share) * len(kept) / num
        return _parts(factor * variance, mean - left * variance / len(kept))

    return _result(parts, count=num, cost=covariance.cost)


def two_batch_noise_scale(
    small: Real[np.ndarray, "draw"], *, large: Real[np.ndarray, "draw"], small_size: int, large_size: int
) -> NoiseScale:
    """Estimate the gradient-noise scale from squared lengths of gradients of two batch sizes.

    ‖g‖² = (B·‖g_B‖² − b·‖g_b‖²)/(B − b) and Tr Σ = (‖g_b‖² − ‖g_B‖²)/(1/b − 1/B), each averaged over draws before the
    ratio is taken. With several processes they cost nothing: g_b is a process's gradient, g_B the one after the
    reduction.

    >>> found = two_batch_noise_scale(np.array([3.0]), large=np.array([2.0]), small_size=1, large_size=2)
    >>> found.trace, found.squared_gradient, found.value
    (2.0, 1.0, 2.0)

    Args:
        small: ‖g_b‖² of each draw; for several small batches of a draw, their mean.
        large: ‖g_B‖².
        small_size: b.
        large_size: B.

    Returns:
        Scale in examples, with its standard error over draws, which have to be independent.

    Raises:
        ValueError: there are no draws or not as many of each, or B is not above b.

    McCandlish et al. 2018, Appendix A.1, https://arxiv.org/abs/1812.06162
    """
    if not len(small) or small.shape != large.shape or not 1 <= small_size < large_size:
        raise ValueError(
            "Expected as many squared lengths of small as of large batches, at least one, and sizes 1 <= small < large,"
            f" got shapes {small.shape} and {large.shape}, sizes {small_size!r} and {large_size!r}."
        )
    few, many = small.astype(np.float64), large.astype(np.float64)

    def parts(kept: Sequence[int]) -> Float[np.ndarray, "3"]:
        a, b = float(few[list(kept)].mean()), float(many[list(kept)].mean())
        trace = (a - b) / (1 / small_size - 1 / large_size)
        return _parts(trace, (large_size * b - small_size * a) / (large_size - small_size))

    return _result(parts, count=len(few), cost=0.0)


def _parts(trace: float, squared: float) -> Float[np.ndarray, "3"]:
    ratio = trace / squared if squared > 0 else (np.inf if squared <= 0 else np.nan)
    return np.array([ratio, trace, squared])


def _result(parts: Callable[[Sequence[int]], Float[np.ndarray, "3"]], *, count: int, cost: float) -> NoiseScale:
    value, trace, squared = (float(part) for part in parts(range(count)))
    errors = [float(part) for part in jackknife_error(parts, count=count)]
    return NoiseScale(
        value=value,
        se=errors[0],
        trace=trace,
        trace_se=errors[1],
        squared_gradient=squared,
        squared_gradient_se=errors[2],
        count=count,
        cost=cost,
    )
