"""The population engine: many runs trained at once, the same numbers however they are cut."""

from byrote.training.nature import Nature, inspect_model
from byrote.training.paths import Path, choose_path
from byrote.training.population import DTYPES, TrainingData, batchmates, steps_per_epoch, training_data
from byrote.training.train import train

__all__ = [
    "DTYPES",
    "Nature",
    "Path",
    "TrainingData",
    "batchmates",
    "choose_path",
    "inspect_model",
    "steps_per_epoch",
    "train",
    "training_data",
]
