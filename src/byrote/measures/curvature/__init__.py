"""The shape of the loss around a model's weights: what its gradients and second derivatives say.

Each measure takes an `Objective`, a loss over some batches as a function of a model's weights; the model is left
exactly as it was found.
"""

from byrote.measures.curvature.answers import Likelihood, binary_answers, class_answers, number_answers
from byrote.measures.curvature.differentiate import Batch, Loss
from byrote.measures.curvature.matrices import AbstractMatrix, EmpiricalFisher, Fisher, GaussNewton, Hessian
from byrote.measures.curvature.objective import Objective

__all__ = [
    "AbstractMatrix",
    "Batch",
    "EmpiricalFisher",
    "Fisher",
    "GaussNewton",
    "Hessian",
    "Likelihood",
    "Loss",
    "Objective",
    "binary_answers",
    "class_answers",
    "number_answers",
]
