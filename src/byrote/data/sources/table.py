"""A task from a CSV, TSV or Parquet file."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int, Shaped

from byrote.core import DataError, did_you_mean
from byrote.data.examples import Examples
from byrote.data.sources.columns import as_codes, as_numbers, describe_columns, encode_column, is_number, is_text
from byrote.data.sources.read_table import read_table
from byrote.data.sources.source import Options
from byrote.data.split import split
from byrote.data.subsets import Positions
from byrote.data.task import Task, standardise

TARGET_NAMES = ("target", "label", "class", "y")
"""The columns that are taken for the target when none is named."""


class Target(NamedTuple):
    """What is to be predicted."""

    values: Shaped[np.ndarray, "example"]
    classes: tuple[str, ...]
    regression: bool
    notes: tuple[str, ...]


def table(path: Path, options: Options) -> Task:
    """Read a table, set a part aside for test, and encode the columns as the training rows suggest.

    Ids are row numbers in the file, from 0.

    Raises:
        DataError: the file cannot be read, or its columns are not what a task needs.
    """
    options.refuse_all_but(
        "target", "group", "regression", "test_fraction", task=path.name, because="the table lies in the file itself"
    )
    raw = read_table(path)
    name = _target_name(raw.column_names, options.target, path)
    group = _group_name(raw.column_names, options.group, name, path)
    rows, ids, dropped_note = _with_target(raw, name)
    target = _target(name, rows[name], options.regression)
    groups = None if group is None else _groups(group, rows[group])
    positions = split(
        target.values,
        regression=target.regression,
        test_fraction=options.test_fraction,
        seed=options.seed,
        groups=groups,
        classes=target.classes,
    )
    features = _features(rows.drop_columns([name] if group is None else [name, group]), positions, path)
    train, test = (
        Examples(
            features.x[part],
            target.values[part],
            ids=ids[part],
            groups=None if groups is None else groups[part],
            rows=rows.take(pa.array(part)),
        )
        for part in positions
    )
    split_note = _describe_split(positions, options, groups, target.regression)
    return Task(
        train=train,
        test=test,
        name=path.name,
        regression=target.regression,
        classes=target.classes,
        modality="table",
        normalise=standardise(train.x, per_feature=True),
        feature_names=features.names,
        feature_columns=features.columns,
        notes=(*dropped_note, *target.notes, split_note, *features.notes),
    )


def _target_name(names: list[str], asked: str | None, path: Path) -> str:
    if asked is not None:
        _check_column(asked, names, "target", path)
        return asked
    likely = [name for name in names if name.casefold() in TARGET_NAMES]
    if len(likely) == 1:
        return likely[0]
    found = f"{path.name} has {', '.join(likely)}" if likely else f"{path.name} has none of them"
    headless = " Its first line should name the columns." if all(_reads_as_number(name) for name in names) else ""
    raise DataError(
        f"Which column is the target? Without --target it is the one called {', '.join(TARGET_NAMES[:-1])} or "
        f"{TARGET_NAMES[-1]}, and {found}. Pass --target with one of: {_shown(names)}.{headless}"
    )


def _group_name(names: list[str], asked: str | None, target: str, path: Path) -> str | None:
    if asked is not None:
        _check_column(asked, names, "group", path)
    if asked == target:
        raise DataError(f"Expected a group other than the target, got {target!r} for both.")
    return asked


def _check_column(name: str, names: list[str], role: str, path: Path) -> None:
    if name not in names:
        raise DataError(
            f"No column {name!r} for the {role} in {path.name}.{did_you_mean(name, names)} "
            f"Its columns: {_shown(names)}."
        )


def _shown(names: list[str], *, most: int = 30) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _reads_as_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


class Kept(NamedTuple):
    """The rows that have a target, their numbers in the file, and a note if some have none."""

    rows: pa.Table
    ids: Int[np.ndarray, "example"]
    notes: tuple[str, ...]


def _with_target(rows: pa.Table, name: str) -> Kept:
    column = rows[name]
    kept = ~np.isnan(as_numbers(column)) if is_number(column.type) else column.is_valid().to_numpy()
    if not kept.any():
        raise DataError(f"The target {name!r} is empty in all of the {len(kept)} rows. Name another column: --target.")
    num_dropped = int((~kept).sum())
    if not num_dropped:
        return Kept(rows, np.arange(len(kept)), ())
    verb = "row has" if num_dropped == 1 else "rows have"
    note = f"{num_dropped:,} {verb} no {name!r} and took no part."
    return Kept(rows.filter(pa.array(kept)), np.flatnonzero(kept), (note,))


def _target(name: str, column: pa.ChunkedArray, regression: bool | None) -> Target:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        codes, classes = as_codes(column)
        if regression:
            raise DataError(
                f"The target {name!r} holds text (such as {classes[0]!r}), which cannot be predicted as a number. "
                f"Leave out --regression, or name another column: --target."
            )
        return Target(codes, tuple(classes), False, ())
    if not is_number(column.type):
        raise DataError(
            f"Expected a target of classes or numbers, got {column.type} in {name!r}. Name another: --target."
        )
    numbers = as_numbers(column)
    if not np.isfinite(numbers).all():
        infinite = int((~np.isfinite(numbers)).sum())
        raise DataError(
            f"The target {name!r} is infinite in {infinite} rows. Leave those cells empty to drop the rows."
        )
    whole = bool((numbers == np.round(numbers)).all())
    if regression is None and not whole:
        note = f"The target {name!r} holds numbers that are not whole, so it is predicted as a number (regression)."
        return Target(numbers, (), True, (note,))
    if regression:
        return Target(numbers, (), True, (f"The target {name!r} is predicted as a number (regression), as asked for.",))
    return Target(numbers.astype(np.int64) if whole else numbers, (), False, ())


def _groups(name: str, column: pa.ChunkedArray) -> Shaped[np.ndarray, "example"]:
    """Groups as integers or text."""
    codes, names = as_codes(column)
    num_missing = int((codes < 0).sum())
    if num_missing:
        raise DataError(
            f"The group {name!r} is missing in {num_missing} rows, so what they belong to is unknown. "
            f"Fill it in, or drop those rows."
        )
    return column.to_numpy() if pa.types.is_integer(column.type) else np.array(names)[codes]


def _describe_split(
    positions: Positions, options: Options, groups: Shaped[np.ndarray, "example"] | None, regression: bool
) -> str:
    total = len(positions.train) + len(positions.test)
    how = f"seed {options.seed}" if regression else f"seed {options.seed}, by class"
    note = f"{len(positions.test):,} of {total:,} rows were set aside for test ({how})."
    if groups is None:
        return note
    train, test = (len(np.unique(groups[part])) for part in positions)
    return f"{note} Rows with one {options.group!r} stayed together: {train:,} groups for training, {test:,} for test."


class Features(NamedTuple):
    """Encoded columns."""

    x: Shaped[np.ndarray, "example feature"]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...]


def _features(rows: pa.Table, positions: Positions, path: Path) -> Features:
    train = np.zeros(rows.num_rows, bool)
    train[positions.train] = True
    columns = [encode_column(name, rows[name], train) for name in rows.column_names]
    features = [(column.name, feature) for column in columns for feature in column.features]
    notes = describe_columns(columns)
    if not features:
        raise DataError(f"No column of {path.name} is left to predict from. {' '.join(notes)}".strip())
    x = np.empty((rows.num_rows, len(features)), np.float32)
    for place, (_, feature) in enumerate(features):
        x[:, place] = feature.values
    return Features(x, tuple(feature.name for _, feature in features), tuple(name for name, _ in features), notes)
