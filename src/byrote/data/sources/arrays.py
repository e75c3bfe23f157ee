"""A task from arrays: an NPZ file, or what a user's function returned."""

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from byrote.core import DataError, did_you_mean
from byrote.data.examples import Examples
from byrote.data.sources.files import check_readable
from byrote.data.sources.source import Options
from byrote.data.split import split
from byrote.data.task import Task, standardise

SPLIT_KEYS = ("x_train", "y_train", "x_test", "y_test")
WHOLE_KEYS = ("x", "y")
OPTIONAL = {SPLIT_KEYS: ("ids_train", "ids_test", "groups_train", "groups_test"), WHOLE_KEYS: ("ids", "groups")}
EXPECTED = "x_train, y_train, x_test, y_test (and optionally ids_… and groups_…), or x, y (and optionally ids, groups)"


def npz(path: Path, options: Options) -> Task:
    """Read an archive of arrays, as `numpy.savez` writes it. Nothing is unpickled.

    Raises:
        DataError: not such an archive, wrong keys, object arrays, or arrays that are not what a task needs.
    """
    options.refuse_all_but(
        "regression", "test_fraction", task=path.name, because="an NPZ file names its parts by their keys"
    )
    check_readable(path)
    arrays = _read(path)
    given = SPLIT_KEYS if "x_train" in arrays else WHOLE_KEYS
    _check_keys(list(arrays), given, path)
    if given == WHOLE_KEYS:
        whole = Examples(arrays["x"], arrays["y"], ids=arrays.get("ids"), groups=arrays.get("groups"))
        return task_from_arrays(whole, test=None, name=path.name, options=options)
    train, test = (
        Examples(
            arrays[f"x_{part}"], arrays[f"y_{part}"], ids=arrays.get(f"ids_{part}"), groups=arrays.get(f"groups_{part}")
        )
        for part in ("train", "test")
    )
    return task_from_arrays(train, test=test, name=path.name, options=options)


def task_from_arrays(examples: Examples, *, test: Examples | None, name: str, options: Options) -> Task:
    """Make a task of examples, with a seeded, stratified split when there are no test examples.

    Images get one mean and scale, vectors one for each feature.
    """
    parts = _set_aside(examples, options) if test is None else _as_given(examples, test, name, options)
    prepared = [_prepare(part.x) for part in (parts.train, parts.test)]
    train, held_out = (
        Examples(made.x, part.y, ids=part.ids, groups=part.groups)
        for made, part in zip(prepared, (parts.train, parts.test), strict=True)
    )
    image = train.x.ndim in (3, 4)
    notes = (*prepared[0].notes, *parts.notes)
    if options.regression is None and train.y.dtype.kind == "f":
        notes = (*notes, "The targets are floating-point numbers, so they are predicted as numbers (regression).")
    return Task(
        train=train,
        test=held_out,
        name=name,
        regression=options.regression,
        modality="image" if image else "vector",
        normalise=standardise(train.x, per_feature=not image),
        notes=notes,
    )


class Parts(NamedTuple):
    """Training and test examples, and how they came apart."""

    train: Examples
    test: Examples
    notes: tuple[str, ...] = ()


def _set_aside(examples: Examples, options: Options) -> Parts:
    regression = examples.y.dtype.kind == "f" if options.regression is None else options.regression
    positions = split(
        examples.y,
        regression=regression,
        test_fraction=options.test_fraction,
        seed=options.seed,
        groups=examples.groups,
    )
    by_class = "" if regression else ", by class"
    whole = "" if examples.groups is None else ", groups whole"
    return Parts(
        examples.take(positions.train),
        examples.take(positions.test),
        (
            f"{len(positions.test):,} of {len(examples):,} examples were set aside for test "
            f"(seed {options.seed}{by_class}{whole}).",
        ),
    )


def _as_given(train: Examples, test: Examples, name: str, options: Options) -> Parts:
    options.refuse_all_but("regression", task=name, because="it brings test examples of its own")
    if (train.x.dtype == np.uint8) != (test.x.dtype == np.uint8):
        raise DataError(
            f"Expected training and test inputs of one type, got {train.x.dtype} for training and {test.x.dtype} for "
            f"test. Were both scaled alike?"
        )
    return Parts(train, test, ("The split into training and test examples came with the data.",))


class Prepared(NamedTuple):
    """Inputs as a task wants them, and what was done."""

    x: Num[np.ndarray, "example *feature"]
    notes: tuple[str, ...]


def _prepare(x: Num[np.ndarray, "example *feature"]) -> Prepared:
    notes: tuple[str, ...] = ()
    if x.dtype == np.float64:
        x = x.astype(np.float32)
        notes = (*notes, "Inputs of 64-bit floats were rounded to 32 bits.")
    if x.ndim == 4 and x.shape[3] in (1, 3) and min(x.shape[1:3]) > 4:
        notes = (
            *notes,
            f"Images of shape {x.shape[1:]} were taken as height × width × channels; channels now come first.",
        )
        x = np.ascontiguousarray(np.moveaxis(x, 3, 1))
    return Prepared(x, notes)


def _read(path: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    key = ""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                arrays[key] = np.asarray(archive[key])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, AttributeError, TypeError) as error:
        if "allow_pickle" in str(error) and key:
            raise DataError(
                f"The array {key!r} in {path} holds Python objects, which only unpickling could read, and that "
                f"would run code from the file. Save it as numbers or text, for instance "
                f"{key}=numpy.array({key}.tolist())."
            ) from error
        raise DataError(f"{path} is not an NPZ file that numpy.savez wrote: {error}.") from error
    return arrays


def _check_keys(found: list[str], required: tuple[str, ...], path: Path) -> None:
    optional = OPTIONAL[required]
    absent = [key for key in required if key not in found]
    unknown = [key for key in found if key not in required and key not in optional]
    if not absent and not unknown:
        return
    wrong = f"lacks {', '.join(absent)}" if absent else f"has the unknown key {unknown[0]!r}"
    hint = did_you_mean(unknown[0], [*absent, *optional]) if unknown else ""
    raise DataError(f"{path} {wrong}.{hint} Expected {EXPECTED}; found {', '.join(found) or 'nothing'}.")
