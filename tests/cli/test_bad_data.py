"""Data that cannot be audited are refused with what was expected, what came and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from careless import Command, refused, write_arrays, write_table


def test_a_missing_file_is_named_with_the_nearest_one_there(byrote: Command) -> None:
    write_table(Path("animals.csv"))
    refused(byrote("audit", "animal.csv"), "No file animal.csv", "Did you mean: animals.csv?")
    refused(byrote("audit", "nowhere/animals.csv"), "the folder nowhere does not exist")


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "arrays.npz"])
def test_an_empty_file_is_named(byrote: Command, name: str) -> None:
    Path(name).touch()
    refused(byrote("audit", name), name, "is empty")


def test_an_unknown_column_suggests_the_right_one(byrote: Command) -> None:
    write_table(Path("animals.csv"))
    refused(byrote("audit", "animals.csv", "--target", "lable"), "'lable'", "Did you mean: label?")
    refused(byrote("audit", "animals.csv", "--group", "wieght"), "'wieght'", "Did you mean: weight?")


def test_no_usual_target_column_lists_the_columns(byrote: Command) -> None:
    path = write_table(Path("animals.csv"))
    path.write_text(path.read_text().replace("label", "kind"))
    refused(byrote("audit", path), "--target", "height", "weight", "kind")


def test_one_class_only(byrote: Command) -> None:
    write_table(Path("cats.csv"), label=["cat"] * 120)
    refused(byrote("audit", "cats.csv"), "at least two classes", "'cat'")
    write_arrays(Path("cats.npz"), y_train=np.zeros(80, int))
    refused(byrote("audit", "cats.npz"), "at least two classes")


def test_a_class_with_one_example(byrote: Command) -> None:
    write_table(Path("animals.csv"), label=["emu", *["cat", "dog"] * 59, "cat"])
    refused(byrote("audit", "animals.csv"), "'emu'", "example")


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "infin"), (-np.inf, "infin")])
def test_inputs_that_are_not_finite(byrote: Command, value: float, words: str) -> None:
    x = np.random.default_rng(0).normal(size=(80, 4))
    x[[3, 5], 1] = value
    write_arrays(Path("arrays.npz"), x_train=x)
    refused(byrote("audit", "arrays.npz"), words, "2 of 80 examples")


def test_infinite_numbers_in_a_table(byrote: Command) -> None:
    write_table(Path("animals.csv"), height=["inf", *range(119)])
    refused(byrote("audit", "animals.csv"), "height", "infin")


def test_train_and_test_of_different_width(byrote: Command) -> None:
    write_arrays(Path("arrays.npz"), x_test=np.zeros((40, 3)))
    refused(byrote("audit", "arrays.npz"), "(4,) for training and (3,) for test")


@pytest.mark.parametrize(
    ("write", "path"),
    [
        (lambda path: write_table(path, num_rows=1000, label=np.arange(1000) * 7), "prices.csv"),
        (lambda path: write_arrays(path, x_train=np.eye(600, 4), y_train=np.arange(600) * 7), "prices.npz"),
    ],
    ids=["table", "arrays"],
)
def test_a_quantity_taken_for_labels_asks_for_regression(
    byrote: Command, write: Callable[[Path], Any], path: str
) -> None:
    write(Path(path))
    refused(byrote("audit", path, "--classification"), "distinct", "--regression")


def test_duplicate_ids(byrote: Command) -> None:
    write_arrays(Path("arrays.npz"), ids_train=["a", "a", *map(str, range(78))], ids_test=np.arange(40))
    refused(byrote("audit", "arrays.npz"), "unique ids", "1 repeated (for instance a)")


def test_an_unknown_task_suggests(byrote: Command) -> None:
    refused(byrote("audit", "digit"), "Unknown task 'digit'", "Did you mean: digits?")


def test_an_option_that_does_not_apply(byrote: Command) -> None:
    refused(byrote("audit", "digits", "--target", "label"), "--target", "does not apply to digits")
    refused(byrote("audit", "digits", "--regression"), "--regression", "does not apply to digits")


@pytest.mark.parametrize("fraction", ["0", "1", "nan", "-0.5"])
def test_a_test_fraction_that_leaves_nothing(byrote: Command, fraction: str) -> None:
    write_table(Path("animals.csv"))
    refused(byrote("audit", "animals.csv", "--test-fraction", fraction), "between 0 and 1")
