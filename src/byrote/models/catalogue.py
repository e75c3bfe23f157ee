"""Reference networks, small enough to train hundreds of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, final

from torch import nn

from byrote.core import ModelError, Registry, SpecError, did_you_mean, load_attribute
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
    defaults: dict[str, int] = field(default_factory=dict)


MODELS: Registry[CatalogueEntry] = Registry("model")


def linear() -> ModelSpec:
    """One affine map from the flattened input to the outputs: softmax or linear regression."""
    return named_model("linear")


def mlp(*, width: int = 256, depth: int = 1) -> ModelSpec:
    """A multilayer perceptron: `depth` hidden layers of `width` ReLU units on the flattened input."""
    return named_model("mlp", width=width, depth=depth)


def cnn(*, width: int = 16) -> ModelSpec:
    """A small convolutional network: two 3×3 convolutions (`width` and 2·`width` channels), each with GroupNorm, ReLU
    and 2×2 max-pooling, then an affine map. For images of at least 4 × 4 pixels.
    """
    return named_model("cnn", width=width)


def named_model(name: str, **arguments: int) -> ModelSpec:
    """The spec of a registered network, or of a user's `module:factory`, as typed on a command line.

    >>> str(named_model("mlp", width=32))
    'mlp(depth=1, width=32)'

    Raises:
        UnknownNameError: no such network or attribute.
        SpecError: the network takes no such argument, or it is not a whole number above 0.
    """
    if ":" in name:
        if arguments:
            raise SpecError(f"{name} is your own model and takes no {', '.join(arguments)} from byrote: set it there.")
        return custom(load_attribute(name), name=name)
    defaults = MODELS[name].defaults
    for argument, value in arguments.items():
        if argument not in defaults:
            accepted = ", ".join(defaults) or "no arguments"
            raise SpecError(
                f"The model {name} has no argument {argument!r}.{did_you_mean(argument, defaults)} "
                f"It takes: {accepted}."
            )
        if value < 1:
            raise SpecError(f"Expected {argument} of the model {name} at least 1, got {value!r}.")
    return ModelSpec(name=name, arguments=tuple(sorted({**defaults, **arguments}.items())))


def _build_linear(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(_size(shape), shape.outputs))


def _build_mlp(shape: Shape, *, width: int, depth: int) -> nn.Module:
    widths = [_size(shape), *[width] * depth]
    hidden = [layer for fan_in, fan_out in pairwise(widths) for layer in (nn.Linear(fan_in, fan_out), nn.ReLU())]
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
        nn.Linear(2 * width * (height // 4) * (across // 4), shape.outputs),
    )


def _convolution(channels_in: int, channels_out: int) -> list[nn.Module]:
    groups = next(groups for groups in (4, 2, 1) if channels_out % groups == 0)
    return [
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.GroupNorm(groups, channels_out),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]


def _size(shape: Shape) -> int:
    size = 1
    for extent in shape.inputs:
        size *= extent
    return size


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
        summary="two 3×3 convolutions with GroupNorm, ReLU and max-pooling, for images",
        defaults={"width": 16},
    )
)
