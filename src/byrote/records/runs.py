"""What a training left behind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float, Int, Shaped

from byrote.records.specs import FitSpec, RunSpec

RunStatus = Literal["completed", "diverged"]


@final
@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """One value per epoch, after that epoch. `score` is accuracy, or R² for regression."""

    step: Float[np.ndarray, "epoch"]
    """Optimiser steps taken."""
    train_loss: Float[np.ndarray, "epoch"]
    """Mean over the examples trained on, each as its batch was visited during the epoch."""
    train_score: Float[np.ndarray, "epoch"]
    """As train_loss; against the targets trained on, corrupted or not."""
    test_loss: Float[np.ndarray, "epoch"]
    test_score: Float[np.ndarray, "epoch"]
    """Against the true test targets."""
    weight_norm: Float[np.ndarray, "epoch"]
    """Euclidean norm of all trainable weights."""


@final
@dataclass(frozen=True, kw_only=True)
class Trace:
    """Per-example loss and margin. The first rows are as each example's batch was visited, before the step;
    the last row is after training, all examples on the same weights. Evaluation mode throughout.

    Loss is cross-entropy (squared error of the standardised target for regression). Margin is
    z_y − max_{c≠y} z_c on logits, y being the target trained on; NaN for regression.
    """

    loss: Float[np.ndarray, "moment example"]
    """moment = epochs + 1."""
    margin: Float[np.ndarray, "moment example"]
    early_error: Float[np.ndarray, "example"]
    """‖softmax(z) − onehot(y)‖₂ at the visit in epoch ⌈epochs/10⌉, what EL2N averages (Paul et al. 2021); for
    regression the absolute standardised residual there."""
    train_outputs: Float[np.ndarray, "example output"]
    """Logits after training (for regression, the prediction in the target's own unit)."""
    test_outputs: Float[np.ndarray, "test_example output"]


@final
@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a probe computed during a run."""

    name: str
    """The probe's kind: `checkpoint`, `gram`, …"""
    settings: Mapping[str, Any]
    """What it was asked for, as JSON can hold it."""
    steps: Int[np.ndarray, "moment"]
    """Optimiser steps taken before each time it was called; 0 is at initialisation."""
    values: Mapping[str, Shaped[np.ndarray, "moment ..."]]
    """By name; one row per moment."""
    seconds: float
    """Wall time, this run's share of it."""


@final
@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is asked of a run besides its training."""

    probes: tuple[str, ...] = ()
    """Keys of the probes whose results must be there."""
    weights: bool = False
    """Whether the trained weights must be there."""

    def missing_from(self, run: "Run") -> bool:
        """Whether a run lacks any of it."""
        return (self.weights and run.weights is None) or not set(self.probes) <= set(run.probes)


NOTHING = Extras()
"""The training itself is enough."""


def share_of_rest(part: float, *, of: float) -> float:
    """A part as a share of what is left without it; 0 where nothing is left.

    >>> share_of_rest(1.0, of=5.0)
    0.25
    """
    return part / (of - part) if of > part else 0.0


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """A training's record: its spec, how it ended, its curves and its trace."""

    spec: RunSpec
    status: RunStatus
    message: str
    """For a run that did not complete, what happened and what to do."""
    curves: RunCurves
    trace: Trace
    seconds: float
    """Wall time, its share of the population it was trained in, probes included."""
    probes: Mapping[str, ProbeResult] = field(default_factory=dict[str, ProbeResult])
    """By the probe's key. A run may be stored with some probes and asked for with others: it is then trained again."""
    weights: Mapping[str, Shaped[np.ndarray, "..."]] | None = None
    """Parameters and buffers after training, named as in the module's `state_dict`; None unless asked for."""

    @property
    def probing_seconds(self) -> float:
        """What its probes took, together."""
        return sum(result.seconds for result in self.probes.values())

    @property
    def probing_share(self) -> float:
        """What its probes cost, as a share of its training without them."""
        return share_of_rest(self.probing_seconds, of=self.seconds)


@final
@dataclass(frozen=True, kw_only=True)
class Fit:
    """A baseline's record."""

    spec: FitSpec
    train_outputs: Float[np.ndarray, "example output"] | None
    """Class scores that sum to about 1 (for regression, the prediction); None when not asked for."""
    test_outputs: Float[np.ndarray, "test_example output"]
    note: str
    """What was approximated or chosen, in plain words: `Nyström with 3,000 landmarks`. Empty: nothing."""
    seconds: float
