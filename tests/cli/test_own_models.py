"""A user's own module: its faults are told in its own words, with its own line."""

from pathlib import Path

import pytest
import torch

from careless import Command, refused, write_module, write_table

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, task):
        super().__init__()
        self.layer = nn.Linear(task.input_shape[0], {outputs})
        self.visits = 0

    def forward(self, x):
        {first}
        return self.layer(x)
"""
RUNS = ("--runs", "2", "--epochs", "2")


@pytest.fixture(autouse=True)
def table() -> Path:
    return write_table(Path("animals.csv"))


def net(*, outputs: str = "task.num_outputs", first: str = "pass") -> str:
    return write_module(NET.format(outputs=outputs, first=first)) + ":Net"


def test_the_wrong_output_shape(byrote: Command) -> None:
    answer = byrote("audit", "animals.csv", "--model", net(outputs="7"))
    refused(answer, "outputs of shape (2, 2)", "one logit for each of the 2 classes", "got (2, 7)")


def test_a_forward_that_fails_at_once(byrote: Command) -> None:
    answer = byrote("audit", "animals.csv", "--model", net(first="raise KeyError('no such layer')"))
    refused(answer, "no such layer", "line 11")


def test_a_forward_that_fails_in_the_middle_of_training(byrote: Command) -> None:
    late = (
        "x, self.visits = x.sin(), self.visits + 1\n        if self.visits > 9: raise RuntimeError('the tenth visit')"
    )
    answer = byrote("study", "memorisation", "animals.csv", *RUNS, "--model", net(first=late))
    refused(answer, "the tenth visit", "line 12")


def test_a_model_that_cannot_be_stacked_is_trained_one_at_a_time(byrote: Command) -> None:
    model = net(first="assert float(x.abs().max()) < 1e6")
    answer = byrote("study", "memorisation", "animals.csv", *RUNS, "--model", model, "--json")
    assert answer.status == 0, answer.stderr
    assert answer.findings[0]["num_runs"] == 2


def test_the_model_of_the_last_test_indeed_cannot_be_stacked() -> None:
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(lambda x: float(x.abs().max()))(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def Net(task)\n    pass\n", ["SyntaxError", "line 1"]),
        ("import torch\nraise OSError('the weights are elsewhere')\n", ["the weights are elsewhere", "line 2"]),
        ("import no_such_package_anywhere\n", ["No module named 'no_such_package_anywhere'", "line 1"]),
        ("import sys\nsys.exit(0)\n", ["ends the program when it is imported", "__main__"]),
        ("def Nett(task):\n    pass\n", ["no attribute 'Net'", "Did you mean: Nett?"]),
    ],
    ids=["syntax", "raises", "imports", "exits", "misspelt"],
)
def test_a_module_at_fault(byrote: Command, source: str, words: list[str]) -> None:
    refused(byrote("audit", "animals.csv", "--model", f"{write_module(source)}:Net"), *words)
    refused(byrote("audit", f"{write_module(source)}:Net"), *words)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("Net = 3\n", ["a class or a function", "got int"]),
        ("def Net(task):\n    return 3\n", ["torch.nn.Module", "got int"]),
        ("def Net(task):\n    return {}['x']\n", ["KeyError", "line 2"]),
    ],
    ids=["not to be called", "no module", "fails"],
)
def test_a_factory_at_fault(byrote: Command, source: str, words: list[str]) -> None:
    refused(byrote("audit", "animals.csv", "--model", f"{write_module(source)}:Net"), *words)


def test_a_module_that_is_not_there(byrote: Command) -> None:
    refused(byrote("audit", "animals.csv", "--model", "no_such_module:Net"), "No module 'no_such_module'")
    refused(byrote("audit", "no_such_module:make"), "No module 'no_such_module'")


def test_a_width_for_a_model_of_ones_own(byrote: Command) -> None:
    refused(byrote("audit", "animals.csv", "--model", net(), "--width", "8"), "your own model", "width", "set it there")


def test_a_task_function_that_fails(byrote: Command) -> None:
    name = write_module("def make_task():\n    return open('absent.bin')\n")
    refused(byrote("audit", f"{name}:make_task"), f"{name}:make_task failed", "absent.bin", "line 2")


def test_every_network_must_be_fresh(byrote: Command) -> None:
    name = write_module("from torch import nn\nNET = nn.Linear(2, 2)\ndef Net(task):\n    return NET\n")
    refused(byrote("audit", "animals.csv", "--model", f"{name}:Net"), "same module", "inside the factory")
