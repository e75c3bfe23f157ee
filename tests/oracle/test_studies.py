"""Studies on data whose answers are known beforehand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import byrote
from byrote import Audit, Examples, Finding, Learner, Recipe, Task
from byrote.records import BalancedSubset, Interval, Run, RunSpec, Sample, Share, Shares
from byrote.studies import Lookup, Memorisation, RandomData, Results, StudyBudget
from byrote.studies.alarm import sound_alarm
from byrote.studies.certainty import crossed_interval, example_variance, over_runs_and_examples
from byrote.studies.claims import claim
from byrote.studies.lookup import DECOMPOSED
from byrote.studies.slowdown import Arrival, arrival, slowdown
from byrote.studies.study import heldout_quality, inclusion_mask, sampled, subset_runs
from cheap_runs import LEARNER, fake_fit, fake_run, summarise, task_of

BUDGET = StudyBudget(runs=3, subsets=10, seed=0)


def small_digits(num_train: int) -> Task:
    digits = byrote.load("digits")
    return digits.part(train=np.arange(num_train), test=np.arange(len(digits.test)))


def finding_of(section_findings: tuple[Finding, ...], name: str) -> Finding:
    return next(finding for finding in section_findings if finding.claim == name)


@pytest.fixture(scope="module")
def random_data() -> Audit:
    recipe = Recipe(optimiser=byrote.SGD(lr=0.05), batch_size=32, epochs=60)
    learner = Learner(model=byrote.models.mlp(width=128), recipe=recipe)
    return byrote.audit(small_digits(300), learner=learner, studies=["random-data"], runs=4, seed=1)


@pytest.mark.parametrize(
    "name",
    [
        "random-labels-are-fitted",
        "random-labels-test-at-chance",
        "true-labels-fit-faster",
        "random-inputs-start-faster",
        "test-error-rises-with-corruption",
        "no-leak",
    ],
)
def test_random_labels_against_true_ones(random_data: Audit, name: str) -> None:
    """Zhang et al. 2017 and Arpit et al. 2017, on 300 digits."""
    assert random_data.finding(name).verdict == "holds", random_data.finding(name).statement


def test_what_is_measured_on_random_data(random_data: Audit) -> None:
    fitted, heldout, faster, rises = (
        random_data.finding(name)
        for name in (
            "random-labels-are-fitted",
            "random-labels-test-at-chance",
            "true-labels-fit-faster",
            "test-error-rises-with-corruption",
        )
    )
    assert fitted.value == 1
    assert fitted.low is not None
    assert 0.99 < fitted.low < 1
    assert heldout.null == 0.1
    assert heldout.value is not None
    assert abs(heldout.value - 0.1) < 0.05
    assert faster.value is not None
    assert faster.value > 3
    assert rises.value is not None
    assert 0.6 < rises.value < 1.2


def test_a_clean_task_is_said_to_be_clean_with_its_counts(random_data: Audit) -> None:
    leak = random_data.finding("no-leak")
    assert (leak.value, leak.low) == (0, 0)
    assert leak.high == pytest.approx(1 - 0.025 ** (1 / 359))
    assert leak.num_runs == 4
    assert leak.p_value is not None
    assert leak.p_value > 0.01
    assert leak.statement == (
        f"Nothing leaks: trained on random labels the network does no better than chance (p = {leak.p_value:.2f}), no "
        "test example is repeated in the training set and no column gives the target away."
    )


class ReadsLabels(nn.Module):
    """Adds what it remembers of the true labels to what it learns."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        x = np.concatenate([task.normalise(part.x) for part in (task.train, task.test)])
        self.learns = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        self.register_buffer("known", torch.as_tensor(x.reshape(len(x), -1)))
        self.register_buffer("labels", torch.eye(10)[np.concatenate([task.train.y, task.test.y])])

    def forward(self, x: Tensor) -> Tensor:
        place = torch.cdist(x.flatten(1), self.get_buffer("known")).argmin(1)
        return self.learns(x) + 3 * self.get_buffer("labels")[place]


def test_a_model_that_reads_the_true_labels_again_sets_off_the_alarm() -> None:
    learner = Learner(model=ReadsLabels, recipe=Recipe(optimiser=byrote.SGD(lr=0.01), batch_size=32, epochs=3))
    audit = byrote.audit(small_digits(150), learner=learner, studies=[RandomData(fractions=(), stretch=1)], runs=2)
    leak = audit.finding("no-leak")
    assert leak.verdict == "does not hold"
    assert leak.p_value is not None
    assert leak.p_value < 0.001
    assert "networks trained on random labels do better than chance on held-out examples (p < 0.001)" in leak.statement
    assert audit.finding("random-labels-test-at-chance").verdict == "does not hold"
    assert leak.statement in audit.record.verdict


def test_the_decomposition_adds_up_and_the_nearest_neighbour_has_its_exact_share() -> None:
    """A 1-NN table gets every training answer right that it was given, and others as its held-out score says."""
    task = small_digits(400)
    learner = Learner(model=byrote.models.mlp(width=64), recipe=Recipe(optimiser=byrote.SGD(lr=0.05), epochs=15))
    audit = byrote.audit(task, learner=learner, studies=["lookup"], runs=10)
    section = audit.record.sections[0]
    shares = next(figure for figure in section.figures if isinstance(figure, Shares))
    rows = {row.label: {part.name: part.value for part in row.parts} for row in shares.rows}
    assert set(rows) == {"network", *DECOMPOSED}
    chance = np.bincount(task.train.y).max() / 400
    for row in rows.values():
        assert sum(row.values()) == pytest.approx(1)
        assert row["chance alone"] == pytest.approx(chance)
    assert rows["1-NN table"]["wrong"] == 0
    learnt, memorised = audit.finding("learnt-share"), audit.finding("memorised-share")
    assert rows["network"]["learnt"] == pytest.approx(learnt.value)
    assert rows["network"]["memorised"] == pytest.approx(memorised.value)
    assert section.summary.startswith("Of 100 training answers, ")


def known_runs(task: Task) -> list[Run]:
    """Runs on subsets that are right on the first half of the examples always, on the next quarter only when trained
    on them, and on the rest never.
    """
    runs, number = [fake_run(task, spec) for spec in subset_runs(task, LEARNER, BUDGET)], len(task.train)
    place, onehot = np.arange(number), np.eye(task.num_classes)[task.train.y]
    for run in runs:
        included = inclusion_mask(task, [run])[0]
        sign = np.where((place < number // 2) | ((place < 3 * number // 4) & included), 1.0, -1.0)
        run.trace.margin[:] = sign
        run.trace.train_outputs[:] = sign[:, None] * onehot
    return runs


def test_learnt_and_memorised_are_what_they_are() -> None:
    task = task_of(num_train=200, num_classes=2)
    runs = known_runs(task)
    section = summarise(Lookup(), task, BUDGET, runs=runs).section
    learnt, memorised = (finding_of(section.findings, name) for name in ("learnt-share", "memorised-share"))
    chance = np.bincount(task.train.y).max() / 200
    assert learnt.value == pytest.approx(0.5 - chance, abs=1e-9)
    assert memorised.value == pytest.approx(0.25, abs=0.02)
    assert memorised.verdict == "holds"

    outcome = summarise(Memorisation(), task, BUDGET, runs=runs)
    assert outcome.examples is not None
    table = outcome.examples
    np.testing.assert_array_equal(table["memorisation_raw"].to_numpy(), np.repeat([0.0, 1.0, 0.0], [100, 50, 50]))
    np.testing.assert_array_equal(table["heldout_correct"].to_numpy(), np.repeat([1.0, 0.0, 0.0], [100, 50, 50]))
    assert table["status"].to_pylist() == ["learnt"] * 100 + ["memorised"] * 50 + ["never fitted"] * 50
    fitted = outcome.section.findings[0]
    assert (fitted.claim, fitted.value, fitted.verdict) == ("training-examples-are-fitted", 0.75, "does not hold")
    assert outcome.section.summary.startswith("50 of 200 training examples (25.0 %) are known by rote")


def test_shares_of_a_network_worse_than_chance_still_add_up_to_one() -> None:
    """Held out it is right less often than the commonest answer, trained on nearly always."""
    task = task_of(num_train=60, num_classes=2, shares=(0.9, 0.1))
    runs = [fake_run(task, spec) for spec in subset_runs(task, LEARNER, BUDGET)]
    for run in runs:
        run.trace.margin[:] = np.where(inclusion_mask(task, [run])[0], 1.0, -1.0)
    section = summarise(Lookup(), task, BUDGET, runs=runs).section
    parts = next(figure for figure in section.figures if isinstance(figure, Shares)).rows[0].parts
    assert parts == (
        Share(name="learnt", value=0.0),
        Share(name="chance alone", value=0.0),
        Share(name="memorised", value=1.0),
        Share(name="wrong", value=0.0),
    )
    learnt = finding_of(section.findings, "learnt-share")
    assert learnt.verdict == "does not hold"
    assert section.summary.startswith("Nothing is learnt: of 100 training answers 0.0 are right when left out")


def test_a_network_that_is_merely_equal_to_a_table_is_not_said_to_beat_it() -> None:
    task = task_of(num_train=60, num_test=400, num_classes=2)
    plan = Lookup().plan(task, LEARNER, BUDGET)
    fits = [fake_fit(task, spec) for spec in plan.fits]
    runs = [fake_run(task, spec) for spec in plan.runs]
    for whole in [*runs, *fits]:
        outputs: Any = whole.trace.test_outputs if isinstance(whole, Run) else whole.test_outputs
        outputs[:] = np.eye(2)[np.where(np.arange(400) < 394, task.test.y, 1 - task.test.y)]
    finding = summarise(Lookup(), task, BUDGET, runs=runs, fits=fits).section.findings[0]
    assert finding.verdict == "does not hold"
    assert finding.p_value == 1
    assert finding.statement == (
        "The network does not beat the exact-match table: 98.5 % of held-out examples right against 98.5 %, difference "
        "0.0 points (−0.5 to 0.5)."
    )


def test_at_chance_is_one_of_k_whatever_the_shares_of_the_classes() -> None:
    task = task_of(num_train=60, num_test=300, num_classes=2, shares=(0.9, 0.1))
    runs = [fake_run(task, spec) for spec in RandomData().plan(task, LEARNER, BUDGET).runs]
    section = summarise(RandomData(), task, BUDGET, runs=runs).section
    finding = finding_of(section.findings, "random-labels-test-at-chance")
    assert finding.null == 0.5
    assert "where chance is 50.0 %" in finding.statement


def test_a_leak_too_small_for_the_margin_is_not_called_chance() -> None:
    """53 of 100 right, in every run on random labels: near a half, and no accident."""
    task = task_of(num_train=20, num_test=4000, num_classes=2)
    runs = [fake_run(task, spec) for spec in RandomData().plan(task, LEARNER, BUDGET).runs]
    right = np.arange(4000) % 100 < 53
    for run in runs:
        run.trace.test_outputs[:] = np.eye(2)[np.where(right, task.test.y, 1 - task.test.y)]
    findings = summarise(RandomData(), task, BUDGET, runs=runs).section.findings
    chance = finding_of(findings, "random-labels-test-at-chance")
    assert chance.high is not None
    assert chance.high < 0.55
    assert chance.verdict == "does not hold"
    assert finding_of(findings, "no-leak").verdict == "does not hold"


def test_a_majority_that_needs_no_learning_says_nothing_of_speed() -> None:
    task = task_of(num_train=100, num_classes=2, shares=(0.98, 0.02))
    runs = [fake_run(task, spec) for spec in RandomData().plan(task, LEARNER, BUDGET).runs]
    finding = finding_of(summarise(RandomData(), task, BUDGET, runs=runs).section.findings, "true-labels-fit-faster")
    assert finding.verdict == "inconclusive"
    assert "always the commonest answer is right for" in finding.statement


def test_runs_that_diverged_are_told_and_left_out() -> None:
    task = task_of()
    specs = RandomData().plan(task, LEARNER, BUDGET).runs
    runs = [fake_run(task, spec, diverged=index == 1) for index, spec in enumerate(specs)]
    section = summarise(RandomData(), task, BUDGET, runs=runs).section
    assert "1 run diverged and is left out. Lower it." in section.notes
    assert finding_of(section.findings, "random-labels-are-fitted").num_runs == 3


def test_an_arrival_lies_between_epochs() -> None:
    step, score = np.array([10.0, 20.0, 30.0]), np.array([0.2, 0.6, 1.0])
    found = arrival(step, score, level=0.8, seed=3)
    assert (found.seed, found.first, found.last) == (3, 10.0, 30.0)
    assert found.at == pytest.approx(25.0)
    assert arrival(step, score, level=0.1, seed=3).at == 10.0
    assert math.isinf(arrival(step, score, level=1.1, seed=3).at)


def pairs(fast: list[float], slow: list[float], *, first: float = 1.0) -> tuple[list[Arrival], list[Arrival]]:
    return tuple([Arrival(seed, at, first, 1000.0) for seed, at in enumerate(own)] for own in (fast, slow))  # pyright: ignore


def test_a_slowdown_is_the_geometric_mean_of_ratios() -> None:
    found = slowdown(*pairs([10, 10], [20, 80]))
    assert found.interval.value == pytest.approx(4)
    assert (found.from_below, found.num_never, found.verdict) == (False, 0, "inconclusive")
    assert slowdown(*pairs([10, 11, 9], [50, 60, 40])).verdict == "holds"
    assert slowdown(*pairs([50, 60, 40], [10, 11, 9])).verdict == "does not hold"


def test_slow_runs_that_never_arrive_can_only_make_the_ratio_larger() -> None:
    found = slowdown(*pairs([10, 10], [math.inf, math.inf]))
    assert found.interval.value == pytest.approx(100)
    assert (found.from_below, found.num_never, found.verdict) == (True, 2, "holds")
    assert str(found) == "at least 100 times"
    assert slowdown(*pairs([1000, 999], [math.inf, 900])).verdict == "inconclusive"


def test_a_fast_run_that_arrives_in_the_first_epoch_gives_a_least_ratio() -> None:
    found = slowdown(*pairs([10, 10], [20, 30], first=10))
    assert found.from_below
    assert str(found).startswith("at least 2.45")


@pytest.mark.parametrize(
    ("fast", "slow", "why"),
    [
        ([], [10.0], "no pair of runs"),
        ([math.inf], [10.0], "not every run on the one gets there"),
        ([5.0], [1.0], "within the first epoch"),
    ],
)
def test_a_ratio_that_cannot_be_known_says_why(fast: list[float], slow: list[float], why: str) -> None:
    found = slowdown(*pairs(fast, slow))
    assert why in found.unknown
    assert found.verdict == "inconclusive"


def test_seeds_are_paired_with_themselves() -> None:
    fast = [Arrival(0, 10, 1, 99), Arrival(2, 30, 1, 99)]
    slow = [Arrival(1, 50, 1, 99), Arrival(2, 60, 1, 99)]
    found = slowdown(fast, slow)
    assert (found.interval.value, found.interval.count) == (pytest.approx(2), 1)
    assert math.isinf(found.interval.low)


def test_variance_over_examples_is_that_of_a_mean() -> None:
    values = np.array([0.3, 0.1, 0.9, 0.4])
    found = example_variance(values, groups=None, binary=False)
    assert found == (pytest.approx(values.var(ddof=1) / 4), 3)
    assert example_variance(values, groups=np.arange(4), binary=False) == pytest.approx(found)


def test_variance_over_groups_is_that_of_their_means() -> None:
    """Groups of one size, alike within: as if each were one example."""
    values = np.repeat([0.3, 0.1, 0.9], 5)
    found = example_variance(values, groups=np.repeat([7, 8, 9], 5), binary=False)
    assert found == (pytest.approx(values[::5].var(ddof=1) / 3), 2)


def test_answers_that_all_agree_do_not_claim_certainty() -> None:
    """As wide as one disagreement among n."""
    variance, _ = example_variance(np.ones(50), groups=None, binary=True)
    assert variance == pytest.approx(1 / (50 * 49))
    interval = crossed_interval(np.zeros((3, 5)), groups=None, binary=True)
    assert interval.high > 0.5


def test_nothing_is_known_from_one_run_or_one_example() -> None:
    for values in (np.ones((1, 9)), np.ones((9, 1)), np.ones((1, 1))):
        assert math.isinf(crossed_interval(values, groups=None, binary=True).low)
    one_group = crossed_interval(np.ones((5, 5)), groups=np.zeros(5), binary=True)
    assert math.isinf(one_group.low)
    nothing = over_runs_and_examples(np.full(3, np.nan), np.full(3, np.nan), groups=None, binary=True)
    assert math.isnan(nothing.value)


def test_a_claim_keeps_to_what_is_possible() -> None:
    wide = Interval(value=0.98, low=0.9, high=1.2, se=0.1, count=3)
    made = claim("a", "A.", study="s", paper="p", unit="u", interval=wide, most=1.0)
    assert (made.low, made.high) == (0.9, 1.0)
    below = Interval(value=4.0, low=2.0, high=math.inf, se=0.1, count=3)
    assert claim("a", "A.", study="s", paper="p", unit="u", interval=below).low == 2.0
    open_ended = Interval(value=4.0, low=-math.inf, high=math.inf, se=math.nan, count=1)
    made = claim("a", "A.", study="s", paper="p", unit="u", interval=open_ended)
    assert (made.value, made.low, made.high) == (4.0, None, None)


def test_the_alarm_knows_when_it_could_not_have_rung() -> None:
    """Two test examples of two classes: three runs that answer both right are one of 8 relabellings."""
    clean = task_of(num_test=2, num_classes=2)
    task = Task(train=clean.train, test=Examples(clean.test.x, [0, 1]), classes=("a", "b"))
    alarm = sound_alarm(task, [np.eye(2)] * 3, seed=0)
    assert alarm is not None
    assert alarm.test.p_value == alarm.least_p == 0.125
    assert not alarm.rings


def test_constant_predictions_on_equal_classes_can_never_ring() -> None:
    task = task_of(num_test=40, num_classes=2)
    y = np.arange(40) % 2
    even = Task(train=task.train, test=Examples(task.test.x, y), classes=("a", "b"))
    alarm = sound_alarm(even, [np.tile([1.0, 0.0], (40, 1))] * 10, seed=0)
    assert alarm is not None
    assert (alarm.test.p_value, alarm.least_p) == (1.0, 1.0)
    assert (alarm.interval.low, alarm.interval.value, alarm.interval.high) == (0.5, 0.5, 0.5)


def test_predictions_that_do_not_vary_correlate_with_nothing() -> None:
    task = task_of(num_classes=0)
    alarm = sound_alarm(task, [np.full((12, 1), 3.0)] * 8, seed=0)
    assert alarm is not None
    assert (alarm.test.observed, alarm.least_p) == (0.0, 1.0)


def test_errors_of_numbers_are_in_units_of_their_variance() -> None:
    """1 + the mean is R²; with one test example, in units of the training targets' variance."""
    task = task_of(num_classes=0, num_test=30)
    predicted = np.random.default_rng(0).standard_normal((30, 1))
    wrong = ((task.test.y - predicted[:, 0]) ** 2).sum() / ((task.test.y - task.test.y.mean()) ** 2).sum()
    assert 1 + heldout_quality(task, predicted).mean() == pytest.approx(1 - wrong)
    alone = task_of(num_classes=0, num_test=1)
    assert heldout_quality(alone, alone.test.y[:, None] + 2)[0] == pytest.approx(-4 / alone.train.y.var())


def test_a_sample_takes_more_epochs_never_fewer() -> None:
    task = task_of(num_train=40)
    for size, epochs in ((20, 8), (4, 24), (400, 4)):
        learner = sampled(LEARNER, task, Sample(train=size, test=5, draw=0))
        assert learner.recipe.epochs == epochs


def test_a_run_without_a_finite_answer_has_diverged() -> None:
    task = task_of(num_classes=0)
    spec = RunSpec(
        task=task.fingerprint, learner=LEARNER, seed=0, order=0, subset=BalancedSubset(fraction=0.7, draw=0, index=0)
    )
    run = fake_run(task, spec)
    run.trace.test_outputs[0] = np.inf
    results = Results(task=task, learner=LEARNER, runs={spec: run}, fits={})
    assert results.completed((spec,)) == []
    assert results.lost((spec,))[0].startswith("1 run diverged")
