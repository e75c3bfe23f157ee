"""What other tools stumbled over: one test or two for each, through the doors that users come in by."""

import ast
import inspect
import math
import os
import re
import sys
import tomllib
import tracemalloc
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestCentroid
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

import byrote
from byrote.core import ModelError
from byrote.data import Examples, Task, balanced_subset, inclusion, uniform_flips
from byrote.execution import LocalExecutor, ProcessExecutor
from byrote.measures import (
    caught_at,
    exact_duplicates,
    influence_pairs,
    knn_shapley,
    knn_shapley_regression,
    label_errors,
    lira,
    nearest,
    pooled_auc,
    residual_suspicion,
)
from byrote.models import build, linear, mlp
from byrote.records import SGD, Adam, AllExamples, BalancedSubset, CorruptedLabels, Cosine, Run, RunSpec
from byrote.store import MemoryStore
from byrote.studies import Membership, Memorisation, StudyBudget
from byrote.studies.study import subset_runs
from byrote.training import Answers, Given, train
from cheap_runs import LEARNER, fake_run, summarise, task_of
from small_networks import Dropped, Normed
from small_tasks import CPU, SUBSET, assert_same, classes, data_of, spec, stacked

CLASSES = classes()
UNMOVED = SGD(lr=1e-300, momentum=0.0)
"""Leaves every weight as it was."""


def trained(task: Task, specs: list[RunSpec], **options: Any) -> list[Run]:
    """Runs as an audit in one process trains them."""
    store = MemoryStore()
    with LocalExecutor(task, store=store, device=CPU) as executor:
        assert executor.train(specs, **options)
    return [store.read_run(one) for one in specs]


def network_of(run: Run, task: Task) -> nn.Module:
    """The run's network, with the weights that it kept."""
    module = build(run.spec.learner.model, task=task, seed=run.spec.seed, dtype=torch.float64)
    assert run.weights is not None
    module.load_state_dict({name: torch.as_tensor(part) for name, part in run.weights.items()})
    return module


def answers(module: nn.Module, task: Task) -> np.ndarray:
    with torch.no_grad():
        return module(torch.as_tensor(task.train.x)).numpy()


class DroppedAndNormed(nn.Module):
    """Says something else in training mode, for two reasons."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body, self.norm = nn.Linear(task.input_shape[0], 8), nn.BatchNorm1d(8)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(self.body(x)).relu()))


# --- 1. Logits read while the model was in training mode -------------------------------------------------------------


def test_outputs_and_probes_are_those_of_the_evaluation_mode() -> None:
    probe = Answers(at=Given(steps=(50,)), num_examples=len(CLASSES.train))
    specs = [spec(CLASSES, DroppedAndNormed, seed=seed, order=seed) for seed in range(3)]
    for run in trained(CLASSES, specs, probes=[probe], keep_weights=True):
        module = network_of(run, CLASSES)
        evaluated, drawn = answers(module.eval(), CLASSES), answers(module.train(), CLASSES)
        assert np.abs(evaluated - drawn).max() > 0.1
        np.testing.assert_allclose(run.trace.train_outputs, evaluated, rtol=1e-9)
        np.testing.assert_allclose(run.probes[probe.key].values["outputs"][-1], evaluated, rtol=1e-9)


def test_the_trace_on_the_way_is_of_the_evaluation_mode_too() -> None:
    """Weights do not move, so whatever moves is drawn by dropout."""
    (run,) = trained(CLASSES, [spec(CLASSES, Dropped, optimiser=UNMOVED, epochs=4)])
    np.testing.assert_allclose(run.trace.loss, np.tile(run.trace.loss[-1], (5, 1)), rtol=1e-9)


# --- 2. The order of examples differs between runs -------------------------------------------------------------------


def test_a_column_is_the_same_example_in_every_run_and_epoch_whatever_the_order_of_training() -> None:
    specs = [spec(CLASSES, mlp(width=32), order=order, optimiser=UNMOVED, epochs=3) for order in range(4)]
    runs = trained(CLASSES, specs)
    logits = torch.as_tensor(runs[0].trace.train_outputs)
    own = nn.functional.cross_entropy(logits, torch.as_tensor(CLASSES.train.y), reduction="none").numpy()
    assert len(np.unique(own)) == len(own)
    for run in runs:
        np.testing.assert_allclose(run.trace.loss, np.tile(own, (4, 1)), rtol=1e-9)


def test_a_recorder_goes_by_ids_and_not_by_the_order_of_batches() -> None:
    logits, y = torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4
    tables = []
    for shuffled in (False, True):
        recorder = byrote.Recorder(num_examples=20)
        for epoch, said in enumerate(logits):
            order = np.random.default_rng(epoch).permutation(20) if shuffled else np.arange(20)
            for ids in np.array_split(order, 3):
                recorder.update(ids, said[ids], y[ids])
        tables.append(recorder.scores())
    assert tables[0].arrow.equals(tables[1].arrow)


# --- 3. Subset models are not trained like the target ----------------------------------------------------------------


def test_a_network_on_a_subset_is_the_network_that_is_trained_on_those_examples_alone() -> None:
    """The same weights, hence the same recipe, schedule, steps and sums over as many examples."""
    chosen = inclusion(CLASSES, SUBSET)
    alone = Task(train=Examples(CLASSES.train.x[chosen], CLASSES.train.y[chosen]), test=CLASSES.test)
    changed = {"batch_size": "all", "optimiser": SGD(lr=0.3, weight_decay=0.01), "schedule": Cosine(), "epochs": 30}
    (part,) = trained(CLASSES, [spec(CLASSES, mlp(width=4), subset=SUBSET, **changed)], keep_weights=True)
    (whole,) = trained(alone, [spec(alone, mlp(width=4), **changed)], keep_weights=True)
    assert part.weights is not None
    assert whole.weights is not None
    for name, weights in whole.weights.items():
        np.testing.assert_allclose(part.weights[name], weights, rtol=1e-8, atol=1e-12)


def test_subset_networks_have_the_learners_recipe_their_stated_size_and_all_of_its_steps() -> None:
    task, budget = task_of(num_train=40), StudyBudget(runs=2, subsets=10, seed=3)
    planned = [one for one in Memorisation().plan(task, LEARNER, budget).runs if one.subset != AllExamples()]
    assert planned == list(subset_runs(task, LEARNER, budget))
    assert {one.learner for one in planned} == {LEARNER}
    mask = np.stack([inclusion(task, one.subset) for one in planned])
    assert set(mask.sum(1)) == {28}
    assert set(mask.sum(0)) == {7}
    specs = [spec(task, mlp(width=32), subset=one.subset, batch_size=8, epochs=60) for one in planned[:2]]
    for run in trained(task, specs):
        assert run.curves.train_score[40] == run.curves.train_score[-1] == 1, "fitted long before the end"
        assert len(run.curves.step) == 60
        assert run.curves.step[-1] == 60 * math.ceil(28 / 8)


# --- 4. Labels redrawn in every epoch, or augmentation left on, in runs on random labels -----------------------------


class Watched(nn.Module):
    """Remembers what it was trained on."""

    seen: list[list[float]] = []  # noqa: RUF012  One list for all networks.

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.seen.extend(x.tolist())
        return self.head(x)


RANDOM = CorruptedLabels(fraction=1.0, draw=2)


def test_random_labels_are_drawn_once() -> None:
    """A network that does not move has the same losses in every epoch; one that does can learn them by rote."""
    moving = {"epochs": 60, "optimiser": Adam(lr=0.03)}
    still, fitted = trained(
        CLASSES,
        [
            spec(CLASSES, linear(), labels=RANDOM, optimiser=UNMOVED, epochs=5),
            spec(CLASSES, mlp(width=64), labels=RANDOM, **moving),
        ],
    )
    np.testing.assert_allclose(still.trace.loss, np.tile(still.trace.loss[0], (6, 1)), rtol=1e-9)
    assert fitted.curves.train_score[-1] == 1
    assert (fitted.trace.train_outputs.argmax(1) == CLASSES.train.y).mean() < 0.7


def test_runs_on_random_labels_see_the_examples_as_they_are() -> None:
    Watched.seen.clear()
    trained(CLASSES, [spec(CLASSES, Watched, labels=RANDOM, epochs=3)])
    np.testing.assert_array_equal(np.unique(Watched.seen, axis=0), np.unique(CLASSES.train.x, axis=0))


def test_a_recorder_says_which_labels_were_drawn_anew() -> None:
    recorder = byrote.Recorder(num_examples=4)
    for targets in ([0, 1, 0, 1], [0, 1, 1, 1]):
        recorder.update(range(4), torch.eye(2).repeat(2, 1), targets)
    assert recorder.scores()["status"].tolist() == ["recorded", "recorded", "target changed", "recorded"]


# --- 5. A rate of 0.1 % from 500 non-members -------------------------------------------------------------------------


def test_a_rate_that_500_non_members_cannot_resolve_is_not_stated() -> None:
    """Although the attack is never wrong on them."""
    member = np.repeat([[True, False]], 500, axis=0)
    (caught,) = caught_at(np.where(member, 1.0, 0.0), member, rates=(0.001,), clusters="none")
    assert (caught.status, caught.num_nonmembers) == ("too few non-members", 500)
    assert math.isnan(caught.true_positive_rate.value)
    assert (caught.true_positive_rate.low, caught.true_positive_rate.high) == (0, 1)


def test_a_rate_that_is_resolved_has_clopper_and_pearsons_band() -> None:
    """Members score far above or far below all others, so that only their number is left to chance."""
    member = np.arange(5040)[None] < 40
    score = np.random.default_rng(0).normal(size=member.shape)
    score[0, :40] = np.where(np.arange(40) < 12, 20.0, -20.0)
    (caught,) = caught_at(score, member, rates=(0.01,), clusters="none")
    exact = stats.binomtest(12, 40).proportion_ci(method="exact")
    assert (caught.status, caught.true_positive_rate.value) == ("resolved", 0.3)
    band = caught.true_positive_rate.low, caught.true_positive_rate.high
    assert band == pytest.approx((exact.low, exact.high), rel=1e-6)


def test_a_study_of_few_examples_says_that_it_cannot_say() -> None:
    task, budget = task_of(num_train=40), StudyBudget(runs=1, subsets=8, seed=0)
    runs = [fake_run(task, one) for one in subset_runs(task, LEARNER, budget)]
    findings = {finding.claim: finding for finding in summarise(Membership(), task, budget, runs=runs).section.findings}
    few = findings["few-members-are-caught"]
    assert (few.verdict, few.value) == ("inconclusive", None)
    assert "Too few examples were left out" in few.statement


# --- 6. Each example's own variance, from a handful of models --------------------------------------------------------


def half(num_runs: int, num_examples: int) -> np.ndarray:
    """Every example in half of the runs."""
    return np.stack([balanced_subset(num_units=num_examples, fraction=0.5, draw=0, index=i) for i in range(num_runs)])


def test_below_16_reference_runs_one_variance_stands_for_all_examples() -> None:
    rng = np.random.default_rng(1)
    chosen = {number: lira(half(number, 50), rng.normal(size=(number, 50))).variance for number in range(4, 41, 4)}
    assert {number: name for number, name in chosen.items() if name == "fixed"}.keys() == {4, 8, 12, 16}
    assert chosen[40] == "shrunken"


def test_with_few_runs_each_examples_own_variance_would_be_the_worse_attack() -> None:
    mask = half(6, 2000)
    odds = np.random.default_rng(2).normal(size=mask.shape) + 1.0 * mask
    ours, own = (pooled_auc(lira(mask, odds, variance=each).score, mask).value for each in (None, "example"))
    assert ours > own + 0.02


# --- 7. The order of the classes of probabilities is assumed ---------------------------------------------------------


def test_columns_stand_for_the_classes_that_they_are_said_to() -> None:
    names, rng = np.array(["zebra", "ape", "cat"]), np.random.default_rng(3)
    mask, y = half(8, 30), rng.integers(3, size=30)
    probability = rng.dirichlet(np.ones(3), size=(8, 30))
    by_code = byrote.scores(mask, probability=probability, targets=y)
    for order in ([0, 1, 2], [2, 0, 1], np.argsort(names)):
        table = byrote.scores(mask, probability=probability[:, :, order], targets=names[y], classes=names[order])
        for column in ("memorisation_raw", "heldout_correct", "heldout_probability", "label_suspicion"):
            np.testing.assert_allclose(table[column], by_code[column], rtol=1e-12, err_msg=column)
        assert table["heldout_target"].tolist() == names[by_code["heldout_target"]].tolist()


def test_which_column_is_which_is_never_guessed() -> None:
    mask, names = half(8, 30), np.array(["zebra", "ape", "cat"])[np.arange(30) % 3]
    with pytest.raises(TypeError, match="which column is which: classes="):
        byrote.scores(mask, logits=np.zeros((8, 30, 3)), targets=names)
    with pytest.raises(ValueError, match="targets among the classes"):
        byrote.scores(mask, logits=np.zeros((8, 30, 3)), targets=names, classes=["ape", "cat", "dog"])


def test_a_classifier_that_never_met_a_class_is_not_read_one_column_off() -> None:
    """scikit-learn leaves out the columns of classes that are not among the examples it is fitted to."""
    task = task_of(num_train=30, num_classes=3)

    def fit(indices: np.ndarray, seed: int) -> Any:
        met = indices[task.train.y[indices] != 1]
        return DecisionTreeClassifier(random_state=0).fit(task.train.x[met], task.train.y[met]).predict_proba

    with pytest.raises(ModelError, match=r"\[30, 3\]"):
        byrote.fit_and_score(task, fit, runs=4)


# --- 8. Margins of probabilities instead of logits -------------------------------------------------------------------

SURE = np.arange(40, 140, 10.0)
"""Leads so large that single precision has the probability 1 for all of them."""


def test_margins_keep_their_order_where_the_softmax_is_one() -> None:
    logits = np.stack([SURE, np.zeros(10), np.zeros(10)], axis=1).astype(np.float32)
    assert (torch.as_tensor(logits).softmax(1)[:, 0] == 1).all()
    recorder = byrote.Recorder(num_examples=10)
    recorder.update(range(10), torch.as_tensor(logits), [0] * 10)
    assert recorder.scores()["aum"].tolist() == SURE.tolist()
    inputs = np.concatenate([SURE, SURE])[:, None]
    task = Task(train=Examples(inputs, np.zeros(20, int) + (np.arange(20) >= 18)), test=Examples(inputs, [0, 1] * 10))
    (run,) = trained(task, [spec(task, linear(), optimiser=UNMOVED, epochs=1)])
    own, other = run.trace.train_outputs[:18, 0], run.trace.train_outputs[:18, 1]
    np.testing.assert_allclose(run.trace.margin[-1, :18], own - other, rtol=1e-12)


def test_attackers_tell_members_apart_where_the_softmax_is_one() -> None:
    """In logits, members lead by more; in probabilities both are 1."""
    rng, mask = np.random.default_rng(4), half(10, 60)
    logits = np.zeros((10, 60, 3), np.float32)
    logits[..., 0] = 60 + 20 * mask + rng.normal(size=mask.shape)
    table = byrote.scores(mask, logits=logits, targets=np.zeros(60, int))
    assert (table["membership_risk"] == 1).all()
    assert (byrote.scores(mask, probability=np.ones(mask.shape))["membership_risk"] != 1).all()


# --- 9. Squares of the number of examples in memory ------------------------------------------------------------------


def peak_bytes(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def values_of(number: int) -> dict[str, Callable[[], Any]]:
    """Whatever compares every example with every other."""
    rng = np.random.default_rng(number)
    x, y = rng.normal(size=(number, 3)).astype(np.float32), rng.integers(3, size=number)
    mask, few = half(6, number), x.round(1)
    correct = np.tile(rng.random(number) < 0.5, (6, 1))
    memorised, logits = rng.random(number), rng.normal(size=(6, number, 3)).astype(np.float32)
    beside = inspect.unwrap(nearest)(x, x[:500], num_neighbours=5, exclude_self=False).index[:1].repeat(number, 0)
    bare = {
        each.__name__: inspect.unwrap(each)
        for each in (knn_shapley, knn_shapley_regression, nearest, exact_duplicates, influence_pairs, label_errors)
    }
    return {
        "knn_shapley": lambda: bare["knn_shapley"](x, targets=y),
        "knn_shapley_regression": lambda: bare["knn_shapley_regression"](x, targets=x[:, 0]),
        "nearest": lambda: bare["nearest"](x, x, num_neighbours=5, exclude_self=True),
        "exact_duplicates": lambda: bare["exact_duplicates"](few, few),
        "influence_pairs": lambda: bare["influence_pairs"](mask, correct, memorisation=memorised),
        "label_errors": lambda: bare["label_errors"](mask, logits, y, neighbours=beside, duplicates=y),
        "residual_suspicion": lambda: residual_suspicion(x[:, 0], x[:, 1]),
        "scores": lambda: byrote.scores(mask, logits=logits, targets=y, test_logits=logits, test_targets=y),
    }


@pytest.mark.parametrize("name", list(values_of(600)))
def test_memory_grows_with_the_number_of_examples_and_not_with_its_square(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the examples take at most half as much again as twice the memory; their square would be four times."""
    for measure in ("knn_shapley", "duplicates", "influence_pairs"):
        monkeypatch.setattr(sys.modules[f"byrote.measures.{measure}"], "BLOCK_BYTES", 2**18)
    peaks = [peak_bytes(values_of(number)[name]) for number in (1500, 3000)]
    assert peaks[1] < 3 * peaks[0]
    assert peaks[1] < 3000**2 * 4


# --- 10. Settings of parallel work that change results, or are not obeyed --------------------------------------------


class Signed(nn.Module):
    """Says where it was made, and among how many threads."""

    maker: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)
        self.register_buffer("maker", torch.tensor([os.getpid(), torch.get_num_threads()], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def test_workers_are_what_was_asked_for_and_change_no_result() -> None:
    specs = [spec(CLASSES, Signed, seed=seed, order=seed, epochs=3, subset=SUBSET) for seed in range(6)]
    here, store = trained(CLASSES, specs, keep_weights=True), MemoryStore()
    with ProcessExecutor(CLASSES, store=store, device=CPU, workers=2, threads_per_worker=1) as executor:
        assert executor.num_workers == 2
        assert executor.train(specs[::-1], keep_weights=True)
    makers = set()
    for one, run in zip(specs, here, strict=True):
        there = store.read_run(one)
        assert_same(run, there)
        assert run.weights is not None
        assert there.weights is not None
        assert run.weights["maker"][0] == os.getpid()
        makers.add(tuple(there.weights["maker"].tolist()))
    assert os.getpid() not in {int(maker) for maker, _ in makers}
    assert {threads for _, threads in makers} == {1}
    assert len(makers) <= 2


# --- 11. Undeclared and needless dependencies ------------------------------------------------------------------------

OLDER_NAMES = {"pytorch_lightning": "lightning"}
"""The same package under the name that it had before."""
ROOT = Path(byrote.__file__).parent
PROJECT = ROOT.parents[1] / "pyproject.toml"


def imported_packages() -> set[str]:
    """Top-level names of everything that the package imports, or asks for when it is needed."""
    found = set[str]()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
                found |= {str(part.value).split(".")[0] for part in node.args[:1] if isinstance(part, ast.Constant)}
    found -= {"byrote", "__future__", *sys.stdlib_module_names}
    return {OLDER_NAMES.get(name, name) for name in found}


def distribution(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement)[0].lower().replace("_", "-")


@pytest.mark.skipif(not PROJECT.exists(), reason="declared dependencies are read from the source tree's pyproject.toml")
def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    core = {distribution(each) for each in project["dependencies"]}
    extras = {distribution(each) for extra in project["optional-dependencies"].values() for each in extra}
    homes = packages_distributions()
    used = {name: {home.lower().replace("_", "-") for home in homes.get(name, [name])} for name in imported_packages()}
    assert {name for name, own in used.items() if not own & (core | extras)} == set(), "not declared"
    assert core - set().union(*used.values()) == set(), "declared, and never imported"
    assert "torchvision" not in core | extras | set(used)


@pytest.mark.skipif(not PROJECT.exists(), reason="declared dependencies are read from the source tree's pyproject.toml")
def test_no_dependency_is_capped() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    assert [each for each in project["dependencies"] if re.search(r"<|==|~=|!=", each)] == []


# --- 12. A memorisation score read as one of label errors before the labels are fitted -------------------------------


def test_wrong_labels_that_no_network_has_fitted_are_said_to_be_unfitted_and_are_found_all_the_same() -> None:
    rng = np.random.default_rng(5)
    true = np.arange(240) % 3
    flips = uniform_flips(true, num_classes=3, fraction=0.1, seed=0)
    x = 4 * np.eye(3)[true] + rng.normal(size=(240, 3))
    task = Task(train=Examples(x, flips.targets), test=Examples(x[:3], true[:3]))

    def fit(indices: np.ndarray, seed: int) -> Any:
        """So stiff that no single label moves it."""
        centres = NearestCentroid().fit(x[indices], flips.targets[indices]).centroids_
        return lambda inputs: -((inputs[:, None] - centres) ** 2).sum(2)

    table = byrote.fit_and_score(task, fit, runs=10)
    wrong = flips.changed
    assert (table["status"][wrong] == "never fitted").mean() > 0.9
    assert (table["status"][~wrong] == "learnt").mean() > 0.9
    assert np.abs(table["memorisation_raw"][wrong]).max() < 0.25, "which is all that memorisation says of them"
    assert roc_auc_score(wrong, table["label_suspicion"]) > 0.98
    mask = np.stack([inclusion(task, BalancedSubset(fraction=0.7, draw=0, index=index)) for index in range(10)])
    logits = np.stack([fit(np.flatnonzero(each), 0)(x) for each in mask])
    found = label_errors(mask, logits, flips.targets)
    assert roc_auc_score(wrong, found.probability.value) > 0.98
    assert (found.reason[wrong] == "never fitted").mean() > 0.9


# --- 13. Running averages changed in place in a stack ----------------------------------------------------------------


def test_every_network_of_a_stack_has_running_averages_of_its_own() -> None:
    specs = [
        spec(CLASSES, Normed, seed=index, subset=BalancedSubset(fraction=0.7, draw=3, index=index), epochs=2)
        for index in range(3)
    ]
    together = train(specs, data_of(CLASSES, specs[0]), path=stacked(3), keep_weights=True)
    averages = []
    for run, alone in zip(together, trained(CLASSES, specs, keep_weights=True), strict=True):
        assert run.weights is not None
        assert alone.weights is not None
        for name, part in alone.weights.items():
            np.testing.assert_allclose(run.weights[name], part, rtol=1e-9, atol=1e-12, err_msg=name)
        averages.append(run.weights["norm.running_mean"])
    assert len(np.unique(np.stack(averages), axis=0)) == 3


@pytest.mark.parametrize("number", [1, 3])
def test_the_users_own_module_is_left_as_it_was(number: int) -> None:
    """Although the networks that the factory makes share its averages."""
    theirs = Normed(CLASSES).double()
    before = {name: value.clone() for name, value in theirs.state_dict().items()}

    def sharing(task: Task) -> nn.Module:
        made = Normed(task).double()
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(made.norm, name, getattr(theirs.norm, name))
        return made

    specs = [spec(CLASSES, sharing, seed=seed, epochs=2) for seed in range(number)]
    for run in train(specs, data_of(CLASSES, specs[0]), path=stacked(number), keep_weights=True):
        assert run.weights is not None
        assert np.abs(run.weights["norm.running_mean"]).max() > 0.01
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert theirs.training
