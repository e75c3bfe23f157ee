"""What stands in a folder is never lost: not to an audit, a stop, a full disk or a wrong path."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from byrote.execution import LocalExecutor
from careless import TINY, Command, refused, write_module, write_table

STUDY = ("study", "memorisation", "animals.csv", *TINY, "--out", "out")
PLACE = Path("out/memorisation")


@pytest.fixture(autouse=True)
def table() -> Path:
    return write_table(Path("animals.csv"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def full(*arguments: Any, **settings: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def stop(*arguments: Any, **settings: Any) -> Any:
    raise KeyboardInterrupt


def test_a_folder_with_other_content_is_left_alone(byrote: Command) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("years of work")
    refused(
        byrote("audit", "animals.csv", *TINY, "--out", "thesis"), "thesis holds something else", "chapter.tex", "--out"
    )
    assert contents(Path("thesis")) == {"thesis/chapter.tex": b"years of work"}


def test_a_file_in_place_of_a_folder_is_left_alone(byrote: Command) -> None:
    before = Path("animals.csv").read_bytes()
    refused(byrote("audit", "animals.csv", *TINY, "--out", "animals.csv"), "a file is there", "--out")
    refused(
        byrote("audit", "animals.csv", *TINY, "--out", "animals.csv/out"), "Cannot write to animals.csv/out", "--out"
    )
    assert Path("animals.csv").read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody can write to")
def test_a_read_only_disk(byrote: Command) -> None:
    refused(byrote("audit", "animals.csv", *TINY, "--out", "/proc/byrote"), "Cannot write to /proc/byrote", "--out")


def test_a_disk_that_fills_up_loses_no_finished_network(byrote: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = pq.write_table, []

    def fills_up(table: Any, where: Any, **settings: Any) -> None:
        if len(written) == 1:
            full()
        written.append(where)
        write(table, where, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", fills_up)
        refused(byrote(*STUDY), "No space left on device", "What was stored before is intact", "--out")
    assert len(list(Path("out/runs").iterdir())) == 1
    assert byrote(*STUDY).status == 0
    assert cost(PLACE)["num_reused"] == 1


def test_an_audit_that_cannot_be_written_leaves_the_earlier_one(
    byrote: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert byrote(*STUDY).status == 0
    before = contents(Path("out"))
    with monkeypatch.context() as patch:
        patch.setattr("byrote.auditing.folder.os.replace", full)
        refused(byrote(*STUDY), "No space left on device")
    assert contents(Path("out")) == before


def test_the_same_command_again_trains_nothing_and_a_longer_one_only_what_is_new(byrote: Command) -> None:
    assert byrote(*STUDY).status == 0
    assert byrote(*STUDY).status == 0
    assert cost(PLACE)["num_reused"] == cost(PLACE)["num_runs"] == 2
    assert byrote(*STUDY, "--runs", 5).status == 0
    assert (cost(PLACE)["num_reused"], cost(PLACE)["num_runs"]) == (2, 5)


def test_a_study_alone_does_not_replace_another(byrote: Command) -> None:
    assert byrote(*STUDY).status == 0
    before = contents(PLACE)
    assert byrote("study", "random-data", *STUDY[2:]).status == 0
    assert contents(PLACE) == before
    assert (Path("out") / "random-data" / "report.html").exists()
    refused(byrote("report", "out"), "no audit in out", "There is one in out/memorisation and in out/random-data")


def test_the_folder_of_a_task_is_named_after_it(byrote: Command) -> None:
    name = write_module(
        "import byrote\n"
        "def make_task():\n"
        "    both = byrote.Examples([[0.0], [1.0]] * 20, [0, 1] * 20)\n"
        "    return byrote.Task(train=both, test=both, name='../../a b')\n"
    )
    answer = byrote("study", "memorisation", f"{name}:make_task", *TINY)
    assert answer.status == 0, answer.stderr
    assert Path("runs/a-b/memorisation/report.html").exists()


@pytest.mark.parametrize("stage", ["fit", "train"])
def test_a_stop_before_a_network_is_finished_writes_no_report(
    byrote: Command, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(LocalExecutor, stage, stop)
    answer = byrote("audit", *STUDY[2:])
    assert (answer.status, answer.stdout) == (130, "")
    assert "Stopped: 0 of" in answer.stderr
    assert "networks are there. Run the same command again" in answer.stderr
    assert {path.name for path in Path("out").iterdir()} - {"fits", "claims"} == {"byrote.json"}
    assert not list(Path("out").rglob("report.html"))


def test_a_stop_does_not_replace_a_complete_audit(byrote: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert byrote(*STUDY).status == 0
    before = contents(Path("out"))
    monkeypatch.setattr(LocalExecutor, "train", stop)
    answer = byrote(*STUDY, "--runs", 5)
    assert (answer.status, answer.stdout) == (130, "")
    assert "2 of 5 networks are there. The report in out/memorisation is as it was." in answer.stderr
    assert contents(Path("out")) == before


def test_a_stop_is_told_in_the_report_and_the_same_command_completes_it(
    byrote: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = LocalExecutor.train
    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "train", lambda self, specs, **how: [train(self, specs[:3], **how), stop()])
        answer = byrote(*STUDY, "--runs", 5)
    assert answer.status == 130
    assert "3 of 5 networks are there. Run the same command again" in answer.stderr
    assert "training-examples-are-fitted" in answer.stdout
    assert not record(PLACE)["complete"]
    assert byrote(*STUDY, "--runs", 5).status == 0
    assert record(PLACE)["complete"]
    assert cost(PLACE)["num_reused"] == 3


def test_a_second_stop_while_summarising_ends_at_once(byrote: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalExecutor, "train", stop)
    monkeypatch.setattr(sys.modules["byrote.auditing.audit"], "summarise", stop)
    answer = byrote(*STUDY)
    assert (answer.status, answer.stdout) == (130, "")
    assert "run the same command again" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_report_of_nothing(byrote: Command) -> None:
    refused(byrote("report", "nowhere"), "no audit in nowhere", "no such folder")
    refused(byrote("report", "animals.csv"), "no audit in animals.csv")
    Path("empty").mkdir()
    refused(byrote("report", "empty"), "no audit in empty")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema": 99}', ["schema 99", "Upgrade byrote"]),
        ("{", ["is not an audit", "Run byrote audit again"]),
        ("[]", ["is not an audit"]),
        ('{"schema": 1, "title": "half"}', ["audit.json"]),
    ],
    ids=["newer", "broken", "something else", "incomplete"],
)
def test_a_report_of_a_broken_or_newer_record(byrote: Command, text: str, words: list[str]) -> None:
    Path("out").mkdir()
    Path("out/audit.json").write_text(text)
    refused(byrote("report", "out"), *words)


def test_a_report_is_drawn_again_from_what_is_stored(byrote: Command) -> None:
    assert byrote(*STUDY).status == 0
    before = (PLACE / "report.html").read_bytes()
    (PLACE / "report.html").unlink()
    answer = byrote("report", PLACE)
    assert (answer.status, answer.stdout.strip()) == (0, f"Report: {PLACE / 'report.html'}")
    assert (PLACE / "report.html").read_bytes() == before


def test_a_fault_of_byrote_s_own_is_not_blamed_on_the_user(byrote: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalExecutor, "train", lambda self, specs, **how: {}["a fault"])
    answer = byrote(*STUDY)
    assert answer.status == 70
    assert "a fault in byrote. Please report it" in answer.stderr


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "audit.json").read_text())


def cost(folder: Path) -> dict[str, Any]:
    return record(folder)["cost"]


def test_what_a_killed_start_left_behind_does_not_make_a_folder_foreign(byrote: Command) -> None:
    Path("out").mkdir()
    left = Path("out/.byrote.json-4711-0123abcd")
    left.write_text("{")
    os.utime(left, (0, 0))
    assert byrote(*STUDY).status == 0
    assert not left.exists()


def test_an_audit_of_a_newer_byrote_is_not_replaced(byrote: Command) -> None:
    assert byrote("audit", "animals.csv", *TINY, "--out", "out").status == 0
    path = Path("out/audit.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    before = contents(Path("out"))
    refused(byrote("audit", "animals.csv", *TINY, "--out", "out"), "has schema 99", "Upgrade byrote")
    assert contents(Path("out")) == before


def test_a_marker_that_is_not_text_is_written_again(byrote: Command) -> None:
    Path("out").mkdir()
    Path("out/byrote.json").write_bytes(b"\xff\xfe\x00")
    assert byrote(*STUDY).status == 0
    assert json.loads(Path("out/byrote.json").read_text())["task"]


def test_a_dry_run_refuses_the_folders_that_an_audit_refuses(byrote: Command) -> None:
    refused(byrote("audit", "animals.csv", *TINY, "--dry-run", "--out", "animals.csv"), "a file is there")
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("years of work")
    refused(byrote("audit", "animals.csv", *TINY, "--dry-run", "--out", "thesis"), "thesis holds something else")


def test_a_model_that_cannot_be_trained_is_told_before_anything_else(
    byrote: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalExecutor, "fit", stop)
    name = write_module(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self, task):\n        super().__init__()\n"
        "        self.head = nn.Linear(task.input_shape[0], task.num_outputs)\n"
        "    def forward(self, x):\n        if self.training:\n            raise RuntimeError('not like this')\n"
        "        return self.head(x)\n"
    )
    answer = byrote("audit", "animals.csv", "--runs", 1, "--epochs", 1, "--model", f"{name}:Net", "--out", "out")
    refused(answer, "not like this")
    assert not Path("out").exists()
