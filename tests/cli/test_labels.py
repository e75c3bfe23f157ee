"""`byrote labels` and `byrote study worth`, as they are typed."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from careless import TINY, Command, refused, write_table

SMALL = ("animals.csv", *TINY[2:], "--out", "out")
COLUMNS = ["id", "target", "suggested_target", "probability", "probability_se", "rank", "reason", "flagged"]


@pytest.fixture(autouse=True)
def table() -> Path:
    return write_table(Path("animals.csv"))


def test_labels_are_judged_and_written_as_a_table_and_as_csv(byrote: Command) -> None:
    answer = byrote("labels", *SMALL, "--runs", 4, "--csv")
    assert answer.status == 0, answer.stderr
    assert "labels-are-right" in answer.stdout
    assert "Labels: out/labels/labels.csv" in answer.stderr
    found = pq.read_table("out/labels/labels.parquet")
    assert (found.column_names, found.num_rows) == (COLUMNS, 96)
    assert all(0 <= value <= 1 for value in found["probability"].to_pylist() if value is not None)
    with open("out/labels/labels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(name) for name in found["id"].to_pylist()]
    assert list(rows[0]) == COLUMNS


def test_numbers_are_judged_too(byrote: Command) -> None:
    answer = byrote("labels", "animals.csv", "--target", "weight", *SMALL[1:], "--runs", 4, "--json")
    assert answer.status == 0, answer.stderr
    assert [finding["claim"] for finding in json.loads(answer.stdout)] == ["labels-are-right"]
    assert pq.read_table("out/labels/labels.parquet").column_names == COLUMNS


def test_with_too_few_networks_no_label_is_judged_and_it_is_said_why(byrote: Command) -> None:
    answer = byrote("labels", *SMALL, "--runs", 2)
    assert answer.status == 0
    assert "With 2 networks on random subsets it cannot be said which labels are wrong" in " ".join(
        answer.stdout.split()
    )
    assert not Path("out/labels/labels.parquet").exists()


def test_a_csv_of_an_earlier_answer_does_not_stay_beside_another_table(byrote: Command) -> None:
    path = Path("out/labels/labels.csv")
    assert byrote("labels", *SMALL, "--runs", 4, "--csv").status == 0
    assert path.exists()
    assert byrote("labels", *SMALL, "--runs", 4, "--false-discovery-rate", 0.5).status == 0
    assert not path.exists()
    assert byrote("labels", *SMALL, "--runs", 4, "--csv").status == 0
    answer = byrote("labels", *SMALL, "--runs", 3, "--csv")
    assert "no table, and no CSV, as too few networks judged them" in " ".join(answer.stderr.split())
    assert not path.exists()
    assert not path.with_suffix(".parquet").exists()
    (finding,) = json.loads(Path("out/labels/findings.json").read_text())
    assert (finding["num_runs"], finding["verdict"]) == (3, "inconclusive")


@pytest.mark.parametrize("rate", ["0", "1", "-0.1", "7"])
def test_a_rate_out_of_range_is_refused_before_anything_is_trained(byrote: Command, rate: str) -> None:
    refused(byrote("labels", *SMALL, "--false-discovery-rate", rate), "--false-discovery-rate between 0 and 1")
    assert not Path("out").exists()


def test_what_memorised_examples_are_worth_takes_further_networks_once(byrote: Command) -> None:
    command = ("study", "worth", *SMALL, "--runs", 10)
    assert byrote(*command).status == 0
    first = json.loads(Path("out/worth/audit.json").read_text())
    assert first["complete"]
    assert first["cost"]["num_runs"] == first["cost"]["planned_runs"] >= 20
    assert byrote(*command).status == 0
    again = json.loads(Path("out/worth/audit.json").read_text())["cost"]
    assert again["num_reused"] == again["num_runs"] == first["cost"]["num_runs"]
