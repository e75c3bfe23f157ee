"""What a probe learns of Adam: by what it divided its last step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from byrote.data import Task
from byrote.models import build, mlp
from byrote.records import SAM, SGD, Adam, AdamW, Optimiser
from byrote.training import AbstractProbe, Moment, Path, train
from small_networks import Tied
from small_tasks import ALONE, classes, data_of, numbers, spec, stacked

LATER = Adam(lr=0.01, beta2=0.9, eps=1e-3)
STEPS = 3


@final
@dataclass(frozen=True, kw_only=True)
class Scales(AbstractProbe):
    """As the moment says them; −1 where it says none. And the held-out targets."""

    name: ClassVar[str] = "scales"

    def steps(self, total: int) -> Sequence[int]:
        return range(total + 1)

    def __call__(self, moment: Moment) -> Mapping[str, Tensor]:
        trained = [name for name, part in moment.skeleton.named_parameters() if part.requires_grad]
        state, scales = moment.networks.state(), moment.scales()
        assert list(scales) in ([], trained)
        found = {name: scales.get(name, torch.full_like(state[name], -1)) for name in trained}
        return {**found, "heldout": moment.heldout_targets.expand(len(moment.targets), -1)}


def scales_of(task: Task, model: Any, path: Path, optimiser: Optimiser) -> list[Mapping[str, np.ndarray]]:
    specs = [
        spec(task, model, seed=seed, order=seed, optimiser=optimiser, batch_size="all", epochs=STEPS)
        for seed in range(2)
    ]
    return [
        run.probes[Scales().key].values for run in train(specs, data_of(task, specs[0]), path=path, probes=[Scales()])
    ]


@pytest.mark.parametrize("optimiser", [LATER, AdamW(lr=0.01, beta2=0.9, eps=1e-3), SAM(base=LATER, rho=1e-12)], ids=str)
@pytest.mark.parametrize(
    ("model", "path"),
    [(mlp(width=5), stacked(2, "dense")), (mlp(width=5), stacked(2)), (mlp(width=5), ALONE), (Tied, stacked(2))],
    ids=str,
)
def test_they_are_those_of_torch(model: Any, path: Path, optimiser: Optimiser) -> None:
    task = classes()
    x, y = torch.as_tensor(task.train.x), torch.as_tensor(task.train.y)
    for seed, values in enumerate(scales_of(task, model, path, optimiser)):
        module = build(spec(task, model).learner.model, task=task, seed=seed, dtype=torch.float64)
        kind = torch.optim.AdamW if isinstance(optimiser, AdamW) else torch.optim.Adam
        theirs = kind(module.parameters(), lr=0.01, betas=(0.9, 0.9), eps=1e-3)
        for step in range(1, STEPS + 1):
            theirs.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            theirs.step()
            for name, part in module.named_parameters():
                wanted = (theirs.state[part]["exp_avg_sq"] / (1 - 0.9**step)).sqrt() + 1e-3
                np.testing.assert_allclose(values[name][step], wanted.numpy(), rtol=1e-6, err_msg=name)
                assert (values[name][0] == -1).all()


def test_sgd_has_none() -> None:
    [values, _] = scales_of(classes(), mlp(width=5), stacked(2, "dense"), SGD(lr=0.01))
    assert all((part == -1).all() for name, part in values.items() if name != "heldout")


def test_heldout_targets_are_as_networks_learn_them() -> None:
    task = numbers()
    [values, _] = scales_of(task, mlp(width=5), stacked(2, "dense"), SGD(lr=0.01))
    wanted = (task.test.y - task.train.y.mean()) / task.train.y.std()
    np.testing.assert_allclose(values["heldout"][0], wanted)
    assert (
        scales_of(classes(), mlp(width=5), ALONE, SGD(lr=0.01))[0]["heldout"][0].tolist() == classes().test.y.tolist()
    )
