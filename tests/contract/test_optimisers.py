"""What every optimiser does, on a stack of weights, with one number for all runs or one for each."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from byrote.records import SGD, Adam, AdamW, Recipe
from byrote.training.optimise import OptimiserState, Product, update
from byrote.training.rules import Batch, Rulebook, Rules
from plain_loop import CPU, torchs_own

OPTIMISERS = [
    SGD(lr=0.1, momentum=0.0),
    SGD(lr=0.1, momentum=0.9),
    SGD(lr=0.1, momentum=0.0, weight_decay=0.1),
    SGD(lr=0.1, momentum=0.9, weight_decay=0.1),
    SGD(lr=0.1, momentum=0.9, nesterov=True),
    SGD(lr=0.1, momentum=0.7, weight_decay=0.1, nesterov=True),
    Adam(lr=0.1),
    Adam(lr=0.1, beta1=0.0, weight_decay=0.1),
    AdamW(lr=0.1, weight_decay=0.0),
    AdamW(lr=0.1, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.1),
]
every_optimiser = pytest.mark.parametrize("optimiser", OPTIMISERS, ids=str)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rules(*optimisers: Any) -> Rules:
    """Of runs with these optimisers."""
    recipes = [Recipe(optimiser=optimiser) for optimiser in optimisers]
    return Rulebook(recipes, total=100, device=CPU).at(Batch(0, 0, 0, 1, 0))


def others(optimiser: Any) -> list[Any]:
    """Three of a kind, with other numbers."""
    changes: list[dict[str, float]] = [{}, {"lr": 0.03, "weight_decay": 0.2}, {"weight_decay": 0.0}]
    if isinstance(optimiser, SGD):
        changes[1]["momentum"], changes[2]["momentum"] = 0.3, 0.8
    else:
        changes[1] |= {"beta1": 0.5, "beta2": 0.7}
        changes[2]["eps"] = 1e-2
    return [replace(optimiser, **change) for change in changes]


def steps(own: Rules, weights: list[Tensor], gradients: Sequence[Sequence[Any]]) -> None:
    state = OptimiserState()
    for each in gradients:
        update(own, weights=weights, gradients=each, state=state)


@every_optimiser
@pytest.mark.parametrize("mixed", [False, True], ids=["alike", "mixed"])
def test_every_row_takes_the_steps_of_torch_optim(optimiser: Any, mixed: bool) -> None:
    kinds = others(optimiser) if mixed else [optimiser] * 3
    ours = [drawn(3, 3, 4, seed=0), drawn(3, 5, seed=1)]
    theirs = [[weight[row].clone().requires_grad_() for weight in ours] for row in range(3)]
    gradients = [[drawn(3, 3, 4, seed=100 + step), drawn(3, 5, seed=200 + step)] for step in range(50)]
    steps(rules(*kinds), ours, gradients)
    for row, (kind, weights) in enumerate(zip(kinds, theirs, strict=True)):
        reference = torchs_own(kind, list(weights))
        for each in gradients:
            for weight, gradient in zip(weights, each, strict=True):
                weight.grad = gradient[row].clone()
            reference.step()
        for one, two in zip(ours, weights, strict=True):
            torch.testing.assert_close(one[row], two.detach(), rtol=1e-12, atol=1e-12)


@every_optimiser
@pytest.mark.parametrize("mixed", [False, True], ids=["alike", "mixed"])
def test_a_product_is_the_gradient_that_it_is_of(optimiser: Any, mixed: bool) -> None:
    own = rules(*(others(optimiser) if mixed else [optimiser] * 3))
    factored, whole = [drawn(3, 4, 5, seed=0), drawn(3, 1, 5, seed=1)], [drawn(3, 4, 5, seed=0), drawn(3, 1, 5, seed=1)]
    parts = [(drawn(3, 4, 6, seed=10 + step), drawn(3, 6, 5, seed=20 + step)) for step in range(6)]
    steps(own, factored, [[Product(left, right), right.sum(1, keepdim=True)] for left, right in parts])
    steps(own, whole, [[left @ right, right.sum(1, keepdim=True)] for left, right in parts])
    for one, two in zip(factored, whole, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@every_optimiser
def test_a_row_is_the_same_alone(optimiser: Any) -> None:
    kinds = others(optimiser)
    stack = drawn(3, 2, seed=0)
    rows = [row[None].clone() for row in stack]
    gradients = [drawn(3, 2, seed=step) for step in range(1, 6)]
    steps(rules(*kinds), [stack], [[gradient] for gradient in gradients])
    for index, (kind, row) in enumerate(zip(kinds, rows, strict=True)):
        steps(rules(kind), [row], [[gradient[index : index + 1]] for gradient in gradients])
        torch.testing.assert_close(stack[index : index + 1], row, rtol=1e-13, atol=1e-13)


@every_optimiser
@pytest.mark.parametrize("mixed", [False, True], ids=["alike", "mixed"])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_row_that_breaks_stays_in_its_row(optimiser: Any, mixed: bool, broken: float) -> None:
    own = rules(*(others(optimiser) if mixed else [optimiser] * 3))
    stack, alone = drawn(3, 2, seed=0), drawn(3, 2, seed=0)
    gradients = [drawn(3, 2, seed=step) for step in range(1, 4)]
    wrong = [gradient.clone() for gradient in gradients]
    for gradient in wrong:
        gradient[1] = broken
    steps(own, [stack], [[gradient] for gradient in wrong])
    steps(own, [alone], [[gradient] for gradient in gradients])
    assert not stack[1].isfinite().any()
    assert torch.equal(stack[[0, 2]], alone[[0, 2]])


@every_optimiser
def test_gradients_are_left_as_they_were(optimiser: Any) -> None:
    weights, gradients = [drawn(2, 3, seed=0)], [drawn(2, 3, seed=1)]
    steps(rules(optimiser, optimiser), weights, [gradients] * 3)
    assert torch.equal(gradients[0], drawn(2, 3, seed=1))


@every_optimiser
@pytest.mark.parametrize("mixed", [False, True], ids=["alike", "mixed"])
def test_one_gradient_may_be_handed_out_for_two_weights(optimiser: Any, mixed: bool) -> None:
    """As autograd does for a + b."""
    own = rules(*(others(optimiser) if mixed else [optimiser] * 3))
    shared, apart = [drawn(3, 2, seed=0), drawn(3, 2, seed=1)], [drawn(3, 2, seed=0), drawn(3, 2, seed=1)]
    gradients = [drawn(3, 2, seed=10 + step) for step in range(4)]
    steps(own, shared, [[gradient, gradient] for gradient in gradients])
    steps(own, apart, [[gradient.clone(), gradient.clone()] for gradient in gradients])
    assert all(torch.equal(one, two) for one, two in zip(shared, apart, strict=True))


@every_optimiser
def test_a_weight_that_nothing_reaches_stays_as_it_is(optimiser: Any) -> None:
    weights = [drawn(1, 3, seed=0), drawn(1, 3, seed=1)]
    steps(rules(optimiser), weights, [[None, drawn(1, 3, seed=2)]])
    assert torch.equal(weights[0], drawn(1, 3, seed=0))
    assert not torch.equal(weights[1], drawn(1, 3, seed=1))


@pytest.mark.parametrize("first", OPTIMISERS, ids=str)
@pytest.mark.parametrize("then", [SGD(lr=0.05, momentum=0.5), Adam(lr=0.02), AdamW(lr=0.03)], ids=str)
def test_another_kind_begins_from_nothing_and_the_same_goes_on(first: Any, then: Any) -> None:
    ours, theirs = drawn(1, 4, seed=0), drawn(1, 4, seed=0).requires_grad_()
    gradients = [drawn(1, 4, seed=step) for step in range(1, 9)]
    state = OptimiserState()
    for number, gradient in enumerate(gradients):
        update(rules(first if number < 4 else then), weights=[ours], gradients=[gradient], state=state)
    reference = torchs_own(first, [theirs])
    for number, gradient in enumerate(gradients):
        if number == 4:
            before, reference = reference, torchs_own(then, [theirs])
            if type(first) is type(then) and not (isinstance(first, SGD) and first.momentum == 0):
                reference.state.update(before.state)
        theirs.grad = gradient.clone()
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)
