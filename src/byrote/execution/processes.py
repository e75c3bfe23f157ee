"""Train in several processes of this machine."""

import math
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NamedTuple, final

import torch
from joblib.externals.loky.backend.process import LokyProcess
from typing_extensions import override

from byrote.core import ModelError, describe_failure
from byrote.data import Task
from byrote.execution.crew import AbstractCrew, Died, Done, Event, OnEpochs, Raised
from byrote.execution.desk import Desk
from byrote.execution.executor import AbstractExecutor
from byrote.execution.keeper import Keeper
from byrote.execution.messages import Epochs, Failed, Finished, Ready, Result, WorkerTraceback, pack, unpack
from byrote.execution.shards import Shard
from byrote.execution.worker import work
from byrote.records import Fit, Run
from byrote.training import Remembered

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
"""Read when libraries are loaded: how many threads their operations use."""


@final
class ProcessExecutor(AbstractExecutor):
    """Trains and fits in worker processes, a shard each; this process plans, writes to the store and reports.

    Workers are started by loky, with the first shard they are given, and stay until `close`, or until this process
    ends. A worker has `threads_per_worker` threads within an operation.

    On a GPU all workers share it, so that more than one gains little.
    """

    def __init__(
        self,
        task: Task,
        *,
        store: Keeper,
        device: torch.device,
        workers: int,
        threads_per_worker: int = 1,
        remembered: Remembered | None = None,
    ) -> None:
        """Make an executor; workers are started when they are needed.

        Args:
            task: to train on; every worker gets it once.
            store: where runs and fits are kept, by this process.
            device: to train on.
            workers: how many processes.
            threads_per_worker: within an operation.
            remembered: where timings are looked up and kept; None: time again.

        Raises:
            ValueError: a number below 1.
        """
        for name, number in (("workers", workers), ("threads_per_worker", threads_per_worker)):
            if number < 1:
                raise ValueError(f"Expected {name} at least 1, got {number}.")
        super().__init__(
            Desk(task, device=device),
            store=store,
            num_workers=workers,
            num_threads=threads_per_worker,
            remembered=remembered,
        )
        self._processes = Processes(task, device=device, num_workers=workers, num_threads=threads_per_worker)

    @property
    @override
    def _crew(self) -> AbstractCrew:
        return self._processes


class _Job(NamedTuple):
    number: int
    shard: Shard


@final
class _Worker:
    """A process, and what it is at."""

    def __init__(self, process: LokyProcess, *, connection: Connection) -> None:
        self.process, self.connection = process, connection
        self.ready, self.began = False, time.monotonic()
        self.job: _Job | None = None
        self.packed = b""
        """The shard of its job."""
        self.records: list[Run | Fit] = []


@final
class Processes(AbstractCrew):
    """Worker processes, each with a connection of its own, so that the death of one is nobody else's."""

    def __init__(self, task: Task, *, device: torch.device, num_workers: int, num_threads: int) -> None:
        """Nothing is started yet."""
        self._task, self._device = task, device
        self._num_workers, self._num_threads = num_workers, num_threads
        self._workers: list[_Worker] = []
        self._stillborn, self._sent_home = 0, 0
        self._seconds_to_start = math.inf
        """The least that it took a worker; infinite: none has started yet."""

    @property
    @override
    def num_free(self) -> int:
        return self._num_workers - len(self._busy())

    @property
    @override
    def alongside(self) -> bool:
        return True

    @property
    @override
    def seconds_to_start(self) -> float:
        known = self._seconds_to_start if math.isfinite(self._seconds_to_start) else 0.0
        now = time.monotonic()
        coming = [0.0 if worker.ready else max(0.0, known - (now - worker.began)) for worker in self._idle()]
        return min(coming, default=known)

    @override
    def begin(self, number: int, shard: Shard) -> None:
        packed = _packed(shard)
        idle = sorted(self._idle(), key=lambda worker: (not worker.ready, worker.began))
        worker = idle[0] if idle else self._start()
        worker.job, worker.packed, worker.records = _Job(number, shard), packed, []
        if worker.ready:
            _send(worker, packed)

    @override
    def hear(self, *, seconds: float, on_epochs: OnEpochs) -> Iterable[Event]:
        busy = self._busy()
        wait([handle for worker in busy for handle in (worker.connection, worker.process.sentinel)], seconds)
        for worker in busy:
            event = self._news(worker, worker.job, on_epochs) if worker.job is not None else None
            if event is not None:
                yield event

    @override
    def abandon(self) -> None:
        busy = self._busy()
        self._sent_home = len(busy)
        for worker in busy:
            self._end(worker)

    @override
    def call_back(self) -> None:
        for _ in range(self._sent_home):
            self._start()
        self._sent_home = 0

    @override
    def close(self) -> None:
        for worker in list(self._workers):
            self._end(worker)

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _idle(self) -> list[_Worker]:
        """Those who live and have nothing to do, greeted if they have come meanwhile."""
        idle = [worker for worker in self._workers if worker.job is None]
        for worker in idle:
            if worker.process.exitcode is not None:
                self._end(worker)
            elif not worker.ready:
                with suppress(EOFError, OSError):  # It is dying, which will be noticed when it is listened to.
                    if worker.connection.poll():
                        worker.connection.recv_bytes()
                        self._greet(worker)
        return [worker for worker in idle if worker in self._workers]

    def _greet(self, worker: _Worker) -> None:
        """A worker has said that it is ready."""
        self._stillborn, worker.ready = 0, True
        self._seconds_to_start = min(self._seconds_to_start, time.monotonic() - worker.began)
        _send(worker, pack(self._task))

    def _start(self) -> _Worker:
        with _no_interrupts():  # A worker inherits that it cannot be interrupted, from its first moment on.
            ours, theirs = Pipe()
            threads = {name: str(self._num_threads) for name in THREAD_VARIABLES}
            process = LokyProcess(
                target=work, args=(theirs, str(self._device), self._num_threads), daemon=True, env=threads
            )
            worker = _Worker(process, connection=ours)
            process.start()
            self._workers.append(worker)
            theirs.close()
        return worker

    def _news(self, worker: _Worker, job: _Job, on_epochs: OnEpochs) -> Event | None:
        """The next thing a worker has to say, or its death."""
        gone = worker.process.exitcode is not None
        try:
            message = unpack(worker.connection.recv_bytes()) if worker.connection.poll() else None
        except (EOFError, OSError):
            message, gone = None, True
        if message is not None:
            return self._heard(worker, job, message, on_epochs)
        return self._bury(worker, job) if gone else None

    def _heard(self, worker: _Worker, job: _Job, message: Any, on_epochs: OnEpochs) -> Event | None:
        match message:
            case Ready():
                self._greet(worker)
                _send(worker, worker.packed)
            case Epochs():
                on_epochs(job.number, message.number)
            case Result():
                # The spec that was asked for: it carries this process's own factory.
                worker.records.append(replace(message.record, spec=job.shard.specs[len(worker.records)]))
            case Finished():
                worker.job = None
                return Done(job.number, worker.records, message.seconds)
            case Failed():
                worker.job = None
                message.error.__cause__ = WorkerTraceback(message.traceback)
                return Raised(job.number, message.error, message.out_of_memory)
        return None

    def _bury(self, worker: _Worker, job: _Job) -> Died:
        """Take a dead worker out; whoever is next begins in a new one.

        Raises:
            ChildProcessError: no worker comes to life at all.
        """
        self._end(worker)
        reason = _reason(worker.process.exitcode)
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn > self._num_workers:
                raise ChildProcessError(
                    f"Worker processes do not come to life: {self._stillborn} in a row, the last one {reason} before "
                    f"it was ready. Train without workers (workers=1, --workers 1)."
                )
        return Died(job.number, reason, worker.ready)

    def _end(self, worker: _Worker) -> None:
        """Kill a worker if it is alive: nothing is lost that was kept."""
        self._workers.remove(worker)
        process = worker.process
        if sys.platform == "win32":
            process.terminate()
        elif process.exitcode is None and process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        process.join()
        worker.connection.close()


def _packed(shard: Shard) -> bytes:
    try:
        return pack(shard)
    except Exception as error:
        raise ModelError(
            f"The model cannot be taken to a worker process: {describe_failure(error)}. Let it hold nothing that "
            f"belongs to this process (open files, locks, generators), or train without workers."
        ) from error


def _send(worker: _Worker, packed: bytes) -> None:
    with suppress(OSError):  # It is dead, which will be noticed where it is listened to.
        worker.connection.send_bytes(packed)


def _reason(status: int | None) -> str:
    """How a process ended, to follow its name."""
    if status is None or status >= 0:
        return f"ended by itself (exit status {status})"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed ({name}{', often because memory ran out' if name == 'SIGKILL' else ''})"


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Keep Ctrl-C waiting for a moment."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
