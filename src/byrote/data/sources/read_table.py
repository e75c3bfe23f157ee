"""CSV, TSV and Parquet files as Arrow tables."""

import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from byrote.core import DataError
from byrote.data.sources.files import check_readable

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
LONGEST_MESSAGE = 300
LONGEST_ROW = 2**26
"""Bytes of the longest row that can be read, for Arrow wants each to lie within a block or two."""
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+(,\d+)?([eE][-+]?\d+)?\s*")


def read_table(path: Path) -> pa.Table:
    """Read a table whole, each column with the type that all of its values fit.

    A CSV may be separated by commas or semicolons; with semicolons, numbers may have a decimal comma.

    Raises:
        DataError: missing, empty, not of its kind, not UTF-8, without rows, or with a column name twice.
    """
    check_readable(path)
    table = _parquet(path) if path.suffix.lower() == ".parquet" else _delimited(path)
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise DataError(f"Expected column names that differ, got {twice[0]!r} more than once in {path}. Rename one.")
    if table.num_rows == 0:
        raise DataError(f"{path} has a header ({', '.join(table.column_names[:5])}) but no rows.")
    return table


def _parquet(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {_short(error)}") from error


def _delimited(path: Path) -> pa.Table:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(path)
    table = _parse(path, delimiter=delimiter, decimal_point=".")
    if delimiter == ";" and any(_has_decimal_commas(column) for column in table.columns):
        table = _parse(path, delimiter=delimiter, decimal_point=",")
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_binary(column.type):
            raise DataError(_not_utf8(path, f"the column {name!r} is not"))
    return table


def _delimiter(path: Path) -> str:
    with path.open("rb") as file:
        line = file.readline(1_000_000)
    if line.startswith(UTF16_MARKS):
        raise DataError(_not_utf8(path, "it is UTF-16"))
    return ";" if b";" in line and b"," not in line else ","


def _parse(path: Path, *, delimiter: str, decimal_point: str) -> pa.Table:
    try:
        table = pc_csv.read_csv(
            path,
            read_options=pc_csv.ReadOptions(block_size=LONGEST_ROW),
            parse_options=pc_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pc_csv.ConvertOptions(strings_can_be_null=True, decimal_point=decimal_point),
        )
        return table.rename_columns([name.strip() for name in table.column_names])
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(path, "a column name is not")) from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as a table separated by {delimiter!r}: {_short(error)}") from error


def _has_decimal_commas(column: pa.ChunkedArray) -> bool:
    if not pa.types.is_string(column.type):
        return False
    return all(DECIMAL_COMMA.fullmatch(text) for text in column.unique().drop_null().to_pylist())


def _not_utf8(path: Path, what: str) -> str:
    return (
        f"Expected {path} to be UTF-8 text, but {what}. Save it as UTF-8, for instance: "
        f"iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}"
    )


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + " …"
