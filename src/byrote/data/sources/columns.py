"""Columns of a table as features: what a network can read of each, fitted on the training rows alone."""

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from byrote.core import DataError

MOST_CATEGORIES = 50
"""Categories beyond the most frequent 50 share one feature."""
FEWEST_ROWS = 50
"""With this few rows, neither text that differs in each row nor a row number is recognised as such."""
DISTINCT_SHARE = 0.9
"""A text column with more distinct values than this share of its rows names rows; it does not describe them."""
ROW_NUMBER_NAME = re.compile(r"|unnamed: 0|__index_level_0__|.*id|.*index|rows?|row.?(names?|numbers?)", re.IGNORECASE)
"""What a column that merely numbers the rows is called."""
FLOAT32_DIGITS = 2.0**-24

Treatment = Literal["number", "category", "constant", "text", "row number"]


class Feature(NamedTuple):
    """One input of the network."""

    name: str
    values: Float[np.ndarray, "example"] | Bool[np.ndarray, "example"]


class Column(NamedTuple):
    """What became of one column."""

    name: str
    treatment: Treatment
    features: Sequence[Feature] = ()
    num_missing: int = 0
    num_categories: int = 0
    num_pooled: int = 0
    num_unseen: int = 0
    shifted: bool = False


def encode_column(name: str, values: pa.ChunkedArray, train: Bool[np.ndarray, "example"]) -> Column:
    """Turn one column into features.

    Numbers are imputed with the training median, and a 0/1 feature says where anything was missing; dates and times
    are numbers of seconds; text, booleans and categories become one 0/1 feature for each training category.

    Args:
        name: the column's name.
        values: the column.
        train: which rows are training rows.

    Raises:
        DataError: an infinite value, or a type that is neither a number, a time nor text.
    """
    kind = values.type
    if pa.types.is_null(kind):
        return Column(name, "constant", num_missing=len(values))
    if is_text(kind):
        return _categories(name, values, train)
    if is_number(kind) or pa.types.is_temporal(kind):
        return _numbers(name, values, train)
    raise DataError(
        f"Column {name!r} holds {kind}, which is neither a number, a time nor text. "
        f"Make numbers or categories of it, or leave it out of the file."
    )


def is_number(kind: pa.DataType) -> bool:
    """Whether a type holds numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds categories: text, booleans, dictionaries."""
    tests: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_boolean,
        pa.types.is_dictionary,
    )
    return any(test(kind) for test in tests)


def as_numbers(values: pa.ChunkedArray) -> Float[np.ndarray, "example"]:
    """A column of numbers or times as float64, times in seconds, NaN where missing."""
    return _seconds(values) if pa.types.is_temporal(values.type) else _doubles(values)


def as_codes(values: pa.ChunkedArray) -> tuple[Int[np.ndarray, "example"], list[str]]:
    """A column of any kind as codes (−1 where missing) of the distinct values, which are returned as text, sorted."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    encoded = values.dictionary_encode().combine_chunks()
    names = np.array(encoded.dictionary.cast(pa.string()).to_pylist(), dtype=object)
    order = np.argsort(names, kind="stable")
    rank = np.empty(len(names) + 1, np.int64)
    rank[order], rank[-1] = np.arange(len(names)), -1
    indices = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return rank[indices], names[order].tolist()


def _doubles(values: pa.ChunkedArray) -> Float[np.ndarray, "example"]:
    return values.cast(pa.float64(), safe=False).to_numpy()


def _seconds(values: pa.ChunkedArray) -> Float[np.ndarray, "example"]:
    kind = values.type
    if pa.types.is_date(kind):
        fine = pa.timestamp("us")
    elif pa.types.is_timestamp(kind):
        fine = pa.timestamp("us", tz=kind.tz)
    elif pa.types.is_time(kind):
        fine = pa.time64("us")
    else:
        fine = pa.duration("us")
    return _doubles(values.cast(fine, safe=False).cast(pa.int64())) / 1e6


def _numbers(name: str, column: pa.ChunkedArray, train: Bool[np.ndarray, "example"]) -> Column:
    values = as_numbers(column)
    _refuse_infinite(name, values)
    missing = np.isnan(values)
    num_missing = int(missing.sum())
    known = values[train & ~missing]
    features: list[Feature] = []
    shifted = False
    if len(known) and np.ptp(known) > 0:
        if _counts_rows(name, column):
            return Column(name, "row number")
        median = float(np.median(known))
        values = np.where(missing, median, values)
        shifted = bool(np.abs(known).max() * FLOAT32_DIGITS > 1e-3 * known.std())
        features.append(Feature(name, (values - median if shifted else values).astype(np.float32)))
    if 0 < missing[train].sum() < train.sum():
        features.append(Feature(f"{name} (missing)", missing))
    treatment: Treatment = "number" if features else "constant"
    return Column(name, treatment, features, num_missing=num_missing, shifted=shifted)


def _refuse_infinite(name: str, values: Float[np.ndarray, "example"]) -> None:
    too_large = np.abs(values) > np.finfo(np.float32).max
    if too_large.any():
        raise DataError(
            f"Expected finite numbers in column {name!r}, got {int(too_large.sum())} that are infinite or beyond "
            f"±{np.finfo(np.float32).max:.1e}. Leave those cells empty to have them imputed, or drop the rows."
        )


def _counts_rows(name: str, column: pa.ChunkedArray) -> bool:
    """Whether a column of integers merely numbers the rows; a sorted file would betray its targets there."""
    if not pa.types.is_integer(column.type) or len(column) <= FEWEST_ROWS or not ROW_NUMBER_NAME.fullmatch(name):
        return False
    return column.null_count == 0 and bool((np.diff(column.to_numpy()) == 1).all())


def _categories(name: str, column: pa.ChunkedArray, train: Bool[np.ndarray, "example"]) -> Column:
    codes, names = as_codes(column)
    num_missing = int((codes < 0).sum())
    if not pa.types.is_boolean(column.type) and len(codes) > FEWEST_ROWS and len(names) > DISTINCT_SHARE * len(codes):
        return Column(name, "text", num_missing=num_missing, num_categories=len(names))
    counts = np.bincount(codes[train] + 1, minlength=len(names) + 1)
    seen = np.flatnonzero(counts[1:])
    frequent = np.sort(seen[np.argsort(-counts[1:][seen], kind="stable")][:MOST_CATEGORIES])
    features = [Feature(f"{name} = {names[code]}", codes == code) for code in frequent]
    own_feature = np.isin(codes, frequent)
    num_pooled = len(seen) - len(frequent)
    if num_pooled:
        features.append(Feature(f"{name} = (other)", ~own_feature & (codes >= 0)))
    if counts[0]:
        features.append(Feature(f"{name} = (missing)", codes < 0))
    if len(features) < 2:
        return Column(name, "constant", num_missing=num_missing)
    return Column(
        name,
        "category",
        features,
        num_missing=num_missing,
        num_categories=len(seen),
        num_pooled=num_pooled,
        num_unseen=0 if num_pooled else int((~own_feature & (codes >= 0)).sum()),
    )


def describe_columns(columns: Sequence[Column]) -> tuple[str, ...]:
    """Say in plain words what became of the columns."""
    numbers = [column for column in columns if column.treatment == "number"]
    categories = [column for column in columns if column.treatment == "category"]
    imputed = [f"{column.name} ({column.num_missing:,} rows)" for column in numbers if column.num_missing]
    counted = [
        f"{column.name} ({column.num_categories}{' and missing' if column.num_missing else ''})"
        for column in categories
    ]
    pooled = [
        f"{column.name} ({column.num_pooled} of {column.num_categories})" for column in categories if column.num_pooled
    ]
    unseen = [f"{column.name} ({column.num_unseen:,} rows)" for column in categories if column.num_unseen]
    shifted = [column.name for column in numbers if column.shifted]
    dropped = {
        treatment: [column.name for column in columns if column.treatment == treatment]
        for treatment in ("constant", "text", "row number")
    }
    sentences = (
        (imputed, "Missing numbers became the training median, and a 0/1 feature says where: {}."),
        (counted, "Text and categories became one 0/1 feature for each category found in training: {}."),
        (pooled, f"Categories beyond the {MOST_CATEGORIES} most frequent in training were pooled as “other”: {{}}."),
        (unseen, "Test rows with a category never met in training have 0 in all of its features: {}."),
        (shifted, "Dates, times and large numbers are counted from their training median: {}."),
        (dropped["constant"], "Left out, because they do not vary in the training rows: {}."),
        (dropped["text"], "Left out, because the text is another one in nearly every row (names, ids, prose): {}."),
        (dropped["row number"], "Left out, because they only number the rows: {}."),
    )
    return tuple(sentence.format(_listed(names)) for names, sentence in sentences if names)


def _listed(names: Sequence[str], *, most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name or "(unnamed)" for name in names[:most]) + more
