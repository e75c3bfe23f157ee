"""Adding runs to an old audit is the same command, and what stands in a folder only grows."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from byrote.auditing import Audit, gives_way
from byrote.execution import AbstractExecutor
from byrote.records import Record
from careless import TINY, Command, write_table
from sample_record import sample_record

OUT = Path("out")


@pytest.fixture(autouse=True)
def table() -> Path:
    return write_table(Path("animals.csv"))


def record(folder: Path = OUT) -> dict[str, Any]:
    return json.loads((folder / "audit.json").read_text())


def trained(folder: Path = OUT) -> dict[str, float]:
    """When each run was written, which changes when it is trained again."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/spec.json")}


def test_more_runs_are_added_to_those_that_are_there(byrote: Command) -> None:
    command = ("audit", "animals.csv", *TINY[2:], "--out", OUT, "--runs")
    assert byrote(*command, 2).status == 0
    first, before = record(), trained()
    assert byrote(*command, 4).status == 0
    second, after = record(), trained()
    assert before.items() <= after.items()
    assert second["cost"]["num_reused"] == first["cost"]["num_runs"] == len(before)
    assert second["cost"]["num_runs"] == second["cost"]["planned_runs"] == len(after)
    assert second["complete"]


def test_a_larger_budget_adds_to_what_a_smaller_one_left(byrote: Command) -> None:
    command = ("study", "memorisation", "animals.csv", "--epochs", 30, "--width", 8, "--out", OUT, "--budget")
    assert byrote(*command, "12s").status == 0
    first, before = record(OUT / "memorisation"), trained()
    assert byrote(*command, "16s").status == 0
    second, after = record(OUT / "memorisation"), trained()
    assert before.items() <= after.items()
    assert second["cost"]["num_reused"] == first["cost"]["num_runs"]
    assert len(after) >= second["cost"]["num_runs"] >= first["cost"]["num_runs"] >= 4


@pytest.mark.parametrize("complete_before", [False, True])
def test_whoever_looks_meanwhile_finds_a_report_but_never_a_lesser_one(
    byrote: Command, monkeypatch: pytest.MonkeyPatch, complete_before: bool
) -> None:
    command = ("audit", "animals.csv", *TINY[2:], "--out", OUT, "--runs")
    if complete_before:
        assert byrote(*command, 1).status == 0
    seen: list[tuple[bool, int]] = []
    module = sys.modules["byrote.cli.audit"]
    save = module._save_interim

    def look(result: Audit, *, place: Path) -> None:
        save(result, place=place)
        seen.append((record()["complete"], record()["cost"]["num_runs"]))
        assert (OUT / "report.html").exists()

    monkeypatch.setattr(module, "_save_interim", look)
    monkeypatch.setattr("byrote.auditing.interim.EVERY", 0.0)
    monkeypatch.setattr("byrote.auditing.interim.SHARE", float("inf"))
    first = record()["cost"]["num_runs"] if complete_before else 0
    assert byrote(*command, 2).status == 0
    assert len(seen) > 1
    assert set(seen) == ({(True, first)} if complete_before else {(False, number) for _, number in seen})
    assert record()["complete"]


def test_workers_leave_what_one_process_leaves(byrote: Command) -> None:
    command = ("study", "memorisation", "animals.csv", *TINY, "--json", "--out")
    alone = byrote(*command, "alone")
    together = byrote(*command, "together", "--workers", 2)
    assert (alone.status, together.status) == (0, 0), together.stderr
    assert trained(Path("alone")).keys() == trained(Path("together")).keys()
    assert [finding["verdict"] for finding in alone.findings] == [finding["verdict"] for finding in together.findings]
    costs = [record(Path(name) / "memorisation")["cost"] for name in ("alone", "together")]
    assert [cost["num_workers"] for cost in costs] == [1, 2]


def test_what_went_wrong_without_ending_it_is_told(byrote: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "A worker process was killed (SIGKILL) at work on 2 networks. A new one does that work once more."
    monkeypatch.setattr(AbstractExecutor, "failures", property(lambda self: [told]))
    answer = byrote("study", "memorisation", "animals.csv", *TINY, "--out", OUT)
    assert answer.status == 0
    assert told in " ".join(answer.stderr.split())
    assert record(OUT / "memorisation")["cost"]["failures"] == [told]
    assert told in (OUT / "memorisation" / "report.html").read_text()


def made(*, num_runs: int, complete: bool) -> Record:
    known = sample_record()
    return replace(known, cost=replace(known.cost, num_runs=num_runs, planned_runs=9), complete=complete)


@pytest.mark.parametrize(
    ("there", "new", "final", "replaced"),
    [
        (None, (3, False), False, True),
        (None, (0, False), False, False),
        ((5, False), (3, False), False, True),
        ((5, False), (0, False), False, False),
        ((5, True), (9, False), False, False),
        ((5, True), (9, False), True, True),
        ((5, True), (5, False), True, False),
        ((5, True), (2, True), True, True),
    ],
)
def test_a_complete_report_gives_way_to_no_lesser_one(
    tmp_path: Path, there: tuple[int, bool] | None, new: tuple[int, bool], final: bool, replaced: bool
) -> None:
    folder = tmp_path / "report"
    if there is not None:
        Audit(made(num_runs=there[0], complete=there[1]), None).save(folder)
    assert gives_way(folder, to=made(num_runs=new[0], complete=new[1]), final=final) == replaced
