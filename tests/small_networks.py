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


class Wide(nn.Module):
    """Convolutions of every shape that unfold, ReLU before pooling, and pooling that is not a multiple."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        channels = task.input_shape[0]
        self.body = nn.Sequential(
            nn.Conv2d(channels, 4, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=1, padding=1),
            nn.Conv2d(4, 3, 1, bias=False),
        )
        self.head = nn.Linear(3, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).tanh().mean((2, 3)))


class Depthwise(nn.Module):
    """A grouped convolution, which does not unfold."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        channels = task.input_shape[0]
        self.convolution = nn.Conv2d(channels, 2 * channels, 3, groups=channels, padding="same")
        self.head = nn.Linear(2 * channels, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.convolution(x).relu().mean((2, 3)))


class LayerNormed(nn.Module):
    """LayerNorm over the features."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body, self.norm = nn.Linear(task.input_shape[0], 6), nn.LayerNorm(6)
        self.head = nn.Linear(6, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(x)).relu())


class Embedded(nn.Module):
    """Features rounded to tokens, each with a vector of its own."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.vectors, self.head = nn.Embedding(7, 4), nn.Linear(4 * task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        tokens = (2 * x).round().clamp(-3, 3).long() + 3
        return self.head(self.vectors(tokens).flatten(1))


class Attentive(nn.Module):
    """Attention of the features to one another."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.lift = nn.Linear(1, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(x[..., None])
        return self.head(self.attention(h, h, h, need_weights=False)[0].mean(1))


class Transformer(nn.Module):
    """One transformer block on the features as tokens."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.lift, self.places = nn.Linear(1, 4), nn.Parameter(torch.randn(task.input_shape[0], 4))
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.lift(x[..., None]) + self.places).mean(1))


class Dropped(nn.Module):
    """Dropout layers at two rates, one of them called twice."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(task.input_shape[0], 9), nn.Dropout(0.5), nn.Tanh())
        self.again, self.head = nn.Linear(9, 9), nn.Linear(9, task.num_outputs)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.again(self.drop(self.body(x))).relu()))


def dropped_chain(task: Task) -> nn.Module:
    """Affine maps, every activation, and dropout at three rates, also of the inputs."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(int(np.prod(task.input_shape)), 8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Sequential(nn.Linear(8, 7, bias=False), nn.GELU(), nn.Dropout(0.2)),
        nn.Linear(7, 6),
        nn.SiLU(),
        nn.Identity(),
        nn.Linear(6, 6),
        nn.Tanh(),
        nn.Linear(6, 5),
        nn.Sigmoid(),
        nn.Linear(5, task.num_outputs),
    )


class Written(nn.Module):
    """A multilayer perceptron as it is written in tutorials."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(int(np.prod(task.input_shape)), 6), nn.Linear(6, 5)
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(5, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.relu(self.one(x.view(x.size(0), -1)))
        return self.head(self.drop(torch.tanh(self.two(h))))


class DroppedTwice(nn.Module):
    """A chain in which one dropout layer is called twice, so that each call draws for itself."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(task.input_shape[0], 6), nn.Linear(6, 5)
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(5, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.two(self.drop(self.one(x).relu())).relu()))


class Residual(nn.Module):
    """Almost a chain, but for an input that is scaled and a block that is skipped."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(task.input_shape[0], 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(2 * x).relu()
        return self.head(h + self.two(h).relu())


def doubled(layer: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
    return 2 * outputs


class Hooked(nn.Module):
    """A chain with a hook that changes what a layer puts out."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(task.input_shape[0], 6), nn.Linear(6, task.num_outputs)
        self.body.register_forward_hook(doubled)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu())


class ChannelsDropped(nn.Module):
    """Dropout of whole channels, inside a block, and BatchNorm between."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(task.input_shape[0], 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.4), nn.Conv2d(4, 3, 2)
        )
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(3, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.block(x).mean((2, 3))))


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


def wide_normed(task: Task) -> nn.Module:
    """Two thirds of a million weights, and BatchNorm."""
    layers = (nn.Linear(task.input_shape[0], 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(512, task.num_outputs))


class CumulativeNorm(nn.Module):
    """BatchNorm that averages over all batches so far, and has no weights of its own."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body = nn.Linear(task.input_shape[0], 6)
        self.norm = nn.BatchNorm1d(6, momentum=None, affine=False)
        self.head = nn.Linear(6, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(x)).relu())


class NormedTwice(nn.Module):
    """One BatchNorm that is called twice."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body, self.norm = nn.Linear(task.input_shape[0], 6), nn.BatchNorm1d(6, momentum=0.3, eps=1e-3)
        self.again, self.head = nn.Linear(6, 6), nn.Linear(6, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.again(self.norm(self.body(x)).relu())).tanh())


class ConvolutionalNormed(nn.Module):
    """BatchNorm over the places of images."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(task.input_shape[0], 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.convolution(x)).relu().mean((2, 3)))


class TokensNormed(nn.Module):
    """BatchNorm over the features of all examples as if each were an example."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.lift, self.norm = nn.Linear(1, 4), nn.BatchNorm1d(4)
        self.head = nn.Linear(4, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.lift(x.reshape(-1, 1)))
        return self.head(h.relu().reshape(*x.shape, 4).mean(1))


class StochasticDepth(nn.Module):
    """A residual block that is skipped for some examples while training."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body, self.block = nn.Linear(task.input_shape[0], 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x).relu()
        extra = self.block(h).relu()
        if self.training:
            extra = extra * (torch.rand(len(x), 1) < 0.7)
        return self.head(h + extra)


class Counting(nn.Module):
    """A buffer that training passes change in place, and that outputs depend on."""

    passes: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
        return self.head(x) / (1 + 0.1 * self.passes)


class DroppedAttention(nn.Module):
    """Dropout inside attention, which torch has no layer for."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.lift = nn.Linear(1, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.2, batch_first=True)
        self.head = nn.Linear(4, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.lift(x[..., None])).mean(1))


class SecretRate(nn.Module):
    """A dropout layer whose rate is drawn with the weights."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body, self.drop = nn.Linear(task.input_shape[0], 16), nn.Dropout(torch.rand(()).item())
        self.head = nn.Linear(16, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.body(x).relu()))


class Pythonic(nn.Module):
    """Noise from a generator that byrote does not seed, while training."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        noise = self.training and random.random() + np.random.uniform() < 1  # noqa: NPY002
        return self.head(1.1 * x if noise else x)


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


def sometimes(task: Task) -> nn.Module:
    """The same, as a chain of layers."""
    return nn.Sequential(Sometimes(task).head)


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


class Once(torch.autograd.Function):
    """Has a derivative, and says that it has no second one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return gradient * x.cos()


class OnceOnly(nn.Module):
    """A network without second derivatives."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(task.input_shape[0], 4), nn.Linear(4, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(Once.apply(self.first(x)))
