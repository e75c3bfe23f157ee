"""What a task says by itself, before any network is trained."""

import time
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Float, Int

from byrote.data import Task
from byrote.measures import Nearest, knn_shapley, knn_shapley_regression, nearest
from byrote.records import Scores
from byrote.studies.leaks import Leaks, find_leaks

FEW, MORE = 0.01, 0.08
"""Shares of the test examples whose nearest neighbours are looked up to know how long all of them take."""
MOST_SORTED = 2e7
"""Pairs of a training and a test example that are put in order of distance: a few seconds."""
TRIED = 8
"""Test examples that training examples are valued by to know how long all of them take."""


@final
class Background:
    """Looks at a task, at each thing once, however often studies summarise."""

    def __init__(self, task: Task) -> None:
        """Nothing is looked at yet."""
        self.task = task

    @cached_property
    def nearest(self) -> Nearest:
        """For every test example, its nearest training example in the network's input space."""
        return nearest(*self._inputs())

    @cached_property
    def leaks(self) -> Leaks:
        """What leaks in the data themselves."""
        return find_leaks(self.task, distance=self.nearest.distance[:, 0])

    @cached_property
    def values(self) -> Scores:
        """What each training example is worth to a table of nearest neighbours, by `knn_shapley`."""
        number = min(len(self.task.test), max(1, int(MOST_SORTED / len(self.task.train))))
        return self._values(np.linspace(0, len(self.task.test) - 1, number).round().astype(np.int64))

    def look(self, *, neighbours: bool, leaks: bool, values: bool) -> None:
        """Look now at what will be asked for."""
        if neighbours or leaks:
            self.nearest  # noqa: B018
        if leaks:
            self.leaks  # noqa: B018
        if values:
            self.values  # noqa: B018

    def forecast(self, *, neighbours: bool, leaks: bool, values: bool) -> float:
        """Predict the seconds of `look`, from a few neighbours; leaks take about as long as these again."""
        seconds = self._forecast_values() if values else 0.0
        if neighbours or leaks:
            seconds += self._forecast_nearest() * (2 if leaks else 1)
        return seconds

    def _forecast_nearest(self) -> float:
        train, test = self._inputs()
        numbers, seconds = [max(1, round(share * len(test))) for share in (FEW, MORE)], list[float]()
        for number in numbers:
            began = time.perf_counter()
            nearest(train, test[:number])
            seconds.append(time.perf_counter() - began)
        each = max(0.0, seconds[1] - seconds[0]) / max(1, numbers[1] - numbers[0])
        return seconds[1] + each * (len(test) - numbers[1])

    def _forecast_values(self) -> float:
        wanted = min(float(len(self.task.test)), max(1.0, MOST_SORTED / len(self.task.train)))
        numbers, seconds = (1, 1 + min(TRIED, len(self.task.test) - 1)), list[float]()
        for number in numbers:
            began = time.perf_counter()
            self._values(np.arange(number))
            seconds.append(time.perf_counter() - began)
        each = max(0.0, seconds[1] - seconds[0]) / max(1, numbers[1] - numbers[0])
        return seconds[0] + each * (wanted - 1)

    def _inputs(self) -> tuple[Float[np.ndarray, "example feature"], Float[np.ndarray, "test_example feature"]]:
        """Of training and of test examples, as the network sees them."""
        train, test = (self.task.normalise(x).reshape(len(x), -1) for x in (self.task.train.x, self.task.test.x))
        return train, test

    def _values(self, tests: Int[np.ndarray, "chosen"]) -> Scores:
        (train, test), measure = self._inputs(), knn_shapley_regression if self.task.regression else knn_shapley
        return measure(
            train, targets=self.task.train.y, test_features=test[tests], test_targets=self.task.test.y[tests]
        )
