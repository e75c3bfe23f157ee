"""Networks that learn true labels after random ones: the second training starts where the first one ended."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from byrote.models import mlp
from byrote.records import CorruptedLabels, Run, RunSpec, TrueAfterRandom
from byrote.training import Checkpoint, Given, train
from small_tasks import ALONE, assert_same, classes, data_of, spec, stacked

TASK = classes()
START = Checkpoint(at=Given(steps=(0,)))
DRAW = 3
AFTER = TrueAfterRandom(draw=DRAW)


def started(specs: list[RunSpec], *, num_stacked: int = 1) -> list[Run]:
    path = ALONE if num_stacked == 1 else stacked(num_stacked)
    return train(specs, data_of(TASK, specs[0]), path=path, probes=[START], keep_weights=True)


def weights_of(run: Run) -> dict[str, np.ndarray]:
    """Before the first step of what the run leaves behind."""
    return {name: np.asarray(part)[0] for name, part in run.probes[START.key].values.items()}


def test_the_second_training_starts_where_the_first_one_ended() -> None:
    plain = spec(TASK, mlp(width=6))
    [first] = started([replace(plain, labels=CorruptedLabels(fraction=1.0, draw=DRAW))])
    [second] = started([replace(plain, labels=AFTER)])
    assert first.weights is not None
    for name, part in weights_of(second).items():
        np.testing.assert_allclose(part, first.weights[name], rtol=1e-12)
    right = (second.trace.train_outputs.argmax(1) == TASK.train.y).mean()
    assert right > 0.8


def test_rescaled_weights_have_the_lengths_of_the_start_and_the_directions_of_the_end() -> None:
    plain = spec(TASK, mlp(width=6))
    fresh, learnt, rescaled = (
        weights_of(started([replace(plain, labels=labels)])[0])
        for labels in (plain.labels, AFTER, replace(AFTER, rescaled=True))
    )
    for name, part in rescaled.items():
        assert np.linalg.norm(part) == pytest.approx(np.linalg.norm(fresh[name]))
        assert np.vdot(part, learnt[name]) == pytest.approx(np.linalg.norm(part) * np.linalg.norm(learnt[name]))
        assert not np.allclose(part, fresh[name])


def test_they_are_the_same_whatever_trains_beside_them() -> None:
    plain = spec(TASK, mlp(width=6))
    labels = (plain.labels, AFTER, replace(AFTER, rescaled=True), AFTER)
    specs = [replace(plain, labels=own, seed=seed, order=seed) for seed, own in enumerate(labels)]
    together = started(specs, num_stacked=4)
    for one, alone in zip(specs, together, strict=True):
        assert_same(started([one])[0], alone, tolerance=1e-8)


def test_nothing_of_torchs_own_randomness_is_used() -> None:
    plain = replace(spec(TASK, mlp(width=6)), labels=AFTER)
    before = torch.random.get_rng_state()
    one, other = started([plain])[0], started([plain])[0]
    assert_same(one, other, tolerance=0)
    assert torch.equal(before, torch.random.get_rng_state())
