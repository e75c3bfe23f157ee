"""The shape of the loss around a model's weights: what its gradients and second derivatives say.

Each measure takes an `Objective`, a loss over some batches as a function of a model's weights; the model is left
exactly as it was found.
"""

from byrote.measures.curvature.alignment import (
    CurvatureVariance,
    GradientAlignment,
    curvature_variance,
    gradient_alignment,
)
from byrote.measures.curvature.answers import Likelihood, binary_answers, class_answers, number_answers
from byrote.measures.curvature.batch_statistics import recompute_statistics
from byrote.measures.curvature.blocks import adam_scale, block_eigenvalues, preconditioned_sharpness
from byrote.measures.curvature.covariance import (
    Drawn,
    GradientCovariance,
    draw_batches,
    gradient_covariance,
    per_example_factor,
)
from byrote.measures.curvature.density import SpectralDensity, spectral_density
from byrote.measures.curvature.differentiate import Batch, Loss
from byrote.measures.curvature.directions import (
    Directions,
    TrajectoryPlane,
    filter_normalised,
    random_directions,
    trajectory_plane,
)
from byrote.measures.curvature.eigenvalues import EigenPairs, Eigenvalues, top_eigenvalues
from byrote.measures.curvature.interpolation import Barrier, Interpolation, PathHeights, SplitPath, interpolate
from byrote.measures.curvature.jacobian import OutputJacobian, OutputLoss, OutputSpectrum, output_jacobian
from byrote.measures.curvature.matching import Matching, match_weights, permutable_units
from byrote.measures.curvature.matrices import AbstractMatrix, EmpiricalFisher, Fisher, GaussNewton, Hessian
from byrote.measures.curvature.noise_scale import NoiseScale, noise_scale, two_batch_noise_scale
from byrote.measures.curvature.objective import Objective
from byrote.measures.curvature.readings import Correct, right_class
from byrote.measures.curvature.rescaling import dinh_rescaled
from byrote.measures.curvature.sharpest import SharpestStep, sharpest_step
from byrote.measures.curvature.sharpness import Sharpness, adaptive_sharpness, keskar_sharpness, sam_sharpness
from byrote.measures.curvature.surfaces import LossSurface, Raster, SplitSurface, loss_surface, raster_of
from byrote.measures.curvature.tangent import TangentKernel, TangentKind, empirical_ntk
from byrote.measures.curvature.traces import TraceEstimate, curvature_trace, fisher_trace

__all__ = [
    "AbstractMatrix",
    "Barrier",
    "Batch",
    "Correct",
    "CurvatureVariance",
    "Directions",
    "Drawn",
    "EigenPairs",
    "Eigenvalues",
    "EmpiricalFisher",
    "Fisher",
    "GaussNewton",
    "GradientAlignment",
    "GradientCovariance",
    "Hessian",
    "Interpolation",
    "Likelihood",
    "Loss",
    "LossSurface",
    "Matching",
    "NoiseScale",
    "Objective",
    "OutputJacobian",
    "OutputLoss",
    "OutputSpectrum",
    "PathHeights",
    "Raster",
    "SharpestStep",
    "Sharpness",
    "SpectralDensity",
    "SplitPath",
    "SplitSurface",
    "TangentKernel",
    "TangentKind",
    "TraceEstimate",
    "TrajectoryPlane",
    "adam_scale",
    "adaptive_sharpness",
    "binary_answers",
    "block_eigenvalues",
    "class_answers",
    "curvature_trace",
    "curvature_variance",
    "dinh_rescaled",
    "draw_batches",
    "empirical_ntk",
    "filter_normalised",
    "fisher_trace",
    "gradient_alignment",
    "gradient_covariance",
    "interpolate",
    "keskar_sharpness",
    "loss_surface",
    "match_weights",
    "noise_scale",
    "number_answers",
    "output_jacobian",
    "per_example_factor",
    "permutable_units",
    "preconditioned_sharpness",
    "random_directions",
    "raster_of",
    "recompute_statistics",
    "right_class",
    "sam_sharpness",
    "sharpest_step",
    "spectral_density",
    "top_eigenvalues",
    "trajectory_plane",
    "two_batch_noise_scale",
]
