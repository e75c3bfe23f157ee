"""Tasks: where they come from, how they are randomised, which part of them a run sees."""

from byrote.data.examples import Examples
from byrote.data.randomise import RandomisedInputs, RandomisedTargets, randomise_inputs, randomise_targets
from byrote.data.subsets import Positions, balanced_subset, inclusion, sample_positions
from byrote.data.task import Affine, Modality, Task, standardise

__all__ = [
    "Affine",
    "Examples",
    "Modality",
    "Positions",
    "RandomisedInputs",
    "RandomisedTargets",
    "Task",
    "balanced_subset",
    "inclusion",
    "randomise_inputs",
    "randomise_targets",
    "sample_positions",
    "standardise",
]
