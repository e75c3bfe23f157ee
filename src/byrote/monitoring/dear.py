"""What takes many gradients: the sharpest direction, and what it means for the optimiser; the Fisher's trace."""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from byrote.core import ModelError, derive
from byrote.measures.curvature import (
    EigenPairs,
    Eigenvalues,
    Fisher,
    Likelihood,
    adam_scale,
    curvature_variance,
    fisher_trace,
    preconditioned_sharpness,
    top_eigenvalues,
)
from byrote.measures.trajectory import break_even, stability_ratio
from byrote.monitoring.columns import Row
from byrote.monitoring.objectives import Objectives
from byrote.monitoring.stability import as_recorded, is_adaptive
from byrote.records import SGD

DRAWS = 3
"""Of labels, for the Fisher's trace."""
PRODUCTS = 20.0
"""Gradients that an eigenvalue is expected to take the first time: a graph and ten products, of which one may take two
gradients."""
FOLLOWING = {"lambda_max": ("lambda_max", "stability")}
"""What cannot be measured without it, beside what has its name."""
WAYS = 4
"""Gradients that the variance of the examples' curvatures takes."""
NO_RATE = (
    "stability and growth are not measured: the learning rate is not known. Say it, monitor.step(step, lr=lr), or "
    "whose it is, Monitor(…, optimiser=optimiser)."
)
GRADIENT_DESCENT = SGD(lr=1.0, momentum=0.0)


@final
class Dear:
    """Eigenvalues, each search beginning where the last one ended, and the Fisher's trace."""

    def __init__(
        self,
        objectives: Objectives,
        *,
        notes: dict[str, str],
        likelihood: Likelihood | None,
        batch_size: int | None,
        num_examples: int | None,
        seed: int,
    ) -> None:
        """See `Monitor`."""
        self._objectives, self._objective = objectives, objectives.whole
        self._likelihood, self._batch_size, self._num_examples = likelihood, batch_size, num_examples
        self._seed, self._notes = seed, notes
        if likelihood is None:
            notes["fisher_trace"] = "fisher_trace is not measured: likelihood=None."
        self.directions: dict[str, Float[Tensor, "parameter"]] = {}
        """By column, the direction in which the next search begins."""

    def expected(self, optimiser: torch.optim.Optimizer | None) -> tuple[float, int]:
        """Gradients that it is expected to take: of the whole probe, and of its parts."""
        noise = WAYS if self._num_examples is not None else 0
        draws = 0 if self._likelihood is None else DRAWS
        return PRODUCTS * (2 if is_adaptive(optimiser) else 1) + noise, draws

    def __call__(self, *, step: int, lr: float | None, optimiser: torch.optim.Optimizer | None) -> Row:
        """Measure."""
        with self._objective.opened():
            return self._all(step, lr, optimiser)

    def _all(self, step: int, lr: float | None, optimiser: torch.optim.Optimizer | None) -> Row:
        row = self._or_note("lambda_max", lambda: self._sharpness(lr, optimiser))
        if self._likelihood is not None:
            row |= self._or_note("fisher_trace", lambda: self._fisher(step))
        return row

    def _or_note(self, what: str, measure: Callable[[], Row]) -> Row:
        """What cannot be measured on this model is said once, and never tried again."""
        if what in self._notes:
            return {}
        try:
            return measure()
        except ModelError as error:
            self._notes |= dict.fromkeys(FOLLOWING.get(what, (what,)), f"{what} is not measured. {error}")
            return {}

    def _sharpness(self, lr: float | None, optimiser: torch.optim.Optimizer | None) -> Row:
        found = top_eigenvalues(self._objective, warm=self._warm("lambda_max"), seed=self._seed)
        self._remember("lambda_max", found)
        row = {"lambda_max": found.value, "lambda_max_residual": found.residual}
        felt = found.value
        if is_adaptive(optimiser):
            preconditioned = self._preconditioned(optimiser)
            row |= preconditioned
            felt = preconditioned.get("preconditioned_lambda_max", float("nan"))
        row |= self._stability(felt, lr, optimiser)
        if self._batch_size is not None and self._num_examples is not None and np.isfinite(found.value):
            row |= self._break_even(found, lr, optimiser)
        return row

    def _preconditioned(self, optimiser: torch.optim.Optimizer | None) -> Row:
        try:
            scale = adam_scale(self._objective, optimiser=optimiser)  # pyright: ignore[reportArgumentType]
        except ValueError as error:
            note = f"At a step preconditioned_lambda_max and stability were not measured. {error}"
            self._notes |= {"preconditioned_lambda_max": note, "stability": note}
            return {}
        name = "preconditioned_lambda_max"
        found = preconditioned_sharpness(self._objective, scale=scale, warm=self._warm(name), seed=self._seed)
        self._remember(name, found)
        return {name: found.value, f"{name}_residual": found.residual}

    def _stability(self, sharpness: float, lr: float | None, optimiser: torch.optim.Optimizer | None) -> Row:
        if lr is None:
            self._notes["stability"] = NO_RATE
        if lr is None or np.isnan(sharpness):
            return {}
        try:
            rule = (
                GRADIENT_DESCENT
                if optimiser is None
                else as_recorded(optimiser, weights=self._objective.weights.tensors)
            )
            ratio = stability_ratio(np.array(sharpness), optimiser=rule, lr=np.array(lr))
        except ValueError as error:
            self._notes["stability"] = f"stability is not measured. {error}"
            return {}
        self._notes.pop("stability", None)
        return {"stability": float(ratio)}

    def _break_even(self, found: Eigenvalues, lr: float | None, optimiser: torch.optim.Optimizer | None) -> Row:
        own = curvature_variance(self._objective, direction=found.top.vectors[0])
        row = {"curvature_variance": own.value, "curvature_variance_se": own.se, "cost": own.cost}
        if not lr or self._batch_size is None or self._num_examples is None or not _plain(optimiser):
            return row
        even = break_even(
            np.array([found.value]),
            curvature_variance=np.array([own.value]),
            learning_rate=lr,
            batch_size=self._batch_size,
            num_examples=self._num_examples,
            steps=np.zeros(1),
        )
        return row | {"growth": float(even.growth[0])}

    def _fisher(self, step: int) -> Row:
        assert self._likelihood is not None
        matrix = Fisher(likelihood=self._likelihood)
        objective = self._objectives.parts if self._objectives.complete else self._objective
        found = fisher_trace(objective, matrix=matrix, num_draws=DRAWS, seed=derive(self._seed, "fisher trace", step))
        return {"fisher_trace": found.value, "fisher_trace_se": found.se}

    def _remember(self, name: str, found: Eigenvalues) -> None:
        if bool(found.top.vectors.isfinite().all()):
            self.directions[name] = found.top.vectors[0].clone()

    def _warm(self, name: str) -> Eigenvalues | None:
        if name not in self.directions:
            return None
        direction = self.directions[name][None]
        none = EigenPairs(np.zeros(0), np.zeros(0), direction[:0])
        known = EigenPairs(np.full(1, np.nan), np.full(1, np.nan), direction)
        return Eigenvalues(top=known, lowest=none, num_products=0, cost=0.0, converged=True)


def _plain(optimiser: torch.optim.Optimizer | None) -> bool:
    """Whether it is gradient descent as the break-even point is defined for."""
    if optimiser is None:
        return True
    return isinstance(optimiser, torch.optim.SGD) and not any(group["momentum"] for group in optimiser.param_groups)
