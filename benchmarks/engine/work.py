"""What every contender is given, and what it gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import torch
from benchmarks.engine.cases import Case
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from byrote.data import Task

Train = Callable[[Sequence[int]], list[float]]
"""Trains one network per seed and says what share of the held-out examples each gets right in the end."""


@final
@dataclass(frozen=True, kw_only=True)
class Work:
    """A case with its data, for one contender."""

    case: Case
    task: Task
    device: str = "cpu"
    path: Any = None
    """For byrote: how to train."""
    num_together: int = 1
    """Networks handed over at once."""

    def first_steps(self) -> "Work":
        """The same on two batches of examples, once: what warms a contender up."""
        positions = torch.arange(min(2 * self.case.batch_size, len(self.task.train))).numpy()
        part = self.task.part(train=positions, test=torch.arange(len(self.task.test)).numpy())
        return replace(self, task=part, case=replace(self.case, epochs=1, num_train=len(positions)))


class Tensors(NamedTuple):
    """The data as a loop wants them, normalised and on the device."""

    train_x: Float[Tensor, "example ..."]
    train_y: Int[Tensor, "example"]
    test_x: Float[Tensor, "test_example ..."]
    test_y: Int[Tensor, "test_example"]


def tensors(work: Work) -> Tensors:
    """Normalise, and put everything on the device."""
    task = work.task
    shape = (-1, *task.input_shape)
    train_x, test_x = (torch.as_tensor(task.normalise(part.x)).reshape(shape) for part in (task.train, task.test))
    train_y, test_y = (torch.as_tensor(part.y) for part in (task.train, task.test))
    return Tensors(*(part.to(work.device) for part in (train_x, train_y, test_x, test_y)))


def data_sets(work: Work) -> tuple[TensorDataset, TensorDataset]:
    """The training and the held-out examples, as a DataLoader wants them."""
    data = tensors(work)
    return TensorDataset(data.train_x, data.train_y), TensorDataset(data.test_x, data.test_y)


def new_network(work: Work, seed: int) -> nn.Module:
    """A network initialised from the seed, on the device."""
    torch.default_generator.manual_seed(seed)
    return work.case.make().to(work.device)
