"""What a probe says at a step is what the measure says of the network then, however the population is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from byrote.data import Task, randomise_targets
from byrote.measures import csg, gradient_norms, grand, input_curvature, input_gradient_norms
from byrote.models import build, cnn, mlp
from byrote.records import SGD, Run, decode, encode
from byrote.scoring import GradientNorms, InputCurvature, InputGradients
from byrote.training import AbstractProbe, Checkpoint, Given, LogSpaced, Path, train
from small_networks import Normed, Recurrent, Sometimes, StochasticDepth
from small_tasks import ALONE, FOREIGN, assert_same, classes, data_of, numbers, population, spec, stacked

CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(2, 6, 6))
AT = Given(steps=(1, 9))
PROBES: tuple[AbstractProbe, ...] = (
    InputGradients(at=AT),
    GradientNorms(at=AT, num_examples=9),
    InputCurvature(at=AT, num_examples=11, num_directions=3, seed=4),
)
CHECKPOINT = Checkpoint(at=AT)
ALL = (*PROBES, CHECKPOINT)
CASES: list[tuple[Task, Any, tuple[Path, ...]]] = [
    (CLASSES, mlp(width=5), (ALONE, stacked(2, "dense"))),
    (NUMBERS, mlp(width=5), (stacked(2),)),
    (CLASSES, Normed, (stacked(2), ALONE)),
    (CLASSES, Recurrent, (ALONE,)),
    (CLASSES, StochasticDepth, (FOREIGN,)),
    (IMAGES, cnn(width=3), (stacked(2, "unfolded"),)),
]
every_case = pytest.mark.parametrize(
    ("task", "model", "paths"), CASES, ids=lambda part: getattr(part, "__name__", getattr(part, "name", None))
)


@cache
def runs_of(task: Task, model: Any, path: Path, probes: tuple[AbstractProbe, ...]) -> list[Run]:
    specs = population(task, model, epochs=3, optimiser=SGD(lr=0.05))[:2]
    return train(specs, data_of(task, specs[0]), path=path, probes=probes, keep_weights=True)


def values_of(run: Run, probe: AbstractProbe) -> Mapping[str, np.ndarray]:
    return {name: np.asarray(part) for name, part in run.probes[probe.key].values.items()}


def network_at(run: Run, task: Task, moment: int) -> nn.Module:
    """The run's own network with the weights of a checkpoint."""
    module = build(run.spec.learner.model, task=task, seed=run.spec.seed, dtype=torch.float64)
    state = {name: torch.as_tensor(part[moment]) for name, part in values_of(run, CHECKPOINT).items()}
    module.load_state_dict(state)
    return module


def expected(run: Run, task: Task, moment: int) -> dict[str, np.ndarray]:
    """From the pure functions, on the inputs and targets that the run is trained on."""
    module, x = network_at(run, task, moment), torch.as_tensor(task.train.x)
    trained_on = data_targets(run, task)
    curved = input_curvature(module, x=x[:11], targets=trained_on[:11], seed=4, num_directions=3).scores
    return {
        "squared_norm": input_gradient_norms(module, x=x, targets=trained_on).scores.value,
        "norm": gradient_norms(module, x=x[:9], targets=trained_on[:9]).scores.value,
        "curvature": curved.value,
        "curvature_se": curved.se,
    }


def data_targets(run: Run, task: Task) -> torch.Tensor:
    """Corrupted or standardised as the run has them."""
    targets = randomise_targets(task, run.spec.labels).targets
    if task.regression:
        targets = (targets - task.train.y.mean()) / task.train.y.std()
    return torch.as_tensor(targets)


@every_case
def test_a_probe_says_what_the_measure_says_of_the_network_at_that_step(task, model, paths):
    for path in paths:
        for run in runs_of(task, model, path, ALL):
            found = {name: part for probe in PROBES for name, part in values_of(run, probe).items()}
            for moment in range(2):
                wanted = expected(run, task, moment)
                assert wanted.keys() == found.keys()
                for name, part in wanted.items():
                    np.testing.assert_allclose(found[name][moment], part, rtol=1e-9, atol=1e-15, err_msg=name)


@pytest.mark.parametrize(("task", "model", "paths"), [CASES[0], CASES[2]], ids=["mlp", "normed"])
def test_every_path_shows_it_the_same_and_trains_as_without(task, model, paths):
    plain, *watched = (
        runs_of(task, model, path, asked) for path, asked in [(paths[0], ()), *((p, ALL) for p in paths)]
    )
    for one, two in zip(plain, watched[0], strict=True):
        assert_same(one, two, tolerance=0)
    for one, two in zip(*watched, strict=True):
        for probe in PROBES:
            for name, part in values_of(one, probe).items():
                np.testing.assert_allclose(values_of(two, probe)[name], part, rtol=1e-6, atol=1e-12, err_msg=name)


def test_a_study_sums_and_averages_them_over_steps_and_runs():
    runs = runs_of(CLASSES, mlp(width=5), stacked(2, "dense"), ALL)
    squares = np.stack([values_of(run, PROBES[0])["squared_norm"] for run in runs])
    assert squares.shape == (2, 2, 37)
    np.testing.assert_allclose(csg(squares).scores.value, squares.sum(1).mean(0))
    norms = np.stack([values_of(run, PROBES[1])["norm"] for run in runs])
    scores, _ = grand(norms, steps=runs[0].probes[PROBES[1].key].steps)
    np.testing.assert_allclose(scores.value, norms.mean((0, 1)))
    assert scores.count.tolist() == [2] * 9


@pytest.mark.parametrize("probe", [InputGradients(), GradientNorms(), InputCurvature()], ids=lambda probe: probe.name)
def test_a_probe_can_be_kept_and_is_known_by_its_settings(probe):
    assert decode(type(probe), encode(probe)) == probe
    assert replace(probe, num_examples=5).key != probe.key
    assert replace(probe).key == probe.key


def test_gradient_norms_are_never_taken_at_initialisation():
    steps: Sequence[int] = GradientNorms(at=LogSpaced(number=1)).steps(100)
    assert list(steps) == [1, 10, 100]
    with pytest.raises(ValueError, match="GraNd at initialisation does not reproduce"):
        GradientNorms(at=Given(steps=(0, 5)))


def test_a_run_that_diverged_has_no_scores_and_does_not_touch_the_others():
    specs = [spec(NUMBERS, Sometimes, seed=seed, optimiser=SGD(lr=0.01), epochs=3) for seed in range(4)]
    for run in train(specs, data_of(NUMBERS, specs[0]), path=stacked(4), probes=[InputGradients(at=AT)]):
        (result,) = run.probes.values()
        finite = np.isfinite(np.asarray(result.values["squared_norm"]))
        assert finite.all() or run.status == "diverged"
