"""Networks as users write them, good and bad."""

import itertools
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from byrote.data import Task


class Frozen(nn.Module):
    """A first layer that does not learn."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body = nn.Linear(task.input_shape[0], 6).requires_grad_(False)
        self.head = nn.Linear(6, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).tanh())


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        width = task.input_shape[0]
        self.there, self.back = nn.Linear(width, width), nn.Linear(width, width)
        self.back.weight = self.there.weight
        self.head = nn.Linear(width, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.back(self.there(x).tanh()).tanh())


class Buffered(nn.Module):
    """A random projection of its own, kept in a buffer."""

    projection: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(task.input_shape[0], 6))
        self.head = nn.Linear(6, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x @ self.projection).relu())


class Unused(nn.Module):
    """A layer that nothing reaches."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head, self.spare = nn.Linear(task.input_shape[0], task.num_outputs), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class TwoBiases(nn.Module):
    """Two weights of which autograd hands out one gradient."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs, bias=False)
        self.one, self.two = nn.Parameter(torch.ones(task.num_outputs)), nn.Parameter(-torch.ones(task.num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) + (self.one + self.two)


class Scalar(nn.Module):
    """Outputs of shape [batch]."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).squeeze(-1)


class Convolutional(nn.Module):
    """Convolution, GroupNorm, global average."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(task.input_shape[0], 4, 3), nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.convolution(x)).relu().mean((2, 3)))


class Recurrent(nn.Module):
    """An LSTM over the features as a sequence."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x[..., None])[0][:, -1])


class Secret(nn.Module):
    """Random numbers that are neither parameter nor buffer, so a stack cannot know them."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.scale = 1 + torch.rand(()).item()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.head(x)


class Dropping(nn.Module):
    """Functional dropout behind a head that starts at zero, where no output shows it."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(task.input_shape[0], 16), nn.Linear(16, task.num_outputs)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.dropout(self.body(x).relu(), 0.5, self.training))


class Normed(nn.Module):
    """BatchNorm."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body, self.norm = nn.Linear(task.input_shape[0], 6), nn.BatchNorm1d(6)
        self.head = nn.Linear(6, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(x)).relu())


class HomemadeNorm(nn.Module):
    """Batch statistics of the author's own making, in training mode only, behind a head that starts at zero."""

    mean: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(task.input_shape[0]))
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
            return self.head(x - x.mean(0))
        return self.head(x - self.mean)


class Mixing(nn.Module):
    """Batch statistics in evaluation mode too."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(task.input_shape[0], track_running_stats=False)
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x))


class Restless(nn.Module):
    """Noise in evaluation mode, behind a head that starts at zero."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + torch.randn_like(x))


class Sometimes(nn.Module):
    """Starts so far out, for about half of the seeds, that its squared error overflows."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)
        far = torch.rand(()) < 0.5
        nn.init.normal_(self.head.weight, std=1e160 if far else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Zero(nn.Module):
    """Starts where every class is as likely as any other."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class FailsInTraining(nn.Module):
    """A mistake that only training mode meets."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("the augmentation wants images")
        return self.head(x)


class FailsOnBatches(nn.Module):
    """A mistake that only a batch of another size meets."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 5:
            raise RuntimeError("five is not my number")
        return self.head(x)


class Numpyish(nn.Module):
    """Initial weights from a generator that byrote does not seed."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)
        drawn = np.random.default_rng().standard_normal(tuple(self.head.weight.shape))
        self.head.weight = nn.Parameter(torch.as_tensor(drawn, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Shapeshifter(nn.Module):
    """Another architecture every time."""

    width = itertools.count(3)

    def __init__(self, task: Task) -> None:
        super().__init__()
        width = next(self.width)
        self.layers = nn.ModuleDict({f"body{width}": nn.Linear(task.input_shape[0], width)})
        self.head = nn.Linear(width, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return self.head(x)


SHARED = nn.Linear(5, 3)


def same_module_every_time() -> nn.Module:
    """A factory that makes nothing."""
    return SHARED


def not_a_module() -> Any:
    """A factory that makes something else."""
    return random.Random(0)
