"""Tasks: where they come from, how they are randomised, which part of them a run sees."""

from byrote.data.display import content
from byrote.data.examples import Examples
from byrote.data.noise import class_pair_flips, feature_dependent_flips, long_tail, uniform_flips
from byrote.data.randomise import RandomisedInputs, RandomisedTargets, randomise_inputs, randomise_targets
from byrote.data.sources import SOURCES, Source, load
from byrote.data.split import split
from byrote.data.subsets import Positions, balanced_subset, inclusion, sample_positions
from byrote.data.task import Affine, Modality, Task, standardise

__all__ = [
    "SOURCES",
    "Affine",
    "Examples",
    "Modality",
    "Positions",
    "RandomisedInputs",
    "RandomisedTargets",
    "Source",
    "Task",
    "balanced_subset",
    "class_pair_flips",
    "content",
    "feature_dependent_flips",
    "inclusion",
    "load",
    "long_tail",
    "randomise_inputs",
    "randomise_targets",
    "sample_positions",
    "split",
    "standardise",
    "uniform_flips",
]
