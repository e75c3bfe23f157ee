"""A network whose layers follow one another, read off the network itself."""

import operator
from typing import Any, Literal, NamedTuple

import torch
from torch import fx, nn

from byrote.core import ModelError, describe_failure
from byrote.models.borrowed import borrowed, unwrapped

Kind = Literal[
    "linear", "convolution", "channelwise", "groups", "features", "elementwise", "pooling", "space", "flatten", "?"
]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CHANNELWISE = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.RReLU)
"""f(ax) = a·f(x) for a > 0, each number by itself."""
ELEMENTWISE = (
    *HOMOGENEOUS,
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.Softplus,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Mish,
    nn.PReLU,
    nn.LogSigmoid,
    nn.Softsign,
)
POOLING = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
HOMOGENEOUS_NAMES = {"relu", "relu_", "leaky_relu", "dropout", "dropout1d", "dropout2d", "dropout3d", "contiguous"}
ELEMENTWISE_NAMES = HOMOGENEOUS_NAMES | {"tanh", "sigmoid", "gelu", "silu", "elu", "selu", "softplus", "mish", "celu"}
POOLING_NAMES = {
    f"{adaptive}{kind}_pool{axes}d" for adaptive in ("", "adaptive_") for kind in ("max", "avg") for axes in (1, 2, 3)
}


class Link(NamedTuple):
    """One step of a network."""

    name: str
    """Of the layer, or of the function."""
    kind: Kind
    layer: nn.Module | None
    """None for a function."""
    homogeneous: bool
    """Whether f(ax) = a·f(x) for every a > 0."""


def layer_chain(model: nn.Module) -> list[Link]:
    """Read a network's steps from its first layer with weights to its last.

    The network is traced with a stand-in for its input, so that layers and functions alike are seen in the order in
    which they are called. What happens before the first and after the last such layer does not matter.

    >>> chain = layer_chain(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> [(link.name, link.kind) for link in chain]
    [('1', 'linear'), ('2', 'elementwise'), ('3', 'linear')]

    Raises:
        ModelError: it cannot be traced, branches, or calls a layer twice; the message says where.
    """
    network = unwrapped(model)
    nodes = _nodes(network)
    weighted = [place for place, node in enumerate(nodes) if _has_weights(node, network)]
    if not weighted:
        raise ModelError("Expected a network with layers that have weights, such as Linear, got none.")
    links: list[Link] = []
    node = nodes[weighted[0]]
    last = nodes[weighted[-1]]
    while True:
        links.append(_link(node, network))
        if node is last:
            break
        node = _next(node)
    names = [link.name for link in links if link.layer is not None]
    parts = [id(part) for link in links if link.layer is not None for part in link.layer.parameters()]
    if len(set(names)) < len(names) or len(set(parts)) < len(parts):
        raise ModelError(_refused("a layer is called twice or shares its weights with another"))
    return links


def _nodes(network: nn.Module) -> list[Any]:
    device = next((part.device for part in network.parameters()), torch.device("cpu"))
    try:
        with borrowed(network, device=device):
            return list(fx.Tracer().trace(network).nodes)
    except Exception as error:
        raise ModelError(_refused(f"it cannot be traced ({describe_failure(error)})")) from error


def _next(node: Any) -> Any:
    """The one step that takes what this step gives."""
    users = [user for user in node.users if not _asks_for_shape(user)]
    if len(users) != 1:
        raise ModelError(_refused(f"what {_name(node)} gives goes {len(users)} ways"))
    (after,) = users
    inputs = [part for part in after.all_input_nodes if not _asks_for_shape(part)]
    if len(inputs) != 1 or after.op == "output":
        raise ModelError(_refused(f"{_name(after)} joins what {_name(node)} gives with something else"))
    return after


def _asks_for_shape(node: Any) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim")
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    return node.op == "call_function" and node.target is operator.getitem and _asks_for_shape(node.args[0])


def _has_weights(node: Any, network: nn.Module) -> bool:
    return node.op == "call_module" and next(network.get_submodule(node.target).parameters(), None) is not None


def _link(node: Any, network: nn.Module) -> Link:
    name = _name(node)
    if node.op == "call_module":
        layer = network.get_submodule(node.target)
        homogeneous = isinstance(layer, (*HOMOGENEOUS, *POOLING, nn.Flatten, nn.PReLU))
        return Link(name, _kind_of_layer(layer), layer, homogeneous)
    kind = _kind_of_function(node, name)
    return Link(name, kind, None, kind in ("pooling", "space", "flatten") or name in HOMOGENEOUS_NAMES)


def _kind_of_layer(layer: nn.Module) -> Kind:
    if isinstance(layer, nn.Flatten):
        return "flatten" if (layer.start_dim, layer.end_dim) == (1, -1) else "?"
    kinds: tuple[tuple[Any, Kind], ...] = (
        (nn.Linear, "linear"),
        (CONVOLUTIONS, "convolution"),
        (CHANNELWISE, "channelwise"),
        (nn.GroupNorm, "groups"),
        (nn.LayerNorm, "features"),
        (ELEMENTWISE, "elementwise"),
        (POOLING, "pooling"),
    )
    for types, kind in kinds:
        if isinstance(layer, types):
            return kind
    return "?"


def _kind_of_function(node: Any, name: str) -> Kind:
    given = [*node.args[1:], *node.kwargs.values()]
    if name in ELEMENTWISE_NAMES:
        return "elementwise"
    if name in POOLING_NAMES:
        return "pooling"
    if name == "flatten":
        return "flatten" if given in ([1], [1, -1]) else "?"
    if name == "mean" and len(given) == 1:
        return "space" if set(_listed(given)) <= {2, 3, 4, -1, -2, -3} else "?"
    if name in ("view", "reshape"):
        shape = _listed(given)
        kept = len(shape) == 2 and isinstance(shape[0], fx.Node) and _asks_for_shape(shape[0])
        return "flatten" if kept and shape[1] == -1 else "?"
    return "?"


def _listed(given: list[Any]) -> list[Any]:
    """Arguments that were handed over one by one, or as one list of them."""
    whole: Any = given[0] if len(given) == 1 else given
    return list(whole) if isinstance(whole, (tuple, list)) else given  # pyright: ignore[reportUnknownArgumentType]


def _name(node: Any) -> str:
    target = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", str(target)).strip("_")


def _refused(reason: str) -> str:
    return (
        f"Expected a network whose layers follow one another, and of this one {reason}. Understood are Linear, "
        "convolutions, BatchNorm, GroupNorm, LayerNorm, activations, pooling, dropout, means over space and "
        "flatten(1), each layer called once, without branches."
    )
