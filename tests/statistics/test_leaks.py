"""How often leaks are found that are none, and that are."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import byrote
from byrote import Examples, Task
from byrote.measures import nearest
from byrote.records import Finding, Run, RunSpec
from byrote.studies import Background, Results, StudyBudget
from byrote.studies.alarm import ALARM_LEVEL, PROVING, draws_for_alarm, sound_alarm
from byrote.studies.leaks import leak_finding, near_reach
from byrote.studies.random_data import RandomData
from cheap_runs import LEARNER, fake_run, summarise, task_of

NUM_SETS = 300
NUM_TEST = 120


def most_false_alarms(number: int, level: float) -> int:
    """What a binomial count exceeds once in 1,000 times."""
    return int(stats.binom.ppf(0.999, number, level))


def clustered(num_classes: int, *, seed: int) -> tuple[Task, list[np.ndarray]]:
    """Runs on random labels that answer all test examples of a cluster alike, and clusters that go with classes: the
    same as drawing a label for every test example would be only if clusters had one example.
    """
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(num_classes, 5.0))
    y = rng.choice(num_classes, p=shares, size=NUM_TEST)
    cluster = np.where(rng.random(NUM_TEST) < 0.9, 2 * y, 2 * rng.integers(num_classes, size=NUM_TEST))
    cluster = cluster + rng.integers(2, size=NUM_TEST)
    train = np.arange(2 * num_classes) % num_classes
    task = Task(
        train=Examples(np.arange(len(train))[:, None], train),
        test=Examples(cluster[:, None], y),
        classes=tuple(map(str, range(num_classes))),
    )
    outputs = [
        np.eye(num_classes)[rng.integers(num_classes, size=2 * num_classes)][cluster]
        for _ in range(draws_for_alarm(task))
    ]
    return task, outputs


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_the_alarm_seldom_rings_for_nothing(num_classes: int) -> None:
    alarms = [sound_alarm(*clustered(num_classes, seed=seed), seed=0) for seed in range(NUM_SETS)]
    p_values = np.array([alarm.test.p_value for alarm in alarms if alarm is not None])
    assert len(p_values) == NUM_SETS
    for level in (ALARM_LEVEL, 0.05, 0.2):
        assert (p_values < level).sum() <= most_false_alarms(NUM_SETS, level)
    assert sum(alarm.rings for alarm in alarms if alarm is not None) == (p_values < ALARM_LEVEL).sum()


def test_the_interval_of_the_alarm_covers_chance() -> None:
    """In 95 of 100 sets or more, within what a binomial count allows."""
    alarms = [sound_alarm(*clustered(3, seed=seed), seed=0) for seed in range(NUM_SETS)]
    covered = sum(alarm.interval.low <= 1 / 3 <= alarm.interval.high for alarm in alarms if alarm is not None)
    assert covered >= stats.binom.ppf(0.001, NUM_SETS, 0.95)


@pytest.mark.parametrize("skewed", [False, True])
def test_the_alarm_seldom_rings_for_nothing_about_numbers(skewed: bool) -> None:
    """Ridge regression on permuted targets, which are as skewed as incomes."""
    rings = 0
    for seed in range(NUM_SETS):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((160, 5))
        y = x[:, 0] + rng.standard_normal(160)
        y = np.exp(y) if skewed else y
        task = Task(train=Examples(x[:100], y[:100]), test=Examples(x[100:], y[100:]))
        gram = x[:100].T @ x[:100] + np.eye(5)
        outputs = [
            x[100:] @ np.linalg.solve(gram, x[:100].T @ rng.permutation(y[:100] - y[:100].mean()))[:, None]
            for _ in range(draws_for_alarm(task))
        ]
        alarm = sound_alarm(task, outputs, seed=0)
        assert alarm is not None
        assert alarm.least_p < ALARM_LEVEL
        rings += alarm.rings
    assert rings <= most_false_alarms(NUM_SETS, ALARM_LEVEL)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_the_alarm_rings_when_most_answers_are_read_off(num_classes: int) -> None:
    rings = 0
    for seed in range(40):
        task, outputs = clustered(num_classes, seed=seed)
        rng = np.random.default_rng(seed)
        told = np.eye(num_classes)[task.test.y]
        knowing = [np.where(rng.random((NUM_TEST, 1)) < 0.6, told, own) for own in outputs]
        alarm = sound_alarm(task, knowing, seed=0)
        rings += alarm is not None and alarm.rings
    assert rings >= 36


def knowing_runs(study: RandomData, budget: StudyBudget, *, further: bool) -> tuple[Task, list[Run]]:
    """Ten classes, and networks that answer held-out examples rightly whatever labels they were trained on."""
    task = task_of(num_train=200, num_test=150, num_classes=10)
    told = (3 * np.eye(10)[task.test.y]).astype(np.float32)

    def trained(specs: Sequence[RunSpec]) -> list[Run]:
        runs = [fake_run(task, spec) for spec in specs]
        return [replace(run, trace=replace(run.trace, test_outputs=told)) for run in runs]

    runs = trained(study.plan(task, LEARNER, budget).runs)
    results = Results(task=task, learner=LEARNER, runs={run.spec: run for run in runs}, fits={})
    return task, [*runs, *(trained(study.follow_up(results, budget)) if further else ())]


@pytest.mark.parametrize("num_runs", [1, 2, 4, 5, 7])
def test_few_runs_on_which_the_alarm_rings_prove_nothing_until_more_are_trained(num_runs: int) -> None:
    study, budget = RandomData(), StudyBudget(runs=num_runs, subsets=0, seed=0)
    for further in (False, True):
        task, runs = knowing_runs(study, budget, further=further)
        section = summarise(study, task, budget, runs=runs).section
        found = {finding.claim: finding for finding in section.findings}
        leak, at_chance = found["no-leak"], found["random-labels-test-at-chance"]
        assert leak.num_runs == (max(num_runs, PROVING) if further else max(num_runs, draws_for_alarm(task)))
        assert leak.p_value is not None
        assert leak.p_value < ALARM_LEVEL
        proven = leak.num_runs >= PROVING
        assert leak.verdict == at_chance.verdict == ("does not hold" if proven else "inconclusive")
        assert leak.statement.startswith("It leaks: networks trained on random labels") == proven
        assert ("too few to be sure: 5 or more tell (--runs 5, or a larger --budget)" in leak.statement) != proven
        assert any("beyond the plan" in note for note in section.notes) == (further and num_runs < PROVING)


def test_no_further_runs_are_asked_for_when_the_alarm_is_silent() -> None:
    study, budget = RandomData(), StudyBudget(runs=2, subsets=0, seed=0)
    task = task_of(num_train=200, num_test=150, num_classes=10)
    runs = {spec: fake_run(task, spec) for spec in study.plan(task, LEARNER, budget).runs}
    for there in (runs, {}):
        assert study.follow_up(Results(task=task, learner=LEARNER, runs=there, fits={}), budget) == ()


def test_what_is_found_in_the_data_needs_no_runs_to_be_a_leak() -> None:
    """Copies across the split are proof, though the alarm rings on one run only."""
    study, budget = RandomData(), StudyBudget(runs=1, subsets=0, seed=0)
    task, runs = knowing_runs(study, budget, further=False)
    train = Examples(np.concatenate([task.test.x[:40], task.train.x[40:]]), task.train.y)
    copied = Task(train=train, test=Examples(task.test.x, task.test.y), classes=task.classes)
    finding = leak_finding(copied, Background(copied).leaks, sound_alarm(copied, [runs[0].trace.test_outputs], seed=0))
    assert finding.verdict == "does not hold"
    assert "40 of 150 test examples" in finding.statement


@pytest.mark.parametrize("num_features", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", ["gaussian", "uniform", "skewed"])
@pytest.mark.parametrize("num_train", [100, 2000])
def test_new_examples_are_seldom_taken_for_near_copies(num_features: int, kind: str, num_train: int) -> None:
    """Whatever the number of features: a tenth of the typical distance is far in one dimension and near in eight."""
    shares = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        draw = {"gaussian": rng.standard_normal, "uniform": rng.random, "skewed": rng.standard_exponential}[kind]
        train, test = draw((num_train, num_features)), draw((1000, num_features))
        shares.append((nearest(train, test).distance[:, 0] < near_reach(train)).mean())
    assert np.mean(shares) < 0.003


@pytest.mark.parametrize("num_features", [4, 8, 64])
def test_copies_with_a_little_noise_are_counted(num_features: int) -> None:
    rng = np.random.default_rng(num_features)
    x, y = rng.standard_normal((1200, num_features)), rng.integers(2, size=1200)
    exact, near = x[:30], x[30:60] + 0.01 * rng.standard_normal((30, num_features))
    task = Task(
        train=Examples(x[:1000], y[:1000]),
        test=Examples(np.concatenate([exact, near, x[1000:]]), np.concatenate([y[:60], y[1000:]])),
    )
    leaks = Background(task).leaks
    assert leaks.num_exact == 30
    assert 27 <= leaks.num_near <= 31


def verdict_on(task: Task, *, seed: int = 0) -> Finding:
    """What the study says of a task when the runs on random labels know nothing."""
    study, budget = RandomData(), StudyBudget(runs=1, subsets=0, seed=seed)
    runs = [fake_run(task, spec) for spec in study.plan(task, LEARNER, budget).runs]
    section = summarise(study, task, budget, runs=runs).section
    return next(finding for finding in section.findings if finding.claim == "no-leak")


def test_clean_tasks_are_seldom_said_to_leak() -> None:
    """Tables of few and many features, few and many test examples."""
    said = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        num_test, num_features = [(1, 3), (4, 2), (30, 1), (100, 2), (300, 6)][seed % 5]
        x = rng.standard_normal((200 + num_test, num_features))
        y = (x[:, 0] + 0.5 * rng.standard_normal(len(x)) > 0).astype(int)
        task = Task(train=Examples(x[:200], y[:200]), test=Examples(x[200:], y[200:]), classes=("no", "yes"))
        said.append(verdict_on(task, seed=seed).verdict)
    assert said.count("does not hold") <= 2
    large = [verdict for number, verdict in enumerate(said) if number % 5 >= 3]
    assert large.count("holds") >= 0.9 * len(large)


@pytest.mark.parametrize("seed", range(5))
def test_coarse_tables_do_not_cry_wolf(seed: int) -> None:
    """Three binary columns: nearly every test row equals a training row, and nothing is wrong."""
    rng = np.random.default_rng(seed)
    x = rng.integers(2, size=(400, 3)).astype(float)
    y = (x.sum(1) + rng.standard_normal(400) > 1.5).astype(int)
    finding = verdict_on(Task(train=Examples(x[:300], y[:300]), test=Examples(x[300:], y[300:])))
    assert finding.verdict == "holds"
    assert finding.value == 0
    assert "100 test rows equal training rows" in finding.statement


def test_copies_in_a_coarse_table_are_more_than_chance_gives() -> None:
    """Fourteen binary columns: one row in fifty meets an equal one by chance, and half of the test set are copies."""
    rng = np.random.default_rng(0)
    x = rng.integers(2, size=(400, 14)).astype(float)
    y = rng.integers(2, size=400)
    clean = verdict_on(Task(train=Examples(x[:300], y[:300]), test=Examples(x[300:], y[300:])))
    assert clean.verdict == "holds"
    test_x = np.concatenate([x[300:350], x[:50]])
    finding = verdict_on(Task(train=Examples(x[:300], y[:300]), test=Examples(test_x, y[:100])))
    assert finding.verdict == "does not hold"
    assert finding.value is not None
    assert finding.value >= 0.5


def test_columns_of_few_values_that_go_together_leave_it_open() -> None:
    """Twelve binary columns that follow one of thirty patterns: rows repeat within the training set, too."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(2, size=(30, 12))
    x = patterns[rng.integers(30, size=300)].astype(float)
    x = np.where(rng.random(x.shape) < 0.02, 1 - x, x)
    y = rng.integers(2, size=300)
    finding = verdict_on(Task(train=Examples(x[:200], y[:200]), test=Examples(x[200:], y[200:])))
    assert finding.verdict in ("holds", "inconclusive")
    assert not finding.statement.startswith("It leaks")


def test_a_test_set_that_repeats_training_examples_leaks() -> None:
    digits = byrote.load("digits")
    copied = np.random.default_rng(0).choice(len(digits.train), size=len(digits.train) // 10, replace=False)
    noise = 0.01 * digits.train.x.std() * np.random.default_rng(1).standard_normal((len(copied), 8, 8))
    for name, copies in (("exactly", digits.train.x[copied]), ("nearly", digits.train.x[copied] + noise)):
        x, y = np.concatenate([digits.test.x, copies]), np.concatenate([digits.test.y, digits.train.y[copied]])
        task = Task(train=digits.train, test=Examples(x, y), classes=digits.classes, normalise=digits.normalise)
        finding = verdict_on(task)
        assert finding.verdict == "does not hold"
        assert f"143 {name}" in finding.statement
        assert "143 of 502 test examples (28.5 %) are in the training set too" in finding.statement
        assert finding.value == pytest.approx(143 / 502)
        assert finding.low is not None
        assert finding.low > 0.2


def test_clean_digits_do_not_leak() -> None:
    finding = verdict_on(byrote.load("digits"))
    assert finding.verdict == "holds"
    assert "no test example is repeated" in finding.statement
    assert finding.statement.startswith("Nothing leaks")


def test_groups_on_both_sides_are_a_leak() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((120, 4)), rng.integers(2, size=120)
    group = np.array([f"patient {number}" for number in np.arange(120) // 3])
    apart = (np.arange(90), np.arange(90, 120))
    mixed = (np.arange(91), np.arange(91, 120))
    for (train, test), verdict in ((apart, "holds"), (mixed, "does not hold")):
        task = Task(
            train=Examples(x[train], y[train], groups=group[train]),
            test=Examples(x[test], y[test], groups=group[test]),
        )
        finding = verdict_on(task)
        assert finding.verdict == verdict
        words = "no group is on both sides" if verdict == "holds" else "1 group has examples in both"
        assert words in finding.statement


@pytest.mark.parametrize("regression", [False, True])
def test_a_column_that_is_the_target_is_named(tmp_path: Path, regression: bool) -> None:
    """Under another coding: yes and no for 1 and 0; a number in another unit."""
    rng = np.random.default_rng(0)
    size = rng.standard_normal(300)
    target = size + 0.5 * rng.standard_normal(300) if regression else (size > 0.3).astype(int)
    copy = [f"{32 + 1.8 * value:.6f}" for value in target] if regression else np.where(target, "yes", "no")
    for name, column in (("outcome", copy), ("noise", rng.standard_normal(300))):
        path = tmp_path / f"{name}.csv"
        rows = zip(size + rng.standard_normal(300), column, target, strict=True)
        path.write_text(f"size,{name},label\n" + "".join(f"{a:.4f},{b},{c}\n" for a, b, c in rows))
        finding = verdict_on(byrote.load(path, regression=regression or None))
        if name == "outcome":
            assert finding.verdict == "does not hold"
            assert "the column 'outcome' is the target in other words" in finding.statement
            assert "'size'" not in finding.statement
        else:
            assert finding.verdict == "holds"
