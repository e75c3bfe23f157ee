"""The running statistics of batch normalisation, computed anew for the weights that a model has now."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.curvature.differentiate import Batch, Loss, example_losses


@torch.no_grad()
def recompute_statistics(model: nn.Module, *, loss: Loss, batches: Sequence[Batch]) -> int:
    """Replace the running means and variances by those of some batches.

    μ = Σ_b n_b·μ_b/n and σ² = Σ_b n_b·(σ_b² + (μ_b − μ)²)/n over batches of n_b examples, each layer seeing what the
    layers before it put out with the batch's own statistics, as in training. All other layers stay in their mode.

    >>> model = nn.Sequential(nn.BatchNorm1d(1))
    >>> recompute_statistics(model, loss=lambda model, x: model(x)[:, 0], batches=[torch.tensor([[1.0], [5.0]])])
    2
    >>> model[0].running_mean.item(), model[0].running_var.item()
    (3.0, 8.0)

    Args:
        model: whose buffers are written; call it on a borrowed one to have them back.
        loss: calls the model on a batch.
        batches: of at least two examples each.

    Returns:
        How many examples they had: 0, and nothing was done, for a model without such statistics.

    Raises:
        ModelError: the model fails on a batch.

    Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization,
    https://arxiv.org/abs/1803.05407; Jordan et al. 2023, REPAIR, https://arxiv.org/abs/2211.08403
    """
    layers = [layer for layer in model.modules() if has_statistics(layer)]
    if not layers:
        return 0
    if not len(batches):
        raise ModelError("Expected batches to compute BatchNorm's statistics from, got none.")
    counts: list[int] = []
    seen: list[list[tuple[Tensor, Tensor]]] = []
    with _batch_mode(layers):
        for batch in batches:
            counts.append(len(example_losses(model, loss=loss, batch=batch)))
            seen.append([tuple(part.double().clone() for part in _statistics(layer)) for layer in layers])  # pyright: ignore
    shares = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    for layer, own in zip(layers, zip(*seen, strict=True), strict=True):
        means, variances = torch.stack([mean for mean, _ in own]), torch.stack([variance for _, variance in own])
        weights = shares[:, None].to(means.device)
        mean = (weights * means).sum(0)
        variance = (weights * (variances + (means - mean).square())).sum(0)
        for part, values in zip(_statistics(layer), (mean, variance), strict=True):
            part.copy_(values)
    return sum(counts)


def has_statistics(layer: nn.Module) -> bool:
    """Whether a layer normalises by running statistics of batches."""
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None  # pyright: ignore[reportPrivateUsage]


def _statistics(layer: nn.Module) -> tuple[Tensor, Tensor]:
    return layer.running_mean, layer.running_var  # pyright: ignore[reportReturnType]


@contextmanager
def _batch_mode(layers: Sequence[nn.Module]) -> Generator[None]:
    """Running statistics are for a while those of the last batch alone."""
    before = [(layer, layer.training, layer.momentum) for layer in layers]
    try:
        for layer in layers:
            layer.training, layer.momentum = True, 1.0  # pyright: ignore
        yield
    finally:
        for layer, mode, momentum in before:
            layer.training, layer.momentum = mode, momentum  # pyright: ignore
