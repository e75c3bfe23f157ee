"""What kind of module this is: can many be stacked, does it behave differently while training?"""

import copy
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from byrote.core import ModelError
from byrote.training.networks import StackedNetworks

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


class Nature(NamedTuple):
    """How a module may be trained."""

    stackable: bool
    """`torch.func.vmap` gives what the module itself gives."""
    modes_differ: bool
    """Dropout, BatchNorm and their kind: training mode is not evaluation mode."""
    reason: str
    """Why it cannot be stacked; empty when it can."""


def inspect_module(module: nn.Module, x: Float[Tensor, "batch ..."]) -> Nature:
    """Find out by trying, on a copy.

    Raises:
        ModelError: in evaluation mode two passes over the same inputs differ, so that nothing measured on it would
            mean anything.
    """
    probe = copy.deepcopy(module).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(1)
        first = probe(x)
        torch.default_generator.manual_seed(2)
        second = probe(x)
        trained = copy.deepcopy(module).train()(x)
    tolerance = TOLERANCE[first.dtype]
    if not torch.allclose(first, second, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise ModelError(
            "The model draws random numbers in evaluation mode: two passes over the same inputs differ. "
            "Make them depend on self.training."
        )
    by_type = any(isinstance(layer, (_NormBase, _DropoutNd)) for layer in module.modules())
    if by_type or not torch.allclose(first, trained, rtol=tolerance, atol=tolerance, equal_nan=True):
        return Nature(False, True, "training and evaluation mode differ (dropout or batch statistics)")
    try:
        with torch.no_grad():
            stacked = StackedNetworks([probe, probe], device=x.device).logits(x)
    except Exception as error:
        return Nature(False, False, f"torch.func.vmap cannot run it: {type(error).__name__}: {error!s:.200}")
    if not torch.allclose(stacked[1], first.reshape(stacked[1].shape), rtol=tolerance, atol=tolerance, equal_nan=True):
        return Nature(False, False, "torch.func.vmap gives other outputs than the module itself")
    return Nature(True, False, "")
