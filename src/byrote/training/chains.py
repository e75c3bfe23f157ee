"""Which networks are chains of affine maps, activations and dropout: found by tracing their forward."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
from torch import nn
from torch.fx import GraphModule, Node, Tracer
from typing_extensions import override

from byrote.training.layers import OwnedDropout, has_hooks, own_layers

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU)
"""Layers that can be written out."""
FUNCTIONS: dict[Any, type[nn.Module]] = {
    torch.relu: nn.ReLU,
    nn.functional.relu: nn.ReLU,
    torch.tanh: nn.Tanh,
    nn.functional.tanh: nn.Tanh,
    torch.sigmoid: nn.Sigmoid,
    nn.functional.sigmoid: nn.Sigmoid,
    nn.functional.silu: nn.SiLU,
    nn.functional.gelu: nn.GELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
"""Functions and methods of tensors, and the layers that do the same when nothing but the tensor is handed over."""


class Link(NamedTuple):
    """A layer of a chain."""

    name: str
    """Its place in the module, where its parameters are; empty for a function."""
    layer: nn.Module


@final
class _Tracer(Tracer):
    """Sees torch's layers and the engine's as one piece each."""

    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, OwnedDropout) or super().is_leaf_module(m, module_qualified_name)


def chain_of(module: nn.Module) -> tuple[Link, ...]:
    """The links of a network, affine maps among them; empty when it is no such chain.

    The inputs are flattened first. Every affine map has weights of its own, all of them trained, and nothing hangs on a
    hook.

    Args:
        module: one of one's own: its dropout layers become the engine's.
    """
    own_layers(module)
    if any(has_hooks(layer) for layer in module.modules()):
        return ()
    if set(module.state_dict()) != {name for name, _ in module.named_parameters()}:
        return ()
    try:
        graph = GraphModule(module, _Tracer().trace(module)).graph
    except Exception:  # What a user's forward does with something that is not a tensor is beyond telling.
        return ()
    links = _links(list(graph.nodes), module)
    affine = [link.layer for link in links if isinstance(link.layer, nn.Linear)]
    parts = [part for layer in affine for part in layer.parameters()]
    everything = list(module.parameters())
    own = len({id(part) for part in parts}) == len(parts) == len(everything)
    trained = all(part.requires_grad for part in everything)
    plain = not any(nn.utils.parametrize.is_parametrized(layer) for layer in affine)
    return tuple(links) if affine and own and trained and plain else ()


def _links(nodes: Sequence[Node], module: nn.Module) -> list[Link]:
    """Every node as a link; empty as soon as one is not the next of a chain."""
    if not nodes or nodes[0].op != "placeholder" or nodes[-1].op != "output" or nodes[-1].args != (nodes[-2],):
        return []
    last, links = nodes[0], list[Link]()
    for node in nodes[1:-1]:
        if _is_size(node, of=nodes[0]):
            continue
        if not node.args or node.args[0] is not last:
            return []
        if _flattens(node, module):
            if links:
                return []
        else:
            link = _link(node, module)
            if link is None or not _fits(link.layer, after=links):
                return []
            if not isinstance(link.layer, nn.Identity):
                links.append(link)
        last = node
    return links if last is nodes[-2] else []


def _link(node: Node, module: nn.Module) -> Link | None:
    if node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
        return Link(str(node.target), module.get_submodule(str(node.target)))
    same = FUNCTIONS.get(node.target) if node.op in ("call_function", "call_method") else None
    plain = len(node.args) == 1 and set(node.kwargs) <= {"inplace"}
    return Link("", same()) if same is not None and plain else None


def _fits(layer: nn.Module, *, after: Sequence[Link]) -> bool:
    """An activation may overwrite its input, which has to be nobody else's: it follows an affine map."""
    if type(layer) in ACTIVATIONS:
        return bool(after) and type(after[-1].layer) is nn.Linear
    return type(layer) in (nn.Linear, nn.Identity, OwnedDropout)


def _is_size(node: Node, *, of: Node) -> bool:
    """`x.size(0)`, or `x.shape[0]`, or `x.shape` on the way there."""
    if node.op == "call_method" and node.target == "size":
        return node.args[0] is of
    if node.op != "call_function" or not node.args:
        return False
    if node.target is getattr:
        return node.args == (of, "shape")
    shaped = node.args[0]
    return node.target is operator.getitem and isinstance(shaped, Node) and _is_size(shaped, of=of)


def _flattens(node: Node, module: nn.Module) -> bool:
    """Whether every example becomes one row. That it does so is checked by comparing outputs; here, that nothing else
    can be meant.
    """
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)
    if node.target in (torch.flatten, "flatten"):
        given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
        return (given.get("start_dim"), given.get("end_dim", -1)) == (1, -1)
    if node.op == "call_method" and node.target in ("view", "reshape"):
        return len(node.args) == 3 and isinstance(node.args[1], Node) and bool(node.args[2] == -1)
    return False
