"""How a network is trained: optimiser, schedule, batch size, epochs."""

from dataclasses import dataclass, field
from typing import Literal, final


@final
@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with momentum: v ← μv + g + λθ, θ ← θ − ηv (as `torch.optim.SGD`)."""

    lr: float = 0.1
    """Learning rate η, above 0."""
    momentum: float = 0.9
    """μ, in [0, 1)."""
    weight_decay: float = 0.0
    """λ, added to the gradient as λθ."""
    kind: Literal["sgd"] = "sgd"

    def __post_init__(self) -> None:
        _require("lr", self.lr, "above 0", 0 < self.lr < float("inf"))
        _require("momentum", self.momentum, "in [0, 1)", 0 <= self.momentum < 1)
        _require("weight_decay", self.weight_decay, "at least 0", 0 <= self.weight_decay < float("inf"))


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
        _require("lr", self.lr, "above 0", 0 < self.lr < float("inf"))
        _require("beta1", self.beta1, "in [0, 1)", 0 <= self.beta1 < 1)
        _require("beta2", self.beta2, "in [0, 1)", 0 <= self.beta2 < 1)
        _require("eps", self.eps, "above 0", 0 < self.eps < float("inf"))
        _require("weight_decay", self.weight_decay, "at least 0", 0 <= self.weight_decay < float("inf"))


Optimiser = SGD | AdamW


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


Schedule = Constant | Step | Cosine | Linear


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that turns an initialised network into a trained one.

    >>> Recipe(epochs=40).optimiser.lr
    0.1
    """

    optimiser: Optimiser = field(default_factory=SGD)
    schedule: Schedule = field(default_factory=Constant)
    batch_size: int = 64
    """Examples a step, drawn without replacement within an epoch."""
    epochs: int = 40
    """Passes over the training examples."""
    dtype: Literal["float32", "float64"] = "float32"
    """The precision of weights and arithmetic."""

    def __post_init__(self) -> None:
        _require("batch_size", self.batch_size, "at least 1", self.batch_size >= 1)
        _require("epochs", self.epochs, "at least 1", self.epochs >= 1)


def _require(name: str, value: float, expected: str, ok: bool) -> None:
    if not ok:
        raise ValueError(f"Expected {name} {expected}, got {value!r}.")
