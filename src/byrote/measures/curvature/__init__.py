"""The shape of the loss around a model's weights: what its gradients and second derivatives say.

Each measure takes an `Objective`, a loss over some batches as a function of a model's weights; the model is left
exactly as it was found.
"""

from byrote.measures.curvature.objective import Objective
from byrote.measures.curvature.products import Batch, Loss

__all__ = [
    "Batch",
    "Loss",
    "Objective",
]
