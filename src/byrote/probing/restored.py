"""Trained networks again, from the weights that a checkpoint kept, beside the examples that probes look at."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from byrote.data import Task
from byrote.measures import Objective
from byrote.probing.objectives import Examined, drawn_places, loss_of
from byrote.records import RunSpec
from byrote.training import DTYPES, training_data
from byrote.training.inputs import PackedInputs
from byrote.training.population import make_network, run_targets


@final
class Restored(NamedTuple):
    """A network with its weights."""

    objective: Objective
    """Of examples that it is trained on, against what it is trained on."""
    held_out: list[tuple[Tensor, Tensor]]
    """Test examples with their true targets."""


def restored(
    runs: Sequence[tuple[RunSpec, Mapping[str, Shaped[Tensor, "..."]]]], *, task: Task, examined: Examined
) -> list[Restored]:
    """Build networks anew, on the CPU, and give each its weights; examples are drawn as probes draw them.

    Args:
        runs: specs with parameters and buffers, as a `Checkpoint` has them; of one sample, inputs and precision.
        task: the whole task.
        examined: which examples.

    Raises:
        ModelError: a network cannot be made.
    """
    if not runs:
        return []
    first = runs[0][0]
    data = training_data(
        task,
        inputs=first.inputs,
        sample=first.sample,
        device=torch.device("cpu"),
        dtype=DTYPES[first.learner.recipe.dtype],
    )
    targets, included = run_targets([spec for spec, _ in runs], data)
    held_out = heldout_batches(data.test_x, data.test_y, examined=examined)
    loss = loss_of(regression=data.task.regression is True)
    found: list[Restored] = []
    for row, (spec, state) in enumerate(runs):
        module = make_network(spec, data, seed=spec.seed).eval()
        module.load_state_dict(dict(state))
        places = included[row].nonzero()[:, 0]
        drawn = places[torch.as_tensor(drawn_places(len(places), examined=examined))]
        batches = _batches(data.train_x, targets[row], drawn)
        found.append(Restored(Objective(module, loss=loss, batches=batches), held_out))
    return found


def heldout_batches(
    inputs: PackedInputs, targets: Shaped[Tensor, "test_example"], *, examined: Examined
) -> list[tuple[Tensor, Tensor]]:
    """Held-out inputs with their true targets, the same ones for every run: what is put beside training examples.

    Args:
        inputs: of the test examples.
        targets: of theirs.
        examined: how many, and in batches of which size.
    """
    drawn = drawn_places(len(inputs), examined=examined, purpose="held out")
    return _batches(inputs, targets, torch.as_tensor(drawn, device=inputs.device))


def _batches(
    inputs: PackedInputs, targets: Shaped[Tensor, "example"], drawn: Int[Tensor, "batch chosen"]
) -> list[tuple[Tensor, Tensor]]:
    return [(inputs.take(own), targets[own]) for own in drawn]
