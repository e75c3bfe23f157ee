"""What the study of the early phase says of trainings whose curves, weights and answers are known beforehand."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from byrote.core import derive
from byrote.data import randomise_targets
from byrote.models import build, mlp
from byrote.records import (
    SAM,
    SGD,
    Adam,
    Cosine,
    Finding,
    Interval,
    Learner,
    ProbeResult,
    Recipe,
    Run,
    Sample,
    Section,
    Switch,
)
from byrote.studies import EarlyPhase, Results, StudyBudget
from byrote.studies.early_conditions import (
    CURVATURE,
    EDGE,
    END,
    FISHER,
    GRADIENTS,
    Design,
    Kind,
    design,
    probes_of,
    spec_of,
)
from byrote.studies.edge_of_stability import Edge, verdict_of
from byrote.studies.rates_and_batches import effective_rate
from byrote.studies.recipe_changes import always, at_rate, decay_of, from_step, with_decay
from byrote.studies.study import run_seed
from byrote.training import batches
from cheap_runs import fake_run, task_of

TASK = task_of(num_train=60, num_test=200, num_classes=2)
LEARNER = Learner(model=mlp(width=3), recipe=Recipe(optimiser=SGD(lr=0.1, momentum=0.0), batch_size=3, epochs=6))
BUDGET = StudyBudget(runs=5, subsets=0, seed=0)
MADE = design(TASK, LEARNER, BUDGET)
TOTAL = 120

Says = Callable[[Kind, str, int, np.ndarray], Mapping[str, np.ndarray]]
"""What a probe says: from the condition, the probe, the number of the seed and the steps."""


def rising_and_falling(steps: np.ndarray, *, height: float, at: float = 0.05) -> np.ndarray:
    """1 at the start, and highest at a share of the steps."""
    place = np.abs(steps / steps[-1] - at).argmin()
    values = 1 / (1 + np.abs(np.arange(len(steps)) - place))
    return np.where(np.arange(len(steps)) == 0, 0.1, height * values)


def of_sign(sign: int) -> Says:
    """With 1, the larger the rate and the smaller the batch, the lower the peaks and the better the conditioning; with
    −1 the other way round.
    """

    def says(kind: Kind, probe: str, index: int, steps: np.ndarray) -> Mapping[str, np.ndarray]:
        size = 60 if kind.recipe.batch_size == "all" else kind.recipe.batch_size
        calm = (kind.recipe.optimiser.lr * 60 / size) ** sign
        height = (3 + 0.01 * index) / calm**0.5
        curve, nothing = rising_and_falling(steps, height=height), np.full(len(steps), np.nan)
        penalised = (1 + 9 * bool(kind.recipe.regularisers.fisher_penalty)) ** sign
        score = np.linspace(0.5, 1.0, len(steps))
        said: dict[str, Mapping[str, np.ndarray]] = {
            GRADIENTS: {"top": curve, "trace_over_top": 10 * calm**0.3 * curve / height, "score": score},
            CURVATURE: {"top": curve, "curvature_variance": 0 * curve, "preconditioned": nothing},
            FISHER: {"trace": curve / penalised},
            EDGE: {
                "top": 20 * np.minimum(1, 3 * steps / steps[-1]) * (1 + 0.01 * index),
                "preconditioned": nothing,
            },
        }
        return said.get(probe, {})

    return says


as_published, as_they_are = of_sign(1), of_sign(-1)


def at_random(kind: Kind, probe: str, index: int, steps: np.ndarray) -> Mapping[str, np.ndarray]:
    """Nothing depends on anything."""
    rng = np.random.default_rng(derive(index, kind.name, probe))
    drawn = rising_and_falling(steps, height=float(rng.lognormal(1.0, 1.0)))
    names = "top", "trace_over_top", "trace", "score", "curvature_variance", "preconditioned"
    return dict.fromkeys(names, drawn) if probe in (GRADIENTS, CURVATURE, FISHER) else {}


def weights_of(kind: Kind) -> dict[str, np.ndarray]:
    """Of a network that answers by one hidden unit: by another one when its rate was low from the start. Half way both
    answer, and the classes are told apart by half as much.
    """
    unit = 0 if kind == MADE.slow else 1
    state = {
        name: np.zeros(part.shape, np.float32)
        for name, part in build(LEARNER.model, task=TASK, seed=0).state_dict().items()
    }
    first, bias, last, _ = state.values()
    first[unit, 0], bias[unit], last[1, unit], last[0, unit] = 2.0, -2.0, 1.0, -1.0
    return state


def probed(run: Run, kind: Kind, index: int, says: Says, *, made: Design = MADE) -> Run:
    """With what its probes say."""
    results: dict[str, ProbeResult] = {}
    for name, probe in probes_of(made, kind, number=len(TASK.train)).items():
        total = run.spec.learner.recipe.epochs if name == EDGE else sum(map(len, batches(run.spec, num_examples=60)))
        steps = np.array(probe.steps(total))
        values: Mapping[str, Any] = says(kind, name, index, steps)
        if name == END:
            values = {part: weights[None] for part, weights in weights_of(kind).items()}
        if values:
            results[probe.key] = ProbeResult(name=probe.name, settings={}, steps=steps, values=values, seconds=0.0)
    steps = np.linspace(0, 1, run.spec.learner.recipe.epochs + 1)[1:] * sum(
        map(len, batches(run.spec, num_examples=60))
    )
    return replace(run, probes=results, curves=replace(run.curves, step=steps))


def answered(run: Run, share: float) -> Run:
    """Right on so many of the held-out examples."""
    right = np.arange(len(TASK.test)) < share * len(TASK.test)
    run.trace.test_outputs[:] = np.eye(2)[np.where(right, TASK.test.y, 1 - TASK.test.y)]
    return run


def section_of(says: Says, *, shares: Mapping[str, float] | None = None, runs: int = 5, skip: str = "") -> Section:
    budget = replace(BUDGET, runs=runs)
    made: list[Run] = []
    for kind in MADE.kinds:
        if kind.name == skip:
            continue
        for index in range(runs):
            run = fake_run(TASK, spec_of(kind, TASK, LEARNER, budget, index=index))
            run = answered(probed(run, kind, index, says), (shares or {}).get(kind.name, 0.9))
            if kind.flipped:
                changed = randomise_targets(TASK, run.spec.labels).changed
                kept = kind.name == "flipped labels"
                run.trace.margin[-1][changed] = np.where(np.arange(changed.sum()) % 4 < (3 if kept else 1), 1.0, -1.0)
            made.append(run)
    results = Results(task=TASK, learner=LEARNER, runs={run.spec: run for run in made}, fits={})
    return EarlyPhase().summarise(results, budget).section


def found(section: Section) -> dict[str, Finding]:
    return {finding.claim: finding for finding in section.findings}


GRID = (
    "rate-lowers-gradient-variance",
    "rate-lowers-sharpness",
    "rate-improves-conditioning",
    "small-rate-raises-fisher",
    "small-batch-lowers-gradient-variance",
    "small-batch-lowers-sharpness",
    "small-batch-improves-conditioning",
)
SHARES = {"decay in the first half": 0.95, "decay in the second half": 0.85, "rate 0.01, penalty": 0.97}


@pytest.fixture(scope="module")
def published() -> Section:
    return section_of(as_published, shares=SHARES)


def test_what_is_as_published_holds(published: Section) -> None:
    findings = found(published)
    assert {name: finding.verdict for name, finding in findings.items()} == dict.fromkeys(findings, "holds")
    assert not published.notes[0].startswith("Something")


def test_ratios_are_those_of_the_peaks(published: Section) -> None:
    """A tenth of the rate makes peaks √10 times as high; batches of 48 for 3, 4 times; conditioning goes with 0.3."""
    findings = found(published)
    for name, wanted in zip(GRID, (10**0.5, 10**0.5, 10**0.3, 10**0.5, 4.0, 4.0, 16**0.3), strict=True):
        assert findings[name].value == pytest.approx(wanted, rel=1e-6), name
        assert findings[name].num_runs == 10
    assert findings["penalty-lowers-fisher"].value == pytest.approx(10.0)
    assert findings["early-decay-counts"].value == pytest.approx(0.1)
    assert findings["penalty-helps-small-rate"].value == pytest.approx(0.07)
    assert findings["penalty-resists-flipped-labels"].value == pytest.approx(0.5, abs=0.2)
    assert findings["edge-of-stability"].value == pytest.approx(1.02, abs=1e-6)


def test_the_peak_is_where_the_sharpness_is_highest(published: Section) -> None:
    steps = np.array(probes_of(MADE, MADE.own, number=60)[CURVATURE].steps(TOTAL))
    place = np.abs(steps / TOTAL - 0.05).argmin()
    score = np.linspace(0.5, 1.0, len(steps))[place]
    finding = found(published)["peak-is-early"]
    assert finding.value == pytest.approx(steps[place] / TOTAL)
    assert f"when the training score is {100 * score:.1f} %" in finding.statement


def test_what_is_the_other_way_round_does_not_hold() -> None:
    shares = {"decay in the first half": 0.85, "decay in the second half": 0.95, "rate 0.01, penalty": 0.7}
    findings = found(section_of(as_they_are, shares=shares))
    wrong = {*GRID, "early-decay-counts", "penalty-lowers-fisher", "penalty-helps-small-rate"}
    assert {findings[name].verdict for name in wrong} == {"does not hold"}
    assert findings["rate-lowers-sharpness"].high is not None
    assert findings["rate-lowers-sharpness"].high < 1


def test_where_nothing_depends_on_anything_nothing_is_claimed() -> None:
    findings = found(section_of(at_random))
    assert {findings[name].verdict for name in GRID} == {"inconclusive"}
    assert findings["early-decay-counts"].verdict == "inconclusive"


def test_one_seed_decides_nothing() -> None:
    findings = found(section_of(as_published, shares=SHARES, runs=1))
    assert {finding.verdict for finding in findings.values()} == {"inconclusive"}
    assert {finding.low for finding in findings.values()} == {None}


def test_claims_about_a_condition_that_is_missing_are_open_and_the_others_are_not() -> None:
    findings = found(section_of(as_published, shares=SHARES, skip="rate 0.01"))
    open_claims = {name for name, finding in findings.items() if finding.verdict == "inconclusive"}
    assert open_claims >= {"rate-lowers-sharpness", "barrier-falls", "penalty-lowers-fisher"}
    assert findings["small-batch-lowers-sharpness"].verdict == "holds"


def test_what_is_largest_at_the_start_everywhere_has_no_peak_to_compare() -> None:
    def falling(kind: Kind, probe: str, index: int, steps: np.ndarray) -> Mapping[str, np.ndarray]:
        values = dict(as_published(kind, probe, index, steps))
        return {**values, "top": 5.0 / (1 + kind.recipe.optimiser.lr * np.arange(len(steps)))} if values else values

    finding = found(section_of(falling))["rate-lowers-gradient-variance"]
    assert finding.verdict == "inconclusive"
    assert "largest before the first step" in finding.statement


def test_barriers_are_those_of_the_weights(published: Section) -> None:
    """The branch from the start ends at the mirrored weights; all later ones end where the last does."""
    finding = found(published)["barrier-falls"]
    assert finding.value is not None
    assert finding.value > 0
    drawn = next(figure for figure in published.figures if re.match("Barrier to the branch.*loss", figure.title))
    assert drawn.kind == "bars"
    assert drawn.bars[0].value == pytest.approx(finding.value)
    assert [bar.value for bar in drawn.bars[1:]] == pytest.approx([0.0] * (len(drawn.bars) - 1), abs=1e-6)


@pytest.mark.parametrize(
    ("late", "is_rising", "verdict"),
    [
        ((0.9, 1.1), True, "holds"),
        ((0.85, 1.15), False, "holds"),
        ((0.2, 0.4), False, "does not hold"),
        ((0.2, 0.4), True, "inconclusive"),
        ((1.5, 1.9), True, "does not hold"),
        ((0.5, 1.5), False, "inconclusive"),
    ],
)
def test_below_the_edge_and_still_rising_is_open(late: tuple[float, float], is_rising: bool, verdict: str) -> None:
    low, high = late
    middle = (low + high) / 2
    interval = Interval(value=middle, low=low, high=high, se=0.1, count=3)
    assert verdict_of(Edge(interval, is_rising=is_rising)) == verdict


def test_break_even_is_where_the_mean_curve_crosses_and_is_predicted_from_the_slow_runs() -> None:
    """λ rises along a line to 40: 2/η is 20 at the recipe's rate, half way; from a tenth of the rate it is predicted
    after as long a time, η·t."""

    def straight(kind: Kind, probe: str, index: int, steps: np.ndarray) -> Mapping[str, np.ndarray]:
        values = dict(as_published(kind, probe, index, steps))
        if probe == CURVATURE:
            values["top"] = 40.0 * steps / steps[-1] * (1.0 if kind == MADE.own else 0.5)
        return values

    section = section_of(straight)
    table = next(figure for figure in section.figures if figure.kind == "table")
    names = [column.name for column in table.columns]
    rows = {str(row[0]): dict(zip(names, row, strict=True)) for row in table.rows}
    assert rows["own recipe"]["break-even epoch"] == pytest.approx(3.0)
    assert rows["own recipe"]["predicted"] == pytest.approx(0.6)
    assert rows["rate 0.01"]["break-even epoch"] is None
    assert rows["rate 0.01"]["predicted"] is None


def test_with_momentum_the_effective_rate_becomes_unstable_as_soon() -> None:
    assert effective_rate(Recipe(optimiser=SGD(lr=0.19, momentum=0.9, weight_decay=0.5))) == pytest.approx(0.1)


def test_a_recipe_changed_from_a_step_keeps_its_own_switches_before_and_after() -> None:
    own = Recipe(
        optimiser=SGD(lr=1.0), switches=(Switch(step=10, batch_size=5), Switch(step=30, optimiser=Adam(lr=3.0)))
    )
    made = from_step(own, 20, at_rate(0.1))
    assert [(one.step, one.optimiser.lr, one.batch_size) for one in made.switches] == [
        (10, 0.1, 5),
        (20, pytest.approx(0.01), 5),
        (30, pytest.approx(0.3), 64),
    ]
    assert from_step(own, 10, at_rate(0.1)).switches[0].optimiser.lr == pytest.approx(0.01)
    assert from_step(own, 0, at_rate(0.1)) == always(own, at_rate(0.1))


def test_weight_decay_is_that_of_sam_s_base() -> None:
    made = always(Recipe(optimiser=SAM()), with_decay(0.3))
    assert isinstance(made.optimiser, SAM)
    assert decay_of(made) == made.optimiser.base.weight_decay == 0.3


def names(made: Design) -> list[str]:
    return [kind.name for kind in made.kinds]


def test_around_the_recipe_everything_is_changed_one_at_a_time() -> None:
    assert names(MADE) == [
        "own recipe",
        "rate 0.01",
        "batches of 48",
        "batches of 12",
        "rate 0.0316",
        "rate 0.01 from step 1",
        "rate 0.01 from step 3",
        "rate 0.01 from step 15",
        "rate 0.01 from step 60",
        "decay throughout",
        "decay in the first half",
        "decay in the second half",
        "rate 0.01, penalty",
        "flipped labels",
        "flipped labels, penalty",
        "full batches",
    ]
    assert MADE.decays is not None
    assert MADE.decays.never == MADE.own
    first, second = MADE.decays.first.recipe, MADE.decays.second.recipe
    assert [decay_of(replace(own, switches=())) for own in (first, second)] == [MADE.weight_decay, 0.0]
    assert [one.step for one in (*first.switches, *second.switches)] == [TOTAL // 2, TOTAL // 2]
    assert MADE.branches[0] == MADE.slow
    assert MADE.edge is not None
    assert (MADE.edge.recipe.batch_size, MADE.edge.recipe.epochs, MADE.edge.sample) == ("all", TOTAL, None)


def test_on_a_sample_only_the_extremes_are_trained() -> None:
    budget = replace(BUDGET, sample=Sample(train=40, test=20, draw=0))
    made = design(TASK, LEARNER, budget)
    assert [len(part) for part in (made.rates, made.batches, made.branches)] == [2, 2, 4]
    assert len(made.kinds) == 13
    assert {kind.sample for kind in made.kinds} == {budget.sample}


@pytest.mark.parametrize(
    ("recipe", "sizes"),
    [
        (Recipe(batch_size="all", epochs=9), [3, 15, 60]),
        (Recipe(batch_size=20, epochs=9), [20, 60]),
        (Recipe(batch_size=500, epochs=9), [3, 15, 60]),
        (Recipe(batch_size=15, epochs=9), [15, 60]),
        (Recipe(batch_size=2, epochs=9), [2, 8, 32]),
    ],
)
def test_batches_grow_as_far_as_there_are_examples_and_else_shrink(recipe: Recipe, sizes: list[int]) -> None:
    made = design(TASK, Learner(model=LEARNER.model, recipe=recipe), BUDGET)
    found_sizes = [60 if one == "all" else min(60, one) for one in (kind.recipe.batch_size for kind in made.batches)]
    assert found_sizes == sizes


def test_a_schedule_is_kept_and_what_needs_a_limit_is_left_out_where_none_is_known() -> None:
    made = design(
        TASK, Learner(model=LEARNER.model, recipe=Recipe(optimiser=SAM(), schedule=Cosine(), epochs=3)), BUDGET
    )
    assert made.edge is None
    assert {kind.recipe.schedule for kind in made.kinds} == {Cosine()}
    assert {switch.schedule for kind in made.kinds for switch in kind.recipe.switches} == {Cosine()}


def test_a_training_of_one_step_is_not_changed_on_the_way() -> None:
    made = design(TASK, Learner(model=LEARNER.model, recipe=Recipe(batch_size="all", epochs=1)), BUDGET)
    assert made.decays is None
    assert list(made.branches) == [0]
    assert EarlyPhase().plan(TASK, Learner(model=LEARNER.model, recipe=Recipe(batch_size="all", epochs=1)), BUDGET).runs


def test_seeds_are_the_same_for_every_condition() -> None:
    plan = EarlyPhase().plan(TASK, LEARNER, BUDGET)
    for kind in MADE.kinds:
        specs = [spec_of(kind, TASK, LEARNER, BUDGET, index=index) for index in range(BUDGET.runs)]
        assert set(specs) <= set(plan.runs)
        assert [spec.seed for spec in specs] == [run_seed(BUDGET, index) for index in range(BUDGET.runs)]
    assert len(plan.runs) == BUDGET.runs * len(MADE.kinds)
    asked = {name for kind in MADE.grid for name in probes_of(MADE, kind, number=60)}
    assert {GRADIENTS, CURVATURE, FISHER} <= asked
