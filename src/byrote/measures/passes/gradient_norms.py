"""How hard each example pulls at the weights."""

import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap  # pyright: ignore[reportPrivateImportUsage]

from byrote.measures.passes.evaluation import COARSE, MEMORY, TOLERANCE, call, derivatives, ordinary, parts, try_out
from byrote.measures.passes.losses import checked_targets, losses
from byrote.measures.passes.scored import PassScores, over_draws
from byrote.models.borrowed import borrowed

LOOKED_AT = 256
"""The first examples, among which two are sought on which ways are compared."""

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

    ‖∂ℓ(x_i)/∂w‖₂, in evaluation mode. From one backward pass for all where all weights are in linear layers, since the
    gradient is an outer product there; through `torch.func.vmap` where that works; one example at a time where neither
    gives what that gives (recurrent layers). Average over seeds with `grand`.

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
    with borrowed(model, device=x.device):
        kept = try_out(model, x)
        size = sum(weight.numel() * weight.itemsize for weight in weights.values())
        few = min(LOOKED_AT, max(2, memory // (2 * kept)))
        norms = _fastest(model, weights, *_telling(model, x[:few], targets[:few]))
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


def _fastest(model: nn.Module, weights: Mapping[str, Tensor], few: Tensor, theirs: Tensor) -> Norms:
    """The first way that works and gives two examples what one at a time gives."""

    def alone(x: Tensor, targets: Tensor) -> Tensor:
        return _one_by_one(model, list(weights.values()), x, targets)

    def together(x: Tensor, targets: Tensor) -> Tensor:
        return _at_once(model, weights, x, targets)

    def factored(x: Tensor, targets: Tensor) -> Tensor:
        return _by_factors(model, weights, x, targets)

    wanted = alone(few, theirs)
    for way in (factored, together):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = way(few, theirs)
        except Exception:  # Whatever may come of transforming somebody's code: the next way.
            continue
        if torch.allclose(found, wanted, rtol=TOLERANCE.get(found.dtype, COARSE), atol=0, equal_nan=True):
            return way
    return alone


def _telling(model: nn.Module, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The two examples that are answered worst: gradients of 0 would hide a difference."""
    with torch.no_grad():
        worst = losses(call(model, x), targets).nan_to_num().topk(min(2, len(x))).indices
    return x[worst], targets[worst]


def _by_factors(model: nn.Module, weights: Mapping[str, Tensor], x: Tensor, targets: Tensor) -> Float[Tensor, "batch"]:
    """Where all trainable weights are in linear layers, each called once: ‖δhᵀ‖² + ‖δ‖² = ‖δ‖²(‖h‖² + 1)."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear]
    theirs = [id(part) for layer in layers for part in layer.parameters()]
    if len(set(theirs)) < len(theirs) or not {id(weight) for weight in weights.values()} <= set(theirs):
        raise NotImplementedError("There are weights outside linear layers, or shared by them.")
    called: list[_Call] = []

    def remember(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        called.append(_Call(layer, inputs[0].detach(), output))
        return output.clone()  # Which may be changed in place.

    hooks = [layer.register_forward_hook(remember) for layer in layers]
    try:
        total = losses(call(model, x), targets).sum()
    finally:
        for hook in hooks:
            hook.remove()
    if len({id(each.layer) for each in called}) < len(called) or any(each.inputs.ndim != 2 for each in called):
        raise NotImplementedError("A layer is called more than once, or on more than one row for each example.")
    squares = torch.zeros(len(x), dtype=total.dtype, device=x.device)
    for each, slope in zip(called, derivatives(total, [each.output for each in called]), strict=True):
        if slope is not None:
            squares = squares + slope.square().sum(1) * each.factor()
    return squares.sqrt()


class _Call(NamedTuple):
    """Of a linear layer."""

    layer: nn.Linear
    inputs: Float[Tensor, "batch fan_in"]
    output: Float[Tensor, "batch fan_out"]

    def factor(self) -> Float[Tensor, "batch"]:
        """What the output's squared slope is multiplied with to give the weights'."""
        factor = torch.zeros(len(self.inputs), dtype=self.inputs.dtype, device=self.inputs.device)
        if self.layer.weight.requires_grad:
            factor = factor + self.inputs.square().sum(1)
        return factor + 1 if self.layer.bias is not None and self.layer.bias.requires_grad else factor  # pyright: ignore[reportUnnecessaryComparison]


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
