"""What all libraries' models are read as."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True, kw_only=True)
class Stages:
    """A boosted model's outputs on some examples, stage by stage."""

    outputs: Iterable[Any]
    """After each stage, the logits of shape [example, class], or [example] of two classes; of numbers, the predictions.
    """
    classes: tuple[Any, ...] | None
    """What the columns stand for; None: targets are codes already, or numbers."""
    regression: bool
    """Whether numbers are predicted."""


def strange_objective(objective: str) -> ValueError:
    """That a model's objective is not of classes or numbers, so that its scores mean something else."""
    return ValueError(
        f"Expected a model of classes, or of numbers, got one with the objective {objective!r}, whose scores byrote "
        f"does not know how to read. Record what it says yourself: byrote.Recorder, once a stage."
    )
