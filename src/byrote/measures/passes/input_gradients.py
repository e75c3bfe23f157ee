"""How steep the loss is around each input."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from byrote.core import ModelError
from byrote.measures.passes.evaluation import MEMORY, call, derivatives, ordinary, parts, try_out
from byrote.measures.passes.losses import checked_targets, losses
from byrote.measures.passes.scored import PassScores, over_draws
from byrote.models.borrowed import Model, borrowed


def input_gradient_norms(
    model: Model,
    *,
    x: Float[Tensor, "example ..."],
    targets: Shaped[Tensor, "example"],
    memory: int = MEMORY,
) -> PassScores:
    """Measure the squared length of the loss's gradient with respect to each input.

    ‖∂ℓ(x_i)/∂x_i‖₂², in evaluation mode. Summed over the checkpoints of a training, by `csg`, it is the cumulative
    sample gradient. One forward and one backward pass for each chunk of examples, for any kind of layer.

    For ℓ = (w·x − y)² it is 4(w·x − y)²·‖w‖²:

    >>> scores, _ = input_gradient_norms(lambda x: x @ torch.tensor([1.0, 2.0]), x=torch.ones(1, 2),
    ...     targets=torch.tensor([1.0]))
    >>> scores.value
    array([80.])

    Args:
        model: a module, which is left as it was found, or a function of a batch.
        x: inputs; not whole numbers.
        targets: classes (cross-entropy), or numbers (squared error).
        memory: bytes a chunk of examples may take, about.

    Returns:
        One score per example, at least 0, in squared loss per input unit; one observation each, so no standard error.

    Raises:
        TypeError: the inputs are whole numbers, which have no gradient.
        ModelError: the model fails, draws random numbers, mixes examples or does not depend smoothly on its inputs.

    Ravikumar et al. 2025, Towards Memorization Estimation: Fast, Formal and Free, ICML
    """
    x, targets = checked_inputs(x), checked_targets(targets, x=x)
    if not len(x):
        return over_draws(np.zeros((1, 0)))
    with borrowed(model, device=x.device):
        each = bytes_each(model, x)
        found = [
            squared_lengths(loss_slopes(model, x[here], targets=targets[here]))
            for here in parts(len(x), bytes_each=each, memory=memory)
        ]
    return over_draws(torch.cat(found)[None].cpu().numpy())


def csg(squared_norms: Float[np.ndarray, "run moment example"]) -> PassScores:
    """Sum the squared length of the loss's input gradient over training: the cumulative sample gradient.

    CSG(i) = Σ_t ‖∂ℓ_t(x_i)/∂x_i‖₂², the sum over checkpoints, averaged over runs.

    >>> scores, status = csg(np.array([[[1.0, 4.0], [2.0, np.inf]], [[3.0, 0.0], [0.0, 1.0]]]))
    >>> scores.value, scores.count, status.tolist()
    (array([3., 1.]), array([2, 1]), ['measured', 'measured'])

    Args:
        squared_norms: from `input_gradient_norms` at each checkpoint, or from the probe `InputGradients`.

    Returns:
        Scores, at least 0; the standard error is over runs, NaN for one. A run in which a number is not finite does not
        count for that example.

    Raises:
        ValueError: no runs, or no checkpoints.

    Ravikumar et al. 2025, Towards Memorization Estimation: Fast, Formal and Free, ICML
    """
    if 0 in squared_norms.shape[:2]:
        raise ValueError(f"Expected at least one run and one checkpoint, got shape {squared_norms.shape}.")
    return over_draws(squared_norms.sum(1, dtype=np.float64))


def checked_inputs(x: Shaped[Tensor, "example ..."]) -> Float[Tensor, "example ..."]:
    """Inputs that have a gradient.

    Raises:
        TypeError: they are not floating-point numbers.
    """
    if not x.is_floating_point():
        raise TypeError(
            f"Expected floating-point inputs, got {x.dtype}: a loss has no gradient with respect to tokens or bytes. "
            "Hand over the embedded vectors as inputs, with the rest of the network as the model; bytes as "
            "normalised numbers."
        )
    return ordinary(x)


def bytes_each(model: Model, x: Float[Tensor, "example ..."]) -> int:
    """Bytes that a forward and a backward pass take for each example; refuses what `try_out` does."""
    return 2 * try_out(model, x) + 4 * x[0].numel() * x.itemsize


def slopes(
    model: Model, x: Float[Tensor, "batch ..."], score: Callable[[Tensor], Float[Tensor, "batch"]]
) -> Float[Tensor, "batch ..."]:
    """The gradient of each example's score with respect to its input, in one backward pass for all.

    Args:
        model: within `evaluating`, and tried out.
        x: inputs.
        score: from the outputs.

    Raises:
        ModelError: the model does not depend on its inputs in a way that has a gradient.
    """
    start = x.detach().clone().requires_grad_()
    total = score(call(model, start)).sum()
    (gradient,) = derivatives(total, [start])
    if gradient is None:
        raise ModelError(
            "The model's outputs do not depend on its inputs in a way that has a gradient: they are rounded, looked up "
            "(an embedding of tokens?) or detached on the way. Hand over what comes after that as the model."
        )
    return gradient


def loss_slopes(
    model: Model, x: Float[Tensor, "batch ..."], *, targets: Shaped[Tensor, "batch"]
) -> Float[Tensor, "batch ..."]:
    """As `slopes`, of the loss."""
    return slopes(model, x, lambda outputs: losses(outputs, targets))


def squared_lengths(gradients: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch"]:
    """‖g‖₂² of each, in double precision where the device has it."""
    wide = torch.float32 if gradients.device.type == "mps" else torch.float64
    return gradients.detach().flatten(1).to(wide).square().sum(1)
