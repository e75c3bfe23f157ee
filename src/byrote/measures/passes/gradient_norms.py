"""How hard each example pulls at the weights."""

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap  # pyright: ignore[reportPrivateImportUsage]

from byrote.measures.passes.evaluation import MEMORY, call, derivatives, evaluating, ordinary, parts, same, try_out
from byrote.measures.passes.losses import checked_targets, losses
from byrote.measures.passes.scored import PassScores, over_draws

Norms = Callable[[Tensor, Tensor], Float[Tensor, "batch"]]
"""From inputs and targets."""


def gradient_norms(
    model: nn.Module,
    *,
    x: Shaped[Tensor, "example ..."],
    targets: Shaped[Tensor, "example"],
    memory: int = MEMORY,
) -> PassScores:
    """Measure the length of each example's gradient with respect to all trainable weights.

    ‖∂ℓ(x_i)/∂w‖₂, in evaluation mode. Through `torch.func.vmap` where that gives what one example at a time gives, one
    at a time where it does not (recurrent layers). Average over seeds with `grand`.

    For ℓ = (w·x − y)² it is 2|w·x − y|·‖x‖:

    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> gradient_norms(model, x=torch.tensor([[3.0, 4.0]]), targets=torch.tensor([0.5])).scores.value
    array([5.])

    Args:
        model: left as it was found.
        x: inputs; whole numbers too, if the model takes them.
        targets: classes (cross-entropy), or numbers (squared error).
        memory: bytes a chunk of examples may take, about.

    Returns:
        One score per example, at least 0; one observation each, so no standard error.

    Raises:
        TypeError: the model is not a module, so that its weights are not known.
        ValueError: no weight is trainable.
        ModelError: the model fails, draws random numbers or mixes examples.

    Paul et al. 2021, Deep Learning on a Data Diet, https://arxiv.org/abs/2107.07075
    """
    weights = _trainable(model)
    x, targets = ordinary(x), checked_targets(targets, x=x)
    if not len(x):
        return over_draws(np.zeros((1, 0)))
    with evaluating(model, device=x.device):
        kept = try_out(model, x)
        size = sum(weight.numel() * weight.itemsize for weight in weights.values())
        norms = _fastest(model, weights, x, targets)
        found = [norms(x[here], targets[here]) for here in parts(len(x), bytes_each=2 * (kept + size), memory=memory)]
    return over_draws(torch.cat(found)[None].cpu().double().numpy())


def grand(norms: Float[np.ndarray, "run moment example"], *, steps: Int[np.ndarray, "moment"]) -> PassScores:
    """Average each example's gradient norm over checkpoints and seeds: the gradient-norm score.

    GraNd(i) = mean over runs of the mean over checkpoints of ‖∂ℓ(x_i)/∂w‖₂. Informative early in training, averaged
    over at least ten runs. Not offered at initialisation, where it does not reproduce: it follows the length of the
    input there and prunes no better than chance (Kirsch 2023).

    >>> grand(np.array([[[1.0, 4.0]], [[3.0, 4.0]]]), steps=np.array([60])).scores.value
    array([2., 4.])

    Args:
        norms: from `gradient_norms`, or from the probe `GradientNorms`.
        steps: optimiser steps taken before each checkpoint, at least 1.

    Returns:
        Scores, at least 0; the standard error is over runs, NaN for one. A run in which a number is not finite does not
        count for that example.

    Raises:
        ValueError: no runs or checkpoints, a number of steps for each checkpoint is missing, or one is 0.

    Paul et al. 2021, Deep Learning on a Data Diet, https://arxiv.org/abs/2107.07075; Kirsch 2023, Does "Deep Learning
    on a Data Diet" reproduce? Overall yes, but GraNd at Initialization does not, https://arxiv.org/abs/2303.14753
    """
    if 0 in norms.shape[:2] or steps.shape != norms.shape[1:2]:
        raise ValueError(
            "Expected norms [run, moment, example] of at least one run and checkpoint, and the steps of each "
            f"checkpoint, got shapes {norms.shape} and {steps.shape}."
        )
    if (steps < 1).any():
        raise ValueError(
            "GraNd at initialisation does not reproduce: it follows the length of the input and prunes no better than "
            "chance (Kirsch 2023, https://arxiv.org/abs/2303.14753). Take checkpoints from step 1 on, best some epochs "
            f"into training, got steps {steps.tolist()}."
        )
    return over_draws(norms.mean(1, dtype=np.float64))


def _trainable(model: object) -> dict[str, Tensor]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"Expected a torch.nn.Module, whose weights are known, got {type(model).__name__}.")
    weights: dict[str, Tensor] = {name: part for name, part in model.named_parameters() if part.requires_grad}
    if not weights:
        raise ValueError("Expected a model with trainable weights: none has requires_grad set.")
    return weights


def _fastest(model: nn.Module, weights: Mapping[str, Tensor], x: Tensor, targets: Tensor) -> Norms:
    """All at once if that works and gives the same for the first two."""

    def alone(x: Tensor, targets: Tensor) -> Tensor:
        return _one_by_one(model, list(weights.values()), x, targets)

    def together(x: Tensor, targets: Tensor) -> Tensor:
        return _at_once(model, weights, x, targets)

    few, theirs = x[:2], targets[:2]
    wanted = alone(few, theirs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return together if same(together(few, theirs), wanted) else alone
    except Exception:  # Whatever a transformation of somebody's code may raise: one at a time it works.
        return alone


def _one_by_one(model: nn.Module, weights: list[Tensor], x: Tensor, targets: Tensor) -> Float[Tensor, "batch"]:
    found: list[Tensor] = []
    for row in range(len(x)):
        loss = losses(call(model, x[row : row + 1]), targets[row : row + 1]).sum()
        gradients = derivatives(loss, weights)
        found.append(_length([gradient for gradient in gradients if gradient is not None], like=loss))
    return torch.stack(found)


def _at_once(model: nn.Module, weights: Mapping[str, Tensor], x: Tensor, targets: Tensor) -> Float[Tensor, "batch"]:
    def loss(own: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        return losses(functional_call(model, own, (one[None].clone(),)), target[None])[0]

    def length(one: Tensor, target: Tensor) -> Tensor:
        gradients = grad(loss)({name: part.detach() for name, part in weights.items()}, one, target)
        return _length(list(gradients.values()), like=one)

    return vmap(length, randomness="error")(x, targets)


def _length(gradients: list[Tensor], *, like: Tensor) -> Float[Tensor, ""]:
    squares = [gradient.detach().square().sum() for gradient in gradients]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros((), device=like.device)
