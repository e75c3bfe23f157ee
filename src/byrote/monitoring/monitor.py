"""Curvature, noise and movement of a training that somebody else runs."""

import operator
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, SupportsIndex, final

import torch
from torch import Tensor, nn

from byrote.measures.curvature import Likelihood, Loss, class_answers
from byrote.models.bypassed import say_once
from byrote.monitoring.columns import WHOLE, Row, table
from byrote.monitoring.dear import Dear
from byrote.monitoring.governor import FULL, Governor, Kind
from byrote.monitoring.objectives import Objectives
from byrote.monitoring.processes import Processes, Reduce
from byrote.monitoring.quick import Quick
from byrote.monitoring.stability import learning_rate
from byrote.monitoring.state import (
    KIND,
    State,
    as_bytes,
    check,
    of_bytes,
    read_state,
    rows_as_tensors,
    rows_of,
    write_state,
)
from byrote.monitoring.story import trajectory
from byrote.monitoring.warned import TrajectoryWarning, Warned, new_warnings
from byrote.report import write_trajectory
from byrote.scoring import Table

Sink = Callable[[Mapping[str, float]], object]
"""Is handed each row: what was measured, by column."""

COLD = 1.5
"""Times what its gradients take that the first full measurement is expected to take: what it needs is loaded then."""
DIRECTION = "direction."
"""What the names of the tensors begin with in which searches begin."""


@final
class Monitor:
    """Watches the curvature of the loss while a network is trained, and keeps its own time.

    >>> torch_random = torch.Generator().manual_seed(0)
    >>> x = torch.randn(32, 4, generator=torch_random)
    >>> y = (x[:, 0] > 0).long()
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    >>> optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> def loss(model, batch):
    ...     return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
    >>> monitor = Monitor(net, loss=loss, probe=(x, y), overhead=float("inf"), optimiser=optimiser)
    >>> for step in range(3):
    ...     optimiser.zero_grad()
    ...     loss(net, (x, y)).mean().backward()
    ...     optimiser.step()
    ...     row = monitor.step(step)
    >>> monitor.table()["step"].tolist(), bool((monitor.table()["lambda_max"] > 0).all())
    ([0, 1, 2], True)

    Call `step` once for each step of the optimiser, so not for each batch whose gradients are accumulated. The model is
    left as it was found: gradients, mode, buffers, hooks and the state of random generators.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        probe: Any,
        overhead: float = 0.05,
        parameters: Iterable[str] | None = None,
        optimiser: torch.optim.Optimizer | None = None,
        sinks: Iterable[Sink] | Sink = (),
        reduce: Reduce | None = None,
        likelihood: Likelihood | None = class_answers,
        features: str | None = None,
        batch_size: int | None = None,
        num_examples: int | None = None,
        num_batches: int = 16,
        memory: int = 1 << 30,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Say what is measured, and on what. The run is taken to begin with the weights of now.

        Args:
            model: also compiled, or wrapped for several processes.
            loss: from the model and a batch, one value for each example, as with `reduction="none"`. Whatever it does
                by itself, such as autocast, it does here.
            probe: the examples that everything is measured on: one batch, which is cut into `num_batches` mini-batches,
                or a list of batches. They are moved to where the weights are.
            overhead: seconds of measuring for each second of training that are allowed, such as 0.05; infinite:
                everything at every step.
            parameters: names of those looked at, all others being constants; None: all that have requires_grad set.
            optimiser: which says the learning rate where `step` does not, and how much sharpness its steps can bear.
            sinks: one or several, are handed each row, such as `byrote.integrations.tensorboard_sink(writer)`.
            reduce: the sum of a tensor over all processes that train together, where it is not that of
                `torch.distributed`. Each has its own part of the probe, and all call `step` at the same steps.
            likelihood: draws labels from the outputs, for the Fisher's trace; `byrote.measures.curvature` has others;
                None: it is not measured.
            features: the layer, named as in `named_modules`, whose output is compared with that at the first
                measurement; None: what the last linear layer is given.
            batch_size: S and
            num_examples: N of the training; with both, the break-even point counts the noise of mini-batches too, for
                4 gradients more.
            num_batches: mini-batches that the probe is cut into, at most.
            memory: bytes that graphs kept between products may take.
            seed: of starts and drawn labels.
            clock: seconds.

        Raises:
            TypeError: the model is no module, or the probe is a loader or a data set.
            ValueError: an empty probe, no parameters, or a number out of its range.
            UnknownNameError: there is no such parameter or layer.
        """
        if num_batches < 1:
            raise ValueError(f"Expected at least one mini-batch, got num_batches={num_batches!r}.")
        _check_training(batch_size, num_examples)
        self.optimiser = optimiser
        """May be set later."""
        self._processes, self._clock = Processes(reduce), clock
        self._objectives = Objectives(
            model,
            loss=loss,
            probe=probe,
            parameters=parameters,
            processes=self._processes,
            num_batches=num_batches,
            memory=memory,
        )
        self._governor = Governor(overhead)
        self._notes: dict[str, str] = {}
        """Why something is not measured, by column."""
        self._quick = Quick(self._objectives, processes=self._processes, notes=self._notes, layer=features)
        self._dear = Dear(
            self._objectives,
            notes=self._notes,
            likelihood=likelihood,
            batch_size=batch_size,
            num_examples=num_examples,
            seed=seed,
        )
        self._sinks: tuple[Sink, ...] = tuple(sinks) if isinstance(sinks, Iterable) else (sinks,)
        self._rows: list[Row] = []
        self._given: list[Warned] = []
        self._seed = seed
        self._since = self._clock()
        self._waited, self._num_waited, self._rests, self._pause = 0.0, 0, 0, 0.0
        self._latest: int | None = None

    @property
    def warnings(self) -> tuple[Warned, ...]:
        """Those given, each once, as a Python warning too."""
        return tuple(self._given)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not measured, and why, and what was gone around to measure: fused attention, compiled code, a
        gradient scaler.
        """
        return tuple(dict.fromkeys([*self._notes.values(), *self._objectives.notes]))

    @property
    def share(self) -> float:
        """Seconds of measuring for each second of training, until the last call of `step`."""
        training = self._governor.training + self._waited
        return self._governor.measuring / training if training else self._governor.share

    def step(self, step: SupportsIndex, *, lr: float | Tensor | None = None) -> Row | None:
        """Say that the optimiser took a step, and measure if there is time for it.

        Args:
            step: its number, or how many were taken; larger than in the call before. The same step again measures
                nothing.
            lr: learning rate of the step; None: the optimiser's, if there is one.

        Returns:
            What was measured, by column; None when nothing was.

        Raises:
            TypeError: the step is no whole number.
            ModelError: at the first measurement, the loss fails or does not give a number for each example.
        """
        self._waited += self._lap()
        step = _whole(step)
        if step == self._latest:
            return None
        self._check_order(step)
        self._num_waited += 1
        if self._num_waited <= self._rests or self._waited < self._pause:
            return None
        kind = self._due()
        return None if kind is None else self._measured(kind, step=step, lr=lr)

    def measure(self, step: SupportsIndex, *, lr: float | Tensor | None = None) -> Row:
        """Measure everything now, whatever it costs; later measurements wait until that is earned.

        Args:
            step: as in `step`.
            lr: likewise.
        """
        self._waited += self._lap()
        step = _whole(step)
        self._check_order(step)
        self._due()
        return self._measured(FULL, step=step, lr=lr)

    def table(self) -> Table:
        """One row for each measurement; what was not measured is null.

        A quick row has what about one gradient of the probe tells, a full one the eigenvalues and the Fisher's trace
        too.
        """
        return table(self._rows, notes=self.notes)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the curves as one HTML page that needs nothing else.

        Args:
            path: of the file.

        Raises:
            StoreError: it cannot be written.
        """
        story = trajectory(
            self._rows,
            objective=self._objectives.whole,
            warned=self._given,
            notes=self._notes,
            overhead=self._governor.overhead,
            seed=self._seed,
        )
        return write_trajectory(story, path=path)

    def state_dict(self) -> State:
        """All that was measured and where the next searches begin, as tensors on the CPU."""
        state = rows_as_tensors(self._rows) | {
            "monitor": torch.tensor(KIND),
            "start": self._quick.start.cpu().clone(),
            "governor": self._governor.state(),
            "warned": as_bytes([[warned.what, warned.step, warned.text] for warned in self._given]),
            "notes": as_bytes(self._notes),
        }
        if self._quick.features is not None and not self._processes.several:
            state["features"] = self._quick.features.cpu().clone()
        return state | {f"{DIRECTION}{name}": part.cpu().clone() for name, part in self._dear.directions.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave; what was measured here before is forgotten.

        Raises:
            SpecError: it is no monitor's state, or that of another network.
        """
        check(state, num_parameters=self._objectives.whole.num_parameters)
        device = self._objectives.device
        self._rows = rows_of(state)
        self._latest = round(self._rows[-1][WHOLE]) if self._rows else None
        self._quick.start = state["start"].to(device).clone()
        self._quick.features = state["features"].to(device).clone() if "features" in state else None
        self._governor.restore(state["governor"])
        self._given = [Warned(what=what, step=step, text=text) for what, step, text in of_bytes(state["warned"])]
        self._notes.clear()
        self._notes.update(of_bytes(state["notes"]))
        if self._rows and self._quick.features is None:
            self._notes["feature_movement"] = (
                f"feature_movement is since the first measurement after step {round(self._rows[-1]['step'])}, where a "
                "training of several processes was taken up again; before, since the first of all."
            )
        directions = {name.removeprefix(DIRECTION): part for name, part in state.items() if name.startswith(DIRECTION)}
        self._dear.directions = {name: part.to(device).clone() for name, part in directions.items()}
        self._lap()
        self._waited, self._num_waited, self._rests, self._pause = 0.0, 0, 0, 0.0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state as a safetensors file, whole or not at all.

        Raises:
            StoreError: it cannot be written.
        """
        write_state(self.state_dict(), path=Path(path))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a state that was saved; what was measured here before is forgotten.

        Raises:
            StoreError: there is no such file, or it is no safetensors file.
            SpecError: it is no monitor's, or that of another network.
        """
        self.load_state_dict(read_state(Path(path)))

    def _check_order(self, step: int) -> None:
        if self._latest is not None and step < self._latest and WHOLE not in self._notes:
            self._notes[WHOLE] = (
                f"The steps went back, from {self._latest} to {step}. Rows are in the order of their measurement, and "
                "curves over steps are folded. Count steps on from epoch to epoch."
            )
            say_once(self._notes[WHOLE])
        self._latest = step

    def _lap(self) -> float:
        now = self._clock()
        passed, self._since = now - self._since, now
        return passed

    def _due(self) -> Kind | None:
        """What there is time for, and until when it need not be asked again: several processes agree on that, and wait
        for so many steps; one by itself for so many seconds.
        """
        (waited,) = self._processes.means([self._waited], like=self._objectives.like)
        num, self._waited, self._num_waited = self._num_waited, 0.0, 0
        self._governor.earn(waited)
        kind, wait = self._governor.due(), self._governor.wait()
        self._rests, self._pause = 0, wait
        if self._processes.several:
            self._rests, self._pause = int(wait / waited * num) if waited > 0 else 0, 0.0
        return kind

    def _measured(self, kind: Kind, *, step: int, lr: float | Tensor | None) -> Row:
        _wait_for(self._objectives.device)
        self._governor.earn(self._passed())
        if lr is None and self.optimiser is not None:
            lr = learning_rate(self.optimiser)
        lr = None if lr is None else float(lr)
        row: Row = {"step": step, "seconds": self._governor.training} | ({} if lr is None else {"lr": lr})
        before = self._objectives.spent
        row |= self._dear(step=step, lr=lr, optimiser=self.optimiser) if kind == FULL else {}
        row |= self._quick()
        row["cost"] = round(self._objectives.spent - before + row.get("cost", 0.0), 9)
        _wait_for(self._objectives.device)
        took = self._passed()
        if not self._rows:
            row["cost"] += self._estimate(row["cost"])
        self._governor.charge(kind, seconds=took)
        row["share"] = self._governor.share
        self._rows.append(row)
        self._tell(row)
        return dict(row)

    def _estimate(self, cost: float) -> float:
        """Time three more gradients, now that everything is loaded: of the whole probe twice, and of its parts.

        Returns:
            Gradients of the probe that it took.
        """
        before, times = self._objectives.spent, list[float]()
        with self._objectives.whole.opened() as whole:
            for _ in range(2):
                whole.gradient()
                _wait_for(self._objectives.device)
                times.append(self._passed())
        once = min(times)
        with self._objectives.parts.opened() as parts:
            if parts.is_alike:
                deque(parts.batch_gradients(), maxlen=0)
            else:
                parts.gradient()
        _wait_for(self._objectives.device)
        apart = self._passed()
        quick = apart + (cost - 1) * once
        products, draws = self._dear.expected(self.optimiser)
        self._governor.expect(sum(times) + apart, quick=quick, full=COLD * (quick + products * once + draws * apart))
        return self._objectives.spent - before

    def _passed(self) -> float:
        """Seconds since this was asked for last, the mean over processes."""
        return self._processes.means([self._lap()], like=self._objectives.like)[0]

    def _tell(self, row: Row) -> None:
        for sink in self._sinks:
            sink(dict(row))
        found = new_warnings(self._rows, given=self._given)
        self._given += found
        for warned in found:
            warnings.warn(warned.text, TrajectoryWarning, stacklevel=4)


def _whole(step: SupportsIndex) -> int:
    try:
        return operator.index(step)
    except TypeError:
        raise TypeError(f"Expected the step as a whole number, got {step!r}.") from None


def _check_training(batch_size: int | None, num_examples: int | None) -> None:
    if (batch_size is None) != (num_examples is None) or (
        batch_size is not None and num_examples is not None and not 1 <= batch_size <= num_examples
    ):
        raise ValueError(
            "Expected both batch_size and num_examples of the training, the first at most the second, or neither, got "
            f"{batch_size!r} and {num_examples!r}."
        )


def _wait_for(device: torch.device) -> None:
    """Let a device finish what it was given, so that time is counted where it is spent."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
