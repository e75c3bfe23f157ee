"""Scores that need extra passes through a network: gradients of inputs and of weights, searches, unrolled steps.

Each takes a module, which is left exactly as it was found, and tensors.
"""

from byrote.measures.passes.critical import CriticalSamples, critical_samples
from byrote.measures.passes.curvature import input_curvature
from byrote.measures.passes.gradient_norms import gradient_norms, grand
from byrote.measures.passes.input_gradients import csg, input_gradient_norms
from byrote.measures.passes.scored import PassScores, Status, over_draws
from byrote.measures.passes.sensitivity import Heldout, LossSensitivity, loss_sensitivity

__all__ = [
    "CriticalSamples",
    "Heldout",
    "LossSensitivity",
    "PassScores",
    "Status",
    "critical_samples",
    "csg",
    "gradient_norms",
    "grand",
    "input_curvature",
    "input_gradient_norms",
    "loss_sensitivity",
    "over_draws",
]
