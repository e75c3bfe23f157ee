"""Loss, margin and score of stacked outputs."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from byrote.training.rules import PerRun


def example_losses(
    outputs: Float[Tensor, "run batch output"], targets: Shaped[Tensor, "run batch"], *, regression: bool
) -> Float[Tensor, "run batch"]:
    """Cross-entropy −log softmax(z)_y, or squared error (z − y)².

    >>> example_losses(torch.zeros(1, 1, 8), torch.tensor([[3]]), regression=False)  # ln 8
    tensor([[2.0794]])

    Args:
        outputs: logits z, or the prediction as the only output.
        targets: class codes y, or standardised numbers.
        regression: which of the two.

    Returns:
        Nats, or squared standard deviations of the target.
    """
    if regression:
        return (outputs[..., 0] - targets).square()
    # torch's softmax over a short last axis takes several times as long as over one before it.
    return nn.functional.cross_entropy(outputs.mT.contiguous(), targets, reduction="none")


def batch_shares(
    included: Bool[Tensor, "run example"], *, ends: Int[Tensor, "batch"], dtype: torch.dtype
) -> Float[Tensor, "run example"]:
    """What each example counts in the mean over its batch: 1 by the number included there, and 0 for one left out.

    >>> batch_shares(torch.tensor([[True, True, False, True]]), ends=torch.tensor([2, 4]), dtype=torch.float32)
    tensor([[0.5000, 0.5000, 0.0000, 1.0000]])

    Args:
        included: in the order of the visits.
        ends: of every batch, the position after its last.
        dtype: of the result.
    """
    numbers = nn.functional.pad(included.cumsum(1)[:, ends - 1], (1, 0)).diff(dim=1).clamp(min=1)
    lengths = nn.functional.pad(ends, (1, 0)).diff()
    return included.to(dtype) / numbers.repeat_interleave(lengths, dim=1)


def output_slopes(
    outputs: Float[Tensor, "run batch output"],
    targets: Shaped[Tensor, "run batch"],
    *,
    shares: Float[Tensor, "run batch"],
    label_smoothing: PerRun,
    regression: bool,
) -> Float[Tensor, "run batch output"]:
    """The gradient, with respect to the outputs, of each run's mean loss over the examples it is trained on.

    With an example's share w it is w·(softmax(z) − (1 − ε)·onehot(y) − ε/k), or 2·w·(z − y) for regression.

    >>> output_slopes(torch.zeros(1, 1, 2), torch.tensor([[0]]), shares=torch.tensor([[1.0]]), label_smoothing=0.0,
    ...     regression=False)
    tensor([[[-0.5000,  0.5000]]])

    Args:
        outputs: logits z, or the prediction as the only output.
        targets: class codes y, or standardised numbers.
        shares: what each example counts, from `batch_shares`.
        label_smoothing: ε; not for regression.
        regression: which of the two.
    """
    if regression:
        return (2 * shares * (outputs[..., 0] - targets))[..., None]
    # torch's softmax over a short last axis takes several times as long as over one before it.
    slopes = outputs.mT.softmax(1)
    classes = torch.arange(outputs.shape[-1], device=outputs.device)[:, None]
    wanted = (targets[:, None] == classes).to(outputs.dtype)
    if isinstance(label_smoothing, Tensor) or label_smoothing:
        smoothing = torch.as_tensor(label_smoothing, dtype=outputs.dtype, device=outputs.device)
        wanted = torch.lerp(wanted, wanted.new_full((), 1 / len(classes)), smoothing.view(-1, 1, 1))
    return slopes.sub_(wanted).mul_(shares[:, None]).mT


def margins(
    outputs: Float[Tensor, "run batch output"], targets: Shaped[Tensor, "run batch"], *, regression: bool
) -> Float[Tensor, "run batch"]:
    """z_y − max_{c≠y} z_c on logits; above 0 exactly when the largest logit is y's alone. NaN for regression.

    >>> margins(torch.tensor([[[1.0, 4.0, 2.0]]]), torch.tensor([[1]]), regression=False)
    tensor([[2.]])
    """
    if regression:
        return torch.full_like(outputs[..., 0], torch.nan)
    own = outputs.gather(-1, targets[..., None])
    others = outputs.scatter(-1, targets[..., None], -torch.inf).amax(-1)
    return own[..., 0] - others


def error_norms(
    outputs: Float[Tensor, "run batch output"], targets: Shaped[Tensor, "run batch"], *, regression: bool
) -> Float[Tensor, "run batch"]:
    """‖softmax(z) − onehot(y)‖₂ (Paul et al. 2021), or |z − y|.

    >>> error_norms(torch.zeros(1, 1, 4), torch.tensor([[0]]), regression=False)  # √(3/4)
    tensor([[0.8660]])
    """
    if regression:
        return (outputs[..., 0] - targets).abs()
    errors = outputs.softmax(-1)
    errors.scatter_add_(-1, targets[..., None], errors.new_full((), -1).expand(*targets.shape, 1))
    return torch.linalg.vector_norm(errors, dim=-1)


def score(
    *,
    losses: Float[Tensor, "run example"],
    margin: Float[Tensor, "run example"],
    targets: Shaped[Tensor, "run example"],
    included: Bool[Tensor, "run example"],
    regression: bool,
) -> Float[Tensor, "run"]:
    """Accuracy, or R² = 1 − Σ(y − ŷ)²/Σ(y − ȳ)², over the included examples.

    >>> right = torch.tensor([[1.0, -1.0, 2.0, 5.0]])
    >>> seen = torch.tensor([[True, True, True, False]])
    >>> score(losses=right, margin=right, targets=torch.zeros(1, 4).long(), included=seen, regression=False)
    tensor([0.6667])
    """
    if not regression:
        return ((margin > 0) & included).sum(1).to(losses.dtype) / included.sum(1)
    mean = targets.masked_fill(~included, 0).sum(1, keepdim=True) / included.sum(1, keepdim=True)
    spread = (targets - mean).square().masked_fill(~included, 0).sum(1)
    return 1 - losses.masked_fill(~included, 0).sum(1) / spread
