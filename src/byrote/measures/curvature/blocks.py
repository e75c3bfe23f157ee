"""Sharpness of parts of a network, and as an adaptive optimiser feels it."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Adam, AdamW

from byrote.measures.curvature.eigenvalues import HESSIAN, Eigenvalues, Plan, searched
from byrote.measures.curvature.matrices import AbstractMatrix, Hessian
from byrote.measures.curvature.objective import Objective


def block_eigenvalues(
    objective: Objective,
    *,
    blocks: Mapping[str, Sequence[str]] | None = None,
    num: int = 1,
    num_lowest: int = 0,
    matrix: AbstractMatrix = HESSIAN,
    num_products: int | None = None,
    tolerance: float | None = None,
    warm: Mapping[str, Eigenvalues] | None = None,
    seed: int = 0,
) -> dict[str, Eigenvalues]:
    """Find the largest eigenvalues of the blocks of a matrix of curvature, one block for each layer.

    H_bb, the curvature if the parameters of a block alone were moved; its largest eigenvalue is at most that of H. All
    blocks share the graphs that are kept, and each product goes back only as far as its block.

    Args:
        objective: whose curvature.
        blocks: names of parameters by name of the block; None: those of each layer.
        num: see `top_eigenvalues`, as all that follow.
        num_lowest: of each block.
        matrix: which.
        num_products: for each block.
        tolerance: of each block.
        warm: an earlier result, by name of the block.
        seed: of the random starts.

    Returns:
        By block; vectors are as long as the block. A product with a block is counted as one gradient, which is more
        than it takes.

    Raises:
        ValueError: a block is empty or has fewer parameters than eigenvalues are asked for.
        UnknownNameError: a parameter is not among those that are looked at.
    """
    chosen = _layers(objective) if blocks is None else blocks
    plan = Plan(num, num_lowest, num_products, tolerance, seed)
    earlier: Mapping[str, Eigenvalues] = {} if warm is None else warm
    with objective.opened():
        return {
            name: _of_block(objective, names, matrix=matrix, plan=plan, warm=earlier.get(name))
            for name, names in chosen.items()
        }


def _layers(objective: Objective) -> dict[str, list[str]]:
    layers: dict[str, list[str]] = {}
    for name in objective.weights.names:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return layers


def _of_block(
    objective: Objective, names: Sequence[str], *, matrix: AbstractMatrix, plan: Plan, warm: Eigenvalues | None
) -> Eigenvalues:
    inside = objective.weights.within(names)

    def product(vector: Tensor) -> Tensor:
        spread = vector.new_zeros(len(inside))
        spread[inside] = vector
        return objective.product(spread, matrix=matrix, block=names)[inside]

    def onto(gradient: Tensor) -> Tensor:
        return gradient[inside]

    return searched(
        objective,
        product=product,
        plan=plan,
        warm=warm,
        size=int(inside.sum()),
        onto=onto,
        hessian=isinstance(matrix, Hessian),
    )


def preconditioned_sharpness(
    objective: Objective,
    *,
    scale: Float[Tensor, "parameter"],
    num: int = 1,
    num_products: int | None = None,
    tolerance: float | None = None,
    warm: Eigenvalues | None = None,
    seed: int = 0,
) -> Eigenvalues:
    """Find the largest eigenvalues of the Hessian as an optimiser feels it that divides each step by a scale.

    λ_max(D⁻¹H) = λ_max(D^{−1/2} H D^{−1/2}), D = diag(scale); for Adam the scale is √v̂ + ε, from `adam_scale`, and the
    edge of stability is where it reaches (2 + 2β₁)/((1 − β₁)η), 38/η for β₁ = 0.9.

    For ℓ = (3w)² and a scale of 2 it is 18/2:

    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> x = torch.tensor([[3.0]]).double()
    >>> objective = Objective(model, loss=lambda model, x: model(x)[:, 0] ** 2, batches=[x])
    >>> preconditioned_sharpness(objective, scale=torch.tensor([2.0])).top.values.round(9).tolist()
    [9.0]

    Args:
        objective: whose curvature.
        scale: of each parameter, above 0.
        num: see `top_eigenvalues`, as all that follow.
        num_products: the budget.
        tolerance: of the residuals.
        warm: an earlier result.
        seed: of the random start.

    Returns:
        Eigenvalues; the vectors are of the symmetric matrix, those of D⁻¹H are D^{−1/2} times them.

    Raises:
        ValueError: there is not one scale above 0 for each parameter.

    Cohen et al. 2022, Adaptive Gradient Methods at the Edge of Stability, https://arxiv.org/abs/2207.14484
    """
    if scale.shape != (objective.num_parameters,) or not bool((scale > 0).all()) or not bool(scale.isfinite().all()):
        raise ValueError(
            f"Expected a scale above 0 for each of {objective.num_parameters:,} parameters, got shape "
            f"{tuple(scale.shape)} with a lowest of {float(scale.min()) if scale.numel() else float('nan'):g}."
        )
    root = scale.to(objective.weights.device, objective.weights.dtype).rsqrt()

    def product(vector: Tensor) -> Tensor:
        return root * objective.hessian_product(root * vector)

    def onto(gradient: Tensor) -> Tensor:
        return root * gradient

    plan = Plan(num, 0, num_products, tolerance, seed)
    with objective.opened():
        return searched(objective, product=product, plan=plan, warm=warm, size=len(root), onto=onto)


def adam_scale(objective: Objective, *, optimiser: Adam | AdamW) -> Float[Tensor, "parameter"]:
    """By what Adam divides its steps: √v̂ + ε, v̂ being the bias-corrected mean of squared gradients.

    Args:
        objective: of the same model.
        optimiser: after at least one step.

    Raises:
        TypeError: the optimiser is not Adam or AdamW.
        ValueError: a parameter is not among those it trains, or was never updated.
    """
    if not isinstance(optimiser, Adam):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"Expected torch.optim.Adam or AdamW, got {type(optimiser).__name__}.")
    groups = {id(part): group for group in optimiser.param_groups for part in group["params"]}
    scales: list[Tensor] = []
    for name, part in zip(objective.weights.names, objective.weights.tensors, strict=True):
        state = optimiser.state.get(part)
        if id(part) not in groups or not state:
            raise ValueError(
                f"Expected an optimiser that has updated every parameter; {name!r} it has not. Take a step first, or "
                "leave that one out of the objective's `parameters`."
            )
        group = groups[id(part)]
        second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
        corrected = second.double() / (1 - group["betas"][1] ** float(state["step"]))
        scales.append((corrected.sqrt() + group["eps"]).reshape(-1))
    return torch.cat(scales).to(objective.weights.dtype)
