"""What somebody who waits in a terminal or a notebook sees of a call from Python, and what a file does not."""

import io
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

import byrote
from byrote.auditing.progress_line import progress_line
from byrote.execution import Progress
from byrote.models import linear
from byrote.records import Learner, Recipe
from cheap_runs import task_of

TASK = task_of(num_train=40, num_test=20)
LEARNER = Learner(model=linear(), recipe=Recipe(epochs=2))


class Terminal(io.StringIO):
    """Is watched."""

    def isatty(self) -> bool:
        return True


Notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to wait two seconds for the first line."""
    monkeypatch.setattr(sys.modules[progress_line.__module__], "SOON", 0.01)
    monkeypatch.setattr(sys.modules[progress_line.__module__], "EVERY", 0.01)


def slow_fit(indices: np.ndarray, seed: int) -> Any:
    time.sleep(0.05)
    return DummyClassifier().fit(TASK.train.x[indices], TASK.train.y[indices]).predict


def fit_and_score(**options: Any) -> Any:
    return byrote.fit_and_score(TASK, slow_fit, runs=8, **options)


def audit(**options: Any) -> Any:
    return byrote.audit(TASK, learner=LEARNER, studies=["memorisation"], runs=2, **options)


def plan(**options: Any) -> Any:
    return byrote.plan(TASK, learner=LEARNER, studies=["memorisation"], runs=2, **options)


CALLS = [fit_and_score, audit, plan]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("stream", [Terminal, Notebook], ids=["terminal", "notebook"])
def test_whoever_watches_sees_how_far_it_is_and_how_long_it_takes(
    stream: Callable[[], io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = stream()
    monkeypatch.setattr(sys, "stderr", shown)
    fit_and_score()
    lines = shown.getvalue().split("\r")
    assert any(line.startswith("fitting: ") and "s left" in line and "(0:00 so far)" in line for line in lines), lines
    assert lines[-1] == "", "the cursor is back at the beginning"
    assert not lines[-2].strip(), "of a line that has been wiped"
    assert "\n" not in shown.getvalue()
    assert not [thread for thread in threading.enumerate() if thread.name == "byrote-progress"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("call", CALLS, ids=["fit_and_score", "audit", "plan"])
def test_files_and_whoever_does_not_want_it_see_nothing(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call()
    assert capsys.readouterr() == ("", "")
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    call(progress=False)
    assert shown.getvalue() == ""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("call", CALLS[1:], ids=["audit", "plan"])
def test_a_function_of_ones_own_is_told_in_place_of_the_line(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, told = Terminal(), list[Progress]()
    monkeypatch.setattr(sys, "stderr", shown)
    call(on_progress=told.append)
    assert told
    assert shown.getvalue() == ""


def test_what_takes_less_than_two_seconds_is_not_worth_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    fit_and_score()
    assert shown.getvalue() == ""


@pytest.mark.usefixtures("quick")
def test_a_terminal_that_has_gone_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    shown.close()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    assert len(fit_and_score()) == 40


def test_an_audit_that_is_stopped_says_what_is_kept(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "training" and progress.done:
            raise KeyboardInterrupt

    for out, words in ((None, "Nothing was kept of"), (tmp_path, f"new in {tmp_path}. The same call again goes on")):
        with pytest.raises(KeyboardInterrupt) as stopped:
            audit(on_progress=stop, out=out)
        assert words in stopped.value.__notes__[0]
