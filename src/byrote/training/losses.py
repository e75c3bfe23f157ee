"""Loss, margin and score of stacked outputs."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


def example_losses(
    outputs: Float[Tensor, "run batch output"], targets: Shaped[Tensor, "run batch"], *, regression: bool
) -> Float[Tensor, "run batch"]:
    """Cross-entropy −log softmax(z)_y, or squared error (z − y)²."""
    if regression:
        return (outputs[..., 0] - targets).square()
    return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


def margins(
    outputs: Float[Tensor, "run batch output"], targets: Shaped[Tensor, "run batch"], *, regression: bool
) -> Float[Tensor, "run batch"]:
    """z_y − max_{c≠y} z_c on logits; above 0 exactly when the prediction is right. NaN for regression."""
    if regression:
        return torch.full_like(outputs[..., 0], torch.nan)
    own = outputs.gather(-1, targets[..., None])
    others = outputs.scatter(-1, targets[..., None], -torch.inf).amax(-1)
    return own[..., 0] - others


def error_norms(
    outputs: Float[Tensor, "run batch output"], targets: Shaped[Tensor, "run batch"], *, regression: bool
) -> Float[Tensor, "run batch"]:
    """‖softmax(z) − onehot(y)‖₂, or |z − y|."""
    if regression:
        return (outputs[..., 0] - targets).abs()
    probabilities = outputs.softmax(-1)
    own = torch.zeros_like(probabilities).scatter(-1, targets[..., None], 1.0)
    return torch.linalg.vector_norm(probabilities - own, dim=-1)


def score(
    *,
    losses: Float[Tensor, "run example"],
    margin: Float[Tensor, "run example"],
    targets: Shaped[Tensor, "run example"],
    weights: Float[Tensor, "run example"],
    regression: bool,
) -> Float[Tensor, "run"]:
    """Accuracy, or R² = 1 − Σ(y − ŷ)²/Σ(y − ȳ)², over the examples of weight 1."""
    total = weights.sum(1).clamp(min=1)
    if not regression:
        return ((margin > 0) * weights).sum(1) / total
    mean = (targets * weights).sum(1, keepdim=True) / total[:, None]
    spread = ((targets - mean).square() * weights).sum(1)
    return 1 - (losses * weights).sum(1) / spread
