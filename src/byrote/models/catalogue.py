"""Reference networks, small enough to train hundreds of."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, final

from torch import nn

from byrote.core import (
    ModelError,
    Registry,
    SpecError,
    UnknownNameError,
    describe_failure,
    did_you_mean,
    load_attribute,
)
from byrote.records import ModelSpec, custom


class Shape(NamedTuple):
    """What goes in and what comes out."""

    inputs: tuple[int, ...]
    """Without the batch axis; images as [c, h, w]."""
    outputs: int
    """k logits, or 1 number."""


@final
@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One of byrote's own networks."""

    build: Callable[..., nn.Module]
    """Called with a `Shape` and the spec's arguments."""
    summary: str
    """One line for a list of models."""
    defaults: dict[str, int] = field(default_factory=dict)
    """The arguments it takes, whole numbers above 0, and their defaults."""


MODELS: Registry[CatalogueEntry] = Registry("model")


def linear() -> ModelSpec:
    """One affine map from the flattened input to the outputs: softmax or linear regression."""
    return named_model("linear")


def mlp(*, width: int = 256, depth: int = 1) -> ModelSpec:
    """A multilayer perceptron: `depth` hidden layers of `width` ReLU units on the flattened input, each followed by
    dropout at a rate of 0 unless the recipe says otherwise.

    Raises:
        SpecError: width or depth is not a whole number above 0.
    """
    return named_model("mlp", width=width, depth=depth)


def cnn(*, width: int = 16) -> ModelSpec:
    """A small convolutional network: two 3×3 convolutions (`width` and 2·`width` channels), each with 2×2
    max-pooling, GroupNorm and ReLU, then dropout at a rate of 0 unless the recipe says otherwise and an affine map.
    For images of at least 4 × 4 pixels.

    Raises:
        SpecError: width is not a whole number above 0.
    """
    return named_model("cnn", width=width)


def named_model(name: str, **arguments: int) -> ModelSpec:
    """The spec of a registered network, or of a user's `module:factory`, as typed on a command line.

    >>> str(named_model("mlp", width=32))
    'mlp(depth=1, width=32)'

    Args:
        name: a name in `MODELS`, or `module:attribute`.
        arguments: the registered network's own; the rest take their defaults.

    Raises:
        UnknownNameError: no such network, module or attribute.
        SpecError: the network takes no such argument, or it is not a whole number above 0.
        ModelError: the user's module cannot be imported, or what it holds under that name cannot be called.
    """
    if ":" in name:
        if arguments:
            raise SpecError(f"{name} is your own model and takes no {', '.join(arguments)} from byrote: set it there.")
        return custom(load_factory(name), name=name)
    defaults = MODELS[name].defaults
    for argument, value in arguments.items():
        if argument not in defaults:
            accepted = ", ".join(defaults) or "no arguments"
            raise SpecError(
                f"The model {name} has no argument {argument!r}.{did_you_mean(argument, defaults)} "
                f"It takes: {accepted}."
            )
        if type(value) is not int or value < 1:
            raise SpecError(f"Expected {argument} of the model {name} to be a whole number above 0, got {value!r}.")
    return ModelSpec(name=name, arguments=tuple(sorted({**defaults, **arguments}.items())))


def load_factory(name: str) -> Callable[..., Any]:
    """Import a user's `module:factory`.

    Raises:
        UnknownNameError: no such module or attribute.
        ModelError: the module cannot be imported, or what it holds under that name cannot be called.
    """
    try:
        factory = load_attribute(name)
    except UnknownNameError:
        raise
    except Exception as error:
        raise ModelError(f"{name} cannot be imported: {describe_failure(error)}") from error
    if not callable(factory):
        raise ModelError(
            f"Expected {name} to be a class or a function that makes a torch.nn.Module, got {type(factory).__name__}."
        )
    return factory


def _build_linear(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape.inputs), shape.outputs))


def _build_mlp(shape: Shape, *, width: int, depth: int) -> nn.Module:
    widths = [math.prod(shape.inputs), *[width] * depth]
    hidden = [
        layer
        for fan_in, fan_out in pairwise(widths)
        for layer in (nn.Linear(fan_in, fan_out), nn.ReLU(), nn.Dropout(0.0))
    ]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, shape.outputs))


def _build_cnn(shape: Shape, *, width: int) -> nn.Module:
    if len(shape.inputs) != 3 or min(shape.inputs[1:]) < 4:
        raise ModelError(
            f"The model cnn needs images of at least 4 × 4 pixels; this task's inputs have shape {shape.inputs}. "
            f"Use mlp or linear, or bring your own: --model my_module:Net."
        )
    channels, height, across = shape.inputs
    return nn.Sequential(
        *_convolution(channels, width),
        *_convolution(width, 2 * width),
        nn.Flatten(),
        nn.Dropout(0.0),
        nn.Linear(2 * width * (height // 4) * (across // 4), shape.outputs),
    )


def _convolution(channels_in: int, channels_out: int) -> list[nn.Module]:
    # Four channels a group: alone in a map of one pixel, a channel would be normalised to nothing.
    groups = next((groups for groups in (4, 2) if channels_out % (4 * groups) == 0), 1)
    return [
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.MaxPool2d(2),
        nn.GroupNorm(groups, channels_out),
        nn.ReLU(),
    ]


MODELS.add("linear")(CatalogueEntry(build=_build_linear, summary="softmax or linear regression"))
MODELS.add("mlp")(
    CatalogueEntry(
        build=_build_mlp,
        summary="multilayer perceptron: depth hidden layers of width ReLU units",
        defaults={"width": 256, "depth": 1},
    )
)
MODELS.add("cnn")(
    CatalogueEntry(
        build=_build_cnn,
        summary="two 3×3 convolutions with max-pooling, GroupNorm and ReLU, for images",
        defaults={"width": 16},
    )
)
