"""How sharply the loss bends around each input."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from byrote.core import derive
from byrote.measures.passes.evaluation import MEMORY, parts
from byrote.measures.passes.input_gradients import bytes_each, checked_inputs, loss_slopes, squared_lengths
from byrote.measures.passes.losses import checked_targets
from byrote.measures.passes.scored import PassScores, over_draws
from byrote.models.borrowed import Model, borrowed


def input_curvature(
    model: Model,
    *,
    x: Float[Tensor, "example ..."],
    targets: Shaped[Tensor, "example"],
    seed: int,
    ids: Sequence[int | str] | Int[np.ndarray, "example"] | None = None,
    num_directions: int = 10,
    step: float = 1e-3,
    memory: int = MEMORY,
) -> PassScores:
    """Measure how much the loss's gradient at each input changes when the input is moved a little.

    Mean over m directions v of ‖∇ₓ[ℓ(x + hv) − ℓ(x)]‖₂, each coordinate of v being ±1 with equal chances. For small h
    it is the mean of h·‖Hv‖₂, H being the Hessian of the loss with respect to the input. Not divided by h, as
    published. In evaluation mode.

    For ℓ = (wx − y)² with one input it is 2hw² in every direction:

    >>> scores, _ = input_curvature(lambda x: 3 * x, x=torch.zeros(1, 1).double(), targets=torch.ones(1), seed=0)
    >>> scores.value.round(9), scores.se.round(9), scores.count
    (array([0.018]), array([0.]), array([10]))

    Args:
        model: a module, which is left as it was found, or a function of a batch.
        x: inputs in float32 or float64; in what unit matters, since h is in it too.
        targets: classes (cross-entropy), or numbers (squared error).
        seed: of the directions.
        ids: of the examples; None: their positions. An example's directions depend on the seed and its id alone.
        num_directions: m.
        step: h.
        memory: bytes a chunk of examples may take, about.

    Returns:
        Scores, at least 0; the standard error is over directions. What float32 rounds off a gradient, about 1e-7 of its
        length, is the smallest that can be told from 0.

    Raises:
        TypeError: the inputs are whole numbers, which have no gradient, or in half precision, which cannot resolve h.
        ValueError: no directions, or h not above 0.
        ModelError: the model fails, draws random numbers, mixes examples or does not depend smoothly on its inputs.

    Garg et al. 2024, Memorization Through the Lens of Curvature of Loss Function Around Samples,
    https://arxiv.org/abs/2307.05831
    """
    x, targets = checked_inputs(x), checked_targets(targets, x=x)
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"Expected inputs in float32 or float64, got {x.dtype}, which cannot resolve a step of {step}.")
    if num_directions < 1 or not 0 < step < float("inf"):
        raise ValueError(f"Expected at least 1 direction and a step above 0, got {num_directions!r} and {step!r}.")
    named = checked_ids(ids, num_examples=len(x))
    if not len(x):
        return over_draws(np.zeros((num_directions, 0)))
    with borrowed(model, device=x.device):
        each = bytes_each(model, x) + (num_directions + 2) * x[0].numel()
        found = [
            _lengths(
                model, x[here], targets[here], step * directions(named[here], like=x, seed=seed, number=num_directions)
            )
            for here in parts(len(x), bytes_each=each, memory=memory)
        ]
    return over_draws(torch.cat(found, dim=1).cpu().numpy())


def _lengths(
    model: Model, x: Tensor, targets: Tensor, moves: Float[Tensor, "draw batch ..."]
) -> Float[Tensor, "draw batch"]:
    before = loss_slopes(model, x, targets=targets)
    return torch.stack(
        [squared_lengths(loss_slopes(model, x + move, targets=targets) - before).sqrt() for move in moves]
    )


def directions(
    ids: Sequence[int | str], *, like: Float[Tensor, "example ..."], seed: int, number: int
) -> Float[Tensor, "draw batch ..."]:
    """For each example so many vectors of its input's shape, every coordinate ±1, drawn from the seed and its id."""
    drawn = [
        torch.randint(0, 2, (number, *like.shape[1:]), dtype=torch.int8, generator=_generator(seed, name))
        for name in ids
    ]
    return (2 * torch.stack(drawn, dim=1) - 1).to(like.device, like.dtype)


def _generator(seed: int, name: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, "curvature", name))


def checked_ids(ids: Sequence[int | str] | Int[np.ndarray, "example"] | None, *, num_examples: int) -> list[int | str]:
    """Ids as Python has them; positions where there are none.

    Raises:
        ValueError: there is not one for each example.
    """
    if ids is None:
        return list(range(num_examples))
    if len(ids) != num_examples:
        raise ValueError(f"Expected one id for each of {num_examples} examples, got {len(ids)}.")
    return [name.item() if isinstance(name, np.generic) else name for name in ids]
