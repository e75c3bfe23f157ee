"""Probes behind the study of difficulty: what they say is what the measures say of the network at that step, and a
network that does not allow one goes without, and says why.
"""

import re
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import byrote
from byrote.core import ModelError
from byrote.data import Task, randomise_targets
from byrote.measures import critical_samples, gini, loss_sensitivity, prediction_depth
from byrote.models import build, cnn, mlp
from byrote.records import SGD, ProbeResult, Run, decode, encode
from byrote.scoring import (
    CriticalInputs,
    InputGradients,
    LossSensitivities,
    PredictionDepths,
    evenly_spaced,
)
from byrote.studies import Difficulty, StudyBudget
from byrote.training import AbstractProbe, Checkpoint, Given, reason_of, train
from cheap_runs import LEARNER, fake_run, summarise, task_of
from small_tasks import ALONE, FOREIGN, classes, data_of, numbers, population, stacked

CLASSES, NUMBERS, IMAGES = classes(), numbers(), classes(shape=(2, 6, 6))
END = Given(steps=(9,))
SENSITIVE = LossSensitivities(optimiser=SGD(lr=0.05), batch_size=8, num_steps=6, num_moments=2, num_examples=20)
DEEP = PredictionDepths(at=END, num_examples=30, num_neighbours=4)
CRITICAL = CriticalInputs(at=END, num_examples=7, radius=30.0, num_steps=400, seed=3)
CHECKPOINT = Checkpoint(at=Given(steps=(0, 9)))


def run_of(task: Task, model: Any, probe: AbstractProbe, *, path=ALONE) -> Run:
    specs = population(task, model, epochs=3, optimiser=SGD(lr=0.05))[:2]
    return train(specs, data_of(task, specs[0]), path=path, probes=[probe, CHECKPOINT])[1]


def found(run: Run, probe: AbstractProbe, name: str) -> np.ndarray:
    return np.asarray(run.probes[probe.key].values[name])[0]


def network_of(run: Run, task: Task, moment: int) -> nn.Module:
    """With the weights before the first step, or after the ninth."""
    module = build(run.spec.learner.model, task=task, seed=run.spec.seed, dtype=torch.float64)
    values = run.probes[CHECKPOINT.key].values
    module.load_state_dict({name: torch.as_tensor(np.asarray(part)[moment]) for name, part in values.items()})
    return module.eval()


@pytest.mark.parametrize("path", [ALONE, stacked(2, "dense")], ids=["alone", "stacked"])
def test_depths_are_those_of_the_layers_by_hand(path) -> None:
    run = run_of(CLASSES, mlp(width=5, depth=2), DEEP, path=path)
    some = evenly_spaced(len(CLASSES.train), most=30)
    module, x = network_of(run, CLASSES, 1), torch.as_tensor(CLASSES.train.x)[some]
    layers = [x.numpy()]
    steps = [part for part in module.modules() if isinstance(part, (nn.Linear, nn.ReLU))]
    assert len(steps) == 5
    with torch.no_grad():
        now = x
        for step in steps:
            now = step(now)
            layers.append(now.numpy())
    labels = randomise_targets(CLASSES, run.spec.labels).targets[some]
    wanted = prediction_depth(layers, targets=labels, predictions=layers[-1].argmax(1), num_neighbours=4)
    depth = found(run, DEEP, "depth")
    np.testing.assert_array_equal(np.isnan(depth), wanted.status != "measured")
    np.testing.assert_array_equal(depth[~np.isnan(depth)], wanted.scores.value[~np.isnan(depth)])
    assert found(run, DEEP, "num_layers") == len(layers)


def test_a_deep_network_is_looked_at_in_as_many_layers_as_asked_and_its_output() -> None:
    few = replace(DEEP, most_layers=2)
    assert found(run_of(IMAGES, cnn(width=3), few), few, "num_layers") == 4


def test_critical_inputs_are_those_of_the_search_on_held_out_inputs() -> None:
    run = run_of(CLASSES, mlp(width=32), CRITICAL)
    x = torch.as_tensor(CLASSES.test.x)[evenly_spaced(len(CLASSES.test), most=7)]
    unit = float(np.ptp(CLASSES.train.x)) / 255
    wanted = critical_samples(network_of(run, CLASSES, 1), x=x, unit=unit, seed=3, radius=30.0, num_steps=400)
    np.testing.assert_array_equal(found(run, CRITICAL, "critical"), wanted.critical)
    assert 0 < wanted.critical.mean() < 1
    assert found(run, CRITICAL, "passes") == wanted.num_passes


def test_sensitivities_are_those_of_a_training_from_where_the_run_starts() -> None:
    run = run_of(CLASSES, mlp(width=5), SENSITIVE)
    some = evenly_spaced(len(CLASSES.train), most=20)
    targets = torch.as_tensor(randomise_targets(CLASSES, run.spec.labels).targets)[some]
    batches = SENSITIVE._batches(20)
    assert [len(batch) for batch in batches] == [8, 8, 4, 8, 8, 4]
    assert sorted(torch.cat(batches[:3]).tolist()) == list(range(20))
    wanted = loss_sensitivity(
        network_of(run, CLASSES, 0),
        x=torch.as_tensor(CLASSES.train.x)[some],
        targets=targets,
        optimiser=SGD(lr=0.05),
        batches=batches,
        moments=[1, 6],
    )
    np.testing.assert_allclose(found(run, SENSITIVE, "sensitivity"), wanted.scores.value, rtol=1e-9)


class InPlace(nn.Module):
    """As a network whose activations are not overwritten."""

    in_place: ClassVar[bool] = True

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(task.input_shape[0], 16), nn.Linear(16, task.num_outputs)
        self.relu = nn.ReLU(inplace=self.in_place)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.relu(self.first(x)))


class OutOfPlace(InPlace):
    in_place: ClassVar[bool] = False


def test_layers_that_work_in_place_are_seen_as_they_were() -> None:
    layers = [
        DEEP._layers(model(CLASSES).double(), torch.as_tensor(CLASSES.train.x)) for model in (InPlace, OutOfPlace)
    ]
    for each in layers:
        assert (each[1] < 0).any()
        assert not np.array_equal(each[1], each[2])
        np.testing.assert_array_equal(np.maximum(each[1], 0), each[2])


class Noisy(nn.Module):
    """Draws random numbers whenever it is called."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.linear = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x + 0.1 * torch.randn_like(x))


REFUSED = [
    (NUMBERS, mlp(width=5), DEEP, ALONE, "A regression has no prediction depth"),
    (NUMBERS, mlp(width=5), CRITICAL, ALONE, "A regression has no classes|another predicted class"),
    (CLASSES, Noisy, InputGradients(at=END), FOREIGN, "random"),
    (CLASSES, Noisy, SENSITIVE, FOREIGN, "random"),
]


@pytest.mark.parametrize(
    ("task", "model", "probe", "path", "reason"), REFUSED, ids=["depth", "critical", "gradients", "sensitivity"]
)
def test_what_a_network_does_not_allow_is_refused_or_if_optional_left_out_with_the_reason(
    task, model, probe, path, reason
) -> None:
    with pytest.raises((TypeError, ModelError), match=reason):
        run_of(task, model, probe, path=path)
    lenient = replace(probe, optional=True)
    run = run_of(task, model, lenient, path=path)
    assert run.status == "completed"
    values = run.probes[lenient.key].values
    assert set(values) == {"failure"}
    assert re.search(reason, reason_of(values))


@pytest.mark.parametrize("probe", [SENSITIVE, DEEP, CRITICAL], ids=lambda probe: probe.name)
def test_a_probe_can_be_kept_and_is_known_by_its_settings(probe) -> None:
    assert decode(type(probe), encode(probe)) == probe
    assert replace(probe, num_examples=5).key != probe.key


@pytest.mark.parametrize(
    ("task", "missing"),
    [(classes(num_train=60), ""), (numbers(), "Prediction depth could not be measured: A regression has no")],
    ids=["classes", "numbers"],
)
def test_the_study_scores_what_it_can_and_says_what_it_cannot(task: Task, missing: str) -> None:
    learner = byrote.Learner(model=mlp(width=8), recipe=byrote.Recipe(epochs=3, batch_size=16))
    audit = byrote.audit(replace(task, name="small"), learner=learner, studies=["difficulty"], runs=3)
    (section,) = audit.record.sections
    assert any(missing in note for note in section.notes)
    for name in ("grand", "csg", "input_curvature", "loss_sensitivity"):
        values, errors = (np.asarray(audit.examples[f"{name}{ending}"], float) for ending in ("", "_se"))
        assert np.isfinite(values).all(), name
        assert (values >= 0).all(), name
        assert (errors > 0).any(), name
    assert audit.finding("sensitivity-is-uneven").num_runs == 3
    critical = audit.finding("random-labels-make-inputs-critical")
    assert (critical.num_runs, critical.value is None) == ((0, True) if task.regression else (3, False))
    assert (audit.examples.arrow["prediction_depth"].null_count == len(task.train)) == task.regression


def test_networks_on_random_labels_hang_on_all_examples_alike() -> None:
    """Arpit et al. 2017 on digits: what is found on real data is found here."""
    task = byrote.load("digits").part(train=np.arange(600), test=np.arange(100))
    learner = byrote.Learner(model=mlp(width=32), recipe=byrote.Recipe(epochs=10, batch_size=32))
    audit = byrote.audit(task, learner=learner, studies=["difficulty"], runs=3)
    assert audit.finding("sensitivity-is-uneven").verdict == "holds"


def test_networks_are_compared_seed_by_seed_and_groups_are_not_taken_apart() -> None:
    """Of five pairs one lost its network on true labels; held-out inputs of a group are critical together."""
    task = task_of(num_train=40, num_test=40, groups=True)
    budget = StudyBudget(runs=5, subsets=0, seed=0)
    study = Difficulty()
    plan, rng = study.plan(task, LEARNER, budget), np.random.default_rng(0)
    runs: list[Run] = []
    for place, spec in enumerate(plan.runs):
        random = place % 2
        values = {"sensitivity": np.full(40, 1.0), "critical": np.repeat(rng.integers(2, size=10), 4).astype(float)}
        values["sensitivity"][0] = 1 + 10 * place + 30 * (1 - random)
        results = {
            probe.key: ProbeResult(
                name=probe.name,
                settings={},
                steps=np.zeros(1, np.int64),
                values={told(probe): values[told(probe)][None]},
                seconds=0.0,
            )
            for probe in plan.probes[spec]
            if told(probe)
        }
        runs.append(replace(fake_run(task, spec), probes=results))
    whole = summarise(study, task, budget, runs=runs).section.findings
    without = summarise(study, task, budget, runs=runs[1:]).section.findings
    assert [finding.num_runs for finding in (whole[1], without[1])] == [5, 4]
    pairs = [gini_of(runs[2 * k]) - gini_of(runs[2 * k + 1]) for k in range(5)]
    assert whole[1].value == pytest.approx(np.mean(pairs))
    assert without[1].value == pytest.approx(np.mean(pairs[1:]))
    assert whole[2].low is not None
    assert whole[2].high is not None
    assert whole[2].high - whole[2].low > 0.3


def told(probe: AbstractProbe) -> str:
    return {"loss-sensitivities": "sensitivity", "critical-inputs": "critical"}.get(probe.name, "")


def gini_of(run: Run) -> float:
    result = next(one for one in run.probes.values() if one.name == "loss-sensitivities")
    return gini(np.asarray(result.values["sensitivity"])[0]).value
