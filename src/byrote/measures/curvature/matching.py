"""Networks that are the same but for the order of their hidden units, and the order that brings two closest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from torch import Tensor, nn

from byrote.core import ModelError, derive, did_you_mean
from byrote.measures.curvature.chain import Link, layer_chain
from byrote.models.borrowed import unwrapped

State = Mapping[str, Tensor]
"""A network's parameters and buffers by name, as in `state_dict`."""
Orders = dict[str, Int[np.ndarray, "_"]]
SWEEPS = 100
"""Through all layers, at most; each brings the networks closer, so that there is an end."""


class Place(NamedTuple):
    """Where a layer's units are in a tensor."""

    name: str
    axis: int
    block: int
    """Numbers along the axis that belong to one unit."""


class Units(NamedTuple):
    """Hidden units of one layer, which may stand in any order."""

    layer: str
    """Whose outputs they are."""
    width: int
    group: int
    """Units that GroupNorm keeps together: only whole groups change places, and units within one. Else the width."""
    places: tuple[Place, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Matching:
    """A network whose units were put in the order of another's."""

    state: dict[str, Tensor]
    """Of the network, in its new order: the same function."""
    orders: Orders
    """For each hidden layer, which of the network's units now stands at each place."""
    value: float
    """Distance ‖θ − θ'‖ of the two networks' permutable parameters afterwards."""
    before: float
    """And before."""
    residual: float = 0.0
    """No layer alone could be ordered better: it is an optimum of each, if maybe not of all at once."""
    num_sweeps: int
    """Through all layers, from the best of three starts."""
    cost: float = 0.0
    """In full-data gradients: no data are needed."""
    survives_rescaling: bool = False

    @property
    def count(self) -> int:
        """Hidden units."""
        return sum(len(order) for order in self.orders.values())


def permutable_units(model: nn.Module) -> list[Units]:
    """See which hidden units of a network may stand in another order, and which numbers move with them.

    >>> [units] = permutable_units(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> units.width, [(place.name, place.axis) for place in units.places]
    (3, [('0.weight', 0), ('0.bias', 0), ('2.weight', 1)])

    Args:
        model: whose layers follow one another; they are read off the network itself, be they layers or functions.

    Raises:
        ModelError: it is no chain of layers that are understood; the message says what is not.
    """
    network = unwrapped(model)
    return _Reader(network).read(layer_chain(network))


def match_weights(model: nn.Module, other: nn.Module | State, *, seed: int = 0) -> Matching:
    """Put the hidden units of one network in the order that brings its weights closest to another's.

    max_P Σ_layers ⟨W, P W' P₋ᵀ⟩, one layer after another by linear assignment until no layer changes; from three
    starts, of which the best is kept: the order as it is, matched from the inputs on, and from the outputs back. The
    second finds the order of a copy whose units were shuffled exactly.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> other = {name: part.flip(0) if name[0] == "0" else part.flip(-1) for name, part in model.state_dict().items()}
    >>> found = match_weights(model, other)
    >>> found.orders["0"].tolist(), found.value
    ([1, 0], 0.0)

    Args:
        model: stays as it is.
        other: of the same shape; a network, or its state.
        seed: decides in which order layers are gone through.

    Returns:
        The other network's state in its new order, to be loaded, or walked to by `interpolate`.

    Raises:
        ModelError: the model is no chain of layers that are understood, or the other's shape is not its.

    Ainsworth et al. 2023, Git Re-Basin: Merging Models modulo Permutation Symmetries, https://arxiv.org/abs/2209.04836
    """
    layers = permutable_units(model)
    mine, theirs = state_of(model), matching_state(model, other)
    trained = {name for name, _ in unwrapped(model).named_parameters()}
    pairs = {
        name: (_wide(mine[name]), _wide(theirs[name]))
        for name in dict.fromkeys(place.name for units in layers for place in units.places)
        if name in trained
    }
    search = _Search(layers, pairs, seed)
    identity = {units.layer: np.arange(units.width) for units in layers}
    starts = [identity, search.one_way(layers, identity), search.one_way(layers[::-1], identity)]
    orders, num_sweeps = min((search.improved(start) for start in starts), key=lambda found: search.distance(found[0]))
    return Matching(
        state=reordered(theirs, layers, orders),
        orders=orders,
        value=search.distance(orders),
        before=search.distance(identity),
        num_sweeps=num_sweeps,
    )


def reordered(state: State, layers: Sequence[Units], orders: Orders) -> dict[str, Tensor]:
    """A state with hidden units in another order; what does not move is not copied.

    Args:
        state: by name.
        layers: of `permutable_units`.
        orders: which unit comes to stand at each place, for each layer; GroupNorm's groups stay together.
    """
    found = dict(state)
    for units in layers:
        for place in units.places:
            found[place.name] = _moved(found[place.name], place, orders[units.layer])
    return found


def state_of(model: nn.Module | State) -> dict[str, Tensor]:
    """Parameters and buffers by name, out of compiled or wrapped networks."""
    named = unwrapped(model).state_dict() if isinstance(model, nn.Module) else model
    return {name: part for name, part in named.items() if isinstance(part, Tensor)}  # pyright: ignore[reportUnnecessaryIsInstance]


def matching_state(model: nn.Module, other: nn.Module | State) -> dict[str, Tensor]:
    """The state of another network of the same shape.

    Raises:
        ModelError: names or shapes differ.
    """
    mine, theirs = state_of(model), state_of(other)
    for name in sorted(mine.keys() ^ theirs.keys()):
        which, names = ("second", theirs) if name in mine else ("first", mine)
        raise ModelError(
            f"Expected two networks of the same shape, but the {which} has no {name!r}.{did_you_mean(name, names)}"
        )
    for name, part in mine.items():
        if part.shape != theirs[name].shape:
            raise ModelError(
                f"Expected two networks of the same shape, got {name!r} of shape {tuple(part.shape)} in the first and "
                f"{tuple(theirs[name].shape)} in the second."
            )
    return theirs


@final
class _Reader:
    """Goes through a chain and notes where each layer's units are."""

    def __init__(self, network: nn.Module) -> None:
        self._names = {name for name, _ in network.named_parameters()} | {name for name, _ in network.named_buffers()}
        self._done: list[Units] = []
        self._layer, self._width, self._group = "", 0, 0
        self._places: list[Place] = []
        self._axis = "none"

    def read(self, links: Sequence[Link]) -> list[Units]:
        """All hidden layers; the last one's outputs are the network's."""
        for link in links:
            if link.kind in ("linear", "convolution"):
                self._through(link)
            elif self._places:
                self._beside(link)
        if not self._done:
            raise ModelError("Expected a network with at least one hidden layer, got none.")
        return self._done

    def _through(self, link: Link) -> None:
        layer: nn.Linear | nn.Conv2d = link.layer  # pyright: ignore[reportAssignmentType]
        spatial = link.kind == "convolution"
        weight = f"{link.name}.weight"
        if weight not in self._names or (spatial and layer.groups != 1):  # pyright: ignore
            self._refuse(link, "a plain weight, without groups or parametrisation")
        if self._places:
            if spatial != (self._axis == "channels"):
                self._refuse(link, "flatten(1) between convolutions and linear layers")
            self._places.append(Place(weight, 1, self._block(link, layer.weight.shape[1])))
            self._done.append(Units(self._layer, self._width, self._group, tuple(self._places)))
        self._layer, self._width, self._group = link.name, len(layer.weight), len(layer.weight)
        self._axis = "channels" if spatial else "features"
        self._places = [Place(weight, 0, 1), *self._own(link, ("bias",), block=1)]

    def _beside(self, link: Link) -> None:
        layer = link.layer
        if link.kind == "pooling" and self._axis == "channels":
            return
        if link.kind in ("space", "flatten") and self._axis != "features":
            self._axis = "flat"
        elif link.kind == "channelwise" or isinstance(layer, nn.PReLU):
            self._per_unit(link)
        elif link.kind == "groups":
            groups: int = layer.num_groups  # pyright: ignore
            if self._axis == "flat" or self._width != layer.num_channels or self._group != self._width:  # pyright: ignore
                self._refuse(link, "one GroupNorm over the channels of each layer")
            self._group = self._width if groups == 1 else self._width // groups
            self._per_unit(link)
        elif link.kind == "features" and self._axis == "features":
            if tuple(layer.normalized_shape) != (self._width,):  # pyright: ignore
                self._refuse(link, "LayerNorm over the units of a linear layer")
            self._per_unit(link)
        elif link.kind not in ("elementwise", "flatten"):
            self._refuse(link, "layers that treat all units alike")

    def _per_unit(self, link: Link) -> None:
        layer: nn.Module = link.layer  # pyright: ignore[reportAssignmentType]
        own = next((part for part in (*layer.parameters(), *layer.buffers()) if part.ndim), None)
        if own is not None and not (isinstance(layer, nn.PReLU) and len(own) == 1):
            block = self._block(link, len(own))
            self._places.extend(self._own(link, ("weight", "bias", "running_mean", "running_var"), block=block))

    def _own(self, link: Link, parts: Sequence[str], *, block: int) -> list[Place]:
        names = [f"{link.name}.{part}" for part in parts]
        return [Place(name, 0, block) for name in names if name in self._names]

    def _block(self, link: Link, size: int) -> int:
        if size % self._width or (size != self._width and self._axis != "flat"):
            self._refuse(link, f"a size that the {self._width} units of {self._layer!r} fill, got {size}, or")
        return size // self._width

    def _refuse(self, link: Link, expected: str) -> None:
        kind = link.name if link.layer is None else f"{link.name!r} ({type(link.layer).__name__})"
        raise ModelError(
            f"Cannot tell which units {kind} mixes: expected {expected}, after {self._layer!r}. Networks are matched "
            "that are chains of linear layers, convolutions and what treats each unit alike."
        )


@final
class _Search:
    """For orders, one layer at a time, the others being as they are."""

    def __init__(self, layers: Sequence[Units], pairs: dict[str, tuple[Tensor, Tensor]], seed: int) -> None:
        self._layers, self._pairs, self._seed = layers, pairs, seed
        self._elsewhere: dict[str, list[tuple[Place, str]]] = {name: [] for name in pairs}
        for units in layers:
            for place in units.places:
                if place.name in pairs:
                    self._elsewhere[place.name].append((place, units.layer))

    def one_way(self, layers: Sequence[Units], orders: Orders) -> Orders:
        """Match layer after layer by what is known then: weights that lead to layers still to come do not count."""
        found, waiting = dict(orders), {units.layer for units in layers}
        for units in layers:
            waiting.discard(units.layer)
            found[units.layer] = _assigned(self._similarity(units, found, without=waiting), group=units.group)
        return found

    def improved(self, orders: Orders) -> tuple[Orders, int]:
        """Go through the layers until none changes."""
        found = dict(orders)
        for sweep in range(SWEEPS):
            generator = torch.Generator().manual_seed(derive(self._seed, "sweep", sweep))
            changed = False
            for place in torch.randperm(len(self._layers), generator=generator):
                units = self._layers[int(place)]
                similarity = self._similarity(units, found, without=set())
                better = _assigned(similarity, group=units.group)
                gain = _total(similarity, better) - _total(similarity, found[units.layer])
                if gain > 1e-12 * float(np.abs(similarity).max()):
                    found[units.layer], changed = better, True
            if not changed:
                return found, sweep + 1
        return found, SWEEPS

    def distance(self, orders: Orders) -> float:
        """Of all numbers that may move."""
        total = 0.0
        for name, (mine, theirs) in self._pairs.items():
            total += float((mine - self._ordered(name, theirs, orders, but="")).square().sum())
        return total**0.5

    def _similarity(self, units: Units, orders: Orders, *, without: set[str]) -> Float[np.ndarray, "unit unit"]:
        found = np.zeros((units.width, units.width))
        for place in units.places:
            others = {layer for _, layer in self._elsewhere.get(place.name, [])}
            if place.name not in self._pairs or others & without:
                continue
            mine, theirs = self._pairs[place.name]
            rows = _rows(mine, place), _rows(self._ordered(place.name, theirs, orders, but=units.layer), place)
            found += (rows[0] @ rows[1].T).numpy()
        return found

    def _ordered(self, name: str, part: Tensor, orders: Orders, *, but: str) -> Tensor:
        for place, layer in self._elsewhere[name]:
            if layer != but:
                part = _moved(part, place, orders[layer])
        return part


def _assigned(similarity: Float[np.ndarray, "unit unit"], *, group: int) -> Int[np.ndarray, "unit"]:
    """Which of the second's units comes to each of the first's, groups staying together."""
    width = len(similarity)
    if group in (1, width):
        return _best(similarity)
    cut = similarity.reshape(width // group, group, width // group, group).transpose(0, 2, 1, 3)
    within = np.array([[_best(square) for square in row] for row in cut])
    totals = np.array([[_total(cut[i, j], within[i, j]) for j in range(len(cut))] for i in range(len(cut))])
    chosen = _best(totals)
    return np.concatenate([group * j + within[i, j] for i, j in enumerate(chosen)])


def _best(similarity: Float[np.ndarray, "unit unit"]) -> Int[np.ndarray, "unit"]:
    return np.asarray(linear_sum_assignment(similarity, maximize=True)[1])  # pyright: ignore


def _total(similarity: Float[np.ndarray, "unit unit"], order: Int[np.ndarray, "unit"]) -> float:
    return float(similarity[np.arange(len(order)), order].sum())


def _moved(part: Tensor, place: Place, order: Int[np.ndarray, "unit"]) -> Tensor:
    index = (place.block * order[:, None] + np.arange(place.block)).reshape(-1)
    return part.index_select(place.axis, torch.as_tensor(index, device=part.device))


def _rows(part: Tensor, place: Place) -> Float[Tensor, "unit number"]:
    front = part.movedim(place.axis, 0)
    return front.reshape(len(front) // place.block, -1)


def _wide(part: Tensor) -> Tensor:
    return part.detach().to("cpu", torch.float64)
