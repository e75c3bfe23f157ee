"""One suite over every source, then what each of them promises, then what each of them refuses."""

import gzip
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from byrote.core import DataError, MissingExtraError, UnknownNameError
from byrote.data import SOURCES, Examples, Task, load
from byrote.data.sources import fashion_mnist, read_table

# --- every source ----------------------------------------------------------------------------------------------------

FASHION_FOLDER = fashion_mnist.FOLDER
CLOTHES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 20),
)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_clothes(folder: Path, *, zipped: bool = True) -> Path:
    rng = np.random.default_rng(0)
    for images, labels, count in CLOTHES:
        pixels = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        for name, array in ((images, pixels), (labels, (np.arange(count) % 10).astype(np.uint8))):
            content = gzip.compress(idx(array)) if zipped else idx(array)
            (folder / (f"{name}.gz" if zipped else name)).write_bytes(content)
    return folder


def write_csv(path: Path, columns: dict[str, list], *, delimiter: str = ",", encoding: str = "utf-8") -> str:
    lines = [delimiter.join(columns), *(delimiter.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return str(path)


def flowers(num_rows: int = 60) -> dict[str, list]:
    rng = np.random.default_rng(1)
    return {
        "length": rng.normal(5, 2, num_rows).round(3).tolist(),
        "colour": [("red", "white", "blue")[number % 3] for number in rng.integers(0, 3, num_rows)],
        "label": [("iris", "rose")[number] for number in np.arange(num_rows) % 2],
    }


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, *, name: str = "a_users_module") -> str:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop(name, None)
    return name


MODULE = """
import numpy as np
from byrote.data import Examples, Task
x = np.random.default_rng(0).standard_normal((40, 3))
y = np.arange(40) % 2
pair = x, y
four = x[:30], y[:30], x[30:], y[30:]
triple = x, y, x
ready = Task(train=Examples(x[:30], y[:30]), test=Examples(x[30:], y[30:]), name="ready")
def make_task():
    return ready
def make_pair():
    return pair
def needs(something):
    return ready
def nothing():
    pass
"""

Loaded = Callable[[int], Task]
"""Load with this seed."""


@pytest.fixture(params=["digits", "fashion-mnist", "mnist-1d", "csv", "tsv", "parquet", "npz", "npz-split", "module"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    match request.param:
        case "fashion-mnist":
            folder = write_clothes(tmp_path)
            return lambda seed: load("fashion-mnist", data_dir=folder, seed=seed)
        case "mnist-1d":
            pytest.importorskip("mnist1d", reason="mnist-1d needs the extra mnist1d")
            return lambda seed: load("mnist-1d", seed=seed)
        case "csv":
            path = write_csv(tmp_path / "flowers.csv", flowers())
        case "tsv":
            path = write_csv(tmp_path / "flowers.tsv", flowers(), delimiter="\t")
        case "parquet":
            path = str(tmp_path / "flowers.parquet")
            pq.write_table(pa.table(flowers()), path)
        case "npz":
            path = str(tmp_path / "arrays.npz")
            np.savez(path, x=np.random.default_rng(0).standard_normal((40, 6)), y=np.arange(40) % 4)
        case "npz-split":
            path = str(tmp_path / "arrays.npz")
            x, y = np.random.default_rng(0).integers(0, 256, (40, 5, 5)).astype(np.uint8), np.arange(40) % 4
            np.savez(path, x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
        case "module":
            path = write_module(tmp_path, monkeypatch, MODULE) + ":make_pair"
        case name:
            path = name
    return lambda seed: load(path, seed=seed)


def test_the_same_seed_loads_the_same_task(loaded: Loaded) -> None:
    first, again = loaded(4), loaded(4)
    assert first.fingerprint == again.fingerprint
    np.testing.assert_array_equal(first.train.ids, again.train.ids)


def test_training_inputs_are_standardised_on_training_examples(loaded: Loaded) -> None:
    task = loaded(0)
    seen = task.normalise(task.train.x)
    per_feature = task.modality == "table" or task.normalise.mean.ndim > 0
    axis = 0 if per_feature else None
    np.testing.assert_allclose(seen.mean(axis, dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis, dtype=np.float64), 1, atol=1e-5)
    assert task.normalise.mean.shape == (task.input_shape if per_feature else ())
    assert np.isfinite(task.normalise(task.test.x)).all()


def test_labels_ids_and_words_are_complete(loaded: Loaded) -> None:
    task = loaded(0)
    assert task.num_classes >= 2
    assert set(task.train.y) == set(range(task.num_classes))
    assert task.train.y.dtype == np.int64
    assert len(np.unique(task.train.ids.astype(str))) == len(task.train)
    assert task.name
    assert task.notes
    assert task.train.x.dtype in (np.uint8, np.float32)


def global_states() -> tuple[object, ...]:
    """Python's (which the checker of annotations draws from in these tests), then NumPy's and torch's."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), (name, bytes(keys), rest), torch.get_rng_state().tolist()  # pyright: ignore


def test_global_randomness_and_standard_output_are_left_alone(
    loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    before = global_states()
    loaded(0)
    assert global_states()[1:] == before[1:]
    assert capsys.readouterr().out == ""


def test_sources_without_a_test_set_split_by_seed(loaded: Loaded) -> None:
    one, two = loaded(0), loaded(1)
    split_here = "seed" in " ".join(one.notes)
    assert (one.fingerprint != two.fingerprint) == split_here
    if split_here:
        assert not set(one.train.ids.tolist()) & set(one.test.ids.tolist())
        assert len(one.test) == pytest.approx(0.2 * (len(one.train) + len(one.test)), abs=1)


def test_every_built_in_task_describes_itself_and_says_what_it_misses() -> None:
    assert list(SOURCES) == ["digits", "fashion-mnist", "mnist-1d", "nav17"]
    for name, source in SOURCES.items():
        assert source.name == name
        assert "\n" not in source.description
    assert SOURCES["digits"].missing() == ""


# --- images ----------------------------------------------------------------------------------------------------------


def test_digits_are_the_published_ones() -> None:
    task = load("digits")
    assert (len(task.train), len(task.test), task.input_shape, task.modality) == (1438, 359, (1, 8, 8), "image")
    assert (task.train.x.dtype, task.train.x.min(), task.train.x.max()) == (np.uint8, 0, 16)
    published = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    counts = np.bincount(task.train.y) + np.bincount(task.test.y)
    assert counts.tolist() == published
    assert np.abs(np.bincount(task.test.y) - 359 / 1797 * np.array(published)).max() < 1


@pytest.mark.skipif(bool(SOURCES["fashion-mnist"].missing()), reason="needs the package dataset-fashion-mnist")
def test_fashion_mnist_is_the_published_one() -> None:
    task = load("fashion-mnist")
    assert task.train.x.shape == (60_000, 28, 28)
    assert task.test.x.shape == (10_000, 28, 28)
    assert np.bincount(task.train.y).tolist() == [6_000] * 10
    assert np.bincount(task.test.y).tolist() == [1_000] * 10
    assert task.classes[9] == "Ankle boot"
    assert task.classes[task.train.y[0]] == "Ankle boot"
    assert task.train.x.mean() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert task.train.x.std() / 255 == pytest.approx(0.3530, abs=1e-4)


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_read_gzipped_and_plain(tmp_path: Path, zipped: bool) -> None:
    task = load("fashion-mnist", data_dir=str(write_clothes(tmp_path, zipped=zipped)))
    expected = np.random.default_rng(0).integers(0, 256, (60, 28, 28)).astype(np.uint8)
    np.testing.assert_array_equal(task.train.x, expected)
    assert task.test.y.tolist() == [number % 10 for number in range(20)]


def test_absent_fashion_mnist_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "FOLDER", tmp_path)
    with pytest.raises(DataError) as caught:
        load("fashion-mnist")
    for words in ("apt-get install dataset-fashion-mnist", "--data-dir", "t10k-labels-idx1-ubyte.gz", str(tmp_path)):
        assert words in str(caught.value)
    assert "apt-get" in SOURCES["fashion-mnist"].missing()


def test_one_absent_file_is_named(tmp_path: Path) -> None:
    (write_clothes(tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="no t10k-labels-idx1-ubyte, gzipped or plain"):
        load("fashion-mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content[:-100], "Expected 47,040 values .* got 46,940"),
        (lambda content: content[:10], "cut short within its header"),
        (lambda content: b"\x00\x00\x0d\x03" + content[4:], "magic number 0x00000803 .* got 0x00000d03"),
        (lambda content: b"", "got 0x"),
    ],
)
def test_a_broken_idx_file_is_named(tmp_path: Path, spoil: Callable[[bytes], bytes], words: str) -> None:
    path = write_clothes(tmp_path, zipped=False) / "train-images-idx3-ubyte"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=words) as caught:
        load("fashion-mnist", data_dir=tmp_path)
    assert str(path) in str(caught.value)


def test_a_broken_gzip_is_named(tmp_path: Path) -> None:
    path = write_clothes(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"Cannot read .*train-images-idx3-ubyte\.gz.*Download it again"):
        load("fashion-mnist", data_dir=tmp_path)


def test_labels_beyond_the_ten_classes_are_refused(tmp_path: Path) -> None:
    folder = write_clothes(tmp_path, zipped=False)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(20, 11, np.uint8)))
    with pytest.raises(DataError, match=r"from 0 to 9 .* got 0 to 11"):
        load("fashion-mnist", data_dir=folder)


def test_mnist_1d_is_what_its_package_makes() -> None:
    generator = pytest.importorskip("mnist1d.data", reason="mnist-1d needs the extra mnist1d")
    task = load("mnist-1d", seed=42)
    published = generator.make_dataset()
    np.testing.assert_array_equal(task.train.x, published["x"].astype(np.float32))
    np.testing.assert_array_equal(task.test.y, published["y_test"])
    assert (task.input_shape, len(task.train), len(task.test), task.modality) == ((40,), 4000, 1000, "vector")


LOAD_BETWEEN_TWO_LOOKS = """
import random, numpy, byrote.data
before = random.getstate(), str(numpy.random.get_state())
byrote.data.load("mnist-1d")
assert before == (random.getstate(), str(numpy.random.get_state()))
"""


def test_mnist_1d_hands_back_the_generators_that_its_package_seeds() -> None:
    pytest.importorskip("mnist1d", reason="mnist-1d needs the extra mnist1d")
    done = subprocess.run([sys.executable, "-c", LOAD_BETWEEN_TWO_LOOKS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_mnist_1d_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mnist1d", None)
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    with pytest.raises(MissingExtraError, match=r"mnist-1d needs .* pip install 'byrote\[mnist1d\]'"):
        load("mnist-1d")


# --- tables ----------------------------------------------------------------------------------------------------------


def parquet(path: Path, columns: dict) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def whole(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets in the order of the file."""
    order = np.argsort(np.concatenate([task.train.ids, task.test.ids]))
    return np.concatenate([task.train.x, task.test.x])[order], np.concatenate([task.train.y, task.test.y])[order]


def test_columns_of_every_kind_become_features(tmp_path: Path) -> None:
    num_rows = 40
    columns = {
        "number": [float(row) / 7 for row in range(num_rows)],
        "whole": [row**2 for row in range(num_rows)],
        "money": [Decimal(f"{row}.25") for row in range(num_rows)],
        "flag": [row % 3 == 0 for row in range(num_rows)],
        "colour": pa.array(["red", "blue"] * 20).dictionary_encode(),
        "born": [date(2000, 1, 1 + row % 28) for row in range(num_rows)],
        "seen": [datetime(2024, 1, 1, row % 24, 30) for row in range(num_rows)],
        "same": ["always"] * num_rows,
        "label": ["a", "b", "b", "a"] * 10,
    }
    task = load(parquet(tmp_path / "t.parquet", columns))
    assert task.feature_names == (
        "number",
        "whole",
        "money",
        "flag = false",
        "flag = true",
        "colour = blue",
        "colour = red",
        "born",
        "seen",
    )
    assert task.feature_columns == (
        "number",
        "whole",
        "money",
        "flag",
        "flag",
        "colour",
        "colour",
        "born",
        "seen",
    )
    x, y = whole(task)
    np.testing.assert_allclose(x[:, 0], np.arange(num_rows) / 7, rtol=1e-6)
    np.testing.assert_array_equal(x[:, 1], np.arange(num_rows) ** 2)
    np.testing.assert_array_equal(x[:, 2], np.arange(num_rows) + 0.25)
    np.testing.assert_array_equal(x[:, 4], np.arange(num_rows) % 3 == 0)
    np.testing.assert_array_equal(x[:, 5], np.arange(num_rows) % 2)
    np.testing.assert_array_equal(x[1:, 7] - x[0, 7], [86_400 * (row % 28) for row in range(1, num_rows)])
    np.testing.assert_array_equal(x[1:, 8] - x[0, 8], [3_600 * (row % 24) for row in range(1, num_rows)])
    assert [task.classes[code] for code in y] == columns["label"]
    notes = " ".join(task.notes)
    assert "do not vary in the training rows: same" in notes
    assert "counted from their training median: seen" in notes
    assert task.modality == "table"


def test_missing_numbers_become_the_median_of_the_training_rows_and_are_marked(tmp_path: Path) -> None:
    values = [str(row**2) for row in range(50)]
    for row in (3, 10, 11, 12, 25, 26, 27, 40):
        values[row] = ""
    task = load(write_csv(tmp_path / "t.csv", {"age": values, "label": [0, 1] * 25}), seed=2)
    assert task.feature_names == ("age", "age (missing)")
    x, _ = whole(task)
    missing = np.array([value == "" for value in values])
    known_in_training = [int(values[row]) for row in task.train.ids if values[row]]
    np.testing.assert_array_equal(x[missing, 0], np.median(known_in_training))
    np.testing.assert_array_equal(x[~missing, 0], np.arange(50)[~missing] ** 2)
    np.testing.assert_array_equal(x[:, 1], missing)
    assert np.median(known_in_training) != np.median(np.arange(50)[~missing] ** 2), "or the test says nothing"
    assert any("training median" in note and "age (8 rows)" in note for note in task.notes)


def test_what_is_fitted_does_not_see_the_test_rows(tmp_path: Path) -> None:
    columns: dict[str, list] = flowers() | {"weight": [float(row) for row in range(60)]}
    path = write_csv(tmp_path / "t.csv", columns)
    before = load(path)
    for row in before.test.ids:
        columns["weight"][row], columns["colour"][row] = 1e6, "violet"
    write_csv(tmp_path / "t.csv", columns)
    after = load(path)
    np.testing.assert_array_equal(before.train.ids, after.train.ids)
    np.testing.assert_array_equal(before.train.x, after.train.x)
    np.testing.assert_array_equal(before.normalise.mean, after.normalise.mean)
    np.testing.assert_array_equal(before.normalise.scale, after.normalise.scale)
    assert any("never met in training" in note and "colour (12 rows)" in note for note in after.notes)


def test_rare_categories_are_pooled_and_missing_ones_are_a_category(tmp_path: Path) -> None:
    num_rows = 1_000
    town = [f"town {row % 45:02}" for row in range(num_rows)]
    for row in range(0, num_rows, 10):
        town[row] = f"hamlet {row // 10 % 30:02}"
    for row in range(5, num_rows, 50):
        town[row] = ""
    task = load(write_csv(tmp_path / "t.csv", {"town": town, "label": [0, 1] * 500}))
    assert len(task.feature_names) == 52
    assert task.feature_names[-2:] == ("town = (other)", "town = (missing)")
    assert sum("town = town" in name for name in task.feature_names) == 45
    x, _ = whole(task)
    np.testing.assert_array_equal(x.sum(1), 1)
    np.testing.assert_array_equal(x[:, -1], [name == "" for name in town])
    assert any("50 most frequent" in note and "town (25 of 75)" in note for note in task.notes)


def test_text_that_names_rows_and_row_numbers_are_left_out(tmp_path: Path) -> None:
    numbers = {"": list(range(60)), "PassengerId": list(range(1, 61))}
    columns = numbers | {"name": [f"Mrs {row}" for row in range(60)]} | flowers()
    task = load(write_csv(tmp_path / "t.csv", columns))
    assert set(task.feature_columns) == {"length", "colour"}
    assert any("another one in nearly every row" in note and "name" in note for note in task.notes)
    assert any("only number the rows: (unnamed), PassengerId" in note for note in task.notes)


def test_a_number_that_happens_to_count_is_kept(tmp_path: Path) -> None:
    task = load(write_csv(tmp_path / "t.csv", {"dose": list(range(60)), "label": [0, 1] * 30}))
    assert task.feature_names == ("dose",)


def test_rows_are_kept_for_display_and_ids_are_their_numbers_in_the_file(tmp_path: Path) -> None:
    columns = flowers()
    columns["label"][7] = columns["label"][30] = ""
    task = load(write_csv(tmp_path / "t.csv", columns))
    assert sorted([*task.train.ids, *task.test.ids]) == [row for row in range(60) if row not in (7, 30)]
    assert task.train.rows is not None
    assert task.train.rows.column_names == ["length", "colour", "label"]
    for place, row in enumerate(task.train.ids[:10]):
        assert task.train.rows["length"][place].as_py() == columns["length"][row]
        assert task.classes[task.train.y[place]] == columns["label"][row]
    assert "2 rows have no 'label' and took no part." in task.notes


def test_groups_stay_whole_and_are_no_feature(tmp_path: Path) -> None:
    columns = flowers(90) | {"patient": [f"p{row // 3}" for row in range(90)]}
    columns["label"] = [("iris", "rose")[row % 2] for row in range(90)]
    task = load(write_csv(tmp_path / "t.csv", columns), group="patient")
    assert task.train.groups is not None
    assert task.test.groups is not None
    assert not set(task.train.groups) & set(task.test.groups)
    assert len(set(task.train.groups) | set(task.test.groups)) == 30
    assert "patient" not in task.feature_columns
    assert any("Rows with one 'patient' stayed together" in note for note in task.notes)
    for row, group in zip(task.train.ids, task.train.groups, strict=True):
        assert group == f"p{row // 3}"


def class_name(value: object) -> str:
    """What a person would call the class: 2.0 is class 2, true is class true."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@pytest.mark.parametrize(
    ("values", "regression", "is_number"),
    [
        ([0, 1, 2, 3] * 10, None, False),
        ([0.0, 1.0, 2.0, 3.0] * 10, None, False),
        ([0.5, 1.25, 2.0, 3.75] * 10, None, True),
        ([0, 1, 2, 3] * 10, True, True),
        ([0.5, 1.25, 2.5, 3.75] * 10, False, False),
        (["no", "yes", "yes", "no"] * 10, None, False),
        ([True, False, False, True] * 10, None, False),
    ],
)
def test_targets_are_classes_or_numbers(tmp_path: Path, values: list, regression: bool | None, is_number: bool) -> None:
    columns = {"x": np.arange(40) ** 2, "target": values}
    task = load(parquet(tmp_path / "t.parquet", columns), regression=regression)
    _, y = whole(task)
    assert task.regression is is_number
    if is_number:
        np.testing.assert_array_equal(y, np.array(values, float))
        assert any("predicted as a number (regression)" in note for note in task.notes)
    else:
        assert [task.classes[code] for code in y] == [class_name(value) for value in values]


def test_an_integer_target_of_too_many_values_asks_for_regression(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "t.csv", {"x": np.random.default_rng(0).random(600).tolist(), "target": list(range(600))}
    )
    with pytest.raises(DataError, match=r"600 distinct numbers .*--regression, or regression=True"):
        load(path)
    task = load(path, regression=True)
    assert task.regression
    assert len(task.test) == 120


@pytest.mark.parametrize("name", ["target", "Label", "CLASS", "y"])
def test_the_usual_names_of_a_target_are_found(tmp_path: Path, name: str) -> None:
    task = load(write_csv(tmp_path / "t.csv", {"x": list(range(20)), name: ["a", "b"] * 10}))
    assert task.classes == ("a", "b")
    assert task.feature_names == ("x",)


def test_a_column_called_split_is_a_feature_like_any_other(tmp_path: Path) -> None:
    task = load(write_csv(tmp_path / "t.csv", flowers() | {"split": ["train", "test"] * 30}))
    assert "split = train" in task.feature_names
    assert len(task.test) == 12


def test_types_are_inferred_from_the_whole_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The type of a column is not decided by its first block."""
    monkeypatch.setattr(read_table, "LONGEST_ROW", 1_000)
    num_rows = 20_000
    columns = {"x": ["1", "3"] * (num_rows // 2), "label": [0, 1] * (num_rows // 2)}
    columns["x"][-1] = "2.5"
    task = load(write_csv(tmp_path / "t.csv", columns))
    assert task.feature_names == ("x",)
    x, _ = whole(task)
    assert x[-1, 0] == 2.5


def test_a_row_may_be_longer_than_a_megabyte(tmp_path: Path) -> None:
    columns = {f"{place}".zfill(1_000): [0, 1] * 5 for place in range(1_500)}
    task = load(write_csv(tmp_path / "t.csv", columns | {"label": [0, 0, 1, 1, 0, 1, 0, 1, 0, 1]}))
    assert task.input_shape == (1_500,)


def test_a_byte_order_mark_semicolons_decimal_commas_and_quotes_are_understood(tmp_path: Path) -> None:
    rows = "\n".join(f'"{row},5";{row};"say ""hi""\nthere {row % 2}";{"ab"[row % 2]}' for row in range(40))
    path = tmp_path / "t.csv"
    path.write_text("Größe; n ;text;label\n" + rows, encoding="utf-8-sig")
    task = load(str(path))
    assert task.feature_columns == ("Größe", "n", "text", "text")
    x, _ = whole(task)
    np.testing.assert_array_equal(x[:, 0], np.arange(40) + 0.5)
    assert task.feature_names[2] == 'text = say "hi"\nthere 0'


def test_large_numbers_that_differ_little_stay_apart(tmp_path: Path) -> None:
    stamps = [1_700_000_000_000 + 7 * row for row in range(60)]
    task = load(write_csv(tmp_path / "t.csv", {"stamp": stamps, "label": [0, 1] * 30}))
    x, _ = whole(task)
    np.testing.assert_array_equal(np.diff(x[:, 0]), 7)
    assert any("training median: stamp" in note for note in task.notes)


# --- arrays ----------------------------------------------------------------------------------------------------------


def archive(folder: Path, **arrays: np.ndarray) -> str:
    np.savez(folder / "arrays.npz", allow_pickle=False, **arrays)
    return str(folder / "arrays.npz")


def test_a_given_split_is_kept_with_ids_and_groups(tmp_path: Path) -> None:
    x, y = np.arange(60.0).reshape(20, 3), np.array(["cat", "dog"] * 10)
    path = archive(
        tmp_path,
        x_train=x[:15],
        y_train=y[:15],
        x_test=x[15:],
        y_test=y[15:],
        ids_train=np.array([f"i{row}" for row in range(15)]),
        ids_test=np.array([f"j{row}" for row in range(5)]),
        groups_train=np.arange(15) // 3,
        groups_test=np.arange(5) + 100,
    )
    task = load(path)
    np.testing.assert_array_equal(task.train.x, x[:15])
    assert task.train.ids[3] == "i3"
    assert task.test.groups is not None
    assert task.test.groups.tolist() == [100, 101, 102, 103, 104]
    assert task.classes == ("cat", "dog")
    assert task.train.x.dtype == np.float32
    assert any("rounded to 32 bits" in note for note in task.notes)


def test_groups_of_an_archive_stay_whole(tmp_path: Path) -> None:
    groups = np.arange(60) // 4
    task = load(archive(tmp_path, x=np.random.default_rng(0).random((60, 2)), y=np.arange(60) % 2, groups=groups))
    assert task.train.groups is not None
    assert task.test.groups is not None
    assert not set(task.train.groups) & set(task.test.groups)
    assert any("groups whole" in note for note in task.notes)


@pytest.mark.parametrize(
    ("shape", "expected", "modality"),
    [
        ((7,), (7,), "vector"),
        ((9, 9), (1, 9, 9), "image"),
        ((3, 9, 8), (3, 9, 8), "image"),
        ((9, 8, 3), (3, 9, 8), "image"),
        ((9, 8, 1), (1, 9, 8), "image"),
        ((4, 4, 3), (4, 4, 3), "image"),
    ],
)
def test_images_have_channels_first(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...], modality: str
) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, *shape)).astype(np.uint8)
    task = load(archive(tmp_path, x=x, y=np.arange(20) % 2))
    assert (task.input_shape, task.modality) == (expected, modality)
    moved, _ = whole(task)
    has_moved = len(shape) == 3 and shape != expected
    np.testing.assert_array_equal(moved, np.moveaxis(x, 3, 1) if has_moved else x)
    assert any("channels now come first" in note for note in task.notes) == has_moved
    assert task.normalise.mean.ndim == (modality == "vector")


def test_floating_point_targets_of_an_archive_are_numbers_unless_said_otherwise(tmp_path: Path) -> None:
    path = archive(tmp_path, x=np.random.default_rng(0).random((20, 2)), y=np.array([0.0, 1.0] * 10))
    assert load(path).regression
    assert load(path, regression=False).classes == ("0", "1")


@pytest.mark.parametrize("attribute", ["ready", "make_task", "pair", "make_pair", "four"])
def test_a_users_module_may_hold_a_task_arrays_or_a_function(
    attribute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load(f"{write_module(tmp_path, monkeypatch, MODULE)}:{attribute}")
    assert len(task.train) + len(task.test) == 40
    assert len(task.test) == (8 if "pair" in attribute else 10)
    assert task.name == ("ready" if attribute in ("ready", "make_task") else f"a_users_module:{attribute}")


# --- refusals --------------------------------------------------------------------------------------------------------


def refusal(task: str | Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load(task, **options)  # pyright: ignore[reportArgumentType]
    return str(caught.value)


def says(message: str, *words: str) -> None:
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "npz", "CSV"])
def test_a_missing_file_is_named_with_its_neighbour(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"flowers.{suffix}").write_text("x,label\n")
    says(
        refusal(tmp_path / f"flower.{suffix}"),
        f"No file flower.{suffix} in {tmp_path}",
        f"Did you mean: flowers.{suffix}?",
    )
    says(refusal(tmp_path / "nowhere" / f"t.{suffix}"), "t." + suffix, "nowhere does not exist")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "npz"])
def test_an_empty_file_a_folder_and_an_unreadable_file_are_named(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"empty.{suffix}").touch()
    says(refusal(tmp_path / f"empty.{suffix}"), f"empty.{suffix} is empty (0 bytes)")
    (tmp_path / f"folder.{suffix}").mkdir()
    says(refusal(tmp_path / f"folder.{suffix}"), f"folder.{suffix} is a folder")
    (tmp_path / f"loop.{suffix}").symlink_to(tmp_path / f"loop.{suffix}")
    says(refusal(tmp_path / f"loop.{suffix}"), "Cannot read", f"loop.{suffix}", "symbolic links")


@pytest.mark.parametrize(
    ("suffix", "words"),
    [("parquet", "cannot be read as Parquet"), ("npz", "is not an NPZ file"), ("csv", "cannot be read as a table")],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, suffix: str, words: str) -> None:
    (tmp_path / f"t.{suffix}").write_text("a,label\n1,2\n1,2,3\n")
    says(refusal(tmp_path / f"t.{suffix}"), words, f"t.{suffix}")


def test_a_table_that_is_not_utf8_says_how_to_convert_it(tmp_path: Path) -> None:
    for name, encoding, text in (
        ("cell.csv", "latin-1", "name,label\nJosé,1\nAna,2\n"),
        ("header.csv", "latin-1", "größe,label\n1,1\n2,2\n"),
        ("wide.csv", "utf-16", "name,label\nAna,1\n"),
    ):
        (tmp_path / name).write_text(text, encoding=encoding)
        says(refusal(tmp_path / name), f"Expected {tmp_path / name} to be UTF-8 text", "iconv")


def test_a_table_without_rows_or_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,label\n")
    says(refusal(tmp_path / "t.csv"), "has a header (x, label) but no rows")
    (tmp_path / "t.csv").write_text("x,x,label\n1,2,a\n")
    says(refusal(tmp_path / "t.csv"), "'x' more than once")


def test_an_unknown_target_or_group_column_suggests_the_right_one(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", flowers())
    says(
        refusal(path, target="lable"),
        "No column 'lable' for the target in t.csv",
        "Did you mean: label?",
        "length, colour, label",
    )
    says(refusal(path, group="color"), "No column 'color' for the group", "Did you mean: colour?")
    says(refusal(path, group="label"), "group other than the target")


def test_without_a_usual_name_the_columns_are_listed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", {"a": [1, 2], "b": [1, 2]})
    says(refusal(path), "Which column is the target?", "has none of them", "one of: a, b")
    path = write_csv(tmp_path / "t.csv", {"a": [1, 2], "y": [1, 2], "class": [1, 2]})
    says(refusal(path), "t.csv has y, class", "--target")
    path = write_csv(tmp_path / "t.csv", {"5.1": [1, 2], "3.5": [1, 2]})
    says(refusal(path), "Its first line should name the columns")


def test_one_class_only_and_a_class_with_one_example_are_refused(tmp_path: Path) -> None:
    says(
        refusal(write_csv(tmp_path / "t.csv", {"x": list(range(20)), "label": ["a"] * 20})),
        "at least two classes",
        "'a'",
    )
    labels = ["a", "b"] * 10 + ["rare"]
    path = write_csv(tmp_path / "t.csv", {"x": list(range(21)), "label": labels})
    says(refusal(path), "Class 'rare' has a single example", "Drop it, or merge it with another class")
    says(refusal(archive(tmp_path, x=np.arange(21.0), y=np.array(labels))), "Class 'rare' has a single example")
    says(refusal(archive(tmp_path, x=np.arange(20.0), y=np.zeros(20, int))), "at least two classes")


def test_infinite_numbers_are_refused_by_column_and_count(tmp_path: Path) -> None:
    values = ["1", "inf", "-inf", *map(str, range(17))]
    path = write_csv(tmp_path / "t.csv", {"speed": values, "label": ["a", "b"] * 10})
    says(refusal(path), "column 'speed'", "got 2 that are infinite")
    path = write_csv(tmp_path / "t.csv", {"speed": [1e300, *range(19)], "label": ["a", "b"] * 10})
    says(refusal(path), "column 'speed'", "got 1 that are infinite or beyond ±3.4e+38")
    path = write_csv(tmp_path / "t.csv", {"x": list(range(20)), "label": values})
    says(refusal(path), "target 'label' is infinite in 2 rows")


def test_nan_and_infinite_inputs_of_an_archive_are_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((20, 3))
    x[4, 1], x[7, 0] = np.nan, np.inf
    says(refusal(archive(tmp_path, x=x, y=np.arange(20) % 2)), "NaN or infinity in 2 of 20 examples", "Impute or drop")


def test_a_target_or_group_without_values_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", {"x": [1, 2], "label": pa.array([None, None], pa.string())})
    says(refusal(path), "target 'label' is empty in all of the 2 rows")
    columns = flowers() | {"patient": [f"p{row % 9}" for row in range(60)]}
    columns["patient"][3] = columns["patient"][5] = ""
    path = write_csv(tmp_path / "t.csv", columns)
    says(refusal(path, group="patient"), "group 'patient' is missing in 2 rows", "Fill it in, or drop")


def test_a_target_of_text_is_no_number_and_a_date_is_no_target(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", flowers())
    says(refusal(path, regression=True), "'label' holds text (such as 'iris')", "Leave out --regression")
    path = parquet(tmp_path / "t.parquet", {"x": [1, 2], "y": [date(2024, 1, 1), date(2024, 1, 2)]})
    says(refusal(path), "Expected a target of classes or numbers, got date32")


def test_columns_that_cannot_be_features_are_refused_by_name(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", {"points": [[1, 2], [3, 4]] * 10, "label": ["a", "b"] * 10})
    says(refusal(path), "Column 'points' holds list<", "leave it out of the file")
    path = write_csv(tmp_path / "t.csv", {"same": [1] * 20, "label": ["a", "b"] * 10})
    says(refusal(path), "No column of t.csv is left to predict from", "do not vary in the training rows: same")


def test_training_and_test_inputs_of_different_width_or_type_are_refused(tmp_path: Path) -> None:
    y = np.arange(10) % 2
    path = archive(tmp_path, x_train=np.ones((10, 4)), y_train=y, x_test=np.ones((10, 5)), y_test=y)
    says(refusal(path), "inputs of one shape", "(4,) for training", "(5,) for test")
    pixels = np.ones((10, 4), np.uint8)
    path = archive(tmp_path, x_train=pixels, y_train=y, x_test=pixels / 255, y_test=y)
    says(refusal(path), "inputs of one type", "uint8 for training", "float64 for test", "scaled alike")


def test_duplicate_ids_and_lengths_that_differ_are_refused(tmp_path: Path) -> None:
    x, y = np.arange(20.0), np.arange(20) % 2
    says(refusal(archive(tmp_path, x=x, y=y, ids=np.arange(20) // 2)), "unique ids", "10 repeated")
    says(refusal(archive(tmp_path, x=x, y=y[:19])), "one of y for each of the 20 inputs, got 19")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["x_train", "y_train", "x_test"], ["lacks y_test", "found x_train, y_train, x_test"]),
        (["images", "labels"], ["lacks x, y", "found images, labels", "Expected x_train, y_train, x_test, y_test"]),
        (["x", "y", "group"], ["unknown key 'group'", "Did you mean: groups?"]),
        (["x", "y", "x_test"], ["unknown key 'x_test'"]),
    ],
)
def test_wrong_keys_list_what_was_expected_and_found(tmp_path: Path, keys: list[str], words: list[str]) -> None:
    says(refusal(archive(tmp_path, **{key: np.arange(20) % 2 for key in keys})), *words)


def test_object_arrays_are_refused_with_advice_and_never_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "unpickled"

    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (trap,)

    x = np.array([Trap()] * 4, dtype=object)
    np.savez(tmp_path / "arrays.npz", x=x, y=np.arange(4))
    says(refusal(tmp_path / "arrays.npz"), "array 'x'", "holds Python objects", "x=numpy.array(x.tolist())")
    assert not trap.exists()


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    path = Path(archive(tmp_path, x=np.random.default_rng(0).random(1_000), y=np.arange(1_000) % 2))
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(bytes(content))
    says(refusal(path), "arrays.npz is not an NPZ file that numpy.savez wrote")
    path.write_bytes(path.read_bytes()[:-40])
    says(refusal(path), "arrays.npz is not an NPZ file that numpy.savez wrote")
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("readme.txt", "no arrays here")
    says(refusal(path), "lacks x, y", "found readme.txt")
    np.save(tmp_path / "one.npy", np.arange(3))
    (tmp_path / "one.npy").rename(path)
    says(refusal(path), "is not an NPZ file")


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("triple", "got a tuple of 3"),
        ("nothing", "got an object of type NoneType"),
        ("x", "got an object of type ndarray"),
        ("needs", "cannot be called without arguments: missing a required argument: 'something'"),
    ],
)
def test_what_a_module_must_hold_is_said(
    attribute: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(refusal(f"{write_module(tmp_path, monkeypatch, MODULE)}:{attribute}"), "to be a Task, a tuple (x, y)", words)


def test_unknown_names_suggest_the_nearest_and_list_the_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "patients.csv").write_text("x,y\n")
    for name, hint in (("digts", "digits"), ("fashion_mnist", "fashion-mnist"), ("patients", "patients.csv")):
        with pytest.raises(UnknownNameError) as caught:
            load(name)
        says(
            str(caught.value),
            f"Unknown task {name!r}",
            f"Did you mean: {hint}?",
            ".csv, .tsv, .parquet or .npz",
            "module:attribute",
        )
    for name in ("", "zzz"):
        with pytest.raises(UnknownNameError, match="Expected a name"):
            load(name)
    with pytest.raises(UnknownNameError, match="No module 'no_such_module'"):
        load("no_such_module:make_task")
    write_module(tmp_path, monkeypatch, MODULE)
    with pytest.raises(UnknownNameError, match=r"Did you mean: make_task\?"):
        load("a_users_module:mke_task")


def test_a_file_of_an_unknown_kind_and_a_folder_are_told_apart_from_names(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    says(refusal(tmp_path / "t.xlsx"), "a file ending in .xlsx", "Expected a name")
    says(refusal(tmp_path), "is a folder")


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("digits", {"target": "label"}, "--target does not apply to digits"),
        ("digits", {"regression": False}, "--regression does not apply to digits"),
        ("digits", {"data_dir": "."}, "--data-dir does not apply to digits"),
        ("fashion-mnist", {"test_fraction": 0.3}, "test_fraction does not apply to fashion-mnist"),
        ("mnist-1d", {"group": "patient"}, "--group does not apply to mnist-1d"),
        ("table", {"data_dir": "."}, "--data-dir does not apply to t.csv"),
        ("arrays", {"target": "y"}, "--target does not apply to arrays.npz"),
        ("split-arrays", {"test_fraction": 0.3}, "test_fraction does not apply to arrays.npz: it brings test examples"),
        ("a_users_module:ready", {"regression": True}, "--regression does not apply to a_users_module:ready"),
        ("a_users_module:pair", {"target": "y"}, "--target does not apply to a_users_module:pair"),
    ],
)
def test_an_option_that_does_not_apply_is_refused(
    kind: str, options: dict, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = np.random.default_rng(0).random((20, 2)), np.arange(20) % 2
    write_module(tmp_path, monkeypatch, MODULE)
    paths = {
        "table": lambda: write_csv(tmp_path / "t.csv", flowers()),
        "arrays": lambda: archive(tmp_path, x=x, y=y),
        "split-arrays": lambda: archive(tmp_path, x_train=x, y_train=y, x_test=x, y_test=y),
    }
    says(refusal(paths.get(kind, lambda: kind)(), **options), words)


def test_labels_as_strings_are_accepted_everywhere(tmp_path: Path) -> None:
    names = ["no", "yes"] * 10
    for path in (
        write_csv(tmp_path / "t.csv", {"x": list(range(20)), "label": names}),
        archive(tmp_path, x=np.arange(20.0), y=np.array(names)),
    ):
        task = load(path)
        assert task.classes == ("no", "yes")
        assert [task.classes[code] for code in task.train.y] == [names[row] for row in task.train.ids]


def test_a_task_of_ones_own_is_refused_for_the_same_reasons() -> None:
    good = Examples([[0.0], [1.0]], ["a", "b"])
    for x, y, options, words in (
        ([[np.nan], [1.0]], ["a", "b"], {}, "NaN or infinity in 1 of 2"),
        ([[0.0], [1.0]], ["a", "b"], {"ids": [3, 3]}, "unique ids"),
        ([[0.0], [1.0]], ["a"], {}, "one of y for each of the 2 inputs"),
        ([["word"], ["word"]], ["a", "b"], {}, "Expected numeric inputs"),
    ):
        with pytest.raises(DataError, match=words):
            Examples(x, y, **options)
    with pytest.raises(DataError, match="at least two classes"):
        Task(train=Examples([[0.0], [1.0]], ["a", "a"]), test=good)
    with pytest.raises(DataError, match="inputs of one shape"):
        Task(train=good, test=Examples([[0.0, 1.0]], ["a"]))
    numbers = Examples(np.random.default_rng(0).random((300, 2)), np.arange(300))
    with pytest.raises(DataError, match=r"300 distinct numbers .*--regression"):
        Task(train=numbers, test=numbers)
