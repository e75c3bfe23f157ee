"""Models that are right but unusual are trained as they are alone; models that would be silently wrong are refused."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.data import Examples, Task
from byrote.models import linear
from byrote.records import SGD, Regularisers, Switch
from byrote.training import Nature, batches, inspect_model, train
from byrote.training.population import make_network
from small_tasks import ALONE, classes, data_of, numbers, numbers_of, population, spec, stacked

CLASSES = classes()
METHODS = ("dense", "stacked")


def tokens() -> Task:
    """Four words, all of them in use."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (48, 5))
    return Task(
        train=Examples(x[:37].astype(np.float64), x[:37, 0]), test=Examples(x[37:].astype(np.float64), x[37:, 0])
    )


class LateAndEarly(nn.Module):
    """Dropout layers that are made in another order than they are called."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.late, self.early = nn.Dropout(0.1), nn.Dropout(0.6)
        self.one, self.two = nn.Linear(task.input_shape[0], 8), nn.Linear(8, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.late(self.one(self.early(x)).relu()))


def twice_the_same_dropout(task: Task) -> nn.Module:
    dropout = nn.Dropout(0.0)
    first, last = nn.Linear(task.input_shape[0], 8), nn.Linear(8, task.num_outputs)
    return nn.Sequential(dropout, first, nn.ReLU(), dropout, last)


def dropping_everything(task: Task) -> nn.Module:
    return nn.Sequential(nn.Linear(task.input_shape[0], 8), nn.Dropout(1.0), nn.Linear(8, task.num_outputs))


class SpareBuffer(nn.Module):
    """A chain, and a buffer beside it."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)
        self.register_buffer("version", torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Words(nn.Module):
    """An embedding of exactly the words there are."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(4, 3), nn.Linear(15, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x.long()).flatten(1))


GIVEN = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class GivenWords(Words):
    """Every network writes into the same table."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.words = nn.Embedding.from_pretrained(GIVEN, freeze=False)


def writing_into_its_inputs(task: Task) -> nn.Module:
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(task.input_shape[0], task.num_outputs))


def nature_of(task: Task, model: Any) -> Nature:
    one = spec(task, model)
    data = data_of(task, one)
    return inspect_model(lambda seed: make_network(one, data, seed=seed), data.train_x.take(torch.arange(8)))


@pytest.mark.parametrize("dropout", [None, 0.4])
@pytest.mark.parametrize("model", [LateAndEarly, twice_the_same_dropout, dropping_everything])
def test_every_dropout_layer_has_its_own_rate_and_draws(model: Any, dropout: float | None) -> None:
    assert set(METHODS) <= set(nature_of(CLASSES, model).methods)
    specs = population(CLASSES, model, epochs=3, regularisers=Regularisers(dropout=dropout))
    data = data_of(CLASSES, specs[0])
    alone = train(specs, data, path=ALONE)
    assert all(run.status == "completed" for run in alone)
    for method in METHODS:
        for one, two in zip(alone, train(specs, data, path=stacked(5, method)), strict=True):
            for name, values in numbers_of(one).items():
                np.testing.assert_allclose(numbers_of(two)[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_rate_reaches_every_place_of_a_layer() -> None:
    specs = [spec(CLASSES, twice_the_same_dropout, regularisers=Regularisers(dropout=rate)) for rate in (0.0, 0.9)]
    without, with_dropout = train(specs, data_of(CLASSES, specs[0]), path=ALONE)
    assert with_dropout.curves.train_loss[-1] > 1.5 * without.curves.train_loss[-1]


def test_an_embedding_of_just_the_words_there_are_is_trained() -> None:
    assert "single" in nature_of(tokens(), Words).methods


def test_a_buffer_beside_a_chain_is_kept_with_the_weights() -> None:
    nature = nature_of(CLASSES, SpareBuffer)
    assert "dense" not in nature.methods
    one = spec(CLASSES, SpareBuffer, epochs=1)
    run = train([one], data_of(CLASSES, one), path=ALONE, keep_weights=True)[0]
    assert run.weights is not None
    assert run.weights["version"] == 3


@pytest.mark.parametrize(
    ("task", "model", "words"),
    [
        (tokens(), GivenWords, "weights in the same memory"),
        (CLASSES, writing_into_its_inputs, "writes into its inputs"),
    ],
)
def test_what_would_reach_other_networks_is_refused(task: Task, model: Any, words: str) -> None:
    before = GIVEN.clone()
    with pytest.raises(ModelError, match=words):
        nature_of(task, model)
    assert torch.equal(GIVEN, before)


def test_settings_that_never_act_are_refused() -> None:
    late = spec(CLASSES, linear(), epochs=2, switches=(Switch(step=10_000, optimiser=SGD()),))
    with pytest.raises(ValueError, match=r"switch at step 10,000 never comes: the training has 10 steps"):
        batches(late, num_examples=37)
    smooth = spec(numbers(), linear(), regularisers=Regularisers(label_smoothing=0.1))
    with pytest.raises(ModelError, match="label smoothing, but the targets are numbers"):
        train([smooth], data_of(numbers(), smooth), path=ALONE)
