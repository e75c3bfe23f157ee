"""A loss over some data as a function of a model's weights, with its derivatives."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from byrote.core import ModelError, derive
from byrote.measures.curvature.differentiate import Batch, Loss, example_losses, mean_slopes, pulled_back
from byrote.measures.curvature.kept_graphs import KeptGraphs
from byrote.measures.curvature.matrices import (
    AbstractGraph,
    AbstractMatrix,
    EmpiricalFisher,
    Fisher,
    GaussNewton,
    Hessian,
    HessianGraph,
    Place,
    joined_product,
)
from byrote.measures.curvature.weights import Weights
from byrote.models.borrowed import borrowed, random_states, unwrapped
from byrote.models.bypassed import Bypassed, is_compiled

JOINED = 16
"""Batches that one product goes back through together."""
WIDE = 4
"""Bytes of a number, at least, for batches to be added up in the precision of the parameters."""
HESSIAN = Hessian()
GAUSS_NEWTON = GaussNewton()
FISHER = Fisher()

MEMORY = 1 << 30
"""Bytes that graphs kept between products may take, unless more are allowed."""

FORWARD = 1 / 3
"""A forward pass in gradients: a backward pass is taken for two of them."""


class _Mean(NamedTuple):
    num_examples: int
    parts: list[Tensor | None]


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
        memory: int = MEMORY,
    ) -> None:
        """Of a model on batches.

        Args:
            model: left as it was found; compiled or wrapped for several processes it is unwrapped.
            loss: from the model and a batch, one value for each example. Whatever it does by itself, such as autocast,
                it does here.
            batches: of any sizes; they are weighted by their numbers of examples.
            parameters: names of those looked at, all others being constants; None: all that have requires_grad set.
            reduce: the sum of a tensor over all processes, where each has its own batches. Every process then has to
                call the same methods in the same order.
            memory: bytes that graphs kept between products may take; what does not fit is built for each product.

        Raises:
            TypeError: the model is no module.
            ValueError: no batches, no parameters, or memory below 0.
            UnknownNameError: no parameter has that name.
        """
        if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Expected a torch.nn.Module, whose weights are known, got {type(model).__name__}.")
        if not len(batches):
            raise ValueError("Expected at least one batch, got none.")
        self.model, self.loss, self.batches = unwrapped(model), loss, batches
        self.weights = Weights(self.model, parameters)
        self._bypassed = Bypassed()
        if is_compiled(model):
            self._bypassed.say("compiled")
        if memory < 0:
            raise ValueError(f"Expected memory of at least 0 bytes, got {memory!r}.")
        self._work = 0.0
        self._reduce = reduce
        self._memory = memory
        self._counts: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._alike: bool | None = None
        self._tried = False
        self._checked: set[AbstractMatrix] = set()
        self._kept = self._no_graphs()
        self._open = 0

    @property
    def num_parameters(self) -> int:
        """p."""
        return len(self.weights)

    @property
    def num_examples(self) -> int:
        """n, in all batches of all processes."""
        self._count()
        total = torch.tensor(float(sum(self._counts.values())), dtype=self.weights.total, device=self.weights.device)
        return round(float(self.summed(total)))

    @property
    def counts(self) -> tuple[int, ...]:
        """Examples in each batch, of this process."""
        self._count()
        return tuple(self._counts[index] for index in range(len(self.batches)))

    @property
    def is_shared(self) -> bool:
        """Whether other processes have batches too."""
        return self._reduce is not None

    @property
    def is_alike(self) -> bool:
        """Whether all processes have as many batches."""
        if self._alike is None:
            number = len(self.batches)
            own = torch.tensor([1.0, number, number**2], dtype=self.weights.total, device=self.weights.device)
            processes, total, squares = (round(float(part)) for part in self.summed(own))
            self._alike = processes * squares == total**2
        return self._alike

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Examples in each mini-batch of all processes, which is made of the batches of one number in each of them.

        Raises:
            ValueError: processes differ in how many batches they have.
        """
        if not self.is_shared:
            return self.counts
        self._count()
        self._check_alike()
        return tuple(self._size(index) for index in range(len(self.batches)))

    @property
    def spent(self) -> float:
        """Full-data gradients so far. A gradient, the graph for products and a product through a kept graph are one
        each, being one way there and back; a product whose graph is built anew is two, a value a third.
        """
        if not self._work:
            return 0.0
        self._count()
        return self._work / sum(self._counts.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What was gone around to measure: fused attention, compiled code, a gradient scaler. In each process the first
        of its kind is a line in the log of `byrote`, too.
        """
        return self._bypassed.notes

    @property
    def kept_bytes(self) -> int:
        """What the graphs take that are kept now."""
        return self._kept.nbytes

    @contextmanager
    def opened(self) -> Generator["Objective"]:
        """Borrow the model. Graphs are kept from product to product, and freed at the end."""
        with ExitStack() as stack:
            if not self._open:
                stack.enter_context(borrowed(self.model, device=self.weights.device, bypassed=self._bypassed))
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
        kept, self._kept = self._kept, self._no_graphs()
        try:
            with self.opened(), self.weights.at(weights):
                yield self
        finally:
            self._kept = kept

    def flat_weights(self) -> Float[Tensor, "parameter"]:
        """A copy of the parameters' values of now."""
        return self.weights.now()

    def summed(self, part: Tensor) -> Tensor:
        """The sum over all processes, each of which asks for it."""
        return part if self._reduce is None else self._reduce(part)

    @torch.no_grad()
    def value(self) -> float:
        """L."""
        self._check_open()
        total = torch.zeros(2, dtype=self.weights.total, device=self.weights.device)
        for index in range(len(self.batches)):
            values = self._losses(index, passes=FORWARD)
            total += torch.stack([values.to(total.dtype).sum(), torch.full_like(total[0], len(values))])
        total = self.summed(total)
        return float(total[0] / total[1])

    @torch.no_grad()
    def losses(self, index: int) -> Float[Tensor, "example"]:
        """ℓ_i of each example of one of this process's batches."""
        self._check_open()
        return self._losses(index, passes=FORWARD)

    def gradient(self, *, products_follow: bool = False) -> Float[Tensor, "parameter"]:
        """∂L/∂θ, summed in float64.

        Args:
            products_follow: whether the gradient is to come from the graph that is kept for products with the Hessian,
                which is then built already.
        """
        if not products_follow:
            return self._mean(self._alone(self._gradient_parts))
        return self._mean(self._alone(lambda index: self._hessian_graph(index).gradient))

    def batch_gradients(self) -> Iterator[Float[Tensor, "parameter"]]:
        """The gradient of each mini-batch's own mean, in turn.

        Of several processes the batches of one number are one mini-batch, as they are in a training step; see
        `batch_sizes`.

        Raises:
            ValueError: processes differ in how many batches they have.
        """
        self._check_open()
        self._check_alike()
        for index in range(len(self.batches)):
            own = self.weights.flat(self._gradient_parts(index), dtype=self.weights.dtype)
            share = self._counts[index] / self._size(index)
            yield own if share == 1 else self.summed(own * share)

    def hessian_product(
        self, vector: Float[Tensor, "parameter"], *, block: Iterable[str] | None = None
    ) -> Float[Tensor, "parameter"]:
        """Hv, H_jk = ∂²L/∂θ_j∂θ_k, by double backward; see `product`."""
        return self.product(vector, matrix=HESSIAN, block=block)

    def gauss_newton_product(
        self, vector: Float[Tensor, "parameter"], *, block: Iterable[str] | None = None
    ) -> Float[Tensor, "parameter"]:
        """Gv, G = (1/n) Σ_i J_iᵀ (∂²ℓ_i/∂z_i²) J_i; see `product`."""
        return self.product(vector, matrix=GAUSS_NEWTON, block=block)

    def fisher_product(
        self, vector: Float[Tensor, "parameter"], *, matrix: Fisher = FISHER, block: Iterable[str] | None = None
    ) -> Float[Tensor, "parameter"]:
        """Fv, F = (1/n) Σ_i E_y[g_i(y)g_i(y)ᵀ], the answers y drawn from the model; see `product`.

        With the answers of the batches, the empirical Fisher, it is `product(vector, matrix=EmpiricalFisher())`.
        """
        return self.product(vector, matrix=matrix, block=block)

    def product(
        self,
        vector: Float[Tensor, "parameter"],
        *,
        matrix: AbstractMatrix,
        block: Iterable[str] | None = None,
    ) -> Float[Tensor, "parameter"]:
        """A matrix of curvature times a vector.

        Args:
            vector: v.
            matrix: which.
            block: names of parameters; the block of the matrix that belongs to them is taken, all else being 0.

        Returns:
            As long as v, in the precision of the parameters.

        Raises:
            RuntimeError: not within `opened`.
            ModelError: the loss or the model fails, draws random numbers, or has no second derivatives.
        """
        parts: list[Tensor | None] = [*self.weights.parts(vector)]
        if block is not None:
            inside = set(self.weights.positions(block))
            parts = [part if place in inside else None for place, part in enumerate(parts)]
        return self._mean(self._products(matrix, parts))

    def squared_gradients(self, *, matrix: Fisher | EmpiricalFisher, seed: int) -> float:
        """(1/n) Σ_i ‖g_i‖² in expectation, from one way back: Σ_batches ‖Σ_i ε_i g_i‖²/n, ε_i = ±1 at random.

        Products of the gradients of different examples cancel on average.

        Args:
            matrix: says where the answers come from; where they are drawn, they are drawn anew for each seed.
            seed: of signs and answers.
        """
        self._check_open()
        total = torch.zeros(2, dtype=self.weights.total, device=self.weights.device)
        for index in range(len(self.batches)):
            own = derive(seed, "squared", index)
            values = matrix.values(self._place(index), seed=own)
            self._counts[index] = values.shape[1]
            self._work += values.shape[1]
            generator = torch.Generator().manual_seed(derive(own, "signs"))
            signs = 2 * torch.randint(0, 2, values.shape, generator=generator) - 1
            slopes = pulled_back([values], self.weights.tensors, slopes=[signs.to(values)])
            total[0] += self.weights.flat(slopes, dtype=total.dtype).square().sum()
            total[1] += values.shape[1]
        total = self.summed(total)
        return float(total[0] / total[1])

    def _no_graphs(self) -> KeptGraphs:
        return KeptGraphs(self._build, memory=self._memory, weights=self.weights.tensors)

    def _build(self, matrix: AbstractMatrix, index: int) -> AbstractGraph:
        graph = matrix.graph(self._place(index, check=matrix not in self._checked))
        self._checked.add(matrix)
        self._counts[index] = graph.num_examples
        self._work += graph.num_examples
        return graph

    def _place(self, index: int, *, check: bool = False) -> Place:
        return Place(self.model, self._watched_loss, self.batches[index], index, self.weights.tensors, check=check)

    def _hessian_graph(self, index: int) -> HessianGraph:
        graph = self._kept.get(HESSIAN, index)
        assert isinstance(graph, HessianGraph)
        return graph

    def _gradient_parts(self, index: int) -> list[Tensor | None]:
        if self._kept.find(HESSIAN, index) is not None:
            return self._hessian_graph(index).gradient
        return mean_slopes(self._losses(index, passes=1.0), self.weights.tensors)

    def _losses(self, index: int, *, passes: float) -> Float[Tensor, "example"]:
        values = example_losses(self.model, loss=self._watched_loss, batch=self.batches[index])
        self._counts[index] = len(values)
        self._work += passes * len(values)
        return values

    def _alone(self, of_batch: Callable[[int], list[Tensor | None]]) -> Iterator[_Mean]:
        """One batch after another."""
        for index in range(len(self.batches)):
            parts = of_batch(index)
            yield _Mean(self._counts[index], parts)

    def _products(self, matrix: AbstractMatrix, parts: Sequence[Tensor | None]) -> Iterator[_Mean]:
        """Of batches whose graphs are kept together, where the matrix allows it."""
        narrow = any(part.itemsize < WIDE for part in self.weights.tensors)
        waiting = list[HessianGraph]()
        for index in range(len(self.batches)):
            graph = self._kept.get(matrix, index)
            self._work += self._counts[index]
            if isinstance(graph, HessianGraph) and not narrow and self._kept.find(matrix, index) is not None:
                waiting.append(graph)
            else:
                yield _Mean(graph.num_examples, graph.product(parts))
            del graph  # One that is not kept is freed before the next is built.
            if len(waiting) == JOINED or (waiting and index == len(self.batches) - 1):
                yield _Mean(sum(each.num_examples for each in waiting), joined_product(waiting, parts))
                waiting.clear()

    def _mean(self, means: Iterable[_Mean]) -> Float[Tensor, "parameter"]:
        """Of all examples, from the mean over each batch, or each few."""
        self._check_open()
        total = torch.zeros(len(self.weights) + 1, dtype=self.weights.total, device=self.weights.device)
        sums = self.weights.cut(total[:-1])
        for count, parts in means:
            for own, part in zip(sums, parts, strict=True):
                if part is not None:
                    own.add_(part.detach().reshape(-1), alpha=count)
            total[-1] += count
        total = self.summed(total)
        return (total[:-1] / total[-1]).to(self.weights.dtype)

    def _watched_loss(self, model: nn.Module, batch: Batch) -> Any:
        """The user's, and the first time it is refused if it would be another one at each product."""
        if self._tried:
            return self.loss(model, batch)
        before = random_states(self.weights.device)
        values = self.loss(model, batch)
        if random_states(self.weights.device) != before:
            raise ModelError(
                "The model or its loss draws random numbers in evaluation mode, so that every product would be with "
                "another matrix. Let it draw only when self.training is true."
            )
        self._tried = True
        return values

    def _count(self) -> None:
        """See how many examples the batches have that were not seen yet."""
        missing = [index for index in range(len(self.batches)) if index not in self._counts]
        if missing:
            with self.opened(), torch.no_grad():
                for index in missing:
                    self._losses(index, passes=FORWARD)

    def _size(self, index: int) -> int:
        """Of a mini-batch of all processes."""
        if index not in self._sizes:
            own = torch.tensor(float(self._counts[index]), dtype=self.weights.total, device=self.weights.device)
            self._sizes[index] = round(float(self.summed(own)))
        return self._sizes[index]

    def _check_alike(self) -> None:
        if not self.is_alike:
            raise ValueError(
                "Expected as many batches in every process, whose gradients are averaged one by one, got "
                f"{len(self.batches)} in this one and another number elsewhere. Give every process as many examples."
            )

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError("Measure within `with objective.opened():`, which borrows the model for as long.")
