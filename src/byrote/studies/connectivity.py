"""Whether two trainings end in the same basin: the straight line between their weights, on training examples."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from byrote.core import ByroteError
from byrote.data import Task
from byrote.measures import interpolate, right_class
from byrote.measures.curvature.batch_statistics import has_statistics
from byrote.models import build
from byrote.probing import Examined, restored
from byrote.records import ProbeResult, Run
from byrote.training import AbstractProbe

EXAMINED = Examined(num_batches=4, batch_size=128)
"""Training examples that the way is measured on."""
NUM_POINTS = 11

State = Mapping[str, Shaped[np.ndarray, "..."]]


class Way(NamedTuple):
    """How high the straight line between two ends is above them."""

    loss: float
    """The barrier of the training loss: sup_α L(α) − [(1 − α)L(0) + αL(1)]."""
    error: float
    """The same of the share of wrong answers; NaN for numbers."""


def ways(
    task: Task, pairs: Mapping[int, tuple[Run, Run]], *, probes: tuple[AbstractProbe, AbstractProbe]
) -> tuple[dict[int, Way], str]:
    """The barrier between the ends of two runs of the same network, for each of some seeds.

    Args:
        task: the whole task.
        pairs: runs that kept their weights at their last moment, by seed.
        probes: the checkpoints that have them, of the one and of the other.

    Returns:
        By seed, of those whose both ends are known; and why there is none, where there is a reason.
    """
    found: dict[int, Way] = {}
    ends = {seed: [end_of(*own) for own in zip(pair, probes, strict=True)] for seed, pair in pairs.items()}
    try:
        for seed, own in ends.items():
            known = [end for end in own if end is not None]
            if len(known) == len(own):
                found[seed] = _way(task, pairs[seed], known)
    except ByroteError as error:
        return {}, str(error)
    return found, ""


def end_of(run: Run, probe: AbstractProbe) -> State | None:
    """The weights and buffers at a checkpoint's last moment; None where there are none that are finite."""
    result = run.probes.get(probe.key)
    if result is None:
        return None
    state = state_at(result, -1)
    finite = all(np.isfinite(part).all() for part in state.values() if part.dtype.kind == "f")
    return state if finite else None


def state_at(result: ProbeResult, moment: int) -> State:
    """What a checkpoint kept at one of its moments."""
    return {name: np.asarray(values)[moment] for name, values in result.values.items()}


def weights_along(task: Task, run: Run, result: ProbeResult) -> Float[np.ndarray, "moment parameter"]:
    """The trained parameters of a run at every moment of a checkpoint, end to end.

    Raises:
        ModelError: the network cannot be made.
    """
    module = build(run.spec.learner.model, task=task, seed=run.spec.seed)
    names = [name for name, part in module.named_parameters() if part.requires_grad]
    return np.concatenate([np.asarray(result.values[name]).reshape(len(result.steps), -1) for name in names], axis=1)


def _way(task: Task, runs: tuple[Run, Run], ends: list[State]) -> Way:
    pairs = [(run.spec, _tensors(end)) for run, end in zip(runs, ends, strict=True)]
    first, last = (network.objective for network in restored(pairs, task=task, examined=EXAMINED))
    found = interpolate(
        first,
        end=last.model,
        correct=None if task.regression else right_class,
        statistics=first.batches if any(has_statistics(layer) for layer in first.model.modules()) else None,
        num_points=NUM_POINTS,
    ).train
    return Way(found.loss.barrier.value, np.nan if found.error is None else found.error.barrier.value)


def _tensors(state: State) -> dict[str, Tensor]:
    return {name: torch.as_tensor(part) for name, part in state.items()}
