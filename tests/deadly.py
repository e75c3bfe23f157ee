"""Factories that do in a worker process what they do not do here."""

import os
import secrets
import signal
from multiprocessing import current_process
from pathlib import Path

from torch import Tensor, nn

from byrote.data import Task


def in_worker() -> bool:
    return current_process().name != "MainProcess"


def deadly(task: Task, *, folder: str, times: int, status: int | None = None) -> nn.Module:
    """Ends the first so many workers that ask for a network, by SIGKILL or with an exit status; counts in a folder."""
    if in_worker() and len(list(Path(folder).iterdir())) < times:
        (Path(folder) / secrets.token_hex(4)).touch()
        if status is not None:
            os._exit(status)
        os.kill(os.getpid(), signal.SIGKILL)
    return nn.Linear(task.input_shape[0], task.num_outputs)


def quarrelsome(task: Task) -> nn.Module:
    """Raises an error of its own kind, with more to it than words."""
    if in_worker():
        raise QuarrelError("nobody", "everybody")
    return nn.Linear(task.input_shape[0], task.num_outputs)


class QuarrelError(Exception):
    """Cannot be made again from its words alone."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} talks to {other}")


class Greedy(nn.Module):
    """Runs out of memory on a batch of five."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.head = nn.Linear(task.input_shape[0], task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 5:
            raise MemoryError("five is too much")
        return self.head(x)
