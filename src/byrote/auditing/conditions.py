"""What a network is trained on, in words and numbers."""

from typing import NamedTuple, assert_never

from byrote.data import Task
from byrote.records import (
    AllExamples,
    BalancedSubset,
    CorruptedLabels,
    GaussianInputs,
    Inputs,
    Labels,
    LeftOut,
    PermutedColumns,
    PermutedLabels,
    RandomInputs,
    ReplacedLabels,
    RunSpec,
    Sample,
    ShuffledInputs,
    Subset,
    TrueAfterRandom,
    TrueInputs,
    TrueLabels,
)


class Size(NamedTuple):
    """Examples that a network learns from, and those that it is tested on."""

    train: int
    test: int


def condition(spec: RunSpec) -> str:
    """What sets a run apart from training on the task as it is, whatever its seed.

    >>> from byrote.records import Learner, ModelSpec
    >>> learner = Learner(model=ModelSpec(name="linear"))
    >>> condition(RunSpec(task="", learner=learner, seed=0, order=0))
    'all as it is'
    >>> condition(RunSpec(task="", learner=learner, seed=0, order=0, labels=CorruptedLabels(fraction=1.0, draw=0)))
    'random labels'
    """
    parts = [part for part in (_labels(spec.labels), _inputs(spec.inputs), _subset(spec.subset)) if part]
    return ", ".join(parts) or "all as it is"


def size(task: Task, *, subset: Subset, sample: Sample | None) -> Size:
    """How many examples a run or fit on such a part of a task has.

    Args:
        task: the whole.
        subset: which of the examples it learns from.
        sample: which part of the task is looked at.
    """
    train, test = len(task.train), len(task.test)
    if sample is not None:
        train, test = min(train, sample.train), min(test, sample.test)
    match subset:
        case AllExamples():
            return Size(train, test)
        case BalancedSubset(fraction=fraction):
            return Size(round(train * fraction), test)
        case LeftOut(positions=positions):
            return Size(train - len(positions), test)
        case _:
            assert_never(subset)


def _labels(labels: Labels) -> str:
    match labels:
        case TrueLabels():
            return ""
        case CorruptedLabels(fraction=1):
            return "random labels"
        case CorruptedLabels(fraction=fraction):
            return f"{100 * fraction:g} % random labels"
        case ReplacedLabels(positions=positions):
            return f"{len(positions):,} suggested labels" if positions else "suggested labels"
        case TrueAfterRandom(rescaled=rescaled):
            return f"true labels after random ones{', lengths of weights restored' if rescaled else ''}"
        case PermutedLabels(within_groups=within):
            return "labels permuted within groups" if within else "permuted labels"
        case _:
            assert_never(labels)


def _inputs(inputs: Inputs) -> str:
    match inputs:
        case TrueInputs():
            return ""
        case ShuffledInputs():
            return "shuffled inputs"
        case RandomInputs():
            return "random inputs"
        case GaussianInputs():
            return "Gaussian inputs"
        case PermutedColumns():
            return "permuted columns"
        case _:
            assert_never(inputs)


def _subset(subset: Subset) -> str:
    match subset:
        case AllExamples():
            return ""
        case BalancedSubset(fraction=fraction):
            return f"random {100 * fraction:g} %"
        case LeftOut(positions=positions, reason=reason):
            return f"all but {f'{len(positions):,}' if positions else 'the'} {reason}"
        case _:
            assert_never(subset)
