"""Laws of training: how a population is cut, ordered or placed changes nothing, and nothing outside is touched."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from byrote.core import DataError, ModelError
from byrote.data import Examples, Task, inclusion, randomise_targets
from byrote.models import build, linear, mlp
from byrote.records import (
    SAM,
    SGD,
    Adam,
    AdamW,
    BalancedSubset,
    CorruptedLabels,
    Cosine,
    GaussianInputs,
    Linear,
    Regularisers,
    Run,
    RunSpec,
    Sample,
    Switch,
)
from byrote.training import Nature, Path, batchmates, choose_path, inspect_model, train, training_data
from small_networks import (
    Attentive,
    Buffered,
    ChannelsDropped,
    Convolutional,
    ConvolutionalNormed,
    Counting,
    CumulativeNorm,
    Dropped,
    DroppedAttention,
    Dropping,
    FailsInTraining,
    FailsOnBatches,
    Frozen,
    HomemadeNorm,
    Mixing,
    Normed,
    Numpyish,
    Pythonic,
    Recurrent,
    Restless,
    Scalar,
    Secret,
    SecretRate,
    Shapeshifter,
    Sometimes,
    StochasticDepth,
    Tied,
    TokensNormed,
    dropped_chain,
    same_module_every_time,
    sometimes,
)
from small_tasks import (
    ALONE,
    CORRUPTED,
    CPU,
    FOREIGN,
    SUBSET,
    assert_same,
    classes,
    data_of,
    numbers,
    numbers_of,
    population,
    spec,
    stacked,
)

CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(2, 6, 6))
STACKABLE: dict[str, tuple[Task, Any, tuple[Path, ...]]] = {
    "classes": (CLASSES, mlp(width=7), (ALONE, stacked(2, "dense"), stacked(3), stacked(5, "dense"))),
    "numbers": (NUMBERS, mlp(width=7), (stacked(4, "dense"), stacked(5))),
    "images": (IMAGES, Convolutional, (stacked(2), stacked(5, "unfolded"), ALONE._replace(channels_last=True))),
    "dropout": (CLASSES, dropped_chain, (ALONE, stacked(1, "dense"), stacked(3, "dense"), stacked(5))),
    "batch norm": (CLASSES, Normed, (ALONE, stacked(2), stacked(3))),
    "channels": (IMAGES, ChannelsDropped, (ALONE, stacked(4), stacked(3, "unfolded"))),
}
every_kind = pytest.mark.parametrize("kind", STACKABLE)


def short_population(task: Task, model: Any) -> list[RunSpec]:
    """Five runs with numbers of their own, and all regularisers."""
    return [
        replace(one, learner=replace(one.learner, recipe=own))
        for index, one in enumerate(population(task, model, epochs=3))
        for own in [
            replace(
                one.learner.recipe,
                optimiser=SGD(lr=0.02 * (1 + index), momentum=0.9 - 0.2 * index, weight_decay=0.01),
                schedule=(Cosine(), Linear())[index % 2],
                regularisers=Regularisers(
                    label_smoothing=0.0 if task.regression else 0.05 * index,
                    input_noise=0.1 * index,
                    clip_norm=None if index % 2 else 2.0,
                ),
            )
        ]
    ]


@cache
def whole(kind: str) -> list[Run]:
    task, model, _ = STACKABLE[kind]
    specs = short_population(task, model)
    return train(specs, data_of(task, specs[0]), path=stacked(5), keep_weights=True)


# --- how a population is cut and ordered -----------------------------------------------------------------------------


@every_kind
def test_any_cut_and_any_method_give_the_same_runs(kind: str) -> None:
    task, model, paths = STACKABLE[kind]
    specs = short_population(task, model)
    for path in (*paths, stacked(32)):
        for one, two in zip(
            whole(kind), train(specs, data_of(task, specs[0]), path=path, keep_weights=True), strict=True
        ):
            assert_same(one, two)


@settings(max_examples=10, deadline=None)
@given(
    kind=st.sampled_from(sorted(STACKABLE)),
    members=st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
    number=st.integers(0, 3),
)
def test_any_order_alone_or_with_others_gives_the_same_runs(kind: str, members: list[int], number: int) -> None:
    task, model, paths = STACKABLE[kind]
    specs = [short_population(task, model)[member] for member in members]
    runs = train(specs, data_of(task, specs[0]), path=paths[number % len(paths)], keep_weights=True)
    for member, run in zip(members, runs, strict=True):
        assert_same(whole(kind)[member], run)


@every_kind
def test_runs_that_share_their_batches_are_the_same_among_others_that_do_not(kind: str) -> None:
    task, model, _ = STACKABLE[kind]
    same = [replace(one, order=7) for one in short_population(task, model)[:3]]
    other = replace(same[1], order=8)
    data = data_of(task, same[0])
    together, among = train(same, data, path=stacked(3)), train([*same, other], data, path=stacked(4))
    for one, two in zip(together, among, strict=False):
        assert_same(one, two)
    assert np.abs(among[1].trace.train_outputs - among[3].trace.train_outputs).max() > 1e-6


@pytest.mark.parametrize("model", [Dropping, HomemadeNorm, StochasticDepth, Counting, TokensNormed, Pythonic])
@pytest.mark.parametrize("members", [[3], [2, 1, 0, 4]], ids=str)
def test_models_with_layers_of_their_own_give_the_same_runs_however_they_are_cut(
    model: Any, members: list[int]
) -> None:
    specs = population(CLASSES, model, epochs=2)
    data = data_of(CLASSES, specs[0])
    whole = train(specs, data, path=FOREIGN)
    for member, run in zip(members, train([specs[m] for m in members], data, path=FOREIGN), strict=True):
        assert_same(whole[member], run, tolerance=0)


def test_the_loss_curve_is_the_trace_over_what_was_trained_on() -> None:
    for run in whole("classes"):
        included = inclusion(CLASSES, run.spec.subset)
        np.testing.assert_allclose(run.curves.train_loss, run.trace.loss[:-1, included].mean(1), rtol=1e-12)
        np.testing.assert_allclose(run.curves.train_score, (run.trace.margin[:-1, included] > 0).mean(1), rtol=1e-12)


def test_the_same_spec_in_another_process_has_the_same_key_and_numbers() -> None:
    code = """if True:
        import json, random
        from small_networks import Pythonic
        from small_tasks import FOREIGN, classes, data_of, population, stacked
        from byrote.models import mlp
        from byrote.training import train
        task = classes()
        specs = population(task, mlp(width=7), epochs=2)
        before = random.getstate()
        runs = train(specs[3:], data_of(task, specs[0]), path=stacked(2))
        train(population(task, Pythonic, epochs=1), data_of(task, specs[0]), path=FOREIGN)
        assert random.getstate() == before
        print(json.dumps([[run.spec.key, run.trace.train_outputs.tolist()] for run in runs]))
    """
    tests = FilePath(__file__).parent.parent
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tests)
    specs = population(CLASSES, mlp(width=7), epochs=2)
    runs = train(specs, data_of(CLASSES, specs[0]), path=stacked(5))[3:]
    for run, (key, outputs) in zip(runs, json.loads(answer.stdout), strict=True):
        assert run.spec.key == key
        np.testing.assert_allclose(run.trace.train_outputs, outputs, rtol=1e-10, atol=1e-10)


def test_seeds_orders_labels_and_subsets_each_make_another_run() -> None:
    one = spec(CLASSES, mlp(width=7), epochs=2)
    others = [
        spec(CLASSES, mlp(width=7), epochs=2, seed=1),
        spec(CLASSES, mlp(width=7), epochs=2, order=1),
        spec(CLASSES, mlp(width=7), epochs=2, labels=CorruptedLabels(fraction=0.5, draw=0)),
        spec(CLASSES, mlp(width=7), epochs=2, subset=SUBSET),
    ]
    runs = [train([which], data_of(CLASSES, which), path=ALONE)[0] for which in (one, *others)]
    for run in runs[1:]:
        assert np.abs(run.trace.train_outputs - runs[0].trace.train_outputs).max() > 1e-3


# --- what is left alone ----------------------------------------------------------------------------------------------


WAYS = pytest.mark.parametrize(
    ("model", "path"),
    [
        (mlp(width=3), stacked(2, "dense")),
        (dropped_chain, stacked(2)),
        (Normed, ALONE),
        (Attentive, stacked(2)),
        (Dropping, FOREIGN),
        (Pythonic, FOREIGN),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)


def surroundings() -> list[Any]:
    """What a caller may have set, and finds again."""
    return [
        torch.get_rng_state().tolist(),
        [np.asarray(part).tolist() for part in np.random.get_state()],  # noqa: NPY002
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.backends.mkldnn.enabled,  # pyright: ignore[reportAttributeAccessIssue]
    ]


@WAYS
def test_nothing_global_is_touched(model: Any, path: Any) -> None:
    specs = population(CLASSES, model, epochs=1)
    data = data_of(CLASSES, specs[0])
    before = surroundings()
    chosen = choose_path(data, specs[0], num_runs=4)
    train(specs, data, path=path)
    train(specs, data, path=chosen._replace(num_threads=1))
    assert surroundings() == before


@pytest.mark.parametrize("path", [ALONE._replace(num_threads=1), FOREIGN, stacked(2)._replace(num_threads=1)], ids=str)
def test_nothing_global_is_touched_by_a_failure(path: Path) -> None:
    before = surroundings()
    one = spec(CLASSES, FailsOnBatches, epochs=1)
    with pytest.raises(ModelError):
        train([one, replace(one, seed=1)], data_of(CLASSES, one), path=path)
    assert surroundings() == before


@WAYS
def test_the_global_random_state_does_not_matter(model: Any, path: Any) -> None:
    specs = population(CLASSES, model, epochs=2)
    data = data_of(CLASSES, specs[0])
    first = train(specs, data, path=path)
    torch.rand(17)
    random.random()
    for one, two in zip(first, train(specs, data, path=path), strict=True):
        assert_same(one, two, tolerance=0)


def test_a_factorys_prototype_is_left_as_it_was() -> None:
    prototype = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    before = {name: value.clone() for name, value in prototype.state_dict().items()}

    def copied() -> nn.Module:
        twin = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
        twin.load_state_dict(prototype.state_dict())
        return twin

    one = spec(CLASSES, copied, epochs=1)
    data = data_of(CLASSES, one)
    train([one], data, path=choose_path(data, one, num_runs=2))
    assert prototype.training
    for name, value in prototype.state_dict().items():
        assert torch.equal(value, before[name])


def test_training_works_where_gradients_are_off() -> None:
    specs = short_population(CLASSES, mlp(width=7))
    with torch.no_grad():
        data = data_of(CLASSES, specs[0])
        runs = train(specs, data, path=stacked(5))
        choose_path(data, specs[0], num_runs=3)
    for one, two in zip(whole("classes"), runs, strict=True):
        assert_same(one, two)


# --- what is held out ------------------------------------------------------------------------------------------------


def disturbed(task: Task, held_out: np.ndarray) -> Task:
    """Other inputs and targets wherever an example is held out."""
    rng = np.random.default_rng(9)
    x, y = task.train.x.copy(), task.train.y.copy()
    x[held_out] = 1e3 * rng.standard_normal(x[held_out].shape)
    y[held_out] = y[held_out][::-1] if task.regression else (y[held_out] + 1) % task.num_classes
    return Task(train=Examples(x, y), test=task.test, classes=task.classes)


HELD_OUT: list[tuple[Task, Any, Path]] = [
    (CLASSES, mlp(width=7), stacked(2, "dense")),
    (CLASSES, mlp(width=7), ALONE),
    (CLASSES, dropped_chain, stacked(2, "dense")),
    (CLASSES, dropped_chain, stacked(2)),
    (CLASSES, Dropped, ALONE),
    (CLASSES, Normed, ALONE),
    (CLASSES, Normed, stacked(2)),
    (CLASSES, CumulativeNorm, ALONE),
    (CLASSES, CumulativeNorm, stacked(2)),
    (IMAGES, ConvolutionalNormed, stacked(2)),
    (IMAGES, ChannelsDropped, stacked(2, "unfolded")),
    (CLASSES, Normed, FOREIGN),
    (CLASSES, HomemadeNorm, FOREIGN),
    (CLASSES, TokensNormed, FOREIGN),
    (CLASSES, Dropping, FOREIGN),
    (CLASSES, StochasticDepth, FOREIGN),
]


@pytest.mark.parametrize(("original", "model", "path"), HELD_OUT, ids=lambda part: getattr(part, "__name__", None))
@pytest.mark.parametrize(
    "optimiser", [SGD(lr=0.1, weight_decay=0.01), SAM(base=SGD(lr=0.1), rho=0.1)], ids=["sgd", "sam"]
)
def test_what_is_held_out_reaches_nothing(original: Task, model: Any, path: Path, optimiser: Any) -> None:
    runs: list[Run] = []
    kept = inclusion(original, SUBSET)
    for task in (original, disturbed(original, ~kept)):
        regular = Regularisers(input_noise=0.1, label_smoothing=0.1, clip_norm=1.0)
        one = spec(task, model, subset=SUBSET, optimiser=optimiser, regularisers=regular, epochs=3)
        runs.append(train([one, replace(one, seed=1)], data_of(task, one), path=path)[0])
    first, second = runs
    for name in ("step", "train_loss", "train_score", "test_loss", "test_score", "weight_norm"):
        np.testing.assert_allclose(getattr(first.curves, name), getattr(second.curves, name), rtol=1e-10, err_msg=name)
    np.testing.assert_allclose(first.trace.test_outputs, second.trace.test_outputs, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(first.trace.loss[:, kept], second.trace.loss[:, kept], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(first.trace.train_outputs[kept], second.trace.train_outputs[kept], atol=1e-10)
    apart = np.abs(first.trace.train_outputs[~kept] - second.trace.train_outputs[~kept])
    assert apart.max(1).min() > 1e-3  # what was held out is another example now


def test_an_infinite_loss_on_a_held_out_example_does_not_sink_the_run() -> None:
    task = numbers()
    kept = inclusion(task, SUBSET)
    x = task.train.x.copy()
    x[np.flatnonzero(~kept)[0]] = 1e200
    far = Task(train=Examples(x, task.train.y), test=task.test)
    runs = []
    for which in (task, far):
        one = spec(which, linear(), subset=SUBSET)
        runs.append(train([one], data_of(which, one), path=stacked(1))[0])
    assert np.isinf(runs[1].trace.loss[:, ~kept]).any()
    assert runs[1].status == "completed"
    np.testing.assert_allclose(runs[0].trace.test_outputs, runs[1].trace.test_outputs, rtol=1e-10)


# --- evaluation mode -------------------------------------------------------------------------------------------------


def initial_losses(one: Any) -> np.ndarray:
    module = build(one.learner.model, task=CLASSES, seed=one.seed, dtype=torch.float64).eval()
    x, y = torch.as_tensor(CLASSES.train.x), torch.as_tensor(CLASSES.train.y)
    return nn.functional.cross_entropy(module(x), y, reduction="none").detach().numpy()


@pytest.mark.parametrize(("model", "path"), [(Dropping, FOREIGN), (mlp(width=4), ALONE), (mlp(width=4), stacked(2))])
def test_the_trace_is_of_the_evaluation_mode(model: Any, path: Any) -> None:
    """With a learning rate that moves nothing, every visit of every example is the initial network's evaluation."""
    one = spec(CLASSES, model, epochs=3, optimiser=SGD(lr=1e-300, momentum=0.0))
    (run,) = train([one], data_of(CLASSES, one), path=path)
    np.testing.assert_allclose(run.trace.loss, np.tile(initial_losses(one), (4, 1)), rtol=1e-12)


@given(seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_margins_are_differences_of_logits_and_losses_their_cross_entropy(seed: int) -> None:
    one = spec(CLASSES, Dropping, seed=seed, epochs=1, labels=CORRUPTED)
    (run,) = train([one], data_of(CLASSES, one), path=FOREIGN)
    y, z = randomise_targets(CLASSES, CORRUPTED).targets, run.trace.train_outputs
    own = z[np.arange(len(y)), y]
    others = np.where(np.arange(3) == y[:, None], -np.inf, z).max(1)
    np.testing.assert_allclose(run.trace.margin[-1], own - others, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(run.trace.loss[-1], np.log(np.exp(z).sum(1)) - own, rtol=1e-12, atol=1e-12)


# --- what kind of model it is ----------------------------------------------------------------------------------------


def nature_of(task: Task, model: Any) -> Nature:
    one = spec(task, model)
    data = data_of(task, one)
    return inspect_model(
        lambda seed: build(one.learner.model, task=task, seed=seed, dtype=torch.float64),
        data.train_x.take(torch.arange(8)),
    )


@pytest.mark.parametrize(
    ("task", "model"),
    [
        *((task, model) for task, model, _ in STACKABLE.values()),
        (CLASSES, Frozen),
        (CLASSES, Tied),
        (CLASSES, Buffered),
        (NUMBERS, Scalar),
        (CLASSES, linear()),
        (CLASSES, Dropped),
        (CLASSES, CumulativeNorm),
    ],
)
def test_functions_of_weights_buffers_and_the_engines_layers_can_be_stacked(task: Task, model: Any) -> None:
    nature = nature_of(task, model)
    assert "stacked" in nature.methods
    assert (nature.foreign, nature.reason) == (False, "")


@pytest.mark.parametrize(
    "model", [Dropping, HomemadeNorm, StochasticDepth, Counting, DroppedAttention, TokensNormed, Pythonic]
)
def test_models_with_layers_of_their_own_are_trained_one_at_a_time(model: Any) -> None:
    nature = nature_of(CLASSES, model)
    assert (nature.methods, nature.foreign) == (("single",), True)
    assert nature.reason == "while training it draws, mixes or remembers in layers of its own"
    path = choose_path(data_of(CLASSES, spec(CLASSES, model)), spec(CLASSES, model), num_runs=4)
    assert (path.num_stacked, path.foreign, path.reason) == (1, True, nature.reason)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Recurrent, "it cannot be run together with others: "),
        (Secret, "other outputs than the module itself"),
        (SecretRate, "networks of other seeds have layers with other settings"),
    ],
)
def test_what_a_stack_would_get_wrong_is_trained_one_at_a_time(model: Any, reason: str) -> None:
    nature = nature_of(CLASSES, model)
    assert (nature.methods, nature.foreign) == (("single",), False)
    assert reason in nature.reason
    path = choose_path(data_of(CLASSES, spec(CLASSES, model)), spec(CLASSES, model), num_runs=4)
    assert (path.num_stacked, path.foreign, path.reason) == (1, False, nature.reason)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Restless, "draws random numbers in evaluation mode"),
        (Mixing, "depends on the other examples in its batch"),
        (FailsInTraining, r"in training mode: RuntimeError: the augmentation wants images \(small_networks.py, line"),
        (Numpyish, "two networks from the same seed, and head.weight differs"),
        (Shapeshifter, "two networks from the same seed, and layers.body"),
        (same_module_every_time, "gave the same module, or weights in the same memory, twice"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(model: Any, words: str) -> None:
    one = spec(CLASSES, model)
    with pytest.raises(ModelError, match=words):
        choose_path(data_of(CLASSES, one), one, num_runs=4)


def test_a_failure_on_one_batch_is_told_in_the_authors_words() -> None:
    one = spec(CLASSES, FailsOnBatches, epochs=1)  # 37 = 4 · 8 + 5
    with pytest.raises(ModelError, match=r"batch of shape \(5, 5\) in evaluation mode: .*five is not my number"):
        train([one], data_of(CLASSES, one), path=ALONE)


# --- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimiser",
    [SGD(lr=0.01, momentum=0.5), Adam(lr=0.01), AdamW(lr=0.01), SAM(base=SGD(lr=0.01, momentum=0.5))],
    ids=lambda o: o.kind,
)
@pytest.mark.parametrize("method", ["stacked", "dense"])
@pytest.mark.parametrize("mixed", [False, True], ids=["alike", "mixed"])
def test_a_run_that_diverges_does_not_touch_the_others(optimiser: Any, method: Any, mixed: bool) -> None:
    """Mixed: each run with a limit of its own on its gradient, and noise and smoothing."""
    regular = [Regularisers(clip_norm=1.0 + seed, input_noise=0.1 * seed) for seed in range(8)]
    specs = [
        spec(
            NUMBERS,
            sometimes if method == "dense" else Sometimes,
            seed=seed,
            optimiser=optimiser,
            epochs=3,
            regularisers=regular[seed] if mixed else Regularisers(),
        )
        for seed in range(8)
    ]
    data = data_of(NUMBERS, specs[0])
    together = train(specs, data, path=stacked(8, method))
    assert {run.status for run in together} == {"diverged", "completed"}
    for run in together:
        assert {values.shape for values in vars(run.curves).values()} == {(3,)}
        assert run.trace.loss.shape == (4, 37)
        if run.status == "diverged":
            assert run.message.startswith("Loss or weights were no longer finite numbers in epoch 1 of 3.")
            assert run.message.endswith("Lower the learning rate (it is 0.01).")
        else:
            assert run.message == ""
            assert all(np.isfinite(values).all() for name, values in numbers_of(run).items() if name != "margin")
            assert_same(train([run.spec], data, path=stacked(1, method))[0], run)


def test_a_learning_rate_far_too_large_does_not_touch_the_others_in_a_sweep() -> None:
    """Batch normalisation and dropout in the stack, one of whose runs blows up."""
    rates = (0.01, 1e300, 0.02)
    specs = [spec(IMAGES, ChannelsDropped, seed=0, epochs=3, optimiser=SGD(lr=lr)) for lr in rates]
    data = data_of(IMAGES, specs[0])
    together = train(specs, data, path=stacked(3))
    assert [run.status for run in together] == ["completed", "diverged", "completed"]
    for run in (together[0], together[2]):
        assert_same(train([run.spec], data, path=ALONE)[0], run)


def test_a_learning_rate_far_too_large_ends_with_a_status() -> None:
    one = spec(NUMBERS, mlp(width=7), optimiser=SGD(lr=1e6))
    (run,) = train([one], data_of(NUMBERS, one), path=ALONE)
    assert run.status == "diverged"
    assert "Lower the learning rate (it is 1e+06)." in run.message
    assert run.curves.train_loss.shape == (10,)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_runs_that_differ_in_more_are_refused() -> None:
    specs = [spec(CLASSES, mlp(width=7), epochs=epochs) for epochs in (1, 2)]
    with pytest.raises(ValueError, match="subset index and the numbers of their recipes"):
        train(specs, data_of(CLASSES, specs[0]), path=stacked(2))


def test_data_of_other_runs_are_refused() -> None:
    one = spec(CLASSES, mlp(width=7))
    for changed in (
        {"inputs": GaussianInputs(), "sample": None, "dtype": torch.float64},
        {"inputs": one.inputs, "sample": Sample(train=20, test=5, draw=0), "dtype": torch.float64},
        {"inputs": one.inputs, "sample": None, "dtype": torch.float32},
    ):
        with pytest.raises(ValueError, match="Expected training data made for"):
            train([one], training_data(CLASSES, device=CPU, **changed), path=ALONE)


def test_one_at_a_time_is_one() -> None:
    specs = population(CLASSES, Dropping)
    with pytest.raises(ValueError, match="One at a time means that 1 run is stacked, got 2"):
        train(specs, data_of(CLASSES, specs[0]), path=FOREIGN._replace(num_stacked=2))


def test_an_empty_subset_is_refused() -> None:
    tiny = classes(num_train=4, num_classes=2)
    one = [spec(tiny, linear(), subset=BalancedSubset(fraction=0.02, draw=0, index=index)) for index in range(4)]
    with pytest.raises(DataError, match="Choose a larger fraction"):
        train(one, data_of(tiny, one[0]), path=ALONE)


def test_nothing_to_train_gives_nothing() -> None:
    assert train([], data_of(CLASSES, spec(CLASSES, linear())), path=ALONE) == []


@pytest.mark.parametrize("method", ["dense", "unfolded"])
def test_a_method_that_does_not_fit_the_model_is_refused(method: Any) -> None:
    one = spec(CLASSES, Normed)
    nature = nature_of(CLASSES, Normed)
    assert method not in nature.methods
    if method == "dense":
        with pytest.raises(ValueError, match="Expected a chain of affine maps"):
            train([one], data_of(CLASSES, one), path=stacked(1, method))


STRANGE: list[dict[str, Any]] = [
    {"optimiser": SGD(nesterov=True)},
    {"optimiser": Adam()},
    {"optimiser": AdamW()},
    {"optimiser": SAM()},
    {"optimiser": SAM(base=Adam())},
    {"batch_size": 9},
    {"batch_size": "all"},
    {"dtype": "float32"},
    {"dtype": "float32", "autocast": True},
    {"switches": (Switch(step=3),)},
    {"switches": (Switch(step=4),)},
]


def test_batchmates_share_everything_but_seed_order_labels_subset_index_and_numbers() -> None:
    specs = population(CLASSES, mlp(width=7))
    numbers_of_recipe: list[dict[str, Any]] = [
        {"optimiser": SGD(lr=0.3, momentum=0.0, weight_decay=0.1)},
        {"schedule": Cosine()},
        {"regularisers": Regularisers(dropout=0.1, label_smoothing=0.1, input_noise=0.1, clip_norm=1.0)},
    ]
    specs += [spec(CLASSES, mlp(width=7), subset=SUBSET, **changed) for changed in numbers_of_recipe]
    assert len({batchmates(one) for one in specs}) == 1
    strangers = [
        spec(CLASSES, mlp(width=7), epochs=11, subset=SUBSET),
        spec(CLASSES, mlp(width=8), subset=SUBSET),
        spec(CLASSES, mlp(width=7), subset=BalancedSubset(fraction=0.6, draw=3, index=0)),
        spec(CLASSES, mlp(width=7)),
        *(spec(CLASSES, mlp(width=7), subset=SUBSET, **changed) for changed in STRANGE),
        spec(classes(seed=1), mlp(width=7), subset=SUBSET),
    ]
    assert len({batchmates(one) for one in [specs[0], *strangers]}) == 1 + len(strangers)


def test_a_progress_callback_hears_of_every_epoch_of_every_run() -> None:
    specs = population(CLASSES, linear(), epochs=3)
    heard: list[int] = []
    train(specs, data_of(CLASSES, specs[0]), path=stacked(2), on_epoch=heard.append)
    assert heard == [2, 2, 2, 2, 2, 2, 1, 1, 1]


class _InterruptionError(Exception):
    pass


def test_what_a_progress_callback_raises_comes_through() -> None:
    def interrupt(num_runs: int) -> None:
        raise _InterruptionError

    one = spec(CLASSES, linear())
    with pytest.raises(_InterruptionError):
        train([one], data_of(CLASSES, one), path=ALONE, on_epoch=interrupt)
