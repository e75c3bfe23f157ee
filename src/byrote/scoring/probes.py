"""Scores that need extra passes, taken while a population trains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from byrote.measures import PassScores, gradient_norms, input_curvature, input_gradient_norms
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt


@final
@dataclass(frozen=True, kw_only=True)
class InputGradients(AbstractProbe):
    """The squared length of the loss's gradient with respect to each training input, as `input_gradient_norms`.

    Summed over the steps by `csg` it is the cumulative sample gradient. Of what a run left out, too.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    num_examples: int | None = None
    """The first so many of the training examples; None: all."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "input-gradients"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`squared_norm`: [run, example]."""

        def scores(module: nn.Module, x: Tensor, targets: Tensor) -> PassScores:
            return input_gradient_norms(module, x=x, targets=targets)

        return attempt(
            lambda: {"squared_norm": _stack(_scored(moment, scores, number=self.num_examples))},
            num_runs=len(moment.targets),
            optional=self.optional,
        )


@final
@dataclass(frozen=True, kw_only=True)
class GradientNorms(AbstractProbe):
    """The length of each training example's gradient with respect to all weights, as `gradient_norms`.

    Averaged over runs by `grand`. Never at initialisation, where it says nothing of an example but its input's length.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    """Of log-spaced steps all but the first, which is 0."""
    num_examples: int | None = None
    """The first so many of the training examples; None: all."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "gradient-norms"

    def __post_init__(self) -> None:
        if isinstance(self.at, Given) and 0 in self.at.steps:
            raise ValueError(
                "GraNd at initialisation does not reproduce (Kirsch 2023, https://arxiv.org/abs/2303.14753). Take "
                f"steps from 1 on, best some epochs into training, got {self.at.steps}."
            )

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says, from 1 on."""
        return [step for step in self.at.of(total) if step > 0]

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`norm`: [run, example]."""

        def scores(module: nn.Module, x: Tensor, targets: Tensor) -> PassScores:
            return gradient_norms(module, x=x, targets=targets)

        return attempt(
            lambda: {"norm": _stack(_scored(moment, scores, number=self.num_examples))},
            num_runs=len(moment.targets),
            optional=self.optional,
        )


@final
@dataclass(frozen=True, kw_only=True)
class InputCurvature(AbstractProbe):
    """How sharply the loss bends around each training input, as `input_curvature`; examples go by their positions."""

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    num_examples: int | None = None
    """The first so many of the training examples; None: all."""
    num_directions: int = 10
    step: float = 1e-3
    """h, in units of the normalised inputs."""
    seed: int = 0
    """Of the directions, which are the same at every step and in every run."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "input-curvature"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`curvature` and `curvature_se`: [run, example]."""

        def scores(module: nn.Module, x: Tensor, targets: Tensor) -> PassScores:
            return input_curvature(
                module,
                x=x,
                targets=targets,
                seed=self.seed,
                num_directions=self.num_directions,
                step=self.step,
            )

        def computed() -> Mapping[str, Shaped[Tensor, "run ..."]]:
            found = _scored(moment, scores, number=self.num_examples)
            return {"curvature": _stack(found), "curvature_se": _rows([each.scores.se for each in found])}

        return attempt(computed, num_runs=len(moment.targets), optional=self.optional)


def _scored(
    moment: Moment, scores: Callable[[nn.Module, Tensor, Tensor], PassScores], *, number: int | None
) -> list[PassScores]:
    """Of every run's network, on what it is trained on."""
    size = len(moment.inputs) if number is None else min(number, len(moment.inputs))
    x = moment.inputs.take(torch.arange(size, device=moment.inputs.device))
    return [scores(module, x, moment.targets[row, :size]) for row, module in enumerate(moment.modules())]


def _stack(found: list[PassScores]) -> Float[Tensor, "run example"]:
    return _rows([each.scores.value for each in found])


def _rows(values: list[np.ndarray]) -> Float[Tensor, "run example"]:
    return torch.from_numpy(np.stack(values))
