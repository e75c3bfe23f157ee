"""A recipe in one line: what tells it from others, and nothing that is as usual."""

from dataclasses import MISSING, fields
from typing import Any

from byrote.records.recipe import SAM, Constant, Optimiser, Recipe, Regularisers, Schedule, WarmUp


def briefly(recipe: Recipe) -> str:
    """Optimiser, learning rate, batch size and epochs; of the rest what differs from the defaults.

    >>> from byrote.records.recipe import SGD, Cosine
    >>> briefly(Recipe(optimiser=SGD(lr=0.05), batch_size=32, epochs=20))
    'sgd lr=0.05, batch 32, 20 epochs'
    >>> briefly(Recipe(optimiser=SAM(base=SGD(momentum=0.5)), schedule=WarmUp(steps=9, then=Cosine()), epochs=1))
    'sam lr=0.1 momentum=0.5, warm-up steps=9 then cosine, batch 64, 1 epoch'
    """
    parts = [
        *_step(recipe.optimiser, recipe.schedule),
        f"batch {recipe.batch_size}",
        f"{recipe.epochs} epoch{'s' * (recipe.epochs != 1)}",
        *_unusual(recipe.regularisers),
        *([recipe.dtype] if recipe.dtype != "float32" else []),
        *(["bfloat16"] if recipe.autocast else []),
    ]
    for switch in recipe.switches:
        later = [*_step(switch.optimiser, switch.schedule), f"batch {switch.batch_size}"]
        parts += [f"from step {switch.step} {later[0]}", *later[1:], *_unusual(switch.regularisers)]
    return ", ".join(parts)


def _step(optimiser: Optimiser, schedule: Schedule) -> list[str]:
    inner = optimiser.base if isinstance(optimiser, SAM) else optimiser
    over = [f"over {inner.kind}"] if isinstance(optimiser, SAM) and inner.kind != "sgd" else []
    own = _unusual(optimiser, but=("lr", "base")) if isinstance(optimiser, SAM) else []
    words = [optimiser.kind, f"lr={optimiser.lr:g}", *own, *over, *_unusual(inner, but=("lr",))]
    return [" ".join(words), *([] if isinstance(schedule, Constant) else [_course(schedule)])]


def _course(schedule: Schedule) -> str:
    if isinstance(schedule, WarmUp):
        then = "" if isinstance(schedule.then, Constant) else f" then {_course(schedule.then)}"
        return f"warm-up steps={schedule.steps}{then}"
    return " ".join([schedule.kind, *_unusual(schedule)])


def _unusual(record: Optimiser | Schedule | Regularisers, *, but: tuple[str, ...] = ()) -> list[str]:
    """`name=value` of every number that is not its default."""
    named = [(part.name, part.default, getattr(record, part.name)) for part in fields(record) if part.name not in but]
    return [f"{name}={_value(value)}" for name, default, value in named if default is MISSING or value != default]


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
