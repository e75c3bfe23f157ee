"""The same function at other weights: what a measure of sharpness has to survive to say something of the function."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from byrote.core import ModelError, UnknownNameError, did_you_mean
from byrote.measures.curvature.chain import Link, layer_chain
from byrote.models.borrowed import unwrapped


def dinh_rescaled(model: nn.Module, *, factor: float, layer: str | None = None) -> nn.Module:
    """Make a layer's weights larger and the next one's smaller, so that a ReLU network stays the same function.

    (θ₁, b₁, θ₂) → (a·θ₁, a·b₁, θ₂/a), as relu(ax) = a·relu(x) for a > 0. The Hessian is changed without bound, the
    predictions not at all.

    >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> rescaled, x = dinh_rescaled(model, factor=4.0), torch.ones(1, 2)
    >>> torch.allclose(rescaled(x), model(x)), torch.equal(rescaled[0].weight, 4 * model[0].weight)
    (True, True)

    Args:
        model: is not changed.
        factor: a, above 0; powers of 2 change no digit.
        layer: whose weights are multiplied; None: the first.

    Returns:
        A copy.

    Raises:
        ValueError: the factor is not above 0.
        UnknownNameError: no layer with a later one has that name.
        ModelError: the layers do not follow one another, or what lies between the two is not positively homogeneous.

    Dinh et al. 2017, Sharp Minima Can Generalize For Deep Nets, https://arxiv.org/abs/1703.04933
    """
    if not 0 < factor < float("inf"):
        raise ValueError(f"Expected a finite factor above 0, got {factor!r}.")
    rescaled = copy.deepcopy(unwrapped(model))
    first, second = _two_layers(layer_chain(rescaled), layer)
    with torch.no_grad():
        for name, part in _plain(first).items():
            if name in ("weight", "bias"):
                part.mul_(factor)
        _plain(second)["weight"].div_(factor)
    return rescaled


def _two_layers(links: Sequence[Link], layer: str | None) -> tuple[Link, Link]:
    places = [place for place, link in enumerate(links) if link.kind in ("linear", "convolution")]
    names = [links[place].name for place in places[:-1]]
    if not names:
        raise ModelError("Expected a network of at least two linear layers or convolutions.")
    if layer is not None and layer not in names:
        raise UnknownNameError(f"No layer {layer!r} to rescale.{did_you_mean(layer, names)} There are: {names}.")
    number = 0 if layer is None else names.index(layer)
    between = links[places[number] + 1 : places[number + 1]]
    for link in between:
        if not link.homogeneous:
            kind = link.name if link.layer is None else type(link.layer).__name__
            raise ModelError(f"Expected ReLU or pooling after {names[number]!r}, for which f(ax) = a·f(x), got {kind}.")
    return links[places[number]], links[places[number + 1]]


def _plain(link: Link) -> dict[str, nn.Parameter]:
    own = dict(link.layer.named_parameters()) if link.layer is not None else {}
    if "weight" not in own:
        raise ModelError(f"Expected plain weights in {link.name!r}, got {sorted(own)}. Remove its parametrisation.")
    return own
