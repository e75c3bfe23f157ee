"""The shape of the loss around a model's weights: what its gradients and second derivatives say.

Each measure takes an `Objective`, a loss over some batches as a function of a model's weights; the model is left
exactly as it was found.
"""

from byrote.measures.curvature.answers import Likelihood, binary_answers, class_answers, number_answers
from byrote.measures.curvature.blocks import adam_scale, block_eigenvalues, preconditioned_sharpness
from byrote.measures.curvature.density import SpectralDensity, spectral_density
from byrote.measures.curvature.differentiate import Batch, Loss
from byrote.measures.curvature.eigenvalues import EigenPairs, Eigenvalues, top_eigenvalues
from byrote.measures.curvature.matrices import AbstractMatrix, EmpiricalFisher, Fisher, GaussNewton, Hessian
from byrote.measures.curvature.objective import Objective
from byrote.measures.curvature.traces import TraceEstimate, curvature_trace, fisher_trace

__all__ = [
    "AbstractMatrix",
    "Batch",
    "EigenPairs",
    "Eigenvalues",
    "EmpiricalFisher",
    "Fisher",
    "GaussNewton",
    "Hessian",
    "Likelihood",
    "Loss",
    "Objective",
    "SpectralDensity",
    "TraceEstimate",
    "adam_scale",
    "binary_answers",
    "block_eigenvalues",
    "class_answers",
    "curvature_trace",
    "fisher_trace",
    "number_answers",
    "preconditioned_sharpness",
    "spectral_density",
    "top_eigenvalues",
]
