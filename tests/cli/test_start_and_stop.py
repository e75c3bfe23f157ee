"""The command begins at once and ends at once: what help imports, and Ctrl-C at any moment."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from careless import environment, write_module, write_table

HEAVY = ("torch", "sklearn", "scipy", "pyarrow", "plotly", "numpy", "pandas")
HELP = """
import sys
from byrote.cli import main
sys.argv = ["byrote", "audit", "--help"]
try:
    main()
except SystemExit as ended:
    assert ended.code == 0
print("loaded:", *sys.modules)
"""
SLOW_NET = """
import time
from torch import nn

class Net(nn.Linear):
    '''One that cannot be stacked, and takes its time.'''
    def __init__(self, task):
        super().__init__(2, 2)

    def forward(self, x):
        assert float(x.abs().max()) < 1e6
        time.sleep(0.002)
        return super().forward(x)
"""
SLOWLY = ("--runs", "8", "--epochs", "20", "--out", "out")
Start = Callable[..., "subprocess.Popen[str]"]


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], env=environment(), capture_output=True, text=True, check=True)
    loaded = done.stdout.rsplit("loaded:", 1)[1].split()
    assert [name for name in HEAVY if name in loaded] == []
    assert "--budget" in done.stdout


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "byrote", "studdy"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, "Did you mean 'study'?" in " ".join(done.stderr.split())) == (2, True)


def test_a_stop_amid_training_keeps_what_is_finished_and_the_same_command_goes_on(background: Start) -> None:
    write_table(Path("animals.csv"))
    model = f"{write_module(SLOW_NET)}:Net"
    command = ("study", "memorisation", "animals.csv", "--model", model, *SLOWLY)
    process = background(*command)
    wait_for(lambda: len(runs()) >= 2, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in stderr) == (130, False), stderr
    kept = len(runs())
    assert 2 <= kept < 8
    assert f"Stopped: {kept} of 8 networks are there. Run the same command again" in " ".join(stderr.split())
    assert "training-examples-are-fitted" in stdout
    assert [path for path in Path("out/runs").iterdir() if path.name.startswith(".")] == []
    assert not record()["complete"]
    again = background(*command)
    _, stderr = again.communicate(timeout=60)
    assert again.returncode == 0, stderr
    assert record()["complete"]
    assert (record()["cost"]["num_reused"], record()["cost"]["num_runs"]) == (kept, 8)


def test_two_stops_in_a_row_end_without_a_traceback(background: Start) -> None:
    write_table(Path("animals.csv"))
    model = f"{write_module(SLOW_NET)}:Net"
    process = background("audit", "animals.csv", "--model", model, *SLOWLY)
    wait_for(lambda: len(runs()) >= 1, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in stderr) == (130, False), stderr


def test_a_stop_amid_imports_ends_at_once(background: Start) -> None:
    """Python says which module it has imported; the command line is, and torch is not yet."""
    process = background("audit", "digits", PYTHONPROFILEIMPORTTIME="1")
    before = list(until(" typer\n", process))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in stderr) == (130, False), stderr
    assert not any("torch" in line for line in before)
    assert "Stopped before anything was begun." in stderr
    assert not Path("runs").exists()


def test_a_stop_amid_loading_ends_without_a_traceback(background: Start) -> None:
    name = write_module("import time\ndef make_task():\n    print('loading now', flush=True)\n    time.sleep(60)\n")
    process = background("audit", f"{name}:make_task")
    list(until("loading now", process))
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, "Traceback" in stderr) == (130, "", False), stderr
    assert "Stopped." in stderr


def runs() -> list[Path]:
    return list(Path("out/runs").glob("[!.]*/spec.json"))


def record() -> dict:
    return json.loads(Path("out/memorisation/audit.json").read_text())


def until(word: str, process: "subprocess.Popen[str]") -> Iterator[str]:
    """Lines of standard error, up to one with the word in it."""
    assert process.stderr is not None
    for line in process.stderr:
        yield line
        if word in line:
            return
    raise AssertionError(f"ended without {word!r}")


def wait_for(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    ends = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.02)
