"""Answers drawn from the model itself, and how unlikely they are."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.curvature.differentiate import widest

Likelihood = Callable[[Float[Tensor, "example ..."], torch.Generator], Float[Tensor, "example"]]
"""From a model's outputs, draws an answer to each example and gives −log p of it, up to a constant."""


def class_answers(outputs: Float[Tensor, "example ..."], generator: torch.Generator) -> Float[Tensor, "example"]:
    """Classes drawn with the probabilities softmax(z): −log softmax(z)_y.

    >>> class_answers(torch.tensor([[0.0, 90.0]]), torch.Generator().manual_seed(0))
    tensor([-0.])

    Raises:
        ModelError: the outputs are not one row of logits for each example.
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ModelError(
            "To draw classes, logits of shape [example, class] for at least two classes are expected, got "
            f"{tuple(outputs.shape)}. For a single logit take likelihood=binary_answers, for numbers fitted with "
            "squared errors likelihood=number_answers, else a function of your own."
        )
    logits = outputs.to(widest(outputs.device))
    with torch.no_grad():
        below = logits.softmax(1).cumsum(1)
        point = torch.rand(len(logits), 1, generator=generator, dtype=torch.float64).to(below.device, below.dtype)
        drawn = (below < point * below[:, -1:]).sum(1).clamp(max=logits.shape[1] - 1)
    return nn.functional.cross_entropy(logits, drawn, reduction="none").to(outputs.dtype)


def binary_answers(outputs: Float[Tensor, "example ..."], generator: torch.Generator) -> Float[Tensor, "example"]:
    """0 or 1 drawn with the probability σ(z) of 1: log(1 + exp(∓z)).

    Raises:
        ModelError: there is not one logit for each example.
    """
    logits = _one_each(outputs)
    point = torch.rand(len(logits), generator=generator, dtype=torch.float64).to(logits.device, logits.dtype)
    drawn = (point < logits.detach().sigmoid()).to(logits.dtype)
    return nn.functional.binary_cross_entropy_with_logits(logits, drawn, reduction="none")


def number_answers(outputs: Float[Tensor, "example ..."], generator: torch.Generator) -> Float[Tensor, "example"]:
    """Numbers drawn from a normal distribution around z with variance 1/2, for which the squared error is −log p.

    Raises:
        ModelError: there is not one number for each example.
    """
    numbers = _one_each(outputs)
    noise = torch.randn(len(numbers), generator=generator, dtype=torch.float64).to(numbers.device, numbers.dtype)
    return (numbers - (numbers.detach() + noise / 2**0.5)).square()


def _one_each(outputs: Float[Tensor, "example ..."]) -> Float[Tensor, "example"]:
    if outputs.numel() != len(outputs):
        raise ModelError(f"Expected one output for each of {len(outputs)} examples, got {tuple(outputs.shape)}.")
    return outputs.reshape(len(outputs))
