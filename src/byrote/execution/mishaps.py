"""What went wrong with a shard, in plain words."""

import torch

from byrote.execution.describe import describe
from byrote.execution.shards import RunShard, Shard

_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether something did not fit into the memory of the machine or the device: the error says so, or its cause."""
    if error is None:
        return False
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS):
        return True
    return is_out_of_memory(error.__cause__)


def forget_frames(error: BaseException | None) -> None:
    """Let go of what did not fit: an exception holds the frames it passed, and they hold their tensors."""
    if error is not None:
        error.__traceback__ = None
        forget_frames(error.__cause__)
        forget_frames(error.__context__)


def told_of_death(shard: Shard, *, reason: str, again: bool) -> str:
    """A worker died over a shard; `again`: over one that had cost a worker before."""
    what = _what(shard)
    if not again:
        return f"A worker process {reason} at work on {what}. A new one does that work once more."
    return (
        f"A worker process {reason} again at work on {what}: given up, everything else goes on. Where memory is short, "
        f"use fewer workers; where a model of your own is at fault, train without workers to see how."
    )


def told_of_memory(shard: Shard, *, error: Exception) -> str:
    """Not even one run at a time fits into memory."""
    words = str(error).strip().splitlines()
    reason = f" ({words[0]})" if words else ""
    return (
        f"Out of memory{reason} at work on {_what(shard)}, one at a time: given up, everything else goes on. Use fewer "
        f"workers, a smaller model or smaller batches."
    )


def _what(shard: Shard) -> str:
    if not isinstance(shard, RunShard):
        return f"a baseline ({describe(shard.specs[0])})"
    number, model = len(shard.specs), shard.specs[0].learner.model
    lowest, *_, highest = sorted([spec.seed for spec in shard.specs] * 2)
    seeds = f"seed {lowest}" if lowest == highest else f"seeds {lowest} to {highest}"
    return f"{number} network{'s' * (number > 1)} ({model}, {seeds})"
