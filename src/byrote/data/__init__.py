"""Tasks: where they come from, how they are randomised, which part of them a run sees."""

from byrote.data.display import content
from byrote.data.examples import Examples
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
    "content",
    "inclusion",
    "load",
    "randomise_inputs",
    "randomise_targets",
    "sample_positions",
    "split",
    "standardise",
]
