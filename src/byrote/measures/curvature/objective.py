"""A loss over some data as a function of a model's weights, with its derivatives."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from byrote.measures.curvature.products import Batch, HessianGraph, Loss, example_losses, pulled_back
from byrote.measures.curvature.weights import Weights
from byrote.models.borrowed import borrowed, unwrapped

FORWARD = 1 / 3
"""A forward pass in gradients: a backward pass is taken for two of them."""


@final
class Objective:
    """L(θ) = (1/n) Σ_i ℓ_i(θ), the mean over all examples of all batches, and what can be multiplied by its curvature.

    Everything is measured within `opened`, in evaluation mode; afterwards the model is as it was found.

    For ℓ = (wx − y)² the gradient is 2x(wx − y) and the Hessian 2x²:

    >>> model = nn.Linear(1, 1, bias=False).double()
    >>> _ = nn.init.zeros_(model.weight)
    >>> def loss(model, batch):
    ...     return (model(batch[0]) - batch[1])[:, 0] ** 2
    >>> x, y = torch.tensor([[3.0]]).double(), torch.tensor([[1.0]]).double()
    >>> objective = Objective(model, loss=loss, batches=[(x, y)])
    >>> with objective.opened():
    ...     objective.gradient().tolist(), objective.hessian_product(torch.ones(1).double()).tolist()
    ([-6.0], [18.0])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        batches: Sequence[Batch],
        parameters: Iterable[str] | None = None,
        reduce: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Of a model on batches.

        Args:
            model: left as it was found; compiled or wrapped for several processes it is unwrapped.
            loss: from the model and a batch, one value for each example. Whatever it does by itself, such as autocast,
                it does here.
            batches: of any sizes; they are weighted by their numbers of examples.
            parameters: names of those looked at, all others being constants; None: all that have requires_grad set.
            reduce: the sum of a tensor over all processes, where each has its own batches.

        Raises:
            TypeError: the model is no module.
            ValueError: no batches, or no parameters.
            UnknownNameError: no parameter has that name.
        """
        if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Expected a torch.nn.Module, whose weights are known, got {type(model).__name__}.")
        if not len(batches):
            raise ValueError("Expected at least one batch, got none.")
        self.model, self.loss, self.batches = unwrapped(model), loss, batches
        self.weights = Weights(self.model, parameters)
        self._work = 0.0
        self._reduce = reduce
        self._counts: dict[int, int] = {}
        self._kept: dict[int, HessianGraph] = {}
        self._open = 0

    @property
    def num_parameters(self) -> int:
        """p."""
        return len(self.weights)

    @property
    def num_examples(self) -> int:
        """n, in all batches of all processes."""
        self._count()
        return round(float(self._summed(torch.tensor([float(sum(self._counts.values()))])).item()))

    @property
    def spent(self) -> float:
        """Full-data gradients so far. A gradient, the graph for products and a product through a kept graph are one
        each, being one way there and back; a product whose graph is built anew is two, a value a third.
        """
        if not self._work:
            return 0.0
        self._count()
        return self._work / sum(self._counts.values())

    @contextmanager
    def opened(self) -> Generator["Objective"]:
        """Borrow the model. Graphs are kept from product to product, and freed at the end."""
        with ExitStack() as stack:
            if not self._open:
                stack.enter_context(borrowed(self.model, device=self.weights.device))
                stack.enter_context(self.weights.alone())
                stack.callback(self._kept.clear)
            self._open += 1
            try:
                yield self
            finally:
                self._open -= 1

    @contextmanager
    def at(self, weights: Float[Tensor, "parameter"]) -> Generator["Objective"]:
        """For a while the parameters have other values."""
        kept, self._kept = self._kept, {}
        try:
            with self.opened(), self.weights.at(weights):
                yield self
        finally:
            self._kept = kept

    def flat_weights(self) -> Float[Tensor, "parameter"]:
        """A copy of the parameters' values of now."""
        return self.weights.now()

    @torch.no_grad()
    def value(self) -> float:
        """L."""
        self._check_open()
        total = torch.zeros(2, dtype=self.weights.total, device=self.weights.device)
        for index in range(len(self.batches)):
            values = example_losses(self.model, loss=self.loss, batch=self.batches[index])
            self._counts[index] = len(values)
            self._work += FORWARD * len(values)
            total += torch.stack([values.to(total.dtype).sum(), torch.full_like(total[0], len(values))])
        total = self._summed(total)
        return float(total[0] / total[1])

    def gradient(self) -> Float[Tensor, "parameter"]:
        """∂L/∂θ, summed in float64."""
        return self._mean(self._gradient_parts)

    def batch_gradients(self) -> Iterator[Float[Tensor, "parameter"]]:
        """The gradient of each batch's own mean, in turn."""
        self._check_open()
        for index in range(len(self.batches)):
            yield self.weights.flat(self._gradient_parts(index), dtype=self.weights.dtype)

    def hessian_product(self, vector: Float[Tensor, "parameter"]) -> Float[Tensor, "parameter"]:
        """Hv, H_jk = ∂²L/∂θ_j∂θ_k, by double backward."""
        parts = self.weights.parts(vector)

        def product(index: int) -> list[Tensor | None]:
            if index not in self._kept:
                self._kept[index] = self._hessian_graph(index)
            self._work += self._counts[index]
            return self._kept[index].product(parts)

        return self._mean(product)

    def _hessian_graph(self, index: int) -> HessianGraph:
        graph = HessianGraph(self.model, loss=self.loss, batch=self.batches[index], leaves=self.weights.tensors)
        self._counts[index] = graph.num_examples
        self._work += self._counts[index]
        return graph

    def _gradient_parts(self, index: int) -> list[Tensor | None]:
        if index in self._kept:
            return self._kept[index].gradient
        values = example_losses(self.model, loss=self.loss, batch=self.batches[index])
        self._counts[index] = len(values)
        self._work += self._counts[index]
        return pulled_back([values.to(self.weights.total).mean()], self.weights.tensors)

    def _mean(self, of_batch: Callable[[int], list[Tensor | None]]) -> Float[Tensor, "parameter"]:
        self._check_open()
        total = torch.zeros(len(self.weights) + 1, dtype=self.weights.total, device=self.weights.device)
        for index in range(len(self.batches)):
            parts = of_batch(index)
            total[:-1] += self._counts[index] * self.weights.flat(parts, dtype=total.dtype)
            total[-1] += self._counts[index]
        total = self._summed(total)
        return (total[:-1] / total[-1]).to(self.weights.dtype)

    def _count(self) -> None:
        """See how many examples the batches have that were not seen yet."""
        if len(self._counts) == len(self.batches):
            return
        with self.opened(), torch.no_grad():
            for index in range(len(self.batches)):
                if index not in self._counts:
                    batch = self.batches[index]
                    self._counts[index] = len(example_losses(self.model, loss=self.loss, batch=batch))
                    self._work += FORWARD * self._counts[index]

    def _summed(self, total: Tensor) -> Tensor:
        return total if self._reduce is None else self._reduce(total)

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError("Measure within `with objective.opened():`, which borrows the model for as long.")
