"""Prediction depth, taken while a population trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures import prediction_depth
from byrote.scoring.spacing import evenly_spaced
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

AT_ONCE = 256
"""Examples of one forward pass."""
MOST_FEATURES = 4096
"""A layer's longer outputs are averaged over neighbouring numbers until they are this long."""
PASSING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity, nn.Flatten, nn.Unflatten)
"""Layers that say nothing new."""


@final
@dataclass(frozen=True, kw_only=True)
class PredictionDepths(AbstractProbe):
    """From which layer on the nearest neighbours of each training example say what the network says, as
    `prediction_depth`: layer 0 is the input, then come the layers in the order in which they are called.

    Every innermost module that is called once with a batch and gives a tensor is a layer; dropout and reshaping are
    none. All examples are neighbours, also those that a run left out.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    num_examples: int = 2000
    """So many of the training examples, evenly spaced, which are one another's neighbours."""
    num_neighbours: int = 30
    most_layers: int = 12
    """Of a network with more, so many are taken, equally far apart, the last one among them."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "prediction-depths"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`depth`: [run, example], NaN where even the last layer disagrees; `num_layers`: [run].

        Raises:
            TypeError: the task is a regression, whose predictions agree or not only by a tolerance.
            ValueError: there are too few examples for so many neighbours.
        """
        return attempt(lambda: self._depths(moment), num_runs=len(moment.targets), optional=self.optional)

    def _depths(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        if moment.regression:
            raise TypeError(
                "A regression has no prediction depth: its predictions agree or not only by a tolerance, got a task "
                "of numbers."
            )
        number = min(self.num_examples, len(moment.inputs))
        chosen = torch.from_numpy(evenly_spaced(len(moment.inputs), most=number)).to(moment.inputs.device)
        x = moment.inputs.take(chosen)
        depths: list[np.ndarray] = []
        counts: list[int] = []
        for targets, module in zip(moment.targets, moment.modules(), strict=True):
            layers = self._layers(module, x)
            found = prediction_depth(
                layers,
                targets=targets[chosen].cpu().numpy(),
                predictions=layers[-1].argmax(1),
                num_neighbours=min(self.num_neighbours, max(1, number - 1)),
            )
            depths.append(np.where(found.status == "measured", found.scores.value, np.nan))
            counts.append(len(layers))
        return {"depth": torch.from_numpy(np.stack(depths)), "num_layers": torch.tensor(counts)}

    @torch.no_grad()
    def _layers(self, module: nn.Module, x: Float[Tensor, "example ..."]) -> list[Float[np.ndarray, "example feature"]]:
        """The input, the layers' outputs and the network's."""
        inner = [part for part in module.modules() if not list(part.children()) and not isinstance(part, PASSING)]
        calls: list[tuple[nn.Module, np.ndarray]] = []
        hooks = [part.register_forward_hook(partial(_keep, calls)) for part in inner]
        passes: list[list[tuple[nn.Module, np.ndarray]]] = []
        outputs: list[np.ndarray] = []
        try:
            for batch in x.split(AT_ONCE):
                outputs.append(_rows(module(batch)))
                passes.append(list(calls))
                calls.clear()
        finally:
            for hook in hooks:
                hook.remove()
        order = [id(part) for part, _ in passes[0]]
        once = [place for place, part in enumerate(order) if order.count(part) == 1]
        if any([id(part) for part, _ in each] != order for each in passes):
            raise ModelError("Expected a network that calls the same layers in the same order for every batch.")
        layers = [np.concatenate([each[place][1] for each in passes]) for place in once]
        hidden = [layer for layer in layers if len(layer) == len(x)][:-1]
        if len(hidden) > self.most_layers:
            hidden = [hidden[round(place)] for place in np.linspace(0, len(hidden) - 1, self.most_layers)]
        return [_rows(x), *hidden, np.concatenate(outputs)]


def _keep(calls: list[tuple[nn.Module, np.ndarray]], layer: nn.Module, inputs: object, output: object) -> None:
    if isinstance(output, Tensor) and output.ndim > 1:
        calls.append((layer, _rows(output)))


def _rows(values: Float[Tensor, "batch ..."]) -> Float[np.ndarray, "batch feature"]:
    flat = values.detach().flatten(1).float()
    if flat.shape[1] > MOST_FEATURES:
        flat = nn.functional.adaptive_avg_pool1d(flat[:, None], MOST_FEATURES)[:, 0]
    return flat.cpu().numpy().copy()  # the next layer may work in place
