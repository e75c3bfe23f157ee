"""Train in this process."""

from typing import final

import torch
from typing_extensions import override

from byrote.data import Task
from byrote.execution.alone import Alone
from byrote.execution.crew import AbstractCrew
from byrote.execution.desk import Desk
from byrote.execution.executor import AbstractExecutor
from byrote.execution.keeper import Keeper
from byrote.training import Remembered


@final
class LocalExecutor(AbstractExecutor):
    """Trains and fits in this process, one shard after the other. A fit that is begun is finished."""

    def __init__(
        self, task: Task, *, store: Keeper, device: torch.device, remembered: Remembered | None = None
    ) -> None:
        """Make an executor.

        Args:
            task: to train on.
            store: where runs and fits are kept.
            device: to train on.
            remembered: where timings are looked up and kept; None: time again.
        """
        desk = Desk(task, device=device)
        super().__init__(desk, store=store, num_workers=1, num_threads=None, remembered=remembered)
        self._alone = Alone(desk)

    @property
    @override
    def _crew(self) -> AbstractCrew:
        return self._alone
