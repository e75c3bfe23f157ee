"""What a population's features are worth to machines that learn none, and how fast kernels fit its targets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from byrote.baselines import fit_baseline
from byrote.core import derive
from byrote.measures import kernel_descent, kernel_matrix, median_distance, steps_to_fit
from byrote.probing.layers import OUTPUTS, evenly, hidden_layers, layer_features
from byrote.probing.objectives import Examined, drawn_places
from byrote.probing.representations import FEW
from byrote.records import Baseline, Forest, KernelMachine
from byrote.training import AbstractProbe, Given, Moment, attempt
from byrote.training.inputs import PackedInputs

INPUTS = "inputs"
"""The name of the layer of the inputs."""
FOREST: dict[str, Baseline] = {"forest": Forest()}
"""Given every layer that is looked at."""
KERNEL_MACHINES: dict[str, Baseline] = {
    "gaussian": KernelMachine(kernel="gaussian"),
    "laplacian": KernelMachine(kernel="laplacian"),
}
"""Given the last hidden layer alone."""
MOST_LAYERS = 3
"""That are looked at, evenly spaced, the last hidden one among them."""
MOST_FEATURES = 1024
"""Of a layer; of wider ones, so many drawn at random, the same for every network."""
KERNELS = ("gaussian", "laplacian")
LONG = 10**6
"""Steps of gradient descent after which it is asked what is fitted."""
FITTED = 0.05
"""Share of wrong answers, or of the squared error, at which targets are fitted."""


@final
@dataclass(frozen=True, kw_only=True)
class FeatureWorth(AbstractProbe):
    """How good forests and kernel machines are on held-out examples when they are given features in the place of
    inputs: forests those of up to three hidden layers, as `hidden_layers` finds them, kernel machines those of the
    last. Or when they are given the inputs.

    They learn from what the network is trained on, and what they draw comes from its seed.
    """

    at: Given
    inputs: bool = False
    """Whether they are given the inputs, and not features."""
    optional: bool = False
    """Whether a run whose network does not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "feature-worth"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """`forest:LAYER` [run, test_example, output], and of the last hidden one `gaussian:LAYER` and
        `laplacian:LAYER`: what they answer, class scores or standardised numbers; and `layers`, how many there are.
        The layer of the inputs is called `inputs`. NaN of a network that diverged.
        """
        return attempt(lambda: self._computed(moment), num_runs=len(moment.targets), optional=self.optional)

    def _computed(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        few = moment.inputs.take(torch.arange(min(FEW, len(moment.inputs)), device=moment.inputs.device))
        found: list[dict[str, np.ndarray]] = []
        layers: tuple[str, ...] | None = None
        for row, module in enumerate(moment.modules()):
            if layers is None:
                layers = (INPUTS,) if self.inputs else evenly(hidden_layers(module, few), number=MOST_LAYERS)
            found.append(dict(self._answered(moment, row, module, layers)))
        answers = {name: torch.from_numpy(np.stack([own[name] for own in found])) for name in found[0]}
        return answers | {"layers": torch.full((len(found),), len(layers or ()))}

    def _answered(
        self, moment: Moment, row: int, module: nn.Module, layers: tuple[str, ...]
    ) -> Iterator[tuple[str, Float[np.ndarray, "test_example output"]]]:
        own = moment.included[row].nonzero()[:, 0]
        everything = torch.arange(len(moment.heldout), device=own.device)
        learnt, asked = (
            _given(module, inputs, places, layers)
            for inputs, places in ((moment.inputs, own), (moment.heldout, everything))
        )
        seed = derive(moment.seeds[row], "machines")
        y = moment.targets[row, own].cpu().numpy()
        for layer in layers:
            x, queries = _few_columns(learnt[layer]), _few_columns(asked[layer])
            is_finite = bool(np.isfinite(x).all() and np.isfinite(queries).all())
            machines = FOREST | KERNEL_MACHINES if layer == layers[-1] else FOREST
            for name, baseline in machines.items():
                if not is_finite:
                    yield f"{name}:{layer}", np.full((len(queries), asked[OUTPUTS].shape[1]), np.nan, np.float32)
                    continue
                num_classes = 0 if moment.regression else asked[OUTPUTS].shape[1]
                said = fit_baseline(baseline, x=x, y=y, queries=queries, num_classes=num_classes, seed=seed)
                yield f"{name}:{layer}", said.outputs.astype(np.float32)


def _given(
    module: nn.Module, inputs: PackedInputs, places: Int[Tensor, "example"], layers: Sequence[str]
) -> dict[str, Float[Tensor, "example _"]]:
    """What machines are given, by layer, and the network's outputs."""
    found = layer_features(module, inputs, places, layers=[layer for layer in layers if layer != INPUTS])
    return found | {INPUTS: inputs.take(places).flatten(1)}


@final
@dataclass(frozen=True, kw_only=True)
class KernelSpeed(AbstractProbe):
    """How many steps of gradient descent Gaussian and Laplacian kernel machines take to fit what a network is trained
    on, given its inputs; both at the median distance, each at the largest step that it can bear without swinging.
    """

    at: Given
    examined: Examined = field(default_factory=lambda: Examined(num_batches=1, batch_size=512))
    optional: bool = False
    """Whether a run whose inputs do not allow it goes without; the reason is then in the result."""
    name: ClassVar[str] = "kernel-speed"

    def steps(self, total: int) -> Sequence[int]:
        """As `at` says."""
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        """[run] of each: `gaussian` and `laplacian`, steps until 5 % of the examples, or of the squared error, are
        left; infinite where rounding hides it, beyond `gaussian_exact` and `laplacian_exact` steps; `gaussian_fit` and
        `laplacian_fit`, the share that is fitted after a million steps, of examples or of the squared error; and
        `forest_fit`, what a forest of grown trees fits.
        """
        return attempt(lambda: self._computed(moment), num_runs=len(moment.targets), optional=self.optional)

    def _computed(self, moment: Moment) -> Mapping[str, Shaped[Tensor, "run ..."]]:
        found: dict[str, list[float]] = {}
        for row in range(len(moment.targets)):
            included = moment.included[row].nonzero()[:, 0]
            drawn = drawn_places(len(included), examined=self.examined).flatten()
            own = included[torch.as_tensor(drawn, device=included.device)]
            x = moment.inputs.take(own).flatten(1).cpu().double().numpy()
            y = moment.targets[row, own].cpu().numpy()
            targets = (y - y.mean())[:, None] if moment.regression else np.eye(int(y.max()) + 1)[y]
            seed = derive(moment.seeds[row], "machines")
            found.setdefault("forest_fit", []).append(
                _forest_fit(x, y, targets, seed=seed, regression=moment.regression)
            )
            for kernel in KERNELS:
                gram = kernel_matrix(x, kernel=kernel, bandwidth=median_distance(x))
                goal = {"squared_error": FITTED} if moment.regression else {"wrong": FITTED}
                steps = steps_to_fit(gram, targets, **goal)
                found.setdefault(kernel, []).append(steps.value)
                found.setdefault(f"{kernel}_exact", []).append(steps.exact_until)
                last = kernel_descent(gram, targets, steps=np.array([LONG]))
                left = last.squared_error if moment.regression else last.wrong
                found.setdefault(f"{kernel}_fit", []).append(1 - float(left[0]))
        return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}


def _forest_fit(
    x: Float[np.ndarray, "example feature"],
    y: Shaped[np.ndarray, "example"],
    targets: Float[np.ndarray, "example output"],
    *,
    seed: int,
    regression: bool,
) -> float:
    num_classes = 0 if regression else targets.shape[1]
    said = fit_baseline(Forest(), x=x, y=y, queries=x, num_classes=num_classes, seed=seed).outputs
    if regression:
        return 1 - float(np.square(said[:, 0] - y).sum() / np.square(targets).sum())
    own = targets > 0
    return float((said[own] > np.where(own, -np.inf, said).max(1)).mean())


def _few_columns(features: Float[Tensor, "example _"]) -> Float[np.ndarray, "example _"]:
    width = features.shape[1]
    wide = features.cpu().double().numpy()
    if width <= MOST_FEATURES:
        return wide
    rng = np.random.default_rng(derive(0, "features", width))
    return wide[:, np.sort(rng.choice(width, size=MOST_FEATURES, replace=False))]
