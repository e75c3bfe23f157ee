"""What can go wrong with a file before its format matters."""

from pathlib import Path

from byrote.core import DataError, did_you_mean

TABLES = (".csv", ".tsv", ".parquet")
ARRAYS = (".npz",)
SUFFIXES = TABLES + ARRAYS


def check_readable(path: Path) -> None:
    """Refuse a file that is missing, empty, a folder or not to be read.

    Raises:
        DataError: naming the file and what is wrong; for a missing one, the nearest name in its folder.
    """
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise DataError(f"No file {path}: the folder {path.parent} does not exist.") from error
        raise DataError(
            f"No file {path.name} in {path.parent.resolve()}.{did_you_mean(path.name, data_files(path.parent))}"
        ) from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder. Expected a file ending in {', '.join(SUFFIXES)}.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    if empty:
        raise DataError(f"{path} is empty (0 bytes).")


def data_files(folder: Path) -> list[str]:
    """Names of the files in a folder that can be loaded as tasks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
