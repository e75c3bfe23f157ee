"""A recipe over more or fewer steps: everything comes at the same share of the training."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote import Examples, Task
from byrote.records import (
    SGD,
    Cosine,
    Learner,
    ModelSpec,
    Recipe,
    Sample,
    Step,
    Switch,
    WarmUp,
)
from byrote.studies import Lookup, Memorisation, RandomData, StudyBudget
from byrote.studies.study import lengthened, sampled, subset_runs

TASK = Task(train=Examples(np.zeros((6000, 1)), np.arange(6000) % 2), test=Examples(np.zeros((10, 1)), [0, 1] * 5))
SAMPLE = Sample(train=600, test=10, draw=0)
RECIPE = Recipe(
    batch_size=60,
    epochs=10,
    schedule=WarmUp(steps=100, then=Step(every=5)),
    switches=(Switch(step=500, schedule=Cosine()), Switch(step=800, schedule=Step(every=2))),
)


def learner(recipe: Recipe) -> Learner:
    return Learner(model=ModelSpec(name="linear"), recipe=recipe)


def places(recipe: Recipe) -> tuple[int, int, list[int]]:
    """Steps of the warm-up, epochs between falls, steps of the switches."""
    assert isinstance(recipe.schedule, WarmUp)
    assert isinstance(recipe.schedule.then, Step)
    return recipe.schedule.steps, recipe.schedule.then.every, [switch.step for switch in recipe.switches]


def test_random_data_takes_twice_as_long_over_everything() -> None:
    """1,000 steps become 2,000."""
    budget = StudyBudget(runs=1, subsets=0, seed=0)
    recipe = RandomData(stretch=2).plan(TASK, learner(RECIPE), budget).runs[0].learner.recipe
    assert (recipe.epochs, places(recipe)) == (20, (200, 10, [1000, 1600]))
    assert recipe.switches[1].schedule == Step(every=4)


def test_a_sample_has_more_epochs_of_fewer_steps() -> None:
    """A tenth of the examples and six times the epochs: six tenths of the steps."""
    recipe = sampled(learner(RECIPE), TASK, SAMPLE).recipe
    assert (recipe.epochs, places(recipe)) == (60, (60, 30, [300, 480]))


def test_a_subset_of_seven_tenths_has_seven_tenths_of_the_steps() -> None:
    recipe = subset_runs(TASK, learner(RECIPE), StudyBudget(runs=0, subsets=1, seed=0))[0].learner.recipe
    assert (recipe.epochs, places(recipe)) == (10, (70, 5, [350, 560]))


@pytest.mark.parametrize("sample", [None, SAMPLE])
def test_full_batches_are_one_step_an_epoch_on_any_part_of_the_task(sample: Sample | None) -> None:
    whole = replace(RECIPE, batch_size="all", epochs=1000)
    assert sampled(learner(whole), TASK, sample).recipe == whole
    budget = StudyBudget(runs=0, subsets=1, seed=0, sample=sample)
    assert subset_runs(TASK, learner(whole), budget)[0].learner.recipe == whole


@given(first=st.integers(1, 50), gap=st.integers(1, 50), steps=st.floats(0.001, 3))
def test_switches_keep_their_order_and_a_step_each(first: int, gap: int, steps: float) -> None:
    recipe = Recipe(epochs=10, switches=tuple(Switch(step=first + gap * index) for index in range(4)))
    moved = [switch.step for switch in lengthened(recipe, epochs=10, steps=steps).switches]
    assert moved == sorted(set(moved))
    assert lengthened(recipe, epochs=10, steps=1.0) == recipe


@pytest.mark.parametrize("study", [RandomData(stretch=1), Lookup(), Memorisation()])
def test_a_recipe_without_such_places_is_asked_for_as_it_is(study: RandomData | Lookup | Memorisation) -> None:
    """So that what was trained before warm-ups and switches were known is found again."""
    plain = learner(Recipe(optimiser=SGD(lr=0.05), schedule=Cosine(), batch_size=32, epochs=7))
    plan = study.plan(TASK, plain, StudyBudget(runs=2, subsets=2, seed=0))
    assert {spec.learner for spec in plan.runs} == {plain}
