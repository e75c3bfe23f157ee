"""What the layers of a population's networks have made of some examples, taken while it trains."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from byrote.measures import effective_rank, neural_collapse, ridge_left_out, target_alignment
from byrote.measures.kernels import conjugate_kernel
from byrote.probing.layers import OUTPUTS, hidden_layers, layer_features
from byrote.probing.objectives import Examined, drawn_places
from byrote.training import AbstractProbe, Given, LogSpaced, Moment, attempt

FEW = 8
"""Examples from which the layers are found."""
RIDGE = 0.01
"""Of linear probes, times the mean squared length of centred features."""
COLLAPSE = ("within", "unequal_norms", "unequal_angles", "beyond_simplex", "unaligned", "disagreement")
"""What is measured of neural collapse, as `NeuralCollapse` has it."""


class _Seen(NamedTuple):
    """Of one network: what is looked at, held out and trained on."""

    layers: tuple[str, ...]
    heldout: Mapping[str, Float[Tensor, "example _"]]
    trained: Mapping[str, Float[Tensor, "example _"]]
    answers: Float[Tensor, "example output"]
    """Of `heldout`: its true targets, one-hot for classes."""
    targets: Shaped[Tensor, "example"]
    """Of `trained`: what the network is trained on."""
    weights: Float[Tensor, "output feature"] | None
    """Of the last layer, where the last hidden features are what it is given."""


@final
@dataclass(frozen=True, kw_only=True)
class Representations(AbstractProbe):
    """By layer: how examples lie towards one another, in how many directions features spread, how well a linear map of
    them answers, how they fit the targets, and whether classes have collapsed.

    Layers are as `hidden_layers` finds them, then the `outputs`. Held-out examples stand for new ones, against their
    true targets; collapse is measured on training examples, against what the network is trained on.
    """

    at: Given | LogSpaced = field(default_factory=LogSpaced)
    heldout: Examined = field(default_factory=lambda: Examined(num_batches=1, batch_size=256))
    trained: Examined = field(default_factory=lambda: Examined(num_batches=1, batch_size=512))
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "representations"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """For every layer NAME, hidden ones first and `outputs` last:

        - `root:NAME` [run, example, direction]: R with RRᵀ = Φ̄Φ̄ᵀ/‖Φ̄‖², Φ̄ the centred held-out features;
        - `rank:NAME`, `participation:NAME` [run]: of `effective_rank`, of the held-out features;
        - `probe:NAME` [run, example]: by ridge regression on the other held-out examples, 1 for a right answer and 0
          for a wrong one; for numbers minus the squared error over the variance;
        - `alignment:NAME` [run]: of their Gram matrix with the targets';
        - `within:NAME` and so on [run], as `neural_collapse` has them, for classes.

        NaN where it could not be measured.
        """
        return attempt(lambda: self._computed(moment), num_runs=len(moment.targets), optional=self.optional)

    def _computed(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        found = [dict(_measured(seen, regression=moment.regression)) for seen in self._networks(moment)]
        return {name: torch.from_numpy(np.stack([own[name] for own in found])) for name in found[0]}

    def _networks(self, moment: Moment) -> Iterator[_Seen]:
        device = moment.inputs.device
        held = drawn_places(len(moment.heldout), examined=self.heldout, purpose="held out").flatten()
        places = torch.as_tensor(held, device=device)
        true = moment.heldout_targets[places]
        few = moment.inputs.take(torch.arange(min(FEW, len(moment.inputs)), device=device))
        layers: tuple[str, ...] | None = None
        for row, module in enumerate(moment.modules()):
            layers = hidden_layers(module, few) if layers is None else layers
            included = moment.included[row].nonzero()[:, 0]
            drawn = drawn_places(len(included), examined=self.trained).flatten()
            own = included[torch.as_tensor(drawn, device=device)]
            heldout = layer_features(module, moment.heldout, places, layers=layers)
            trained = {} if moment.regression else layer_features(module, moment.inputs, own, layers=layers)
            yield _Seen(
                layers=layers,
                heldout=heldout,
                trained=trained,
                answers=_answers(true, num_outputs=heldout[OUTPUTS].shape[1], regression=moment.regression),
                targets=moment.targets[row, own],
                weights=_last_weights(module, heldout, layers),
            )


def _measured(seen: _Seen, *, regression: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Of one network."""
    answers = seen.answers.cpu().double()
    for name, features in seen.heldout.items():
        wide = _scaled(features)
        yield f"root:{name}", _root(wide).astype(np.float32)
        rank = effective_rank(wide)
        yield f"rank:{name}", _number(rank.entropy)
        yield f"participation:{name}", _number(rank.participation)
        yield f"probe:{name}", _probed(wide.numpy(), answers.numpy(), regression=regression)
        aligned = target_alignment(conjugate_kernel(wide), answers) if bool(wide.isfinite().all()) else None
        yield f"alignment:{name}", _number(None if aligned is None else aligned.value)
        if not regression:
            yield from _collapsed(name, seen)


def _collapsed(name: str, seen: _Seen) -> Iterator[tuple[str, np.ndarray]]:
    is_last = bool(seen.layers) and name == seen.layers[-1]
    found = neural_collapse(
        _scaled(seen.trained[name]),
        seen.targets,
        weights=seen.weights if is_last else None,
        outputs=seen.trained[OUTPUTS],
    )
    for measure in COLLAPSE:
        yield f"{measure}:{name}", _number(getattr(found, measure))


def _answers(true: Shaped[Tensor, "example"], *, num_outputs: int, regression: bool) -> Float[Tensor, "example output"]:
    return true[:, None].double() if regression else nn.functional.one_hot(true, num_outputs).double()


def _scaled(features: Float[Tensor, "example _"]) -> Float[Tensor, "example _"]:
    """In units of the largest number, which changes nothing that is measured and lets no square overflow."""
    wide = features.cpu().double()
    largest = float(wide.abs().max()) if wide.numel() else 0.0
    return wide / largest if np.isfinite(largest) and largest > 0 else wide


def _root(features: Float[Tensor, "example _"]) -> Float[np.ndarray, "example direction"]:
    """As few columns as possible, with the same inner products between rows; centred, of length 1 in all."""
    centred = (features - features.mean(0)).numpy()
    length = float(np.linalg.norm(centred))
    if not length > 0:
        return np.full((len(centred), min(centred.shape)), np.nan)
    vectors, values, _ = np.linalg.svd(centred / length, full_matrices=False)
    return vectors * values


def _probed(
    features: Float[np.ndarray, "example feature"], answers: Float[np.ndarray, "example output"], *, regression: bool
) -> Float[np.ndarray, "example"]:
    """How good what the others say of each example is."""
    spread = float(np.square(features - features.mean(0)).sum(1).mean())
    if len(features) < 2 or not np.isfinite(spread):
        return np.full(len(features), np.nan)
    said = ridge_left_out(features, answers, ridge=RIDGE * spread if spread > 0 else 1.0)
    if regression:
        variance = float(answers.var())
        return np.full(len(features), np.nan) if variance == 0 else -np.square(said - answers)[:, 0] / variance
    own = answers > 0
    return (said[own] > np.where(own, -np.inf, said).max(1)).astype(np.float64)


def _last_weights(
    module: nn.Module, features: Mapping[str, Float[Tensor, "example _"]], layers: Sequence[str]
) -> Float[Tensor, "output feature"] | None:
    """Of the last affine map, if it takes the last hidden features to the outputs."""
    maps = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if not maps or not layers:
        return None
    last = maps[-1].weight.detach().clone()
    return last if last.shape == (features[OUTPUTS].shape[1], features[layers[-1]].shape[1]) else None


def _number(value: float | None) -> np.ndarray:
    return np.asarray(np.nan if value is None else value, np.float64)
