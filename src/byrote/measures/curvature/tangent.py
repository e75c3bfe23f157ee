"""The empirical neural tangent kernel, of as many examples as memory allows and of any number of weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from byrote.core import derive
from byrote.measures.curvature.jacobian import go_together, jacobian_blocks, tried_outputs
from byrote.measures.curvature.rows import MEMORY
from byrote.measures.curvature.weights import Weights
from byrote.models.borrowed import borrowed, unwrapped

TangentKind = Literal["trace", "sum", "full"]

COLUMNS = 1 << 24
"""Bytes of a block of columns that is multiplied at a time."""


@final
@dataclass(frozen=True, kw_only=True)
class TangentKernel:
    """Inner products of the derivatives of a network's outputs."""

    kernel: Float[np.ndarray, "row row"]
    """Θ: a row for each example, or of the full kernel for each output of each example, those of one example next to
    one another."""
    kind: TangentKind
    examples: Int[np.ndarray, "example"]
    """Which of those handed over it is of, in order."""
    num_given: int
    """Examples that were handed over; if they are more than `count`, it is of a sample of them."""
    num_outputs: int
    """c, of one example."""
    cost: float
    """In gradients of all these examples."""
    survives_rescaling: bool = False
    """A layer that is multiplied by a number, the next dividing by it, shifts weight between their parts of it."""

    @property
    def count(self) -> int:
        """Examples it is of."""
        return len(self.examples)

    @property
    def rows_per_example(self) -> int:
        """c for the full kernel, 1 otherwise."""
        return self.num_outputs if self.kind == "full" else 1


@final
class _Read(nn.Module):
    """One number for each example: one of a model's outputs, or their sum over √c."""

    def __init__(self, model: nn.Module, output: int | None) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, x: Tensor) -> Float[Tensor, "batch"]:
        rows = self.model(x).reshape(len(x), -1)
        return rows.sum(1) / rows.shape[1] ** 0.5 if self.output is None else rows[:, self.output]


class _Derivatives(NamedTuple):
    """All that is needed to make some examples' derivatives, as often as they are wanted."""

    model: nn.Module
    weights: Weights
    x: Shaped[Tensor, "example ..."]
    num_outputs: int
    traced: bool
    """Whether the outputs of an example make one row, end to end."""

    @property
    def rows_per_example(self) -> int:
        return 1 if self.traced else self.num_outputs

    def of(self, block: slice, *, together: bool) -> Float[Tensor, "row column"]:
        own = self.x[block]
        shape = (len(own), self.num_outputs, len(self.weights))
        whole, begin = torch.empty(shape, dtype=self.weights.dtype, device=self.weights.device), 0
        for part in jacobian_blocks(self.model, self.weights, own, num_outputs=self.num_outputs, together=together):
            whole[begin : begin + len(part)] = part
            begin += len(part)
        return whole.flatten(1) if self.traced else whole.flatten(0, 1)


class _Gram(NamedTuple):
    values: Float[Tensor, "row row"]
    num_gradients: int
    """Of single examples' single outputs."""


def empirical_ntk(
    model: nn.Module,
    *,
    x: Shaped[Tensor, "example ..."],
    kind: TangentKind = "trace",
    parameters: Iterable[str] | None = None,
    most: int | None = None,
    seed: int = 0,
    memory: int = MEMORY,
) -> TangentKernel:
    """Measure how a step on one example changes the outputs of another: the empirical neural tangent kernel.

    With J_ia = ∂z_ia/∂θ, the derivative of output a of example i:
    - "full": Θ_(ia)(jb) = ⟨J_ia, J_jb⟩, between any two outputs of any two examples;
    - "trace": Θ_ij = Σ_a ⟨J_ia, J_ja⟩, its trace over outputs, at the same price, in c² times less room;
    - "sum": Θ_ij = (1/c)⟨Σ_a J_ia, Σ_b J_jb⟩, c times cheaper; at initialisation wide networks' full kernel tends to it
      for equal outputs and to 0 for different ones, and after training it is a kernel of its own.

    Products of Jacobians in blocks of examples: where all derivatives do not fit into memory, those of two blocks at a
    time are made, and made again. Sums are in float64. The same from derivatives that are kept, with what else follows
    from them: `output_jacobian`.

    For z = (w·x, v·x) the trace is 2XXᵀ:

    >>> model = nn.Linear(2, 2, bias=False).double()
    >>> x = torch.tensor([[1.0, 2.0], [0.0, 3.0]]).double()
    >>> [empirical_ntk(model, x=x, kind=kind).kernel.round(9).tolist() for kind in ("trace", "sum")]
    [[[10.0, 12.0], [12.0, 18.0]], [[5.0, 6.0], [6.0, 9.0]]]

    Args:
        model: left as it was found; measured in evaluation mode.
        x: inputs; whole numbers too, if the model takes them.
        kind: which of the three.
        parameters: names of those looked at; None: all that have requires_grad set.
        most: examples beyond which a sample of so many is drawn, without replacement; which ones is in the answer.
        seed: of the sample.
        memory: bytes that the kernel may take, and the derivatives at hand may take again.

    Raises:
        TypeError: the model is no module.
        ValueError: no examples, an unknown kind, or the kernel or two examples' derivatives do not fit into memory.
        ModelError: the model fails, draws random numbers, mixes examples, or gives no floating-point tensor [example,
            ...].

    Jacot et al. 2018, Neural Tangent Kernel, https://arxiv.org/abs/1806.07572; Novak et al. 2022, Fast Finite Width
    Neural Tangent Kernel, https://arxiv.org/abs/2206.08720; for the sum Mohamadi, Bae & Sutherland 2023, A Fast,
    Well-Founded Approximation to the Empirical Neural Tangent Kernel, https://arxiv.org/abs/2206.12543
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"Expected a torch.nn.Module, whose weights are known, got {type(model).__name__}.")
    if kind not in ("trace", "sum", "full"):
        raise ValueError(f"Expected kind 'trace', 'sum' or 'full', got {kind!r}.")
    chosen = _sample(len(x), most=most, seed=seed)
    own, model = x[torch.as_tensor(chosen, device=x.device)], unwrapped(model)
    weights = Weights(model, parameters)
    with borrowed(model, device=weights.device), weights.alone():
        num_outputs = tried_outputs(model, own).shape[1]
        _check_room(len(own), kind=kind, num_outputs=num_outputs, weights=weights, memory=memory)
        gram = _gram_of_kind(model, weights, own, kind=kind, num_outputs=num_outputs, memory=memory)
    return TangentKernel(
        kernel=gram.values.cpu().double().numpy(),
        kind=kind,
        examples=chosen,
        num_given=len(x),
        num_outputs=num_outputs,
        cost=gram.num_gradients / len(own),
    )


def _sample(count: int, *, most: int | None, seed: int) -> Int[np.ndarray, "example"]:
    if not count or (most is not None and most < 1):
        raise ValueError(f"Expected at least one example, got {count}, of which at most {most} are to be looked at.")
    if most is None or most >= count:
        return np.arange(count)
    rng = np.random.default_rng(derive(seed, "tangent kernel"))
    return np.sort(rng.choice(count, size=most, replace=False))


def _check_room(count: int, *, kind: TangentKind, num_outputs: int, weights: Weights, memory: int) -> None:
    """Refuse what does not fit, with what would."""
    rows = num_outputs if kind == "full" else 1
    needed, fitting = 8 * (count * rows) ** 2, int((memory / 8) ** 0.5) // rows
    if needed > memory:
        less = "Take kind='trace', with one row for each example; or take" if kind == "full" else "Take"
        raise ValueError(
            f"The {kind} kernel of {count:,} examples ({num_outputs:,} outputs each) takes {needed:,} bytes, and may "
            f"take memory={memory:,}. {less} at most {fitting:,} examples (most={fitting}, a sample), or more memory."
        )
    pair = 2 * rows * _row_bytes(weights)
    if pair > memory:
        less = "take kind='trace', " if kind == "full" else ""
        raise ValueError(
            f"The derivatives of two examples ({rows:,} row{'s'[: rows != 1]} of {len(weights):,} weights each) take "
            f"{pair:,} bytes, and may take memory={memory:,}. Name fewer `parameters`, such as those of some layers, "
            f"{less}or give it more memory."
        )


def _row_bytes(weights: Weights) -> int:
    return len(weights) * torch.empty(0, dtype=weights.dtype).itemsize


def _gram_of_kind(
    model: nn.Module, weights: Weights, x: Tensor, *, kind: TangentKind, num_outputs: int, memory: int
) -> _Gram:
    """The trace output by output where all outputs' derivatives together do not fit: fewer are made again."""
    if kind == "full" or (kind == "trace" and len(x) * num_outputs * _row_bytes(weights) <= memory):
        return _gram(_Derivatives(model, weights, x, num_outputs, kind == "trace"), memory=memory)
    total, made = torch.zeros(len(x), len(x), dtype=weights.total, device=weights.device), 0
    for output in range(num_outputs) if kind == "trace" else [None]:
        reader = _Read(model, output)
        own = Weights(reader, [f"model.{name}" for name in weights.names])
        part = _gram(_Derivatives(reader, own, x, 1, True), memory=memory)
        total, made = total + part.values, made + part.num_gradients
    return _Gram(total, made)


def _gram(source: _Derivatives, *, memory: int) -> _Gram:
    """By pairs of blocks of examples; one block, if all derivatives fit."""
    count, each = len(source.x), source.num_outputs * _row_bytes(source.weights)
    size = count if count * each <= memory else max(1, memory // (2 * each))
    blocks = [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]
    together = go_together(source.model, source.weights, source.x)
    rows, made = source.rows_per_example, 0
    found = torch.zeros(count * rows, count * rows, dtype=source.weights.total, device=source.weights.device)
    for place, block in enumerate(blocks):
        first = source.of(block, together=together)
        for other in blocks[place:]:
            second = first if other is block else source.of(other, together=together)
            made += other.stop - other.start
            product = _product(first, second, dtype=found.dtype)
            i, j = (slice(part.start * rows, part.stop * rows) for part in (block, other))
            found[i, j], found[j, i] = product, product.T
    return _Gram(found, made * source.num_outputs)


def _product(
    one: Float[Tensor, "row column"], other: Float[Tensor, "other_row column"], *, dtype: torch.dtype
) -> Float[Tensor, "row other_row"]:
    found = torch.zeros(len(one), len(other), dtype=dtype, device=one.device)
    size = max(1, COLUMNS // (8 * (len(one) + len(other))))
    for begin in range(0, one.shape[1], size):
        columns = slice(begin, begin + size)
        found += one[:, columns].to(dtype) @ other[:, columns].to(dtype).T
    return found
