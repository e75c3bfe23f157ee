"""What is trained when nobody says what to train."""

from byrote.data import Task
from byrote.models import mlp
from byrote.records import SGD, Learner, ModelSpec, Recipe

STEPS = 2000
"""About so many optimiser steps by default."""


def default_recipe(task: Task) -> Recipe:
    """SGD with momentum 0.9 at a rate of 0.05; batches that grow with the task from 32 to 128; about 2,000 steps, in 5
    to 40 epochs.
    """
    number = len(task.train)
    batch = 32 if number < 5000 else 64 if number < 20_000 else 128
    epochs = min(40, max(5, round(STEPS * batch / number)))
    return Recipe(optimiser=SGD(lr=0.05 if not task.regression else 0.01), batch_size=batch, epochs=epochs)


def default_learner(task: Task, *, model: ModelSpec | None = None) -> Learner:
    """A multilayer perceptron with 256 hidden units, or the model given, and the default recipe."""
    return Learner(model=model or mlp(), recipe=default_recipe(task))
