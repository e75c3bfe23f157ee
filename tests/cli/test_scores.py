"""`byrote scores`: outputs in, a table out, and words for everything that goes wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import byrote as library
from byrote.cli import scores as command
from careless import Command


def arrays(**changed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    inclusion = rng.random((20, 12)) < 0.7
    targets = np.arange(12) % 3
    logits = rng.normal(size=(20, 12, 3)).astype(np.float32)
    logits[:, np.arange(12), targets] += 3 * inclusion
    made = {"inclusion": inclusion, "logits": logits, "targets": targets} | changed
    return {name: array for name, array in made.items() if array is not None}


def test_the_table_is_that_of_the_library(byrote: Command) -> None:
    given = arrays(ids=np.array([f"x{number}" for number in range(12)]))
    np.savez("runs.npz", **given)
    answer = byrote("scores", "runs.npz", "--output", "table.parquet", "--csv")
    assert answer.status == 0, answer.stderr
    wanted = library.scores(**given)
    written = pyarrow.parquet.read_table("table.parquet")
    assert written.equals(wanted.arrow)
    assert pyarrow.csv.read_csv("table.csv").num_rows == 12
    assert sorted(path.name for path in Path().iterdir()) == ["runs.npz", "table.csv", "table.parquet"]
    first = wanted.arrow.take([int(np.argmax(wanted["memorisation"]))]).to_pylist()[0]
    assert "the most memorised" in answer.stdout
    assert answer.stdout.index(first["id"]) > 0
    assert "12 examples, 20 runs: written to table.parquet and table.csv." in answer.stderr


def test_by_default_it_is_scores_parquet_and_notes_are_said(byrote: Command) -> None:
    np.savez_compressed("runs.npz", **arrays(logits=None, targets=None, probability=np.full((20, 12), 0.5)))
    answer = byrote("scores", "runs.npz", "--csv")
    assert answer.status == 0, answer.stderr
    assert pyarrow.parquet.read_table("scores.parquet").num_rows == pyarrow.csv.read_csv("scores.csv").num_rows == 12
    assert "memorisation_raw is of the probability of the target" in " ".join(answer.stderr.split())


def test_what_takes_long_says_how_far_it_is(byrote: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "QUICK", -1.0)
    np.savez("runs.npz", **arrays())
    assert "reading runs" in byrote("scores", "runs.npz").stderr


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"logits": None, "logit": np.zeros((20, 12, 3))}, "Unknown array 'logit' in runs.npz. Did you mean: logits?"),
        ({"inclusion": None}, "Expected an array 'inclusion' in runs.npz"),
        ({"logits": None}, "Expected outputs of one kind, got nothing. Give logits="),
        ({"logits": np.zeros((12, 20, 3))}, "Is it transposed? Runs come first."),
        ({"targets": np.array(["a", None] * 6, object)}, "turn objects into text or numbers"),
        ({"on_run": np.zeros(1)}, "Unknown array 'on_run'"),
    ],
    ids=["misspelt", "no inclusion", "no outputs", "transposed", "objects", "no array"],
)
def test_wrong_arrays_are_said_in_one_message(byrote: Command, changed: dict[str, Any], words: str) -> None:
    np.savez("runs.npz", **arrays(**changed))
    answer = byrote("scores", "runs.npz")
    assert answer.status == 2
    assert words in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr
    assert not Path("scores.parquet").exists()


def test_wrong_files_are_said_in_one_message(byrote: Command) -> None:
    Path("text.npz").write_text("not an archive")
    np.save("one.npy", np.zeros(3))
    np.savez("runs.npz", **arrays())
    Path("cut.npz").write_bytes(Path("runs.npz").read_bytes()[:-50])
    for name, words in (
        ("missing.npz", "No such file"),
        ("text.npz", "is no .npz archive of plain arrays"),
        ("one.npy", "got the one array of one.npy"),
        ("cut.npz", "damaged or no .npz archive"),
    ):
        answer = byrote("scores", name)
        assert (answer.status, "Traceback" in answer.stderr) == (2, False)
        assert words in " ".join(answer.stderr.split())
    for output, words in (("table.txt", "with the ending .parquet"), ("no/folder.parquet", "No such file")):
        answer = byrote("scores", "runs.npz", "--output", output)
        assert answer.status == 2
        assert words in " ".join(answer.stderr.split())


def test_help_says_which_arrays_are_expected(byrote: Command) -> None:
    answer = byrote("scores", "--help")
    assert answer.status == 0
    assert [name for name in command.ARRAYS if name not in answer.stdout] == []
