"""What the study of minima claims of ends that are made up, and so known; and of networks that are."""

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.data import Task
from byrote.measures.curvature import Eigenvalues, TraceEstimate
from byrote.models import build, custom, mlp
from byrote.probing import Examined, HessianSpectra, Sharpnesses, TopCurvature
from byrote.records import (
    SAM,
    SGD,
    Adam,
    AdamW,
    Bars,
    Curves,
    Finding,
    Heatmap,
    Learner,
    ProbeResult,
    Recipe,
    Run,
    RunSpec,
    Section,
    Step,
    Switch,
    Table,
    WarmUp,
    encode,
)
from byrote.studies import Minima, Results, StudyBudget
from byrote.studies.basins import MATCHED, MATCHED_RECOMPUTED, PLAIN, RECOMPUTED, Ways, find_basins
from byrote.studies.end_claims import NOT_SHOWN
from byrote.studies.endings import EXAMINED, Condition, conditions, planned
from byrote.studies.ends import MEASURES
from byrote.studies.flatness import association
from byrote.studies.recipes_around import Role, recipes_around
from byrote.training import Checkpoint
from cheap_runs import LEARNER, fake_run, task_of
from small_networks import ConvolutionalNormed, Residual

TASK = task_of(num_train=60, num_test=400, num_classes=3)
ROLES: tuple[Role, ...] = ("own", "batch", "rate", "sam", "optimiser")
SKILLS: Mapping[Role, float] = dict(zip(ROLES, (2.0, 0.5, 1.0, 4.0, 8.0), strict=True))
"""Which recipe tests best."""
Sharp = Callable[[Role, str, int], float]
"""Of a role, labels and the number of the seed."""


# --- ranks -----------------------------------------------------------------------------------------------------------


def test_perfectly_opposite_ranks_hold_and_equal_ones_do_not() -> None:
    ranks = np.tile(np.arange(5.0), (4, 1))
    opposite, equal = association(ranks, -ranks), association(ranks, ranks)
    assert (round(opposite.interval.value, 9), opposite.verdict()) == (-1, "holds")
    assert (round(equal.interval.value, 9), equal.verdict()) == (1, "does not hold")
    assert opposite.p_flatter == equal.p_sharper == pytest.approx(1 / 120)
    assert opposite.p_sharper == 1


@pytest.mark.parametrize(("seeds", "recipes"), [(2, 5), (5, 3)])
def test_few_seeds_or_recipes_decide_nothing_however_well_they_agree(seeds: int, recipes: int) -> None:
    ranks = np.tile(np.arange(float(recipes)), (seeds, 1))
    assert association(ranks, -ranks).verdict() == "inconclusive"


def test_one_recipe_that_decides_alone_decides_nothing() -> None:
    """Four recipes that differ at random, and one far away in both."""
    rng = np.random.default_rng(0)
    sharp, score = rng.random((8, 5)), rng.random((8, 5))
    sharp[:, 4], score[:, 4] = 9, -9
    found = association(sharp, score)
    assert found.interval.value < -0.2
    assert found.verdict() == "inconclusive"
    without = association(sharp[:, :4], score[:, :4]).interval
    assert found.interval.high >= without.value


def test_the_rank_correlation_is_spearman_s_and_its_interval_contains_it() -> None:
    rng = np.random.default_rng(1)
    sharp, score = rng.random((6, 5)), rng.random((6, 5))
    found = association(sharp, score)
    ranks = [
        (np.argsort(np.argsort(row)), np.argsort(np.argsort(other))) for row, other in zip(sharp, score, strict=True)
    ]
    assert found.interval.value == pytest.approx(np.mean([np.corrcoef(one, other)[0, 1] for one, other in ranks]))
    assert found.interval.low <= found.interval.value <= found.interval.high


def test_exchanging_recipes_is_rarely_significant_where_nothing_is_going_on() -> None:
    """Recipes differ, seeds hardly do: 200 draws of 5 recipes and 5 seeds. The level is 5 %, and its error 1.5 %."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        sharp, score = (rng.random(5) + 0.01 * rng.random((5, 5)) for _ in range(2))
        held += association(sharp, score).verdict() == "holds"
    assert held / 200 <= 0.05 + 3 * 0.015


def test_recipes_and_seeds_that_are_not_there_are_left_out() -> None:
    ranks = np.tile(np.arange(5.0), (4, 1))
    ranks[0, 2] = np.nan
    assert (association(ranks, -ranks).num_seeds, association(ranks, -ranks).num_recipes) == (3, 5)
    ranks[1:3, 2] = np.nan
    assert (association(ranks, -ranks).num_seeds, association(ranks, -ranks).num_recipes) == (4, 4)
    assert association(np.full((4, 5), np.nan), ranks).num_seeds == 0
    assert association(np.ones((4, 5)), ranks[:, :5]).num_seeds == 0


# --- claims of made-up ends ------------------------------------------------------------------------------------------


def measured_run(task: Task, one: Any, sharp: float, *, skill: float, fitted: bool = True) -> Run:
    """A run whose probes say that its end is so sharp by every measure."""
    run = fake_run(task, one.spec, skill=skill)
    if fitted and not task.regression:
        trace = replace(run.trace, margin=np.abs(run.trace.margin))
        run = replace(run, trace=trace)
    probes: dict[str, ProbeResult] = {}
    for probe in one.probes:
        values: dict[str, np.ndarray] = {}
        if isinstance(probe, HessianSpectra):
            values = {
                "eigenvalues": np.array([[sharp, 0.1]]),
                "lowest": np.array([[-0.1]]),
                "trace": np.array([3 * sharp]),
            }
        elif isinstance(probe, Sharpnesses):
            values = {"sam": np.array([sharp / 9]), "keskar": np.array([sharp]), "adaptive": np.array([sharp])}
        elif isinstance(probe, TopCurvature):
            values = {"top": np.array([1.0, sharp])}
        steps = np.arange(len(next(iter(values.values())))) if values else np.arange(0)
        if values:
            probes[probe.key] = ProbeResult(name=probe.name, settings={}, steps=steps, values=values, seconds=0.0)
    return replace(run, probes=probes)


def section_of(
    sharp: Sharp,
    *,
    task: Task = TASK,
    runs: int = 4,
    learner: Learner = LEARNER,
    fitted: bool = True,
    skills: Mapping[Role, float] = SKILLS,
) -> Section:
    budget = StudyBudget(runs=runs, subsets=0, seed=0)
    made: dict[RunSpec, Run] = {}
    for condition in conditions(task, learner, budget, stretch=2):
        for index, one in enumerate(planned(condition, task, learner, budget)):
            value = sharp(condition.variant.role, condition.labels, index)
            made[one.spec] = measured_run(task, one, value, skill=skills[condition.variant.role], fitted=fitted)
    results = Results(task=task, learner=learner, runs=made, fits={})
    return Minima().summarise(results, budget).section


def finding(section: Section, name: str) -> Finding:
    return next(each for each in section.findings if each.claim == name)


def flatter_tests_better(role: Role, labels: str, index: int) -> float:
    return (10 if labels == "random" else 1) / SKILLS[role] * (1 + 0.01 * index)


def sharper_tests_better(role: Role, labels: str, index: int) -> float:
    return (0.1 if labels == "random" else 1) * SKILLS[role] * (1 + 0.01 * index)


def by_lot(role: Role, labels: str, index: int) -> float:
    return float(np.random.default_rng([index, ROLES.index(role), labels == "random"]).uniform(1, 2))


def test_what_goes_together_holds_and_is_no_cause() -> None:
    section = section_of(flatter_tests_better)
    found = finding(section, "sharpness-ranks-accuracy")
    assert (found.verdict, found.num_runs) == ("holds", 20)
    assert found.value == pytest.approx(-1, abs=0.05)
    assert "which survives a rescaling of layers" in found.statement
    assert "of no cause" in found.statement
    assert NOT_SHOWN not in found.statement
    random = finding(section, "random-labels-end-sharper")
    assert (random.verdict, random.value) == ("holds", pytest.approx(10))
    assert "λ_max 10.0 (10.0 to 10.0) times, which does not survive it" in random.statement
    sam = finding(section, "sam-ends-flatter")
    assert (sam.verdict, sam.value) == ("holds", pytest.approx(2))
    assert "does not survive a rescaling of layers" in sam.statement
    better = finding(section, "sam-tests-better")
    assert better.verdict == "holds"


def test_what_goes_the_other_way_does_not_hold() -> None:
    section = section_of(sharper_tests_better)
    found = finding(section, "sharpness-ranks-accuracy")
    assert (found.verdict, found.value) == ("does not hold", pytest.approx(1, abs=0.05))
    assert NOT_SHOWN in found.statement
    assert finding(section, "random-labels-end-sharper").verdict == "does not hold"
    assert finding(section, "sam-ends-flatter").verdict == "does not hold"


def test_what_is_drawn_by_lot_decides_nothing_in_these_words() -> None:
    section = section_of(by_lot, skills=dict.fromkeys(ROLES, 2.0))
    found = finding(section, "sharpness-ranks-accuracy")
    assert found.verdict == "inconclusive"
    assert found.statement.endswith(": flatter is not shown to be better.")
    assert "flatter is not shown to be better" in section.summary
    assert finding(section, "sam-tests-better").verdict == "inconclusive"


def test_random_labels_that_are_not_fitted_have_no_minimum_to_be_sharp() -> None:
    section = section_of(flatter_tests_better, fitted=False)
    found = finding(section, "random-labels-end-sharper")
    assert (found.verdict, found.value) == ("inconclusive", pytest.approx(10))
    assert "But these are no minima: training accuracy is" in found.statement
    assert any("where these end there is no minimum" in note for note in section.notes)


def test_one_seed_bounds_nothing() -> None:
    section = section_of(flatter_tests_better, runs=1)
    assert {each.verdict for each in section.findings} == {"inconclusive"}
    assert all(each.low is None for each in section.findings)


def test_sam_is_left_out_of_a_recipe_that_has_it() -> None:
    """Then it is the learner's own recipe that is to be flatter."""
    learner = Learner(model=lambda: None, recipe=replace(LEARNER.recipe, optimiser=SAM()))
    skills: Mapping[Role, float] = dict(zip(ROLES, (4.0, 0.5, 1.0, 2.0, 8.0), strict=True))
    section = section_of(lambda role, labels, index: 1 / skills[role], learner=learner, skills=skills)
    assert (finding(section, "sam-ends-flatter").verdict, finding(section, "sam-tests-better").verdict) == (
        "holds",
    ) * 2
    assert finding(section, "sam-ends-flatter").value == pytest.approx(2)


def test_numbers_are_told_as_such() -> None:
    section = section_of(flatter_tests_better, task=task_of(num_classes=0, num_test=80))
    assert "held-out R²" in finding(section, "sharpness-ranks-accuracy").statement
    assert "random targets" in finding(section, "random-labels-end-sharper").statement


@pytest.mark.parametrize("sharp", [flatter_tests_better, sharper_tests_better, by_lot])
def test_nobody_is_told_that_flatter_is_better(sharp: Sharp) -> None:
    told = json.dumps(encode(section_of(sharp)), ensure_ascii=False).lower()
    assert "flatter is better" not in told
    root = Path(__file__).parents[2]
    for path in itertools.chain((root / "src").rglob("*.py"), (root / "docs").rglob("*.md"), [root / "README.md"]):
        assert "flatter is better" not in path.read_text(encoding="utf-8").lower(), path


def test_every_measure_says_whether_it_survives_what_the_measures_say() -> None:
    survives = {name: measure.survives for name, measure in MEASURES.items()}
    assert survives == {"adaptive": True, "lambda_max": False, "trace": False, "sam": False, "keskar": False}
    assert not Eigenvalues.survives_rescaling
    assert not TraceEstimate.survives_rescaling
    section = section_of(flatter_tests_better)
    ranks = next(figure for figure in section.figures if isinstance(figure, Table) and "rank" in figure.title)
    assert [row[:2] for row in ranks.rows] == [
        (MEASURES[name].title, "yes" if survives[name] else "no") for name in survives
    ]


def test_figures_have_a_dot_for_every_network() -> None:
    figures = section_of(flatter_tests_better).figures
    dots = [figure for figure in figures if isinstance(figure, Curves) and figure.points]
    assert [figure.title for figure in dots] == [
        "Held-out accuracy beside adaptive sharpness",
        "Held-out accuracy beside λ_max",
    ]
    assert all(len(series.x) == len(series.y) == 4 for figure in dots for series in figure.series)
    bars = next(figure for figure in figures if isinstance(figure, Bars))
    assert all(0 <= (each.low or 0) <= (each.high or 1) <= 1 for each in bars.bars)


# --- recipes ---------------------------------------------------------------------------------------------------------


def named(recipe: Recipe, *, num_examples: int = 1000, regression: bool = False) -> dict[Role, Recipe]:
    found = recipes_around(recipe, num_examples=num_examples, regression=regression)
    assert len({variant.name for variant in found}) == len(found) == 5
    return {variant.role: variant.recipe for variant in found}


def test_one_thing_is_changed_in_each_recipe() -> None:
    own = Recipe(optimiser=SGD(lr=0.2, weight_decay=0.01), batch_size=32, epochs=7)
    found = named(own)
    assert found["own"] == own
    assert found["batch"] == replace(own, batch_size=512)
    assert found["rate"] == replace(own, optimiser=SGD(lr=0.2 * 0.1, weight_decay=0.01))
    assert found["sam"] == replace(own, optimiser=SAM(base=own.optimiser))  # pyright: ignore
    assert found["optimiser"] == replace(own, optimiser=Adam(weight_decay=0.01))


@pytest.mark.parametrize(
    ("size", "number", "other"), [(32, 1000, 512), (128, 1000, 1000), ("all", 1000, 62), (32, 20, 1), (2000, 1000, 62)]
)
def test_a_batch_is_never_larger_than_the_task(size: Any, number: int, other: int) -> None:
    assert named(Recipe(batch_size=size), num_examples=number)["batch"].batch_size == other


def test_what_comes_at_a_step_comes_at_the_same_share_of_fewer_steps() -> None:
    own = Recipe(
        batch_size=10, schedule=WarmUp(steps=160, then=Step(every=3)), switches=(Switch(step=320, batch_size=10),)
    )
    found = named(own)["batch"]
    assert found.batch_size == 160
    assert isinstance(found.schedule, WarmUp)
    assert (found.schedule.steps, found.switches[0].step, found.switches[0].batch_size) == (11, 22, 160)


def test_an_adaptive_optimiser_gives_way_to_sgd() -> None:
    assert named(Recipe(optimiser=Adam()))["optimiser"].optimiser == SGD(lr=0.05)
    assert named(Recipe(optimiser=AdamW()), regression=True)["optimiser"].optimiser == SGD(lr=0.01)
    sharp = named(Recipe(optimiser=SAM(base=Adam())))
    assert (sharp["sam"].optimiser, sharp["optimiser"].optimiser) == (Adam(), SGD(lr=0.05))


# --- basins ----------------------------------------------------------------------------------------------------------


def network_runs(task: Task, model: Any, seeds: list[int]) -> list[tuple[RunSpec, dict[str, Tensor]]]:
    """Networks as they are made, with their weights."""
    learner = Learner(model=model, recipe=Recipe(epochs=1, dtype="float64"))
    specs = [RunSpec(task=task.fingerprint, learner=learner, seed=seed, order=seed) for seed in seeds]
    return [
        (own, dict(build(learner.model, task=task, seed=own.seed, dtype=torch.float64).state_dict())) for own in specs
    ]


def shuffled(state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The same perceptron with its hidden units in another order."""
    order = torch.randperm(len(state["1.weight"]), generator=torch.Generator().manual_seed(seed))
    hidden = {name: state[name][order] for name in ("1.weight", "1.bias")}
    return {**state, **hidden, "4.weight": state["4.weight"][:, order]}


def separating(task: Task) -> dict[str, Tensor]:
    """A perceptron of six units, each two of which vote for a class by the first feature."""
    levels = [task.train.x[task.train.y == code, 0].mean() for code in range(3)]
    edges = [-9.0, (levels[0] + levels[1]) / 2, (levels[1] + levels[2]) / 2]
    weight, bias = torch.zeros(6, task.train.x.shape[1], dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    last = torch.zeros(3, 6, dtype=torch.float64)
    weight[:, 0] = 40.0
    for unit, edge in enumerate(np.repeat(edges, 2)):
        bias[unit] = -40.0 * edge + (unit % 2) * -1.0
        code = unit // 2
        sign = 1.0 if unit % 2 == 0 else -1.0
        last[code, unit] += 10 * sign
        if code:
            last[code - 1, unit] -= 10 * sign
    return {"1.weight": weight, "1.bias": bias, "4.weight": last, "4.bias": torch.zeros(3, dtype=torch.float64)}


def test_shuffled_copies_of_a_network_share_a_basin_once_their_units_are_in_one_order() -> None:
    task = task_of(num_train=60, num_test=400)
    runs = [
        (own, shuffled(separating(task), index))
        for index, (own, _) in enumerate(network_runs(task, mlp(width=6), [0, 1, 2]))
    ]
    basins = find_basins(runs, task=task, examined=Examined(num_batches=2, batch_size=200))
    assert set(basins.ways) == {PLAIN, MATCHED}
    assert basins.barrier(MATCHED).value == pytest.approx(0, abs=1e-12)
    assert basins.barrier(PLAIN).value > 0.2
    assert (basins.of(matched=False), basins.of(matched=True), basins.reason) == (PLAIN, MATCHED, "")


def basin_findings(task: Task, runs: list[tuple[RunSpec, dict[str, Tensor]]]) -> dict[str, Finding]:
    """What the study says where the own recipe's networks on true labels ended there."""
    learner = runs[0][0].learner
    budget = StudyBudget(runs=len(runs), subsets=0, seed=0)
    first: Condition = conditions(task, learner, budget, stretch=2)[0]
    made: dict[RunSpec, Run] = {}
    for (_, state), one in zip(runs, planned(first, task, learner, budget), strict=True):
        [probe] = [each for each in one.probes if isinstance(each, Checkpoint)]
        values = {name: part.numpy()[None] for name, part in state.items()}
        kept = ProbeResult(name=probe.name, settings={}, steps=np.array([1]), values=values, seconds=0.0)
        made[one.spec] = replace(fake_run(task, one.spec), probes={probe.key: kept})
    results = Results(task=task, learner=learner, runs=made, fits={})
    return {each.claim: each for each in Minima().summarise(results, budget).section.findings}


def test_a_barrier_that_is_there_is_said_and_one_that_goes_by_matching() -> None:
    task = task_of(num_train=60, num_test=400)
    runs = [
        (own, shuffled(separating(task), index))
        for index, (own, _) in enumerate(network_runs(task, mlp(width=6), [0, 1, 2, 3]))
    ]
    found = basin_findings(task, runs)
    plain, matched = found["seeds-share-a-basin"], found["matched-seeds-share-a-basin"]
    assert (matched.verdict, matched.num_runs) == ("holds", 4)
    assert plain.verdict == "does not hold"
    assert plain.value == pytest.approx(0.46, abs=0.15)
    assert "as they are" in plain.statement
    assert "units in one order" in matched.statement


def test_what_has_no_order_of_units_says_so() -> None:
    task = task_of(num_train=60, num_test=40)
    runs = network_runs(task, Residual, [0, 1, 2])
    found = basin_findings(task, runs)
    assert found["seeds-share-a-basin"].value is not None
    matched = found["matched-seeds-share-a-basin"]
    assert (matched.value, matched.verdict) == (None, "inconclusive")
    assert matched.statement.startswith("Units of these networks could not be put in one order: Expected a network")


def images(*, num_test: int = 40) -> Task:
    task = task_of(num_train=60, num_test=num_test, num_features=72)
    train, test = (replace(part, x=part.x.reshape(-1, 2, 6, 6)) for part in (task.train, task.test))
    return replace(task, train=train, test=test)


def test_batch_statistics_are_computed_anew_where_a_model_has_them() -> None:
    task = images()
    basins = find_basins(network_runs(task, ConvolutionalNormed, [0, 1]), task=task, examined=EXAMINED)
    assert {PLAIN, RECOMPUTED} <= set(basins.ways)
    assert basins.of(matched=False) == RECOMPUTED
    assert MATCHED not in basins.ways
    assert bool(basins.reason) != (MATCHED_RECOMPUTED in basins.ways)


def test_the_barrier_s_interval_is_the_jackknife_s() -> None:
    """Of a mean over pairs of x_i + x_j the jackknife's variance is exactly 4·s²/n."""
    own = np.array([0.1, 0.4, 0.2, 0.7])
    pairs = tuple(itertools.combinations(range(4), 2))
    barriers = np.array([own[one] + own[other] for one, other in pairs])
    ways = Ways(np.zeros(2), np.zeros((6, 2)), barriers, np.zeros(6), pairs, 100)
    found = ways.barrier()
    assert (found.value, found.se) == (pytest.approx(2 * own.mean()), pytest.approx(2 * own.std(ddof=1) / math.sqrt(4)))
    two = Ways(np.zeros(2), np.zeros((1, 2)), barriers[:1], np.zeros(1), pairs[:1], 100).barrier()
    assert (two.low, two.high) == (-math.inf, math.inf)


def test_no_network_means_no_basin() -> None:
    assert find_basins([], task=TASK, examined=EXAMINED).ways == {}
    assert find_basins(network_runs(TASK, mlp(width=4), [0]), task=TASK, examined=EXAMINED).ways == {}


def test_a_model_that_has_changed_is_said() -> None:
    """A user's source that is another one now cannot be made again."""
    runs = network_runs(TASK, mlp(width=4), [0, 1, 2])
    changed = replace(custom(nn.Linear), factory=None, digest="0" * 16)
    broken = [(replace(own, learner=Learner(model=changed, recipe=own.learner.recipe)), state) for own, state in runs]
    found = basin_findings(TASK, broken)
    assert "changed since this run was planned" in found["matched-seeds-share-a-basin"].statement
    assert not [figure for figure in section_of(by_lot).figures if isinstance(figure, Heatmap)]
