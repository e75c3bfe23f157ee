"""The population engine: many runs trained at once, the same numbers however they are cut."""

from byrote.training.nature import Method, Nature, inspect_model
from byrote.training.optional import attempt, reason_of
from byrote.training.paths import STACKS, Path, choose_path, threads
from byrote.training.population import DTYPES, TrainingData, training_data
from byrote.training.probes import AbstractProbe, Answers, Checkpoint, Features, Given, GradientGram, LogSpaced, Moment
from byrote.training.remembered import Remembered, RememberedPath
from byrote.training.rules import Clock, Phase, batches, batchmates, learning_rate, phases
from byrote.training.train import train

__all__ = [
    "DTYPES",
    "STACKS",
    "AbstractProbe",
    "Answers",
    "Checkpoint",
    "Clock",
    "Features",
    "Given",
    "GradientGram",
    "LogSpaced",
    "Method",
    "Moment",
    "Nature",
    "Path",
    "Phase",
    "Remembered",
    "RememberedPath",
    "TrainingData",
    "attempt",
    "batches",
    "batchmates",
    "choose_path",
    "inspect_model",
    "learning_rate",
    "phases",
    "reason_of",
    "threads",
    "train",
    "training_data",
]
