"""What would be done is said without doing it, and is then done."""

import json
from pathlib import Path

import pytest

from byrote.auditing import AuditPlan
from byrote.records import decode
from careless import TINY, Command, refused, write_table

AUDIT = ("audit", "animals.csv", *TINY)


@pytest.fixture(autouse=True)
def table() -> Path:
    return write_table(Path("animals.csv"))


def planned(byrote: Command, *arguments: object) -> AuditPlan:
    answer = byrote(*arguments, "--dry-run", "--json")
    assert answer.status == 0, answer.stderr
    return decode(AuditPlan, json.loads(answer.stdout))


def cost() -> dict[str, int]:
    return json.loads(Path("runs/animals.csv/audit.json").read_text())["cost"]


def test_a_plan_is_made_without_a_trace(byrote: Command) -> None:
    answer = byrote(*AUDIT, "--dry-run")
    assert answer.status == 0, answer.stderr
    assert sorted(Path().iterdir()) == [Path("animals.csv")]
    lines = answer.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for word in ("random labels", "25 % random labels", "Gaussian inputs", "random 70 %", "forest", "shared"):
        assert any(word in line for line in lines), word
    assert "Nothing was trained or written." in " ".join(answer.stdout.split())


def test_what_was_planned_is_what_is_done(byrote: Command) -> None:
    """Before, nothing is stored; after, everything; and of a larger audit what is new is known beforehand."""
    before = planned(byrote, *AUDIT)
    assert (before.num_stored, before.budget, before.fits_budget, before.fitting_seconds) == (0, None, None, None)
    assert before.training_seconds > 0
    assert {line.epochs for line in before.runs if line.study == "random-data"} == {4}
    assert byrote(*AUDIT).status == 0
    assert cost()["num_runs"] == before.num_runs
    assert cost()["num_fits"] == sum(line.num_fits for line in before.fits)
    after = planned(byrote, *AUDIT)
    assert (after.num_stored, after.training_seconds) == (before.num_runs, 0)
    assert all(line.num_stored == line.num_fits for line in after.fits)
    larger = planned(byrote, *AUDIT, "--runs", 3)
    assert larger.num_stored == before.num_runs
    assert byrote(*AUDIT, "--runs", 3).status == 0
    assert cost()["num_runs"] == larger.num_runs
    assert cost()["num_reused"] == larger.num_stored
    weights = planned(byrote, *AUDIT, "--keep-weights")
    assert weights.num_stored == 0


def test_runs_that_two_studies_share_are_counted_once(byrote: Command) -> None:
    plan = planned(byrote, *AUDIT)
    shared = [line for line in plan.runs if line.num_shared]
    assert [line.study for line in shared] == ["memorisation", "membership"]
    assert {(line.condition, line.num_train) for line in shared} == {("random 70 %", 67)}
    assert sum(line.num_runs - line.num_shared for line in plan.runs) == plan.num_runs
    assert sum(line.seconds for line in plan.runs) == pytest.approx(plan.training_seconds)


def test_a_budget_is_planned_to_be_kept(byrote: Command) -> None:
    plan = planned(byrote, "audit", "animals.csv", "--budget", "5m", *TINY[2:])
    assert (plan.budget, plan.fits_budget) == (300, True)
    assert plan.fitting_seconds is not None
    assert plan.training_seconds + plan.fitting_seconds + plan.other_seconds <= 300
    more = planned(byrote, "audit", "animals.csv", "--budget", "1h", *TINY[2:])
    assert more.num_runs >= plan.num_runs
    refused(byrote("audit", "animals.csv", "--budget", "1s", "--dry-run"), "A budget of 1 s is too small")
    assert sorted(Path().iterdir()) == [Path("animals.csv")]


def test_a_plan_counts_the_runs_that_will_be_wanted_later(byrote: Command) -> None:
    plan = planned(byrote, "study", "worth", "animals.csv", "--epochs", 2, "--width", 8, "--runs", 10)
    later = {runs.condition: runs.num_runs for runs in plan.runs}
    assert later == {
        "all as it is": 10,
        "random 70 %": 10,
        "all but the most memorised": 10,
        "all but the random ones": 10,
        "all but the suspected errors": 10,
        "suggested labels": 10,
    }
    assert plan.num_runs == 60


def test_a_plan_refuses_what_an_audit_refuses(byrote: Command) -> None:
    refused(byrote(*AUDIT, "--dry-run", "--lr", 0), "lr above 0")
    refused(byrote(*AUDIT, "--dry-run", "--workers", 0), "workers to be a whole number of at least 1")
