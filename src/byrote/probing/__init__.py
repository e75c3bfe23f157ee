"""Probes of a population in training: what its losses, gradients and second derivatives say at some of its steps."""

from byrote.probing.feature_worth import INPUTS, FeatureWorth, KernelSpeed
from byrote.probing.fisher import FisherTrace
from byrote.probing.gradients import BatchGradients
from byrote.probing.layers import OUTPUTS, evenly, hidden_layers, layer_features
from byrote.probing.objectives import Examined, drawn_places, loss_of, objectives, of_each_run
from byrote.probing.reach import CriticalStep
from byrote.probing.representations import COLLAPSE, Representations
from byrote.probing.restored import Restored, heldout_batches, restored
from byrote.probing.sharpest import SharpestSteps
from byrote.probing.sharpnesses import Sharpnesses
from byrote.probing.spectra import BLOCK, HessianSpectra
from byrote.probing.surfaces import LossSurfaces
from byrote.probing.tangents import TangentKernels
from byrote.probing.top_curvature import TopCurvature

__all__ = [
    "BLOCK",
    "COLLAPSE",
    "INPUTS",
    "OUTPUTS",
    "BatchGradients",
    "CriticalStep",
    "Examined",
    "FeatureWorth",
    "FisherTrace",
    "HessianSpectra",
    "KernelSpeed",
    "LossSurfaces",
    "Representations",
    "Restored",
    "SharpestSteps",
    "Sharpnesses",
    "TangentKernels",
    "TopCurvature",
    "drawn_places",
    "evenly",
    "heldout_batches",
    "hidden_layers",
    "layer_features",
    "loss_of",
    "objectives",
    "of_each_run",
    "restored",
]
