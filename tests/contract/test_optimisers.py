"""What every optimiser does, on one weight or on a stack of them."""

import pytest
import torch
from torch import Tensor

from byrote.records import SGD, AdamW, Optimiser
from byrote.training.optimise import start, update

OPTIMISERS = [
    SGD(lr=0.1, momentum=0.0),
    SGD(lr=0.1, momentum=0.9),
    SGD(lr=0.1, momentum=0.9, weight_decay=0.1),
    AdamW(lr=0.1, weight_decay=0.0),
    AdamW(lr=0.1, weight_decay=0.1),
]
every_optimiser = pytest.mark.parametrize("optimiser", OPTIMISERS, ids=str)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torchs_own(optimiser: Optimiser, weights: list[Tensor]) -> torch.optim.Optimizer:
    if isinstance(optimiser, SGD):
        return torch.optim.SGD(
            weights, lr=optimiser.lr, momentum=optimiser.momentum, weight_decay=optimiser.weight_decay
        )
    betas = (optimiser.beta1, optimiser.beta2)
    return torch.optim.AdamW(
        weights, lr=optimiser.lr, betas=betas, eps=optimiser.eps, weight_decay=optimiser.weight_decay
    )


@every_optimiser
def test_it_takes_the_steps_of_torch_optim(optimiser: Optimiser) -> None:
    ours = [drawn(3, 4, seed=0), drawn(5, seed=1)]
    theirs = [weight.clone().requires_grad_() for weight in ours]
    state, reference = start(optimiser, ours), torchs_own(optimiser, theirs)
    for step in range(50):
        gradients = [drawn(3, 4, seed=100 + step), drawn(5, seed=200 + step)]
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient.clone()
        reference.step()
        update(optimiser, parameters=ours, gradients=gradients, state=state, lr=optimiser.lr, step=step + 1)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two.detach(), rtol=1e-12, atol=1e-12)


@every_optimiser
def test_a_stack_is_its_rows(optimiser: Optimiser) -> None:
    stack = drawn(3, 2, seed=0)
    rows = [row.clone() for row in stack]
    whole, parts = start(optimiser, [stack]), [start(optimiser, [row]) for row in rows]
    for step in range(1, 6):
        gradient = drawn(3, 2, seed=step)
        update(optimiser, parameters=[stack], gradients=[gradient], state=whole, lr=0.1, step=step)
        for row, part, slope in zip(rows, parts, gradient, strict=True):
            update(optimiser, parameters=[row], gradients=[slope], state=part, lr=0.1, step=step)
    assert torch.equal(stack, torch.stack(rows))


@every_optimiser
def test_a_row_of_nan_stays_in_its_row(optimiser: Optimiser) -> None:
    stack, alone = drawn(3, 2, seed=0), drawn(3, 2, seed=0)
    one, two = start(optimiser, [stack]), start(optimiser, [alone])
    for step in range(1, 4):
        gradient = drawn(3, 2, seed=step)
        broken = gradient.clone()
        broken[1] = torch.nan
        update(optimiser, parameters=[stack], gradients=[broken], state=one, lr=0.1, step=step)
        update(optimiser, parameters=[alone], gradients=[gradient], state=two, lr=0.1, step=step)
    assert stack[1].isnan().all()
    assert torch.equal(stack[[0, 2]], alone[[0, 2]])


@every_optimiser
def test_gradients_are_left_as_they_were(optimiser: Optimiser) -> None:
    weights, gradients = [drawn(3, seed=0)], [drawn(3, seed=1)]
    update(optimiser, parameters=weights, gradients=gradients, state=start(optimiser, weights), lr=0.1, step=1)
    assert torch.equal(gradients[0], drawn(3, seed=1))


@every_optimiser
def test_a_weight_that_nothing_reaches_stays_as_it_is(optimiser: Optimiser) -> None:
    weights = [drawn(3, seed=0), drawn(3, seed=1)]
    update(
        optimiser,
        parameters=weights,
        gradients=[None, drawn(3, seed=2)],
        state=start(optimiser, weights),
        lr=0.1,
        step=1,
    )
    assert torch.equal(weights[0], drawn(3, seed=0))
    assert not torch.equal(weights[1], drawn(3, seed=1))
