"""Recipes around a learner's own, one thing changed in each."""

from dataclasses import replace
from typing import Literal, NamedTuple, final

from byrote.records import SAM, SGD, Adam, AdamW, BatchSize, Optimiser, Recipe
from byrote.studies.recipe_changes import always, at_rate
from byrote.studies.study import lengthened

Role = Literal["own", "batch", "rate", "sam", "optimiser"]
TIMES_BATCH = 16
SHARE_OF_RATE = 0.1
ADAM = Adam()
"""In the place of SGD."""
SGD_RATES = (0.05, 0.01)
"""In the place of Adam, for classes and for numbers: what is trained with when nobody says anything."""


@final
class Variant(NamedTuple):
    """A recipe, and what was changed."""

    role: Role
    name: str
    """In a table."""
    recipe: Recipe


def recipes_around(recipe: Recipe, *, num_examples: int, regression: bool) -> tuple[Variant, ...]:
    """The recipe itself; with another batch size; with a tenth of the learning rate; with SAM, or without where it has
    it; with another optimiser.

    >>> [variant.name for variant in recipes_around(Recipe(batch_size=32), num_examples=1437, regression=False)]
    ['own recipe', 'batches of 512', 'a tenth of the rate', 'SAM', 'Adam']
    >>> own = Recipe(optimiser=SAM(), batch_size="all")
    >>> [variant.name for variant in recipes_around(own, num_examples=1437, regression=False)]
    ['own recipe', 'batches of 89', 'a tenth of the rate', 'without SAM', 'Adam']

    Args:
        recipe: the learner's own.
        num_examples: that it trains on; a batch is no larger.
        regression: decides the learning rate of SGD where it takes Adam's place.
    """
    optimiser, size = recipe.optimiser, _batch(recipe.batch_size, num_examples)
    other = _other_batch(size, num_examples)
    sharp = isinstance(optimiser, SAM)
    swapped = _swapped(optimiser, regression=regression)
    return (
        Variant("own", "own recipe", recipe),
        Variant("batch", f"batches of {other:,}", _with_batch(recipe, other, num_examples=num_examples)),
        Variant("rate", "a tenth of the rate", always(recipe, at_rate(SHARE_OF_RATE))),
        Variant("sam", "without SAM" if sharp else "SAM", always(recipe, _plain if sharp else _aware)),
        Variant(
            "optimiser",
            "Adam" if isinstance(swapped, Adam) else "SGD",
            always(recipe, lambda own: _swapped(own, regression=regression)),
        ),
    )


def has_sam(recipe: Recipe) -> bool:
    """Whether a recipe begins with SAM."""
    return isinstance(recipe.optimiser, SAM)


def _batch(size: BatchSize, num_examples: int) -> int:
    return num_examples if size == "all" else min(size, num_examples)


def _other_batch(size: int, num_examples: int) -> int:
    """Larger; smaller where batches cannot be larger."""
    larger = min(TIMES_BATCH * size, num_examples)
    return larger if larger > size else max(1, size // TIMES_BATCH)


def _with_batch(recipe: Recipe, size: int, *, num_examples: int) -> Recipe:
    """What is counted in steps comes at the same share of the training."""
    before, after = (-(-num_examples // _batch(own, num_examples)) for own in (recipe.batch_size, size))
    moved = lengthened(recipe, epochs=recipe.epochs, steps=after / before)
    switches = tuple(replace(switch, batch_size=size) for switch in moved.switches)
    return replace(moved, batch_size=size, switches=switches)


def _aware(optimiser: Optimiser) -> Optimiser:
    return optimiser if isinstance(optimiser, SAM) else SAM(base=optimiser)


def _plain(optimiser: Optimiser) -> Optimiser:
    return optimiser.base if isinstance(optimiser, SAM) else optimiser


def _swapped(optimiser: Optimiser, *, regression: bool) -> SGD | Adam | AdamW:
    """Adam for SGD and SGD for Adam, with the weight decay that both understand alike."""
    base = optimiser.base if isinstance(optimiser, SAM) else optimiser
    if isinstance(base, SGD):
        return replace(ADAM, weight_decay=base.weight_decay)
    decay = 0.0 if isinstance(base, AdamW) else base.weight_decay
    return SGD(lr=SGD_RATES[regression], weight_decay=decay)
