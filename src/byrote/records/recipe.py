"""How a network is trained: optimiser, schedule, batch size, regularisers, epochs."""

from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Literal, final

from byrote.records.codec import LATER


@final
@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with momentum: v ← μv + g + λθ, θ ← θ − ηv (as `torch.optim.SGD`).

    With Nesterov's momentum θ ← θ − η(g + λθ + μv). With `Recipe(batch_size="all")` it is full-batch gradient descent.
    """

    lr: float = 0.1
    """Learning rate η, above 0."""
    momentum: float = 0.9
    """μ, in [0, 1)."""
    weight_decay: float = 0.0
    """λ, added to the gradient as λθ."""
    nesterov: bool = field(default=False, metadata=LATER)
    """Look ahead along the momentum; needs a momentum above 0."""
    kind: Literal["sgd"] = "sgd"

    def __post_init__(self) -> None:
        _require("lr", self.lr, "above 0", 0 < self.lr < float("inf"))
        _require("momentum", self.momentum, "in [0, 1)", 0 <= self.momentum < 1)
        _require("weight_decay", self.weight_decay, "at least 0", 0 <= self.weight_decay < float("inf"))
        if self.nesterov and not self.momentum:
            raise ValueError("Nesterov's momentum needs a momentum above 0, got 0.")


@final
@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma & Ba 2015; as `torch.optim.Adam`)."""

    lr: float = 1e-3
    """Learning rate η, above 0."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    """λ, added to the gradient as λθ; for decoupled weight decay take AdamW."""
    kind: Literal["adam"] = "adam"

    def __post_init__(self) -> None:
        _check_adam(self)


@final
@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019; as `torch.optim.AdamW`)."""

    lr: float = 1e-3
    """Learning rate η, above 0."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    """λ: θ ← θ − ηλθ before each step."""
    kind: Literal["adamw"] = "adamw"

    def __post_init__(self) -> None:
        _check_adam(self)


@final
@dataclass(frozen=True, kw_only=True)
class SAM:
    """Sharpness-aware minimisation (Foret et al. 2021): the base optimiser's step with the gradient taken at
    θ + ρ·g/‖g‖₂ instead of at θ. Two gradients a step.
    """

    base: SGD | Adam | AdamW = field(default_factory=SGD)
    """The optimiser that takes the step."""
    rho: float = 0.05
    """ρ, the radius of the neighbourhood, above 0."""
    kind: Literal["sam"] = "sam"

    def __post_init__(self) -> None:
        _require("rho", self.rho, "above 0", 0 < self.rho < float("inf"))

    @property
    def lr(self) -> float:
        """The base optimiser's learning rate η."""
        return self.base.lr


Optimiser = SGD | Adam | AdamW | SAM


def with_learning_rate(optimiser: Optimiser, lr: float) -> Optimiser:
    """The same optimiser with another learning rate.

    >>> with_learning_rate(SAM(base=SGD(lr=0.1)), 0.5).lr
    0.5
    """
    if isinstance(optimiser, SAM):
        return replace(optimiser, base=replace(optimiser.base, lr=lr))
    return replace(optimiser, lr=lr)


def _check_adam(adam: Adam | AdamW) -> None:
    _require("lr", adam.lr, "above 0", 0 < adam.lr < float("inf"))
    _require("beta1", adam.beta1, "in [0, 1)", 0 <= adam.beta1 < 1)
    _require("beta2", adam.beta2, "in [0, 1)", 0 <= adam.beta2 < 1)
    _require("eps", adam.eps, "above 0", 0 < adam.eps < float("inf"))
    _require("weight_decay", adam.weight_decay, "at least 0", 0 <= adam.weight_decay < float("inf"))


@final
@dataclass(frozen=True, kw_only=True)
class Constant:
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"


@final
@dataclass(frozen=True, kw_only=True)
class Step:
    """The learning rate is multiplied by `factor` after every `every` epochs."""

    every: int
    factor: float = 0.1
    kind: Literal["step"] = "step"

    def __post_init__(self) -> None:
        _require("every", self.every, "at least 1", self.every >= 1)
        _require("factor", self.factor, "above 0", 0 < self.factor < float("inf"))


@final
@dataclass(frozen=True, kw_only=True)
class Cosine:
    """The learning rate falls from η to 0 along half a cosine: η·(1 + cos(πt/T))/2 (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"


@final
@dataclass(frozen=True, kw_only=True)
class Linear:
    """The learning rate falls from η to 0 along a line: η·(1 − t/T)."""

    kind: Literal["linear"] = "linear"


@final
@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Another schedule, its learning rate multiplied by min(1, (t + 1)/steps) at step t, counted from 0."""

    steps: int
    """Optimiser steps until the full learning rate."""
    then: Constant | Step | Cosine | Linear = field(default_factory=Constant)
    kind: Literal["warm-up"] = "warm-up"

    def __post_init__(self) -> None:
        _require("steps", self.steps, "at least 1", self.steps >= 1)


Schedule = Constant | Step | Cosine | Linear | WarmUp

BatchSize = int | Literal["all"]
"""Examples a step; "all" is full-batch gradient descent."""


@final
@dataclass(frozen=True, kw_only=True)
class Regularisers:
    """What keeps a network from fitting its training examples too well, besides weight decay."""

    dropout: float | None = None
    """Rate of every `torch.nn.Dropout` and `Dropout1d` to `3d` of the model, in [0, 1); None leaves each as its author
    set it. What attention or recurrent layers drop inside stays theirs."""
    label_smoothing: float = 0.0
    """ε in [0, 1): the loss learnt from is (1 − ε)·CE(y) + ε·mean over classes of CE; what is recorded is CE(y)."""
    input_noise: float = 0.0
    """Standard deviation of Gaussian noise added to the normalised inputs at every training step."""
    clip_norm: float | None = None
    """The largest Euclidean norm of a run's gradient; a longer one is scaled down to it."""
    fisher_penalty: float = field(default=0.0, metadata=LATER)
    """α of α·‖g̃‖², which is learnt from beside the loss: g̃ is the gradient of the batch's mean loss with labels drawn
    from what the network itself says of them; of numbers, drawn around its predictions (Jastrzębski et al. 2021,
    https://arxiv.org/abs/2012.14193). Two further gradients a step."""

    def __post_init__(self) -> None:
        if self.dropout is not None:
            _require("dropout", self.dropout, "in [0, 1)", 0 <= self.dropout < 1)
        _require("label_smoothing", self.label_smoothing, "in [0, 1)", 0 <= self.label_smoothing < 1)
        _require("input_noise", self.input_noise, "at least 0", 0 <= self.input_noise < float("inf"))
        if self.clip_norm is not None:
            _require("clip_norm", self.clip_norm, "above 0", 0 < self.clip_norm < float("inf"))
        _require("fisher_penalty", self.fisher_penalty, "at least 0", 0 <= self.fisher_penalty < float("inf"))


@final
@dataclass(frozen=True, kw_only=True)
class Switch:
    """Everything about a recipe that is another from a step on. Moments are kept when the optimiser's kind (of SAM, its
    base's) stays the same and begin at zero when it does not; schedules go by the progress of the whole training.
    """

    step: int
    """The first optimiser step, counted from 0, that is taken in the new way."""
    optimiser: Optimiser = field(default_factory=SGD)
    schedule: Schedule = field(default_factory=Constant)
    batch_size: BatchSize = 64
    regularisers: Regularisers = field(default_factory=Regularisers)

    def __post_init__(self) -> None:
        _require("step", self.step, "at least 1", self.step >= 1)
        _check_batch_size(self.batch_size)


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that turns an initialised network into a trained one.

    >>> Recipe(epochs=40).optimiser.lr
    0.1
    """

    optimiser: Optimiser = field(default_factory=SGD)
    schedule: Schedule = field(default_factory=Constant)
    batch_size: BatchSize = 64
    """Examples a step, drawn without replacement within an epoch; "all" for full-batch gradient descent."""
    epochs: int = 40
    """Passes over the training examples."""
    dtype: Literal["float32", "float64"] = "float32"
    """The precision of weights and arithmetic."""
    regularisers: Regularisers = field(default_factory=Regularisers, metadata=LATER)
    autocast: bool = field(default=False, metadata=LATER)
    """Forward and backward in bfloat16 where torch.autocast says so; weights, losses and steps stay in `dtype`."""
    switches: tuple[Switch, ...] = field(default=(), metadata=LATER)
    """Changes on the way, in the order of their steps: what branches of a training are made of."""

    def __post_init__(self) -> None:
        _check_batch_size(self.batch_size)
        _require("epochs", self.epochs, "at least 1", self.epochs >= 1)
        steps = [switch.step for switch in self.switches]
        if steps != sorted(set(steps)):
            raise ValueError(f"Expected switches in the order of their steps, each step once, got {steps}.")
        if self.autocast and self.dtype != "float32":
            raise ValueError(f"autocast computes in bfloat16, which needs dtype 'float32', got {self.dtype!r}.")


def _check_batch_size(batch_size: BatchSize) -> None:
    if batch_size != "all" and not (isinstance(batch_size, Integral) and batch_size >= 1):
        raise ValueError(f'Expected batch_size to be a whole number of at least 1, or "all", got {batch_size!r}.')


def _require(name: str, value: float, expected: str, ok: bool) -> None:
    if not ok:
        raise ValueError(f"Expected {name} {expected}, got {value!r}.")
