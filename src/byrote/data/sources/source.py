"""A named source of a task, and what a user may ask of it."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import final

from byrote.core import DataError
from byrote.data.task import Task

OPTION_NAMES = {
    "target": "--target",
    "group": "--group",
    "regression": "--regression",
    "data_dir": "--data-dir",
    "test_fraction": "test_fraction",
}


@final
@dataclass(frozen=True, kw_only=True)
class Options:
    """How a task was asked for. A seed applies everywhere; each source says which of the others it takes."""

    target: str | None = None
    """The column to predict."""
    group: str | None = None
    """The column whose equal values stay together."""
    regression: bool | None = None
    """None: decided by the targets."""
    data_dir: Path | None = None
    """Where the files of a downloaded data set are."""
    seed: int = 0
    test_fraction: float = 0.2

    def refuse_all_but(self, *accepted: str, task: str, because: str) -> None:
        """Refuse every option given that this task does not take.

        Raises:
            DataError: naming the option and saying why it does not apply.
        """
        unset = Options()
        for part in fields(self):
            name = part.name
            if name == "seed" or name in accepted or getattr(self, name) == getattr(unset, name):
                continue
            raise DataError(f"The option {OPTION_NAMES[name]} does not apply to {task}: {because}.")


@final
@dataclass(frozen=True, kw_only=True)
class Source:
    """A built-in task by name."""

    name: str
    description: str
    """One line, for a list."""
    make: Callable[[Options], Task]
    missing: Callable[[], str] = str
    """What has to be installed first and how; empty when the task can be loaded now."""
