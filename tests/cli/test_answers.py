"""What a good command answers: a summary, JSON alone on standard output, gates, files that others can read."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from byrote.cli import gates
from careless import TINY, Command, write_arrays, write_module, write_table
from example_columns import IDENTITY, MEMBERSHIP, MEMORISATION

KEYS = [
    "study",
    "claim",
    "statement",
    "value",
    "low",
    "high",
    "unit",
    "null",
    "p_value",
    "num_runs",
    "verdict",
    "paper",
]
CLAIMS = {
    "random-data": {
        "random-labels-are-fitted",
        "random-labels-test-at-chance",
        "true-labels-fit-faster",
        "random-inputs-start-faster",
        "test-error-rises-with-corruption",
        "no-leak",
    },
    "lookup": {"beats-lookup-table", "beats-forest", "beats-kernel", "learnt-share", "memorised-share"},
    "memorisation": {"training-examples-are-fitted"},
    "membership": {"members-cannot-be-told", "few-members-are-caught"},
}
"""Of a whole audit."""
APART = {
    "labels": {"labels-are-right"},
    "difficulty": {"examples-differ-in-difficulty", "sensitivity-is-uneven", "random-labels-make-inputs-critical"},
    "early-phase": {
        "rate-lowers-gradient-variance",
        "rate-lowers-sharpness",
        "rate-improves-conditioning",
        "small-rate-raises-fisher",
        "small-batch-lowers-gradient-variance",
        "small-batch-lowers-sharpness",
        "small-batch-improves-conditioning",
        "peak-is-early",
        "barrier-falls",
        "early-decay-counts",
        "penalty-lowers-fisher",
        "penalty-helps-small-rate",
        "penalty-resists-flipped-labels",
        "edge-of-stability",
    },
    "minima": {
        "sharpness-ranks-accuracy",
        "random-labels-end-sharper",
        "sam-ends-flatter",
        "sam-tests-better",
        "seeds-share-a-basin",
        "matched-seeds-share-a-basin",
    },
    "representation": {
        "forest-gains-from-features",
        "kernel-gains-from-features",
        "training-improves-features",
        "kernel-velocity-falls",
        "baselines-fit-random-labels",
        "laplacian-fits-random-labels-faster",
        "pretraining-changes-speed",
        "rescaled-pretraining-changes-speed",
    },
    "worth": {"memorised-examples-matter", "dropping-suspects-helps", "correcting-suspects-helps"},
}
"""Of studies that are asked for by name."""
PRINTING = """
import numpy, torch
print("a greeting from the module")

def make_task():
    print("the task is being made")
    y = numpy.arange(80) % 2
    return numpy.random.default_rng(0).normal(size=(80, 3)) + 3 * y[:, None], y

class Net(torch.nn.Linear):
    def __init__(self, task):
        print("a network is being made")
        super().__init__(3, 2)
"""


def test_json_is_all_there_is_on_standard_output(process: Command) -> None:
    """As a process, with a module that prints: a whole audit, its findings and its files."""
    name = write_module(PRINTING)
    answer = process("audit", f"{name}:make_task", "--model", f"{name}:Net", *TINY[:4], "--json", "--out", "out")
    assert answer.status == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert [list(finding) for finding in found] == [KEYS] * len(found)
    assert {study: {f["claim"] for f in found if f["study"] == study} for study in CLAIMS} == CLAIMS
    assert all(set(claims) <= (CLAIMS | APART)[study] for study, claims in gates.CLAIMS.items())
    assert "a greeting from the module" in answer.stderr
    assert "training" in answer.stderr
    assert "\x1b" not in answer.stderr
    assert json.loads(Path("out/findings.json").read_text()) == found
    assert pq.read_table("out/findings.parquet").to_pylist() == found
    examples = pq.read_table("out/examples.parquet")
    assert (examples.column_names, examples.num_rows) == ([*IDENTITY, *MEMORISATION, *MEMBERSHIP], 64)
    assert Path("out/report.html").stat().st_size > 10_000


def test_a_whole_audit_of_a_table_of_words(process: Command) -> None:
    """Labels as strings are accepted; the summary fits 80 columns and cuts nothing off."""
    write_table(Path("animals.csv"), group=np.arange(120) // 3)
    answer = process("audit", "animals.csv", "--group", "group", *TINY)
    assert answer.status == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in answer.stdout
    assert [c for claims in CLAIMS.values() for c in claims if not any(c in line.split() for line in lines)] == []
    assert lines[-1] == "Report: runs/animals.csv/report.html"
    assert Path("runs/animals.csv/report.html").exists()


def test_numbers_are_predicted_when_asked_for(byrote: Command) -> None:
    write_table(Path("prices.csv"), label=np.arange(120) % 40 + 100)
    answer = byrote("study", "memorisation", "prices.csv", "--regression", *TINY, "--json")
    assert answer.status == 0, answer.stderr
    assert pq.read_table("runs/prices.csv/memorisation/examples.parquet")["target"].to_pylist()[0] >= 100


@pytest.mark.parametrize("leaks", [True, False], ids=["leaking", "clean"])
def test_a_gate_fails_on_a_leak_and_says_why(byrote: Command, leaks: bool) -> None:
    """A test set that repeats half of the training set is a leak; the same data without that are not."""
    path = write_arrays(Path("arrays.npz"), num_test=200)
    if leaks:
        arrays = dict(np.load(path))
        write_arrays(path, x_test=arrays["x_train"][:40], y_test=arrays["y_train"][:40])
    answer = byrote("study", "random-data", "arrays.npz", *TINY, "--fail-on", "leak", "--json")
    leak = next(finding for finding in answer.findings if finding["claim"] == "no-leak")
    assert (answer.status, leak["verdict"]) == ((1, "does not hold") if leaks else (0, "holds"))
    assert (f"--fail-on no-leak: does not hold. {leak['statement']}" in answer.stderr) == leaks


def test_a_claim_that_does_not_hold_fails_its_gate_alone(byrote: Command) -> None:
    """Two epochs of eight units do not fit random labels."""
    write_table(Path("animals.csv"))
    failed = byrote("study", "random-data", "animals.csv", *TINY, "--fail-on", "random-labels-are-fitted")
    assert failed.status == 1
    assert "--fail-on random-labels-are-fitted: does not hold." in failed.stderr
    assert "Report:" in failed.stdout
    passed = byrote("study", "random-data", "animals.csv", *TINY, "--fail-on", "leak", "--fail-on", "no-leak")
    assert passed.status == 0


def test_a_gate_that_cannot_be_judged_passes_and_says_so(byrote: Command) -> None:
    """One run of each kind bounds nothing."""
    write_table(Path("animals.csv"))
    answer = byrote("study", "random-data", "animals.csv", *TINY, "--runs", 1, "--fail-on", "true-labels-fit-faster")
    assert answer.status == 0
    assert "--fail-on true-labels-fit-faster: inconclusive, which does not fail. " in answer.stderr


def test_a_budget_decides_how_many_networks_there_are(process: Command) -> None:
    write_table(Path("animals.csv"))
    answer = process(
        "study", "memorisation", "animals.csv", "--budget", "15s", "--epochs", "20", "--width", "8", "--json"
    )
    assert answer.status == 0, answer.stderr
    assert answer.findings[0]["num_runs"] >= 4


def test_the_version_is_the_package_s(process: Command) -> None:
    answer = process("--version")
    assert answer.status == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", answer.stdout)


def test_nothing_typed_shows_the_help(byrote: Command) -> None:
    answer = byrote()
    assert answer.status == 2
    assert "audit" in answer.stdout + answer.stderr
