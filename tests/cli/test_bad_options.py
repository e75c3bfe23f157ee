"""Options that cannot be meant are refused before anything is trained."""

from pathlib import Path

import pytest
import torch

from byrote.models import MODELS
from byrote.studies import STUDIES
from careless import TINY, Command, refused, write_table


@pytest.fixture(autouse=True)
def table() -> Path:
    return write_table(Path("animals.csv"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--runs 0", ["runs at least 1", "got 0"]),
        ("--runs -3", ["runs at least 1", "got -3"]),
        ("--runs 2 --budget 1m", ["got both", "Drop one"]),
        ("--budget abc", ["60s, 5m or 1h30m", "'abc'"]),
        ("--budget 0", ["above 0", "'0'"]),
        ("--budget=-5m", ["above 0", "'-5m'"]),
        ("--budget 5ms", ["60s, 5m or 1h30m", "'5ms'"]),
        ("--seed -1", ["seed at least 0", "got -1"]),
        ("--lr 0", ["lr above 0", "got 0"]),
        ("--lr -1", ["lr above 0", "got -1"]),
        ("--lr nan", ["lr above 0", "got nan"]),
        ("--lr inf", ["lr above 0", "got inf"]),
        ("--epochs 0", ["epochs at least 1", "got 0"]),
        ("--batch-size 0", ["batch_size to be a whole number of at least 1", "got 0"]),
        ("--batch-size every", ["--batch-size", "a whole number above 0, or all", "'every'"]),
        ("--optimiser sdg", ["Unknown optimiser 'sdg'", "Did you mean: sgd?", "adamw"]),
        ("--optimiser adam --momentum 0.5", ["--momentum is of sgd and sam", "Drop it"]),
        ("--momentum 1", ["momentum in [0, 1)", "got 1"]),
        ("--weight-decay -1", ["weight_decay at least 0", "got -1"]),
        ("--schedule cosin", ["Unknown schedule 'cosin'", "Did you mean: cosine?"]),
        ("--warm-up 0", ["--warm-up at least 1", "got 0"]),
        ("--dropout 1", ["dropout in [0, 1)", "got 1"]),
        ("--label-smoothing -0.1", ["label_smoothing in [0, 1)", "got -0.1"]),
        ("--input-noise inf", ["input_noise at least 0", "got inf"]),
        ("--clip-norm 0", ["clip_norm above 0", "got 0"]),
        ("--width 0", ["width of the model mlp", "above 0", "got 0"]),
        ("--model linear --width 8", ["linear has no argument 'width'"]),
        ("--model mpl", ["Unknown model 'mpl'", "Did you mean: mlp?"]),
        ("--model cnn", ["needs images", "Use mlp or linear"]),
        ("--device nonsense", ["'nonsense' cannot be used here", "There is: cpu"]),
        ("--device meta", ["'meta' cannot be used here", "There is: cpu"]),
        ("--fail-on nonsense", ["Unknown claim 'nonsense'", "Known: leak"]),
        ("--fail-on beats-forrest", ["Did you mean: beats-forest?"]),
    ],
)
def test_an_impossible_option_is_refused(byrote: Command, options: str, words: list[str]) -> None:
    refused(byrote("audit", "animals.csv", *options.split()), *words)
    assert not Path("runs/animals.csv/runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none(byrote: Command) -> None:
    refused(byrote("audit", "animals.csv", "--device", "cuda"), "'cuda' cannot be used here", "There is: cpu")


def test_a_budget_too_small_for_one_run_says_what_the_least_is(byrote: Command) -> None:
    answer = byrote("audit", "animals.csv", "--budget", "1s", "--width", "8")
    refused(answer, "A budget of 1 s is too small", "takes about", "or more (--budget)", "--epochs")


def test_an_unknown_study_suggests(byrote: Command) -> None:
    refused(byrote("study", "lokup", "animals.csv"), "Unknown study 'lokup'", "Did you mean: lookup?", *STUDIES)


def test_a_gate_whose_study_is_not_run_is_refused(byrote: Command) -> None:
    answer = byrote("study", "memorisation", "animals.csv", "--fail-on", "leak")
    refused(answer, "could never fail here", "byrote study random-data")


@pytest.mark.parametrize(
    "options",
    ["--runs many", "--lr fast", "--no-such-option", "--seed 1.5", "--warm-up soon", "--dropout some", "more words"],
)
def test_what_cannot_be_parsed_is_refused(byrote: Command, options: str) -> None:
    answer = byrote("audit", "animals.csv", *options.split())
    assert answer.status == 2
    assert answer.stdout == ""
    assert options.split()[0] in answer.stderr


def test_an_unknown_command_suggests(byrote: Command) -> None:
    answer = byrote("audt", "animals.csv")
    assert answer.status == 2
    assert "Did you mean 'audit'?" in answer.stderr


def test_an_unknown_list_says_which_there_are(byrote: Command) -> None:
    answer = byrote("list", "modls")
    assert answer.status == 2
    assert "models" in answer.stderr


def test_every_list_names_what_there_is(byrote: Command) -> None:
    answer = byrote("list")
    assert answer.status == 0
    assert [name for name in (*MODELS, *STUDIES, "digits", "memorisation") if name not in answer.stdout] == []
    assert byrote("list", "studies").stdout.split()[0] == "studies"


def test_the_largest_seed_that_fits_in_64_bits_is_a_seed(byrote: Command) -> None:
    answer = byrote("study", "memorisation", "animals.csv", *TINY, "--seed", 2**63 - 1, "--json")
    assert answer.status == 0, answer.stderr
