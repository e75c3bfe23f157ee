"""Molecules: what is read, what belongs together, and what a broken file does."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from byrote.core import DataError, MissingExtraError
from byrote.data import load
from byrote.data.sources import molecules, nav17
from byrote.data.sources.nav17 import ACTIVITIES, STRUCTURES

pytest.importorskip("rdkit", reason="molecules need the extra molecules")

ASPIRIN, PHENOL, ETHANOL = "CC(=O)Oc1ccccc1C(=O)O", "Oc1ccccc1", "CCO"


def write(folder: Path, *, structures: str, activities: str) -> Path:
    (folder / STRUCTURES).write_text(structures, encoding="utf-8")
    (folder / ACTIVITIES).write_text(activities, encoding="utf-8")
    return folder


def test_nav17_is_the_published_series_split_by_scaffold() -> None:
    task = load("nav17")
    both = (task.train, task.test)
    assert sum(map(len, both)) == 1017
    assert (task.regression, task.modality, task.train.x.shape[1]) == (True, "molecule", 2048)
    assert not set(task.train.groups) & set(task.test.groups)  # pyright: ignore[reportArgumentType]
    published = pd.read_csv(nav17.folder() / ACTIVITIES, dtype={"Name": str})
    loaded = {name: activity for part in both for name, activity in zip(part.ids, part.y, strict=True)}
    assert loaded == dict(zip(published["Name"], published["Act"], strict=True))
    assert 0.15 < len(task.test) / 1017 < 0.25
    assert task.train.rows is not None
    assert task.train.rows.column_names == ["SMILES", "scaffold"]
    assert load("nav17").fingerprint == task.fingerprint != load("nav17", seed=1).fingerprint


def test_a_fingerprint_and_a_scaffold_are_of_the_molecule_and_not_of_how_it_is_written() -> None:
    found = molecules.read_molecules([PHENOL, "c1ccccc1O", ASPIRIN, ETHANOL])
    np.testing.assert_array_equal(found.fingerprints[0], found.fingerprints[1])
    assert found.canonical[0] == found.canonical[1]
    assert found.scaffolds.tolist() == ["c1ccccc1", "c1ccccc1", "c1ccccc1", "no rings"]
    assert set(np.unique(found.fingerprints)) == {0, 1}
    assert (found.fingerprints[0] != found.fingerprints[2]).any()


def test_what_is_no_molecule_is_left_out_without_a_word_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    found = molecules.read_molecules(["C(", ETHANOL, "", "not a molecule", "C1CC"])
    assert found.readable.tolist() == [False, True, False, False, False]
    assert len(found.fingerprints) == len(found.scaffolds) == 1
    assert capfd.readouterr() == ("", "")
    assert len(molecules.read_molecules([]).fingerprints) == 0


def test_broken_lines_and_missing_activities_are_counted(tmp_path: Path) -> None:
    rings = [f"C{'C' * number}c1ccc{'n' if number % 2 else 'c'}c1" for number in range(12)]
    lines = [f"{smiles} m{number}" for number, smiles in enumerate([*rings, "C1CC", PHENOL, ETHANOL])]
    activities = "Name,Act\n" + "\n".join(f"m{number},{5 + number / 10}" for number in range(14))
    folder = write(tmp_path, structures="\n".join([*lines, "", "CCC"]), activities=activities.replace("5.3", "n/a"))
    task = load("nav17", data_dir=folder)
    assert len(task.train) + len(task.test) == 12
    assert task.notes[0] == "3 structures have no measured activity and took no part."
    assert task.notes[1] == "1 of 13 structures cannot be read and took no part."


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=f"no {STRUCTURES} or {ACTIVITIES} in .* They come with RDKit"):
        load("nav17", data_dir=tmp_path)
    write(tmp_path, structures="C1CC one", activities="Name,Act\none,5.0")
    with pytest.raises(DataError, match="none of the 1 lines"):
        load("nav17", data_dir=tmp_path)
    write(tmp_path, structures=f"{PHENOL} one", activities="Name,Act\ntwo,5.0")
    with pytest.raises(DataError, match=r"no molecule of .* has an activity"):
        load("nav17", data_dir=tmp_path)
    with pytest.raises(DataError, match="--target does not apply to nav17"):
        load("nav17", target="activity")

    def absent(*args: object, **options: object) -> None:
        raise MissingExtraError("absent")

    monkeypatch.setattr(molecules, "require", absent)
    with pytest.raises(MissingExtraError):
        molecules.read_molecules([ETHANOL])
