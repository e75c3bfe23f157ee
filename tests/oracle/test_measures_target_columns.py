"""Columns that give the target away, planted and not."""

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_digits

from byrote.measures import TargetColumn, target_columns


class Table(NamedTuple):
    x: np.ndarray
    y: np.ndarray

    def found(self, *, columns: tuple[int, ...] | None = None, regression: bool = False) -> tuple[TargetColumn, ...]:
        half = len(self.y) // 2
        names = tuple(range(self.x.shape[1])) if columns is None else columns
        return target_columns(
            self.x[:half], self.y[:half], self.x[half:], self.y[half:], columns=names, regression=regression
        )


def noise(*, seed: int, num_classes: int = 3, num_rows: int = 600) -> Table:
    rng = np.random.default_rng(seed)
    return Table(rng.normal(size=(num_rows, 4)), rng.integers(num_classes, size=num_rows))


def test_ordinary_columns_are_left_alone():
    assert noise(seed=0).found() == ()


@pytest.mark.parametrize("num_classes", [2, 3, 30])
def test_a_copy_under_other_names_is_found(num_classes):
    table = noise(seed=1, num_classes=num_classes)
    table.x[:, 2] = np.random.default_rng(0).permutation(num_classes)[table.y]
    (found,) = table.found()
    assert (found.column, found.is_copy) == (2, True)
    assert found.heldout_score == 1.0
    assert found.baseline_score < 0.65


def test_a_copy_with_a_rare_slip_is_still_a_copy_and_with_many_it_is_nothing():
    for slips, expected in ((4, 1), (90, 0)):
        table = noise(seed=2)
        table.x[:, 0] = table.y
        rows = np.random.default_rng(0).permutation(600)[:slips]
        table.x[rows, 0] = (table.y[rows] + 1) % 3
        assert len(table.found()) == expected


def test_a_one_hot_encoded_copy_counts_as_one_column():
    table = noise(seed=3)
    table = Table(np.hstack([table.x, np.eye(3)[table.y]]), table.y)
    assert [found.column for found in table.found(columns=(0, 1, 2, 3, 9, 9, 9))] == [9]


def test_a_column_that_ranges_by_class_is_suspicious_and_no_copy():
    table = noise(seed=4)
    table.x[:, 1] = table.y + 0.4 * np.random.default_rng(0).random(600)
    (found,) = table.found()
    assert (found.column, found.is_copy) == (1, False)


def test_constant_columns_and_rare_classes_are_no_copies():
    """Always answering the commonest class is right on 99.5 % of the rows; so is a column that says nothing."""
    table = noise(seed=5)
    y = np.zeros(600, int)
    y[[10, 200, 400]] = 1
    table.x[:, 0] = 0
    table.x[:, 1] = 0
    table.x[[3, 303], 1] = 1
    assert Table(table.x, y).found() == ()
    table.x[:, 3] = y
    assert [(found.column, found.is_copy) for found in Table(table.x, y).found()] == [(3, True)]


@pytest.mark.parametrize("transform", [np.exp, np.negative, lambda y: 3 * y + 1])
def test_a_number_in_another_unit_is_a_copy(transform):
    rng = np.random.default_rng(6)
    y = rng.normal(size=600)
    table = Table(np.column_stack([rng.normal(size=600), transform(y), y + rng.normal(size=600)]), y)
    (found,) = table.found(regression=True)
    assert (found.column, found.is_copy) == (1, True)
    assert abs(found.baseline_score) < 0.05


def test_a_number_that_is_nearly_the_target_is_suspicious():
    rng = np.random.default_rng(7)
    y = rng.uniform(size=2000)
    table = Table(np.column_stack([rng.normal(size=2000), y + 0.01 * rng.normal(size=2000)]), y)
    (found,) = table.found(regression=True)
    assert (found.column, found.is_copy) == (1, False)


def test_pixels_of_digits_are_no_copies():
    digits = load_digits(return_X_y=True)
    x, y = np.asarray(digits[0]), np.asarray(digits[1])
    order = np.random.default_rng(0).permutation(len(y))
    assert Table(x[order], y[order]).found() == ()


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a column for each of 2 features"):
        noise(seed=0).found(columns=(0, 1))
