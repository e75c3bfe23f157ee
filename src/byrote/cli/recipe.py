"""A recipe as it is typed: what was not said stays as the task's default has it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, final

from byrote.core import SpecError, UnknownNameError, did_you_mean
from byrote.records import (
    SAM,
    SGD,
    Adam,
    AdamW,
    BatchSize,
    Constant,
    Cosine,
    Linear,
    Optimiser,
    Recipe,
    Regularisers,
    Schedule,
    Step,
    WarmUp,
    with_learning_rate,
)

OPTIMISERS = ("sgd", "adam", "adamw", "sam")
SCHEDULES = ("constant", "step", "cosine", "linear")
DROPS = 3
"""Parts into which the schedule `step` cuts the epochs, each at a tenth of the rate before."""


@final
@dataclass(frozen=True, kw_only=True)
class TypedRecipe:
    """The options about a recipe; None is what was not said."""

    epochs: int | None
    batch_size: str | None
    optimiser: str
    lr: float | None
    momentum: float | None
    weight_decay: float | None
    schedule: str
    warm_up: int | None
    dropout: float | None
    label_smoothing: float | None
    input_noise: float | None
    clip_norm: float | None
    fisher_penalty: float | None
    autocast: bool

    def on(self, base: Recipe) -> Recipe:
        """The base with what was said in its place.

        Raises:
            UnknownNameError: there is no such optimiser or schedule.
            SpecError: an option does not go with another.
            ValueError: a number is out of its range.
        """
        epochs = base.epochs if self.epochs is None else self.epochs
        return replace(
            base,
            epochs=epochs,
            batch_size=base.batch_size if self.batch_size is None else _batch_size(self.batch_size),
            optimiser=self._optimiser(base.optimiser),
            schedule=self._schedule(epochs),
            regularisers=self._regularisers(),
            autocast=self.autocast,
        )

    def _optimiser(self, usual: Optimiser) -> Optimiser:
        """The one named, around the task's usual one where it can be."""
        sgd = usual if isinstance(usual, SGD) else SGD()
        known: dict[str, Optimiser] = {"sgd": sgd, "adam": Adam(), "adamw": AdamW(), "sam": SAM(base=sgd)}
        chosen = known[_known(self.optimiser, names=OPTIMISERS, what="optimiser")]
        if self.lr is not None:
            chosen = with_learning_rate(chosen, self.lr)
        inner = chosen.base if isinstance(chosen, SAM) else chosen
        if self.momentum is not None:
            if not isinstance(inner, SGD):
                raise SpecError(f"--momentum is of sgd and sam; {self.optimiser} has its own. Drop it.")
            inner = replace(inner, momentum=self.momentum)
        if self.weight_decay is not None:
            inner = replace(inner, weight_decay=self.weight_decay)
        return replace(chosen, base=inner) if isinstance(chosen, SAM) else inner

    def _schedule(self, epochs: int) -> Schedule:
        known: dict[str, Constant | Step | Cosine | Linear] = {
            "constant": Constant(),
            "step": Step(every=max(1, math.ceil(epochs / DROPS))),
            "cosine": Cosine(),
            "linear": Linear(),
        }
        chosen = known[_known(self.schedule, names=SCHEDULES, what="schedule")]
        if self.warm_up is None:
            return chosen
        if self.warm_up < 1:
            raise SpecError(f"Expected --warm-up at least 1 step, got {self.warm_up}.")
        return WarmUp(steps=self.warm_up, then=chosen)

    def _regularisers(self) -> Regularisers:
        said = {part.name: getattr(self, part.name) for part in fields(Regularisers)}
        return Regularisers(**{name: value for name, value in said.items() if value is not None})


class Sorted(NamedTuple):
    """Options sorted by what they are about."""

    recipe: TypedRecipe
    others: dict[str, Any]


def sort_options(settings: Mapping[str, Any]) -> Sorted:
    """Take the options about the recipe out of all options."""
    names = {part.name for part in fields(TypedRecipe)}
    others = {name: value for name, value in settings.items() if name not in names}
    return Sorted(TypedRecipe(**{name: settings[name] for name in names}), others)


def _known(name: str, *, names: tuple[str, ...], what: str) -> str:
    if name not in names:
        raise UnknownNameError(f"Unknown {what} {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}.")
    return name


def _batch_size(text: str) -> BatchSize:
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise SpecError(f"Expected --batch-size to be a whole number above 0, or all, got {text!r}.") from None
