"""What the layers of a network say of some inputs, each as a table of features."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from byrote.training.inputs import PackedInputs

OUTPUTS = "outputs"
"""The name of what the whole network says."""
TOGETHER = 256
"""Inputs that go through a network at once."""
MOST_LAYERS = 8
"""Of a deep network, evenly spaced, the last hidden one among them."""
SHAPING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.modules.dropout._DropoutNd)  # pyright: ignore[reportPrivateUsage]
"""Modules that hand on the numbers that they are given, in evaluation mode."""
ACTIVATIONS = nn.modules.activation.__name__


class _Called(NamedTuple):
    """A module's answer to a batch."""

    name: str
    module: nn.Module
    outputs: Tensor


def hidden_layers(module: nn.Module, x: Float[Tensor, "example ..."]) -> tuple[str, ...]:
    """Name the layers of a network, in the order in which they are called, that stand for its hidden features.

    Of modules without parts that are called once and give a tensor with a row for each example: those that change the
    numbers they are given, an activation standing for what it is called on, and without the last, which gives the
    outputs. At most 8, evenly spaced.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 2)).eval()
    >>> hidden_layers(model, torch.randn(5, 2, 2))
    ('2',)

    Args:
        module: in evaluation mode.
        x: a few examples.

    Returns:
        Names as in `named_modules`; none of a network of one layer, or of one without parts.
    """
    found: list[_Called] = []
    leaves = [(name, part) for name, part in module.named_modules() if name and not list(part.children())]
    hooks = [part.register_forward_hook(partial(_note, found, name)) for name, part in leaves]
    try:
        with torch.no_grad():
            outputs = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    names = [call.name for call in found]
    once = [call for call in found if names.count(call.name) == 1 and call.outputs.shape[:1] == x.shape[:1]]
    changing = [call for call in once if not isinstance(call.module, SHAPING)]
    kept = [call.name for call, after in pairwise(changing) if not _stands_for(after, call)]
    if changing and not _equal(changing[-1].outputs, outputs):
        kept.append(changing[-1].name)
    return evenly(kept, number=MOST_LAYERS)


def evenly(names: Sequence[str], *, number: int) -> tuple[str, ...]:
    """At most so many of some names, evenly spaced, the first and the last among them; of one, the last.

    >>> evenly("abcde", number=3), evenly("ab", number=3), evenly("ab", number=1)
    (('a', 'c', 'e'), ('a', 'b'), ('b',))
    """
    if len(names) <= number:
        return tuple(names)
    places = torch.linspace(len(names) - 1, 0, number).round().int().tolist()
    return tuple(str(names[place]) for place in places[::-1])


def layer_features(
    module: nn.Module, inputs: PackedInputs, places: Int[Tensor, "example"], *, layers: Sequence[str]
) -> dict[str, Float[Tensor, "example _"]]:
    """What layers put out for some examples, flattened, and under `OUTPUTS` what the network does.

    Args:
        module: in evaluation mode.
        inputs: to choose among.
        places: of those that are looked at.
        layers: names from `hidden_layers`.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in (*layers, OUTPUTS)}
    named = dict(module.named_modules())
    for batch in places.split(TOGETHER):
        found: list[_Called] = []
        hooks = [named[name].register_forward_hook(partial(_note, found, name)) for name in layers]
        try:
            with torch.no_grad():
                outputs = module(inputs.take(batch))
        finally:
            for hook in hooks:
                hook.remove()
        for call in found:
            parts[call.name].append(call.outputs.flatten(1))
        parts[OUTPUTS].append(outputs.reshape(len(batch), -1))
    return {name: torch.cat(own) for name, own in parts.items()}


def _note(found: list[_Called], name: str, module: nn.Module, inputs: object, outputs: object) -> None:
    if isinstance(outputs, Tensor) and outputs.ndim:
        found.append(_Called(name, module, outputs.detach().clone()))


def _equal(one: Tensor, other: Tensor) -> bool:
    """But for their shape; of a network that diverged, too."""
    return torch.equal(one.flatten().nan_to_num(), other.flatten().nan_to_num())


def _stands_for(after: _Called, call: _Called) -> bool:
    return type(after.module).__module__ == ACTIVATIONS and after.outputs.shape == call.outputs.shape
