"""Kernels of examples: of inputs, of features, of tangents; how far they are apart, and how fast they fit."""

from byrote.measures.kernels.descent import (
    KernelDescent,
    StepsToFit,
    blocked_kernel_descent,
    kernel_descent,
    steps_to_fit,
)
from byrote.measures.kernels.distance import (
    KernelDistance,
    KernelDistances,
    KernelVelocity,
    kernel_distance,
    kernel_distances,
    kernel_velocity,
)
from byrote.measures.kernels.matrices import conjugate_kernel, kernel_matrix, median_distance

__all__ = [
    "KernelDescent",
    "KernelDistance",
    "KernelDistances",
    "KernelVelocity",
    "StepsToFit",
    "blocked_kernel_descent",
    "conjugate_kernel",
    "kernel_descent",
    "kernel_distance",
    "kernel_distances",
    "kernel_matrix",
    "kernel_velocity",
    "median_distance",
    "steps_to_fit",
]
