"""What measuring goes around, said once: fused attention, compiled code, scaled losses."""

import logging
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Literal, final

import torch
from torch import nn

What = Literal["attention", "compiled", "scaler"]

SAID: dict[What, str] = {
    "attention": (
        "Attention is measured in its mathematical form, since its fused kernels have no second derivatives; training "
        "keeps its own."
    ),
    "compiled": (
        "The compiled model is measured uncompiled, since compiled code has no second derivatives; training stays "
        "compiled."
    ),
    "scaler": ("The loss is measured unscaled: while it is measured, a gradient scaler gives back what it is given."),
}
"""What the user is told."""


@final
class Bypassed:
    """What was gone around; the first time in a process each kind is a line in the log of `byrote`.

    >>> bypassed = Bypassed()
    >>> bypassed.say("scaler")
    >>> bypassed.say("scaler")
    >>> len(bypassed.notes)
    1
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self._found: dict[What, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know, each once."""
        return tuple(SAID[what] for what in self._found)

    def say(self, what: What) -> None:
        """Note it."""
        self._found[what] = None
        say_once(SAID[what])

    @contextmanager
    def noticing(self) -> Generator[None]:
        """For a while, attention that is computed is noted, and gradient scalers do nothing, which is noted too."""
        attend = nn.functional.scaled_dot_product_attention

        def attention(*inputs: Any, **options: Any) -> Any:
            self.say("attention")
            return attend(*inputs, **options)

        def unscaled(scaler: torch.amp.GradScaler, outputs: Any) -> Any:
            if scaler.is_enabled():
                self.say("scaler")
            return outputs

        with ExitStack() as stack:
            stack.enter_context(_replaced(nn.functional, "scaled_dot_product_attention", attention))
            stack.enter_context(_replaced(torch.amp.GradScaler, "scale", unscaled))
            yield


def is_compiled(model: nn.Module) -> bool:
    """Whether a model, or a part of it, went through `torch.compile`.

    >>> is_compiled(nn.Linear(1, 1))
    False
    """
    return any(
        type(layer).__name__ == "OptimizedModule" or layer._compiled_call_impl is not None  # pyright: ignore[reportPrivateUsage]
        for layer in model.modules()
    )


@cache
def say_once(text: str) -> None:
    """A line in the log, the first time in this process."""
    logging.getLogger("byrote").warning(text)


@contextmanager
def _replaced(owner: Any, name: str, other: Callable[..., Any]) -> Generator[None]:
    before = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, before)
