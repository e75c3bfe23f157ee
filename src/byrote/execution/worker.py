"""What a worker process does, from its first moment to its last."""

import os
import signal
import time
import traceback
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import final

import torch

from byrote.core import ModelError, describe_failure
from byrote.execution.desk import Desk
from byrote.execution.messages import Epochs, Failed, Finished, Ready, Result, pack, send, unpack
from byrote.execution.mishaps import is_out_of_memory
from byrote.execution.shards import Shard

SECONDS_BETWEEN = 0.1
"""Between two messages about epochs."""


def work(connection: Connection, device: str, num_threads: int) -> None:
    """Do shards until the process at the other end is gone.

    What a user's code prints goes to standard error, so that results stay alone on standard output. Ctrl-C is for the
    other end to act on.

    Args:
        connection: brings the task, then shards, each packed; takes messages.
        device: to train on.
        num_threads: within an operation.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    torch.set_num_threads(num_threads)
    inbox: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    try:
        send(connection, Ready())
        desk = Desk(unpack(inbox.get()), device=torch.device(device))
        while True:
            _answer(connection, desk, inbox.get())
    except OSError:  # Nobody hears it any more.
        os._exit(0)


def _listen(connection: Connection, inbox: "SimpleQueue[bytes]") -> None:
    """Take what comes, and end this process, whatever it is at, when the other end is gone."""
    while True:
        try:
            inbox.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)


def _answer(connection: Connection, desk: Desk, packed: bytes) -> None:
    began = time.monotonic()
    try:
        shard = _unpacked(packed)
        records = desk.do(shard, on_epoch=_Teller(connection))
    except Exception as error:
        words = "".join(traceback.format_exception(error))
        send(connection, Failed(_portable(error), words, is_out_of_memory(error)))
        return
    seconds = time.monotonic() - began
    for record in records:
        send(connection, Result(record))
    send(connection, Finished(seconds))


def _unpacked(packed: bytes) -> Shard:
    try:
        return unpack(packed)
    except Exception as error:
        raise ModelError(
            f"The model could not be taken to a worker process: {describe_failure(error)}. Define it in a module that "
            f"can be imported from here, or train without workers."
        ) from error


def _portable(error: Exception) -> Exception:
    """The exception, or, if it does not survive the way, its words."""
    try:
        survives = str(unpack(pack(error))) == str(error)
    except Exception:
        survives = False
    return error if survives else RuntimeError(f"{type(error).__name__}: {error}")


@final
class _Teller:
    """Tells of epochs, not too often."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._epochs, self._told = connection, 0, time.monotonic()

    def __call__(self, num_runs: int) -> None:
        self._epochs += num_runs
        now = time.monotonic()
        if now - self._told >= SECONDS_BETWEEN:
            send(self._connection, Epochs(self._epochs))
            self._epochs, self._told = 0, now
