"""One step: answer a batch, be judged, learn."""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from byrote.records import Optimiser
from byrote.training.losses import example_losses, population_loss
from byrote.training.networks import AbstractNetworks
from byrote.training.optimise import OptimiserState, update


def learn(
    networks: AbstractNetworks,
    x: Float[Tensor, "run batch ..."],
    *,
    targets: Shaped[Tensor, "run batch"],
    included: Bool[Tensor, "run batch"],
    regression: bool,
    optimiser: Optimiser,
    state: OptimiserState,
    lr: float,
    step: int,
) -> Float[Tensor, "run batch output"]:
    """Take one step, counted from 0, each network on its own batch.

    Returns:
        What the networks said before the step, in evaluation mode.
    """
    outputs = networks.training_logits(x, included=included, step=step)
    losses = example_losses(outputs.learnt, targets, regression=regression)
    loss = population_loss(losses, included)
    gradients = torch.autograd.grad(loss, networks.parameters, allow_unused=True)
    update(optimiser, parameters=networks.parameters, gradients=gradients, state=state, lr=lr, step=step + 1)
    return outputs.recorded
