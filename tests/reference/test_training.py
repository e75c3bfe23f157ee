"""The population engine against the loop that everyone writes: float64, every number equal."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from byrote.models import build, cnn, linear, mlp
from byrote.records import (
    SAM,
    SGD,
    Adam,
    AdamW,
    BalancedSubset,
    Constant,
    Cosine,
    LeftOut,
    Linear,
    Optimiser,
    Regularisers,
    ReplacedLabels,
    Run,
    RunSpec,
    Step,
    Switch,
    WarmUp,
)
from byrote.training import DTYPES, Method, Path, inspect_model, train
from plain_loop import plain_run
from small_networks import (
    Attentive,
    Buffered,
    ChannelsDropped,
    Convolutional,
    ConvolutionalNormed,
    Counting,
    CumulativeNorm,
    Depthwise,
    Dropped,
    DroppedAttention,
    DroppedTwice,
    Dropping,
    Embedded,
    Frozen,
    HomemadeNorm,
    Hooked,
    LayerNormed,
    Normed,
    NormedTwice,
    Recurrent,
    Residual,
    Scalar,
    Secret,
    StochasticDepth,
    Tied,
    TokensNormed,
    Transformer,
    TwoBiases,
    Unused,
    Wide,
    Written,
    dropped_chain,
)
from small_tasks import CORRUPTED, TRUE, classes, data_of, numbers, numbers_of, spec

TOLERANCE = 1e-10
CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(2, 6, 6))
TASKS = {"classes": CLASSES, "numbers": NUMBERS, "images": IMAGES}

STACKED: tuple[Method, ...] = ("single", "stacked")
DENSE: tuple[Method, ...] = ("single", "dense", "stacked")
UNFOLDED: tuple[Method, ...] = ("single", "stacked", "unfolded")
CASES: list[tuple[str, Any, tuple[Method, ...]]] = [
    ("classes", linear(), DENSE),
    ("numbers", linear(), DENSE),
    ("classes", mlp(width=7, depth=2), DENSE),
    ("numbers", mlp(width=7), DENSE),
    ("images", mlp(width=7), DENSE),
    ("classes", dropped_chain, DENSE),
    ("images", dropped_chain, DENSE),
    ("classes", Written, DENSE),
    ("images", Written, DENSE),
    ("classes", DroppedTwice, DENSE),
    ("classes", Residual, STACKED),
    ("classes", Hooked, STACKED),
    ("images", cnn(width=2), UNFOLDED),
    ("images", Convolutional, UNFOLDED),
    ("images", ConvolutionalNormed, UNFOLDED),
    ("images", ChannelsDropped, UNFOLDED),
    ("images", Wide, UNFOLDED),
    ("images", Depthwise, STACKED),
    ("classes", Normed, STACKED),
    ("numbers", Normed, STACKED),
    ("classes", NormedTwice, STACKED),
    ("classes", CumulativeNorm, STACKED),
    ("classes", LayerNormed, STACKED),
    ("classes", Dropped, STACKED),
    ("classes", Embedded, STACKED),
    ("classes", Attentive, STACKED),
    ("classes", Transformer, STACKED),
    ("classes", Recurrent, ("single",)),
    ("classes", Secret, ("single",)),
    ("classes", Frozen, STACKED),
    ("classes", Tied, STACKED),
    ("numbers", Tied, STACKED),
    ("classes", Buffered, STACKED),
    ("classes", Unused, STACKED),
    ("classes", TwoBiases, STACKED),
    ("numbers", Scalar, STACKED),
]
FOREIGN = [Dropping, HomemadeNorm, StochasticDepth, Counting, DroppedAttention, TokensNormed]

BASES: dict[str, list[Any]] = {
    "sgd": [SGD(lr=0.1, momentum=0.0), SGD(lr=0.05), SGD(lr=0.07, momentum=0.8, weight_decay=0.05)],
    "nesterov": [
        SGD(lr=0.05, momentum=0.9, nesterov=True),
        SGD(lr=0.1, momentum=0.5, weight_decay=0.05, nesterov=True),
    ],
    "adam": [Adam(lr=0.02), Adam(lr=0.03, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1)],
    "adamw": [AdamW(lr=0.02, weight_decay=0.0), AdamW(lr=0.03, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1)],
}
SHARP: dict[str, list[Any]] = {
    f"sam over {name}": [SAM(base=base, rho=rho) for base, rho in zip(bases, (0.05, 0.2, 0.5), strict=False)]
    for name, bases in BASES.items()
}
OPTIMISERS: dict[str, list[Any]] = {**BASES, **SHARP}
HEAVY = SAM(base=Adam(lr=0.02, eps=1e-3), rho=0.1)
"""A weight before BatchNorm may have a gradient of 0 but for rounding, which a small ε blows up."""
PLAIN_SCHEDULES = [Constant(), Step(every=2, factor=0.3), Cosine(), Linear()]
SCHEDULES = [*PLAIN_SCHEDULES, *(WarmUp(steps=7, then=then) for then in PLAIN_SCHEDULES)]
REGULARISERS = [
    Regularisers(),
    Regularisers(label_smoothing=0.2, input_noise=0.3),
    Regularisers(clip_norm=0.2, label_smoothing=0.1),
    Regularisers(input_noise=0.1, clip_norm=1.0, fisher_penalty=0.02),
    Regularisers(fisher_penalty=0.02),
]


def suited(kind: str, regular: Regularisers) -> Regularisers:
    """Numbers have no labels to smooth."""
    return replace(regular, label_smoothing=0.0) if kind == "numbers" else regular


@cache
def plain(kind: str, one: RunSpec, *, foreign: bool = False) -> dict[str, np.ndarray]:
    return plain_run(TASKS[kind], one, foreign=foreign)


def assert_plain(kind: str, run: Run, *, foreign: bool = False) -> None:
    assert (run.status, run.message) == ("completed", "")
    expected = plain(kind, run.spec, foreign=foreign)
    assert run.weights is not None
    got = {**numbers_of(run), **{f"weights {name}": part for name, part in run.weights.items()}}
    assert set(got) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


def assert_plain_by(path: Path, kind: str, specs: Sequence[RunSpec]) -> None:
    for run in train(specs, data_of(TASKS[kind], specs[0]), path=path, keep_weights=True):
        assert_plain(kind, run, foreign=path.foreign)


def of_size(method: Method, number: int) -> Path:
    return Path("single") if method == "single" else Path(method, number)


def member(index: int, kind: str, model: Any, **changed: Any) -> RunSpec:
    """The index-th run of a population: other seeds, orders, labels and subsets."""
    return spec(
        TASKS[kind],
        model,
        seed=index,
        order=index // 2,
        labels=(TRUE, CORRUPTED)[index % 2],
        subset=BalancedSubset(fraction=0.7, draw=3, index=index),
        **{"epochs": 3, **changed},
    )


# --- optimisers and schedules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", DENSE)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_sweep_of_numbers_and_schedules_is_a_plain_loop_for_each(name: str, method: Method) -> None:
    """Eight runs of eight schedules and other learning rates, momenta, decays and radii, in one population."""
    specs = [
        member(index, "classes", mlp(width=7), optimiser=optimiser, schedule=schedule)
        for index, (optimiser, schedule) in enumerate(zip(cycle(OPTIMISERS[name]), SCHEDULES, strict=False))
    ]
    assert_plain_by(of_size(method, 8), "classes", specs)


@pytest.mark.parametrize("method", DENSE)
@pytest.mark.parametrize("optimiser", [one for many in OPTIMISERS.values() for one in many], ids=str)
def test_runs_of_one_recipe_are_plain_loops(optimiser: Optimiser, method: Method) -> None:
    specs = [
        member(index, "classes", mlp(width=7), optimiser=optimiser, schedule=Cosine(), epochs=2) for index in range(2)
    ]
    assert_plain_by(of_size(method, 2), "classes", specs)


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "model", "methods"), CASES, ids=lambda part: getattr(part, "__name__", str(part)))
def test_every_layer_trains_by_every_method_as_in_the_plain_loop(
    kind: str, model: Any, methods: tuple[Method, ...]
) -> None:
    """A population of other numbers and regularisers, dropout among them, cut into 3 + 1."""
    task = TASKS[kind]
    specs = [
        member(index, kind, model, optimiser=optimiser, schedule=schedule, regularisers=suited(kind, regular))
        for index, (optimiser, schedule, regular) in enumerate(
            zip(cycle(BASES["sgd"][1:]), (Cosine(), WarmUp(steps=3), Linear()), REGULARISERS, strict=False)
        )
    ]
    specs.append(member(3, kind, model, optimiser=BASES["sgd"][0], regularisers=REGULARISERS[3]))
    one = specs[0]
    nature = inspect_model(
        lambda seed: build(one.learner.model, task=task, seed=seed, dtype=DTYPES["float64"]),
        data_of(task, one).train_x.take(data_of(task, one).test_x.values.new_tensor(range(8)).long()),
    )
    assert (nature.methods, nature.foreign) == (methods, False)
    assert (nature.reason == "") == (len(methods) > 1)
    for method in methods:
        assert_plain_by(of_size(method, 3), kind, specs if method != "single" else specs[1:3])
    if kind == "images":
        assert_plain_by(Path("single", channels_last=True), kind, specs[:1])


@pytest.mark.parametrize(("kind", "model", "methods"), CASES, ids=lambda part: getattr(part, "__name__", str(part)))
def test_every_layer_trains_with_the_heaviest_optimiser(kind: str, model: Any, methods: tuple[Method, ...]) -> None:
    """Sharpness-aware Adam on all examples in one order: two passes a step, batches that are shared."""
    specs = [spec(TASKS[kind], model, seed=seed, order=4, epochs=2, optimiser=HEAVY) for seed in range(2)]
    for method in methods:
        assert_plain_by(of_size(method, 2), kind, specs)


@pytest.mark.parametrize("optimiser", [SGD(lr=0.05, weight_decay=0.01), HEAVY], ids=["sgd", "sam"])
@pytest.mark.parametrize("model", FOREIGN)
def test_layers_of_the_authors_own_train_on_the_included_examples_as_in_the_plain_loop(
    model: Any, optimiser: Optimiser
) -> None:
    specs = [member(index, "classes", model, optimiser=optimiser, regularisers=REGULARISERS[1]) for index in range(2)]
    assert_plain_by(Path("single", foreign=True), "classes", specs)


@pytest.mark.parametrize("num_train", [33, 34])
@pytest.mark.parametrize("fraction", [None, 0.2])
@pytest.mark.parametrize("method", STACKED)
def test_batch_norm_on_few_examples_is_the_plain_loop(
    method: Method, fraction: float | None, num_train: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Last batches of one example and of two, and batches in which nothing, or one, is included."""
    task = classes(num_train=num_train)
    monkeypatch.setitem(TASKS, f"{num_train}", task)
    subsets: dict[str, Any] = {} if fraction is None else {"subset": BalancedSubset(fraction=fraction, draw=0, index=1)}
    size = 8 if fraction is None else 1
    specs = [spec(task, Normed, seed=seed, order=seed, epochs=2, batch_size=size, **subsets) for seed in range(2)]
    assert_plain_by(of_size(method, 2), f"{num_train}", specs)


# --- regularisers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "model", "methods"),
    [("classes", dropped_chain, DENSE), ("classes", Dropped, STACKED), ("images", ChannelsDropped, UNFOLDED)],
)
def test_rates_of_dropout_may_differ_between_runs(kind: str, model: Any, methods: tuple[Method, ...]) -> None:
    rates = (None, 0.0, 0.5, 0.1)
    specs = [
        member(index, kind, model, optimiser=SGD(lr=0.05), regularisers=Regularisers(dropout=rate))
        for index, rate in enumerate(rates)
    ]
    for method in methods:
        assert_plain_by(of_size(method, 4), kind, specs)


@pytest.mark.parametrize("rate", [0.0, 0.4])
@pytest.mark.parametrize("method", DENSE)
def test_one_rate_of_dropout_for_all(method: Method, rate: float) -> None:
    regular = Regularisers(dropout=rate)
    specs = [member(index, "classes", dropped_chain, regularisers=regular) for index in range(2)]
    assert_plain_by(of_size(method, 2), "classes", specs)


@pytest.mark.parametrize("regular", REGULARISERS[1:], ids=str)
@pytest.mark.parametrize("kind", ["classes", "numbers"])
@pytest.mark.parametrize("method", DENSE)
def test_one_set_of_regularisers_for_all(method: Method, kind: str, regular: Regularisers) -> None:
    optimiser = SAM(base=SGD(lr=0.05, weight_decay=0.01))
    specs = [
        member(index, kind, mlp(width=7), optimiser=optimiser, regularisers=suited(kind, regular)) for index in range(2)
    ]
    assert_plain_by(of_size(method, 2), kind, specs)


@pytest.mark.parametrize("method", DENSE)
def test_runs_without_chosen_examples_and_with_chosen_targets_are_plain_loops_in_one_population(method: Method) -> None:
    chosen = [
        (LeftOut(positions=(0, 3, 17), reason="odd"), TRUE),
        (LeftOut(positions=(5,), reason="even"), ReplacedLabels(positions=(2, 4), targets=(0, 1))),
    ]
    specs = [
        spec(CLASSES, mlp(width=7), seed=seed, order=seed, epochs=2, subset=subset, labels=labels)
        for seed, (subset, labels) in enumerate(chosen)
    ]
    assert_plain_by(of_size(method, 2), "classes", specs)


# --- batches and switches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", ["all", 1, 37, 1000])
@pytest.mark.parametrize("method", DENSE)
def test_batches_of_any_size_are_the_plain_loop(method: Method, batch_size: Any) -> None:
    specs = [member(index, "classes", mlp(width=7), batch_size=batch_size, epochs=2) for index in range(2)]
    assert_plain_by(of_size(method, 2), "classes", specs)


SWITCHES: dict[str, list[tuple[Switch, ...]]] = {
    "another optimiser": [
        (Switch(step=6, optimiser=Adam(lr=0.02), batch_size=8), Switch(step=11, optimiser=SGD(lr=0.05), batch_size=8)),
        (Switch(step=6, optimiser=Adam(lr=0.01), batch_size=8), Switch(step=11, optimiser=SGD(lr=0.1), batch_size=8)),
    ],
    "the same kind": [
        (Switch(step=7, optimiser=SGD(lr=0.02, momentum=0.5, weight_decay=0.1), batch_size=8),),
        (Switch(step=7, optimiser=SGD(lr=0.03, momentum=0.0), batch_size=8),),
    ],
    "sharper, and back": [
        (
            Switch(step=3, optimiser=SAM(base=SGD(lr=0.05), rho=0.3), batch_size=8),
            Switch(step=9, optimiser=SGD(lr=0.05), batch_size=8),
        ),
    ]
    * 2,
    "larger batches within an epoch": [
        (
            Switch(step=2, optimiser=SGD(lr=0.05), batch_size=16),
            Switch(step=5, optimiser=SGD(lr=0.05), batch_size="all"),
            Switch(step=6, optimiser=SGD(lr=0.05), batch_size=3),
        ),
    ]
    * 2,
    "regularisers and schedules": [
        (Switch(step=4, optimiser=SGD(lr=0.05), batch_size=8, schedule=Cosine(), regularisers=REGULARISERS[1]),),
        (Switch(step=4, optimiser=SGD(lr=0.05), batch_size=8, schedule=WarmUp(steps=9), regularisers=REGULARISERS[2]),),
    ],
}


@pytest.mark.parametrize("method", DENSE)
@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_on_the_way_is_the_plain_loop(name: str, method: Method) -> None:
    specs = [
        member(index, "classes", mlp(width=7), optimiser=SGD(lr=0.05), switches=switches, epochs=4)
        for index, switches in enumerate(SWITCHES[name])
    ]
    assert_plain_by(of_size(method, 2), "classes", specs)


@pytest.mark.parametrize("method", DENSE)
def test_momentum_that_comes_later_begins_at_zero_whatever_the_others_in_the_population_do(method: Method) -> None:
    momenta = [(0.0, 0.9, 0.9), (0.9, 0.0, 0.9), (0.5, 0.5, 0.0), (0.0, 0.0, 0.9)]
    specs = [
        member(
            index,
            "classes",
            mlp(width=7),
            optimiser=SGD(lr=0.05, momentum=first),
            switches=(
                Switch(step=4, optimiser=SGD(lr=0.05, momentum=second), batch_size=8),
                Switch(step=9, optimiser=SGD(lr=0.04, momentum=third), batch_size=8),
            ),
        )
        for index, (first, second, third) in enumerate(momenta)
    ]
    assert_plain_by(of_size(method, 4), "classes", specs)
    assert_plain_by(of_size(method, 1), "classes", specs)
