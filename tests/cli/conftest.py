"""A folder to work in, and the command: in this process, or as a process of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from byrote.cli.app import app
from careless import Answer, Command, environment

SCRIPT = Path(sys.executable).with_name("byrote")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; what a user's modules do to the search path is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def byrote(monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process, which saves the seconds of its imports."""

    def call(*arguments: object) -> Answer:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["byrote", *words])
        result = CliRunner().invoke(app, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def process(folder: Path) -> Command:
    """The installed command in a process of its own."""

    def call(*arguments: object) -> Answer:
        done = subprocess.run(
            [SCRIPT, *map(str, arguments)], cwd=folder, env=environment(), capture_output=True, text=True, timeout=120
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def background(folder: Path) -> Iterator[Start]:
    """The installed command, started and left running; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **variables: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [SCRIPT, *map(str, arguments)],
            cwd=folder,
            env=environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
