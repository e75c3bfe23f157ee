"""What several processes that train together recorded."""

import copy
from typing import Any

import torch.distributed as distributed

from byrote.scoring import Recorder


def of_all(recorder: Recorder, *, num_processes: int) -> Recorder:
    """A recorder of what all processes saw until now, also within an epoch; all of them call this together.

    Each of them holds what all saw in ended epochs, so that an example's visits are merged exactly.
    """
    if num_processes == 1:
        return recorder
    states: list[Any] = [None] * num_processes
    distributed.all_gather_object(states, recorder.state_dict())
    recorders = [_restored(recorder, state) for state in states]
    recorders[0].merge(recorders[1:])
    return recorders[0]


def end_epoch(recorder: Recorder, *, num_processes: int) -> None:
    """End the epoch in all processes."""
    recorder.end_epoch(group=distributed.group.WORLD if num_processes > 1 else None)


def check_epochs(recorder: Recorder, *, num_processes: int) -> None:
    """Refuse, before anything is trained, what could not be put together when an epoch ends.

    >>> check_epochs(Recorder(3), num_processes=1)

    Raises:
        ValueError: several processes, and epochs are not told.
    """
    if num_processes > 1 and recorder.epochs != "told":
        raise ValueError(
            f"Expected Recorder(…, epochs='told') where {num_processes} processes train together, got one that finds "
            f"epochs: an example's visits move between processes."
        )


def _restored(recorder: Recorder, state: Any) -> Recorder:
    other = copy.deepcopy(recorder)
    other.load_state_dict(state)
    return other
