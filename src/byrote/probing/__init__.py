"""Probes of a population in training: what its losses, gradients and second derivatives say at some of its steps."""

from byrote.probing.fisher import FisherTrace
from byrote.probing.gradients import BatchGradients
from byrote.probing.objectives import Examined, loss_of, objectives, of_each_run
from byrote.probing.reach import CriticalStep
from byrote.probing.sharpest import SharpestSteps
from byrote.probing.top_curvature import TopCurvature

__all__ = [
    "BatchGradients",
    "CriticalStep",
    "Examined",
    "FisherTrace",
    "SharpestSteps",
    "TopCurvature",
    "loss_of",
    "objectives",
    "of_each_run",
]
