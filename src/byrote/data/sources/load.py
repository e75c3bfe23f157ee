"""One word for every task: a name, a file, or `module:attribute`."""

from pathlib import Path

from byrote.core import DataError, Registry, UnknownNameError, did_you_mean
from byrote.data.sources.arrays import npz
from byrote.data.sources.digits import DIGITS
from byrote.data.sources.entry import entry
from byrote.data.sources.fashion_mnist import FASHION_MNIST
from byrote.data.sources.files import SUFFIXES, TABLES, data_files
from byrote.data.sources.mnist_1d import MNIST_1D
from byrote.data.sources.nav17 import NAV17
from byrote.data.sources.source import Options, Source
from byrote.data.sources.table import table
from byrote.data.task import Task

SOURCES: Registry[Source] = Registry("task")
"""The built-in tasks."""
for _source in (DIGITS, FASHION_MNIST, MNIST_1D, NAV17):
    SOURCES.add(_source.name)(_source)


def load(
    task: str | Path,
    *,
    target: str | None = None,
    group: str | None = None,
    regression: bool | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    test_fraction: float = 0.2,
) -> Task:
    """Load a task by what a user would type.

    >>> digits = load("digits")
    >>> digits.train.x.shape, digits.test.x.shape, digits.num_classes
    ((1438, 8, 8), (359, 8, 8), 10)

    Args:
        task: a built-in name, a file ending in .csv, .tsv, .parquet or .npz, or `module:attribute`: a `Task`, a tuple
            (x, y) or (x_train, y_train, x_test, y_test), or a function without arguments that returns one of these.
        target: for a table, the column to predict; unless given, the one called target, label, class or y.
        group: for a table, the column whose equal values stay together in every split and subset.
        regression: whether targets are numbers to predict; unless given, decided by the targets.
        data_dir: for fashion-mnist and nav17, the folder with their files.
        seed: draws the split, and the data where they are generated.
        test_fraction: share set aside for test where there is no test set.

    Returns:
        The task; its `notes` say what was done to the data.

    Raises:
        UnknownNameError: neither a name, a file nor an entry.
        DataError: it cannot be read, or is not what a task needs, or an option does not apply to it.
        MissingExtraError: it needs a package that is not installed.
    """
    options = Options(
        target=target,
        group=group,
        regression=regression,
        data_dir=None if data_dir is None else Path(data_dir),
        seed=seed,
        test_fraction=test_fraction,
    )
    name = str(task)
    path = Path(name)
    if name in SOURCES:
        return SOURCES[name].make(options)
    if path.suffix.lower() in TABLES:
        return table(path, options)
    if path.suffix.lower() in SUFFIXES:
        return npz(path, options)
    if name and path.exists():
        kind = "a folder" if path.is_dir() else f"a file ending in {path.suffix or 'nothing'}"
        raise DataError(f"{path} is {kind}. Expected {_forms()}.")
    if ":" in name:
        return entry(name, options)
    hint = did_you_mean(name, [*SOURCES, *data_files(Path.cwd())])
    raise UnknownNameError(f"Unknown task {name!r}.{hint} Expected {_forms()}.")


def _forms() -> str:
    return (
        f"a name ({', '.join(SOURCES)}), a file ending in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, "
        f"or module:attribute (a Task, or a function that makes one)"
    )
