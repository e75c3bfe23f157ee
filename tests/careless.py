"""What a careless user has and gets: files that go wrong, and a command's answer."""

import importlib
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TINY = ("--runs", "2", "--epochs", "2", "--width", "8")
"""A few seconds for a whole audit."""
numbers = itertools.count()


class Answer(NamedTuple):
    """What a command left on the screen, and its exit status."""

    status: int
    stdout: str
    stderr: str

    @property
    def findings(self) -> list[dict[str, Any]]:
        return json.loads(self.stdout)


Command = Callable[..., Answer]


def environment() -> dict[str, str]:
    """This process's, with one thread and no colours."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "80", "PYTHONUNBUFFERED": "1"}


def write_table(path: Path, *, num_rows: int = 120, **columns: Any) -> Path:
    """A CSV of two clusters with the classes `cat` and `dog`; columns given replace or join its own."""
    rng = np.random.default_rng(0)
    code = np.arange(num_rows) % 2
    table: dict[str, Any] = {name: (rng.normal(size=num_rows) + 3 * code).round(4) for name in ("height", "weight")}
    table["label"] = np.array(["cat", "dog"])[code]
    table |= columns
    rows = zip(*table.values(), strict=True)
    path.write_text("\n".join([",".join(table), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def write_arrays(path: Path, *, num_test: int = 40, **changed: Any) -> Path:
    """An NPZ file with a training and a test set of two clusters; arrays given replace or join its own."""
    rng = np.random.default_rng(1)
    arrays: dict[str, Any] = {}
    for part, number in (("train", 80), ("test", num_test)):
        y = np.arange(number) % 2
        arrays |= {f"x_{part}": rng.normal(size=(number, 4)) + 2 * y[:, None], f"y_{part}": y}
    np.savez(path, **{name: array for name, array in (arrays | changed).items() if array is not None})
    return path


def write_module(source: str) -> str:
    """A module in the working directory, under a name that nobody has imported before."""
    name = f"careless_{os.getpid()}_{next(numbers)}"
    Path(f"{name}.py").write_text(source)
    importlib.invalidate_caches()
    return name


def refused(answer: Answer, *words: str) -> None:
    """One clear message on standard error, nothing on standard output, no traceback, exit status 2."""
    said = " ".join(answer.stderr.split())
    assert answer.status == 2, answer
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    assert said.count("error: ") == 1
    missing = [word for word in words if word not in said]
    assert not missing, f"{missing} not in: {said}"
