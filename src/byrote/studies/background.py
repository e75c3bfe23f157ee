"""What a task says by itself, before any network is trained."""

import time
from functools import cached_property
from typing import final

from byrote.data import Task
from byrote.measures import Nearest, nearest
from byrote.studies.leaks import Leaks, find_leaks

FEW, MORE = 0.01, 0.08
"""Shares of the test examples whose nearest neighbours are looked up to know how long all of them take."""


@final
class Background:
    """Looks at a task, at each thing once, however often studies summarise."""

    def __init__(self, task: Task) -> None:
        """Nothing is looked at yet."""
        self.task = task

    @cached_property
    def nearest(self) -> Nearest:
        """For every test example, its nearest training example in the network's input space."""
        train, test = (self.task.normalise(x).reshape(len(x), -1) for x in (self.task.train.x, self.task.test.x))
        return nearest(train, test)

    @cached_property
    def leaks(self) -> Leaks:
        """What leaks in the data themselves."""
        return find_leaks(self.task, distance=self.nearest.distance[:, 0])

    def look(self, *, neighbours: bool, leaks: bool) -> None:
        """Look now at what will be asked for."""
        if neighbours or leaks:
            self.nearest  # noqa: B018
        if leaks:
            self.leaks  # noqa: B018

    def forecast(self, *, neighbours: bool, leaks: bool) -> float:
        """Predict the seconds of `look`, from a few neighbours; leaks take about as long as these again."""
        if not (neighbours or leaks):
            return 0.0
        train, test = (self.task.normalise(x).reshape(len(x), -1) for x in (self.task.train.x, self.task.test.x))
        numbers, seconds = [max(1, round(share * len(test))) for share in (FEW, MORE)], list[float]()
        for number in numbers:
            began = time.perf_counter()
            nearest(train, test[:number])
            seconds.append(time.perf_counter() - began)
        each = max(0.0, seconds[1] - seconds[0]) / max(1, numbers[1] - numbers[0])
        return (seconds[1] + each * (len(test) - numbers[1])) * (2 if leaks else 1)
