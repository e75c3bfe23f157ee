"""Probes behind the study of the early phase: what they say is what the measures say of the network at that step on the
same examples, whatever stack it trains in, and a network that does not allow one goes without, and says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from byrote.data import Task
from byrote.measures import (
    Fisher,
    Objective,
    class_answers,
    critical_step,
    curvature_variance,
    fisher_trace,
    gradient_alignment,
    gradient_covariance,
    noise_scale,
    number_answers,
    preconditioned_sharpness,
    sharpest_step,
    top_eigenvalues,
)
from byrote.models import mlp
from byrote.probing import (
    BatchGradients,
    CriticalStep,
    Examined,
    FisherTrace,
    SharpestSteps,
    TopCurvature,
    restored,
)
from byrote.records import SGD, Adam, ProbeResult, Run
from byrote.training import AbstractProbe, Checkpoint, Given, Moment, reason_of, train
from small_networks import OnceOnly
from small_tasks import ALONE, assert_same, classes, data_of, numbers, population, stacked

CLASSES, NUMBERS = classes(), numbers()
MOMENTS = Given(steps=(0, 7))
EXAMINED = Examined(num_batches=3, batch_size=7, seed=4)
CHECKPOINT = Checkpoint(at=MOMENTS)
PROBES: dict[str, AbstractProbe] = {
    "gradients": BatchGradients(at=MOMENTS, examined=EXAMINED),
    "curvature": TopCurvature(at=MOMENTS, examined=EXAMINED),
    "fisher": FisherTrace(at=MOMENTS, examined=EXAMINED),
    "reach": CriticalStep(at=MOMENTS, examined=EXAMINED, learning_rate=0.05),
    "steps": SharpestSteps(at=MOMENTS, examined=EXAMINED, learning_rate=0.05),
}


@dataclass(frozen=True, kw_only=True)
class Scales(AbstractProbe):
    """By what Adam divides, as the engine says; ones before its first step."""

    name: ClassVar[str] = "scales"
    at: Given = MOMENTS

    def steps(self, total: int) -> Sequence[int]:
        return self.at.of(total)

    def __call__(self, moment: Moment) -> Mapping[str, Tensor]:
        names = [name for name, _ in moment.skeleton.named_parameters()]
        state = moment.networks.state()
        return {name: torch.ones_like(state[name]) for name in names} | dict(moment.scales())


def runs_of(task: Task, probes: Sequence[AbstractProbe], *, path: Any = ALONE, **changed: Any) -> list[Run]:
    changed = {"epochs": 3, "optimiser": SGD(lr=0.05)} | changed
    specs = population(task, changed.pop("model", mlp(width=5, depth=1)), **changed)[:2]
    return train(specs, data_of(task, specs[0]), path=path, probes=[*probes, CHECKPOINT])


def objective_of(run: Run, task: Task, moment: int, *, joined: bool = False) -> Objective:
    """Of the network with the weights that it had, in float64."""
    values = run.probes[CHECKPOINT.key].values
    state = {name: torch.as_tensor(np.asarray(part)[moment]) for name, part in values.items()}
    (found,) = restored([(run.spec, state)], task=task, examined=EXAMINED)
    objective = found.objective
    if not joined:
        return objective
    x, y = (torch.cat(part) for part in zip(*objective.batches, strict=True))
    return Objective(objective.model, loss=objective.loss, batches=[(x, y)])


def said(run: Run, name: str, value: str, moment: int) -> np.ndarray:
    return np.asarray(run.probes[PROBES[name].key].values[value])[moment]


def wanted_of(run: Run, task: Task, moment: int) -> dict[tuple[str, str], Any]:
    """By the measures themselves."""
    parts, whole = (objective_of(run, task, moment, joined=joined) for joined in (False, True))
    covariance = gradient_covariance(parts, population=len(task.train))
    top = top_eigenvalues(whole)
    likelihood = number_answers if task.regression else class_answers
    trace = fisher_trace(parts, matrix=Fisher(likelihood=likelihood), num_draws=4)
    step = sharpest_step(whole, direction=top.top.vectors[0], learning_rate=0.05, num_random=3)
    with parts.opened():
        here, (gradient, *_) = parts.flat_weights(), parts.batch_gradients()

        def loss(alpha: float) -> float:
            with parts.at(here - alpha * 0.05 * gradient):
                return parts.value()

        reach = critical_step(loss, shortest=0.25, longest=1024.0, tolerance=0.1)
    return {
        ("gradients", "top"): covariance.value,
        ("gradients", "trace"): covariance.trace,
        ("gradients", "trace_over_top"): covariance.trace_over_top,
        ("gradients", "smallest_over_largest"): covariance.smallest_over_largest,
        ("gradients", "noise_scale"): noise_scale(covariance).value,
        ("curvature", "top"): top.value,
        ("curvature", "curvature_variance"): curvature_variance(whole, direction=top.top.vectors[0]).value,
        ("curvature", "alignment"): gradient_alignment(whole, directions=top.top.vectors).value,
        ("fisher", "trace"): trace.value,
        ("fisher", "trace_se"): trace.se,
        ("reach", "alpha"): reach.value,
        ("steps", "sharpest"): step.sharpest,
        ("steps", "random"): step.random,
        ("steps", "full"): step.full,
        ("steps", "start"): step.start,
    }


@pytest.mark.parametrize("task", [CLASSES, NUMBERS], ids=["classes", "numbers"])
@pytest.mark.parametrize("path", [ALONE, stacked(2, "dense")], ids=["alone", "stacked"])
def test_they_say_what_the_measures_say_of_each_network_at_that_step(task: Task, path: Any) -> None:
    """The two runs have other labels, and leave out other examples."""
    for run in runs_of(task, list(PROBES.values()), path=path):
        for moment in (0, 1):
            for (name, value), wanted in wanted_of(run, task, moment).items():
                found = said(run, name, value, moment)
                np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9, err_msg=f"{name} {value} {moment}")


def test_the_score_is_that_of_the_examples_that_are_looked_at() -> None:
    run = runs_of(CLASSES, [PROBES["gradients"]])[1]
    objective = objective_of(run, CLASSES, 1, joined=True)
    ((x, y),) = objective.batches
    with torch.no_grad():
        right = (objective.model(x).argmax(1) == y).double().mean()
    assert said(run, "gradients", "score", 1) == pytest.approx(float(right))
    assert said(run, "gradients", "loss", 1) == pytest.approx(_value(objective))
    assert (said(run, "gradients", "num_batches", 1), said(run, "gradients", "batch_size", 1)) == (3, 7)


def _value(objective: Objective) -> float:
    with objective.opened():
        return objective.value()


def test_only_what_a_run_is_trained_on_is_looked_at() -> None:
    run = runs_of(CLASSES, [PROBES["gradients"]])[0]
    seen = torch.cat([x for x, _ in objective_of(run, CLASSES, 0).batches]).numpy()
    left_out = 0.3 * len(CLASSES.train)
    assert len(np.unique(seen, axis=0)) == 21 > len(CLASSES.train) - left_out - 7
    assert run.spec.subset.kind == "balanced"


def test_under_adam_the_sharpness_is_preconditioned_after_the_first_step() -> None:
    run = runs_of(CLASSES, [PROBES["curvature"]], optimiser=Adam(lr=0.01, beta2=0.9))[0]
    assert np.isnan(said(run, "curvature", "preconditioned", 0))
    assert said(run, "curvature", "preconditioned", 1) > 0
    plain = runs_of(CLASSES, [PROBES["curvature"]])[0]
    assert np.isnan(said(plain, "curvature", "preconditioned", 1))


def test_preconditioning_takes_the_scales_in_the_order_of_the_weights() -> None:
    """Against Adam's own second moments, had by training on to the same step."""
    optimiser = Adam(lr=0.01, beta2=0.9)
    run = runs_of(CLASSES, [PROBES["curvature"], Scales(at=MOMENTS)], optimiser=optimiser)[0]
    whole = objective_of(run, CLASSES, 1, joined=True)
    values = run.probes[Scales(at=MOMENTS).key].values
    scale = torch.cat([torch.as_tensor(values[name][1]).reshape(-1) for name in whole.weights.names])
    wanted = preconditioned_sharpness(whole, scale=scale).value
    assert said(run, "curvature", "preconditioned", 1) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("path", [ALONE, stacked(2, "dense")], ids=["alone", "stacked"])
def test_a_training_is_the_same_with_and_without_them(path: Any) -> None:
    watched, plain = (runs_of(CLASSES, probes, path=path) for probes in (list(PROBES.values()), []))
    for one, other in zip(watched, plain, strict=True):
        assert_same(one, other, tolerance=0)


def test_a_network_without_second_derivatives_still_has_gradients_and_says_why_it_has_no_curvature() -> None:
    probes = {name: replace(probe, optional=True) for name, probe in PROBES.items()}  # pyright: ignore
    run = runs_of(CLASSES, list(probes.values()), model=OnceOnly)[0]
    results = {name: run.probes[probe.key] for name, probe in probes.items()}
    assert {name for name, one in results.items() if reason_of(one.values)} == {"curvature", "steps"}
    assert "second derivatives" in reason_of(results["curvature"].values)
    assert (np.asarray(results["gradients"].values["top"]) > 0).all()


def test_without_leave_it_fails_with_the_reason() -> None:
    with pytest.raises(ValueError, match="second derivatives"):
        runs_of(CLASSES, [PROBES["curvature"]], model=OnceOnly)


def test_of_a_network_that_diverged_all_numbers_are_unknown() -> None:
    runs = runs_of(CLASSES, list(PROBES.values()), optimiser=SGD(lr=1e200, momentum=0.0))
    for probe in PROBES.values():
        result: ProbeResult = runs[0].probes[probe.key]
        assert all(np.isnan(np.asarray(values)[1]).all() for values in result.values.values()), probe.name
        assert not reason_of(result.values)


@pytest.mark.parametrize("number", [1, 2, 3, 20, 97, 5000])
def test_there_are_two_batches_wherever_there_are_two_examples(number: int) -> None:
    count, size = Examined().of(number)
    assert count * size <= number
    assert count >= min(2, number)
    assert size >= 1


@pytest.mark.parametrize("wrong", [{"num_batches": 0}, {"batch_size": 0}])
def test_no_examples_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one batch of at least one example"):
        Examined(**wrong)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_learning_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="learning rate above 0"):
        CriticalStep(learning_rate=rate)
