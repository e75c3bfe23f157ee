"""The loss of every run's network on some of its training examples, as measures of curvature take it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from byrote.core import derive
from byrote.measures import Loss, Objective, draw_batches
from byrote.training import Moment

TOGETHER = 256
"""Examples that go through a network at once where mini-batches do not matter."""

Numbers = Mapping[str, float | Float[np.ndarray, "..."]]
"""What is measured of one network, by name."""


@final
@dataclass(frozen=True, kw_only=True)
class Examined:
    """Which training examples are looked at: mini-batches of one size, no example twice, the same at every moment."""

    num_batches: int = 16
    """At most; fewer where there are too few examples."""
    batch_size: int = 32
    """At most; smaller where not all batches would be filled."""
    seed: int = 0
    """Of the draw."""

    def __post_init__(self) -> None:
        if self.num_batches < 1 or self.batch_size < 1:
            raise ValueError(
                f"Expected at least one batch of at least one example, got num_batches={self.num_batches!r} and "
                f"batch_size={self.batch_size!r}."
            )

    def of(self, number: int) -> tuple[int, int]:
        """Batches, and examples in each, out of so many examples.

        >>> Examined(num_batches=4, batch_size=32).of(1000), Examined(num_batches=4, batch_size=32).of(50)
        ((4, 32), (4, 12))
        """
        size = max(1, min(self.batch_size, number // self.num_batches))
        return max(1, min(self.num_batches, number // size)), size


def drawn_places(number: int, *, examined: Examined, purpose: str = "examined") -> Int[np.ndarray, "batch example"]:
    """Which of so many examples are looked at, batch by batch.

    Args:
        number: of examples to choose among.
        examined: how many are chosen.
        purpose: another one draws others.
    """
    count, size = examined.of(number)
    seed = derive(examined.seed, purpose)
    return draw_batches(number, num_batches=count, batch_size=size, drawn="disjoint", seed=seed)


def objectives(moment: Moment, *, examined: Examined, joined: bool = False) -> Iterator[Objective]:
    """Every run's in turn, on examples that it is trained on; one network, filled anew for each.

    L(θ) is the mean over the examples of −log softmax(z)_y, or of the squared error of the standardised target: what
    is learnt from, without regularisers and in evaluation mode.

    Args:
        moment: between two steps of a population.
        examined: which examples.
        joined: whether mini-batches are put together, up to 256 examples, since products are then faster.
    """
    loss = loss_of(regression=moment.regression)
    for row, module in enumerate(moment.modules()):
        places = _places(moment, row, examined)
        parts = places.flatten().split(TOGETHER) if joined else places
        yield Objective(
            module, loss=loss, batches=[(moment.inputs.take(own), moment.targets[row, own]) for own in parts]
        )


def of_each_run(
    moment: Moment,
    *,
    examined: Examined,
    shapes: Mapping[str, tuple[int, ...]],
    measure: Callable[[Objective], Numbers],
    joined: bool = False,
) -> dict[str, Float[Tensor, "run ..."]]:
    """Measure every run's network; of one whose loss is not finite all numbers are NaN.

    Args:
        moment: between two steps of a population.
        examined: on which examples.
        shapes: of the numbers that are measured, by name.
        measure: from an objective that is open.
        joined: as for `objectives`.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in shapes}
    for objective in objectives(moment, examined=examined, joined=joined):
        with objective.opened():
            is_finite = np.isfinite(objective.value())
            numbers = measure(objective) if is_finite else {}
        for name, shape in shapes.items():
            found[name].append(torch.as_tensor(numbers.get(name, np.full(shape, np.nan)), dtype=torch.float64))
    return {name: torch.stack(rows) for name, rows in found.items()}


def loss_of(*, regression: bool) -> Loss:
    """The loss that networks of byrote learn from, of each example of a batch (inputs, targets).

    >>> model, x = nn.Linear(1, 1), torch.ones(2, 1)
    >>> _ = nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    >>> loss_of(regression=True)(model, (x, torch.tensor([1.0, 2.0]))).tolist()
    [1.0, 4.0]

    Args:
        regression: squared errors of standardised numbers; else cross-entropy of class codes.
    """
    return _number_losses if regression else _class_losses


def _places(moment: Moment, row: int, examined: Examined) -> Tensor:
    """Of the examples, batch by batch."""
    included = moment.included[row].nonzero()[:, 0]
    return included[torch.as_tensor(drawn_places(len(included), examined=examined), device=included.device)]


def _class_losses(model: nn.Module, batch: Any) -> Float[Tensor, "example"]:
    x, targets = batch
    return nn.functional.cross_entropy(model(x), targets, reduction="none")


def _number_losses(model: nn.Module, batch: Any) -> Float[Tensor, "example"]:
    x, targets = batch
    return (model(x).reshape(len(targets)) - targets).square()
