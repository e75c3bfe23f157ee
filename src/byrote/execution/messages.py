"""What this process and its workers tell each other."""

from multiprocessing.connection import Connection
from typing import Any, NamedTuple, final

from cloudpickle import dumps, loads

from byrote.records import Fit, Run


class Ready(NamedTuple):
    """A worker has started."""


class Epochs(NamedTuple):
    """So many epochs of single runs have passed since it was last said."""

    number: int


class Result(NamedTuple):
    """One record of the shard, in the order of its specs."""

    record: Run | Fit


class Finished(NamedTuple):
    """All records of the shard have been sent."""

    seconds: float


class Failed(NamedTuple):
    """The shard ended in an exception."""

    error: Exception
    traceback: str
    out_of_memory: bool


@final
class WorkerTraceback(Exception):  # noqa: N818  It is not raised, but shown as the cause of what is.
    """Where in a worker an exception was raised."""


def pack(message: Any) -> bytes:
    """Bytes for another process. What is defined in a script or a notebook goes along with its source."""
    return dumps(message)


def unpack(packed: bytes) -> Any:
    """What was packed."""
    return loads(packed)


def send(connection: Connection, message: Any) -> None:
    """Send to the other side.

    Raises:
        OSError: there is nobody.
    """
    connection.send_bytes(pack(message))
