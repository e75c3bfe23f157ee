"""What is in a folder, and what byrote runs on, can be asked."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from byrote.records import RunSpec, decode
from careless import TINY, Command, refused, write_table

STUDY = ("study", "memorisation", "animals.csv", *TINY, "--out", "out")


@pytest.fixture(autouse=True)
def table() -> Path:
    return write_table(Path("animals.csv"))


def listed(byrote: Command, folder: str = "out") -> list[dict[str, Any]]:
    answer = byrote("runs", folder, "--json")
    assert answer.status == 0, answer.stderr
    return json.loads(answer.stdout)


def test_runs_are_listed_with_what_they_are_and_cost(byrote: Command) -> None:
    assert byrote("audit", *STUDY[2:]).status == 0
    rows = listed(byrote)
    assert {(row["kind"], row["status"]) for row in rows} == {("run", "completed"), ("fit", "completed")}
    runs = [row for row in rows if row["kind"] == "run"]
    assert {row["key"] for row in runs} == {path.name for path in Path("out/runs").iterdir()}
    assert all(row["seconds"] > 0 and row["bytes"] > 1000 and row["written"] for row in rows if row["kind"] == "run")
    assert {decode(RunSpec, row["spec"]).key for row in runs} == {row["key"] for row in runs}
    shown = byrote("runs", "out")
    assert shown.status == 0
    for words in ("random labels", "random 70 % no. 2", "forest", "A  mlp(depth=1, width=8)", "B  mlp"):
        assert words in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert f"{len(runs)} runs and {len(rows) - len(runs)} fits: " in shown.stdout


def test_what_is_damaged_or_half_written_says_what_to_do(byrote: Command) -> None:
    assert byrote(*STUDY).status == 0
    damaged, whole = sorted(Path("out/runs").iterdir())
    (damaged / "trace.safetensors").write_bytes(b"")
    shutil.copytree(whole, whole.with_name(f".writing-{whole.name}-gone"))
    found = {row["status"]: row for row in listed(byrote)}
    assert set(found) == {"completed", "unreadable", "interrupted"}
    assert found["unreadable"]["key"] == damaged.name
    shown = " ".join(byrote("runs", "out").stdout.split())
    assert f"{damaged.name[:8]}, unreadable: trace.safetensors has 0 bytes" in shown
    assert "Delete that folder to have it made again." in shown
    assert f"{whole.name[:8]}, interrupted: Its process died" in shown
    assert "1 interrupted, 1 unreadable: " in shown


def test_a_folder_without_runs_says_where_there_are_some(byrote: Command) -> None:
    refused(byrote("runs", "nowhere"), "no folder nowhere")
    assert byrote(*STUDY[:-1], "outer/inner").status == 0
    answer = byrote("runs", "outer")
    assert (answer.status, answer.stdout) == (0, "")
    assert "There are no runs in outer. There are some in outer/inner." in answer.stderr
    assert listed(byrote, "outer") == []
    key = next(path.name for path in Path("outer/inner/runs").iterdir())
    within = byrote("runs", f"outer/inner/runs/{key}")
    assert within.status == 0
    assert f"There are some in {Path('outer/inner').resolve()}." in within.stderr


def test_weights_are_kept_when_asked_for_and_runs_without_them_are_trained_again(byrote: Command) -> None:
    assert byrote(*STUDY).status == 0
    assert {row["has_weights"] for row in listed(byrote)} == {False}
    again = byrote(*STUDY, "--keep-weights")
    assert again.status == 0, again.stderr
    assert {row["has_weights"] for row in listed(byrote)} == {True}
    cost = json.loads(Path("out/memorisation/audit.json").read_text())["cost"]
    assert (cost["num_runs"], cost["num_reused"]) == (2, 0)
    for place in Path("out/runs").iterdir():
        shapes = {name: array.shape for name, array in load_file(place / "weights.safetensors").items()}
        assert sorted(shapes.values()) == [(2,), (2, 8), (8,), (8, 2)]
    assert byrote("runs", "out").stdout.count("weights") == 2


def test_the_doctor_tells_what_byrote_runs_on_and_remembers(
    byrote: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BYROTE_CACHE", str(tmp_path / "cache"))
    answer = byrote("doctor", "--json")
    assert answer.status == 0, answer.stderr
    facts = json.loads(answer.stdout)
    assert facts["matrix products on one core, GFLOP/s"] > 0.1
    assert facts["devices"][0] == "cpu"
    assert {"byrote", "torch", "python", "TF32 in matrix products", "threads within an operation"} <= set(facts)
    assert (facts["cache"], facts["paths"], facts["forgotten"]) == (str(tmp_path / "cache"), [], None)
    assert byrote(*STUDY).status == 0
    remembered = json.loads(byrote("doctor", "--json").stdout)["paths"]
    assert {entry["model"] for entry in remembered} == {"mlp(depth=1, width=8)"}
    assert remembered[0]["path"] in remembered[0]["times"]
    shown = byrote("doctor")
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert remembered[0]["path"].split(" ")[0] in shown.stdout
    assert f"Forgot {len(remembered)} timings" in byrote("doctor", "--forget").stdout
    assert json.loads(byrote("doctor", "--json", "--forget").stdout)["forgotten"] == 0
