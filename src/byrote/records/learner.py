"""Who learns: a named model and the recipe that trains it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast, final

from byrote.records.briefly import briefly
from byrote.records.identity import identity, place
from byrote.records.recipe import Recipe

Argument = int | float | bool | str | None | tuple[int, ...]


@final
@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model by name: one of byrote's own (`mlp`) or a user's factory (`my_module:Net`).

    Two specs are equal when name, arguments and source digest are; `factory` rides along for the process that made it.
    """

    name: str
    """A registered model's name, or `module:attribute`."""
    arguments: tuple[tuple[str, Argument], ...] = ()
    """Keyword arguments of the factory, sorted by name."""
    digest: str = ""
    """For a user's factory, a digest of its source and of what is bound to it: other code is another model."""
    factory: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    """The user's own factory, when it was handed over as an object. Not stored."""

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.arguments)})"


@final
@dataclass(frozen=True, init=False)
class Learner:
    """A named model plus a recipe. Capacity belongs to the whole learner, not to the model (Arpit et al. 2017)."""

    model: ModelSpec
    recipe: Recipe = field(default_factory=Recipe)

    def __init__(self, *, model: ModelSpec | Callable[..., Any], recipe: Recipe | None = None) -> None:
        """Pair a model, or a user's own factory of one, with a recipe.

        Raises:
            TypeError: the model is neither.
        """
        given = cast("object", model)
        if not isinstance(given, ModelSpec) and not callable(given):
            raise TypeError(
                f"Expected model to be a ModelSpec such as byrote.models.mlp(width=256), or a factory that makes "
                f"a torch.nn.Module; got {type(model).__name__}."
            )
        object.__setattr__(self, "model", given if isinstance(given, ModelSpec) else custom(given))
        object.__setattr__(self, "recipe", Recipe() if recipe is None else recipe)

    def __str__(self) -> str:
        return f"{self.model}, {briefly(self.recipe)}"


def custom(factory: Callable[..., Any], *, name: str | None = None) -> ModelSpec:
    """Name a user's own factory, a class or a function that makes a `torch.nn.Module`.

    Args:
        factory: called with the task, or with nothing if it takes nothing, once per run.
        name: what to call it; `module:qualname` unless given.
    """
    digest = hashlib.sha256(identity(factory).encode()).hexdigest()[:16]
    return ModelSpec(name=name or place(factory), digest=digest, factory=factory)
