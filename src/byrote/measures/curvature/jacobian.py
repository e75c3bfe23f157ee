"""The Jacobian of a network's outputs on a few examples, and what follows from it without a further pass."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap  # pyright: ignore[reportPrivateImportUsage]

from byrote.core import ModelError, describe_failure
from byrote.measures.curvature.differentiate import pulled_back
from byrote.measures.curvature.rows import MEMORY, Rows
from byrote.measures.curvature.weights import Weights
from byrote.models.borrowed import borrowed, random_states, unwrapped

OutputLoss = Callable[[Float[Tensor, "example output"], Shaped[Tensor, "example ..."]], Float[Tensor, "example"]]
"""From outputs and targets, one value for each example, such as cross-entropy with reduction="none"."""
PASS_MEMORY = 1 << 28
"""Bytes that the derivatives of the examples that go together may take."""
ROUNDING = 1e3
"""Roundings by which two ways to the same derivative may differ."""


@final
@dataclass(frozen=True, kw_only=True)
class OutputSpectrum:
    """Eigenvalues of a matrix of as many rows as there are parameters, by way of examples and outputs."""

    eigenvalues: Float[np.ndarray, "pair"]
    """From the largest down: those that are not 0 for lack of examples, at most n·c or p of them."""
    floor: float
    """What rounding makes of an eigenvalue of 0, at most about."""
    count: int
    """Examples."""
    cost: float = 0.0
    """In gradients; the Jacobian was there already."""
    survives_rescaling: bool = False

    @property
    def value(self) -> float:
        """The largest."""
        return float(self.eigenvalues[0])

    @property
    def residual(self) -> float:
        """By which an eigenvalue may be off."""
        return self.floor

    @property
    def trace(self) -> float:
        """Their sum."""
        return float(self.eigenvalues.sum())


@final
class OutputJacobian:
    """J = ∂z/∂θ of a network's outputs z [example, output] at frozen weights, from `output_jacobian`."""

    def __init__(self, rows: Rows, outputs: Float[Tensor, "example output"]) -> None:
        """Keep it.

        Args:
            rows: one for each example and output, the outputs of an example next to one another.
            outputs: z.
        """
        self.rows, self.outputs = rows, outputs
        self._kernel = rows.gram()

    @property
    def num_examples(self) -> int:
        """n."""
        return self.outputs.shape[0]

    @property
    def num_outputs(self) -> int:
        """c, of one example."""
        return self.outputs.shape[1]

    @property
    def cost(self) -> float:
        """In gradients of all these examples: one for each output."""
        return float(self.num_outputs)

    @property
    def values(self) -> Float[Tensor, "example output parameter"]:
        """∂z_ia/∂θ; read it, and do not write."""
        return self.rows.whole().reshape(self.num_examples, self.num_outputs, -1)

    def kernel(self) -> Float[np.ndarray, "example_output example_output"]:
        """The empirical neural tangent kernel Θ = JJᵀ, between any two outputs of any two examples.

        Jacot et al. 2018, Neural Tangent Kernel, https://arxiv.org/abs/1806.07572
        """
        return self._kernel.copy()

    def traced_kernel(self) -> Float[np.ndarray, "example example"]:
        """Σ_a ⟨∂z_ia/∂θ, ∂z_ja/∂θ⟩: the tangent kernel between examples, summed over outputs."""
        return np.einsum("iaja->ij", self._blocks())

    def gauss_newton(self, loss: OutputLoss, *, targets: Shaped[Tensor, "example ..."]) -> OutputSpectrum:
        """Find all eigenvalues of the Gauss–Newton matrix of the mean loss, but for zeros.

        G = (1/n) Σ_i J_iᵀA_iJ_i, A_i = ∂²ℓ_i/∂z_i², has the same as (1/n)Θ¹ᐟ²AΘ¹ᐟ². A loss that is not convex in the
        outputs may have negative ones.

        Args:
            loss: of each example from its outputs.
            targets: of each.

        Raises:
            ModelError: the loss fails, or does not depend on an example's own outputs alone.
        """
        bends = _output_hessians(self.outputs, loss=loss, targets=targets)
        values, vectors = np.linalg.eigh(self._kernel)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        bent = np.einsum("iab,ibm->iam", bends, root.reshape(self.num_examples, self.num_outputs, -1))
        found = np.linalg.eigvalsh(root @ bent.reshape(root.shape) / self.num_examples)[::-1]
        return self._spectrum(found)

    def per_example_gradients(
        self, loss: OutputLoss, *, targets: Shaped[Tensor, "example ..."]
    ) -> Float[Tensor, "example parameter"]:
        """g_i = J_iᵀ ∂ℓ_i/∂z_i, of every example.

        Args:
            loss: of each example from its outputs.
            targets: of each.

        Raises:
            ModelError: the loss fails.
        """
        slopes = _output_slopes(self.outputs, loss=loss, targets=targets)
        places = np.arange(self.num_examples)
        weights = np.zeros((self.num_examples, self.num_examples, self.num_outputs))
        weights[places, places] = slopes
        return self.rows.combined(weights.reshape(self.num_examples, -1))

    def gradient_covariance(self, loss: OutputLoss, *, targets: Shaped[Tensor, "example ..."]) -> OutputSpectrum:
        """Find the eigenvalues of the covariance of single examples' gradients, (1/(n − 1)) Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ.

        From ⟨g_i, g_j⟩ = s_iᵀΘ_ijs_j with s_i = ∂ℓ_i/∂z_i. Of batches of S examples it is this over
        `per_example_factor`.

        Args:
            loss: of each example from its outputs.
            targets: of each.

        Raises:
            ValueError: there are fewer than two examples.
            ModelError: the loss fails.
        """
        if self.num_examples < 2:
            raise ValueError("Expected at least two examples, whose gradients differ, got 1.")
        slopes = _output_slopes(self.outputs, loss=loss, targets=targets)
        products = np.einsum("ia,iajb,jb->ij", slopes, self._blocks(), slopes, optimize=True)
        centred = products - products.mean(0) - products.mean(1)[:, None] + products.mean()
        found = np.linalg.eigvalsh(centred / (self.num_examples - 1))[::-1][: self.num_examples - 1]
        return self._spectrum(found)

    def _blocks(self) -> Float[np.ndarray, "example output example output"]:
        return self._kernel.reshape(self.num_examples, self.num_outputs, self.num_examples, self.num_outputs)

    def _spectrum(self, values: Float[np.ndarray, "pair"]) -> OutputSpectrum:
        largest = float(np.abs(values).max())
        floor = len(values) * max(np.finfo(np.float64).eps, self.rows.epsilon**2) * largest
        kept = np.sort(values[np.argsort(-np.abs(values))][: self.rows.width])[::-1]
        return OutputSpectrum(eigenvalues=kept, floor=floor, count=self.num_examples)


def output_jacobian(
    model: nn.Module,
    *,
    x: Shaped[Tensor, "example ..."],
    parameters: Iterable[str] | None = None,
    memory: int = MEMORY,
) -> OutputJacobian:
    """Differentiate every output of every example with respect to the weights, once.

    Kernel, Gauss–Newton spectrum, single examples' gradients and their covariance follow from it without a further
    pass, at the price of n·c gradients of single examples. Through `torch.func.vmap` where that gives what backward
    passes give, one output after the other where it does not.

    For z = w·x the tangent kernel is XXᵀ:

    >>> model = nn.Linear(2, 1, bias=False).double()
    >>> output_jacobian(model, x=torch.tensor([[1.0, 2.0], [0.0, 3.0]]).double()).kernel().tolist()
    [[5.0, 6.0], [6.0, 9.0]]

    Args:
        model: left as it was found; measured in evaluation mode.
        x: inputs, a few; whole numbers too, if the model takes them.
        parameters: names of those looked at; None: all that have requires_grad set.
        memory: bytes that the Jacobian may take before it is written to a temporary file.

    Raises:
        TypeError: the model is no module.
        ValueError: no examples.
        ModelError: the model fails, draws random numbers, mixes examples, or gives no floating-point tensor [example,
            ...].
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"Expected a torch.nn.Module, whose weights are known, got {type(model).__name__}.")
    if not len(x):
        raise ValueError("Expected at least one example, got none.")
    model = unwrapped(model)
    weights = Weights(model, parameters)
    with borrowed(model, device=weights.device), weights.alone():
        outputs = tried_outputs(model, x)
        like = torch.empty(0, dtype=weights.dtype, device=weights.device)
        rows = Rows(outputs.numel(), width=len(weights), like=like, memory=memory)
        together = go_together(model, weights, x)
        for part in jacobian_blocks(model, weights, x, num_outputs=outputs.shape[1], together=together):
            rows.extend(part.flatten(0, 1))
    return OutputJacobian(rows, outputs)


@torch.no_grad()
def tried_outputs(model: nn.Module, x: Tensor) -> Float[Tensor, "example output"]:
    """Outputs of all examples, which must not depend on one another, or on chance."""
    before = random_states(x.device)
    first = x[: -(-len(x) // 2)]
    outputs, alone = _checked_outputs(model, x), _checked_outputs(model, first)
    if random_states(x.device) != before:
        raise ModelError(
            "The model draws random numbers in evaluation mode, so that no derivative could be repeated. Let it draw "
            "only when self.training is true."
        )
    if not _same(outputs[: len(first)], alone):
        raise ModelError(
            "The model's answer to one example depends on the other examples in its batch, so that an example has no "
            "derivatives of its own. Give BatchNorm track_running_stats=True, or use GroupNorm."
        )
    return outputs


def _same(one: Tensor, two: Tensor) -> bool:
    """But for rounding."""
    close = ROUNDING * torch.finfo(two.dtype).eps
    return torch.allclose(one, two, rtol=close, atol=close * float(two.abs().max()), equal_nan=True)


def jacobian_blocks(
    model: nn.Module, weights: Weights, x: Tensor, *, num_outputs: int, together: bool
) -> Iterable[Float[Tensor, "batch output parameter"]]:
    """Of a few examples at a time, if they may go together; `weights` are asked for gradients, alone."""
    size = max(1, PASS_MEMORY // max(1, weights.nbytes * num_outputs)) if together else 1
    way = _at_once if together else _one_by_one
    for begin in range(0, len(x), size):
        yield way(model, weights, x[begin : begin + size])


def go_together(model: nn.Module, weights: Weights, x: Tensor) -> bool:
    """Whether derivatives of several examples at once are those of one after the other, tried on the first two."""
    few = x[:2]
    wanted = _one_by_one(model, weights, few)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = _at_once(model, weights, few)
    except Exception:  # Whatever may come of transforming somebody's code: the other way.
        return False
    return _same(found, wanted)


def _at_once(model: nn.Module, weights: Weights, x: Tensor) -> Float[Tensor, "batch output parameter"]:
    parts = {name: part.detach() for name, part in zip(weights.names, weights.tensors, strict=True)}

    def outputs(own: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(model, own, (one[None].clone(),)).reshape(-1)

    found = vmap(jacrev(outputs), in_dims=(None, 0), randomness="error")(parts, x)
    rows = [found[name].flatten(2).to(weights.dtype) for name in weights.names]
    return torch.cat(rows, dim=2).detach()


def _one_by_one(model: nn.Module, weights: Weights, x: Tensor) -> Float[Tensor, "batch output parameter"]:
    found: list[Tensor] = []
    for place in range(len(x)):
        (outputs,) = _checked_outputs(model, x[place : place + 1])
        slopes = [
            weights.flat(
                pulled_back([one], weights.tensors, slopes=[torch.ones_like(one)], again=True), dtype=weights.dtype
            )
            for one in outputs
        ]
        found.append(torch.stack(slopes))
    return torch.stack(found)


def _checked_outputs(model: nn.Module, x: Tensor) -> Float[Tensor, "batch output"]:
    try:
        outputs = model(x.clone())
    except Exception as error:
        raise ModelError(f"The model failed on inputs of shape {tuple(x.shape)}: {describe_failure(error)}") from error
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or outputs.shape[:1] != x.shape[:1]:
        got = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ModelError(f"Expected the model to give a row of numbers for each of {len(x)} inputs, got {got}.")
    return outputs.reshape(len(outputs), -1)


def _output_slopes(
    outputs: Float[Tensor, "example output"], *, loss: OutputLoss, targets: Tensor
) -> Float[np.ndarray, "example output"]:
    """∂ℓ_i/∂z_i."""
    slopes, _ = _first(outputs, loss=loss, targets=targets)
    return slopes.detach().cpu().double().numpy()


def _output_hessians(
    outputs: Float[Tensor, "example output"], *, loss: OutputLoss, targets: Tensor
) -> Float[np.ndarray, "example output output"]:
    """∂²ℓ_i/∂z_i², of all examples at once, column by column."""
    slopes, leaves = _first(outputs, loss=loss, targets=targets)
    columns: list[Tensor] = []
    for place in range(outputs.shape[1]):
        total = slopes[:, place].sum()
        (found,) = pulled_back([total], [leaves], slopes=[torch.ones_like(total)], again=True)
        columns.append(torch.zeros_like(leaves) if found is None else found.detach())
    return torch.stack(columns, dim=1).cpu().double().numpy()


def _first(
    outputs: Float[Tensor, "example output"], *, loss: OutputLoss, targets: Tensor
) -> tuple[Float[Tensor, "example output"], Float[Tensor, "example output"]]:
    """Slopes, as functions of the leaves."""
    with torch.enable_grad():
        leaves = outputs.detach().clone().requires_grad_()
        try:
            values = loss(leaves, targets)
        except Exception as error:
            raise ModelError(f"The loss failed: {describe_failure(error)}") from error
        if values.shape != (len(outputs),):
            raise ModelError(
                f"Expected a loss for each of {len(outputs)} examples, as with reduction='none', got shape "
                f"{tuple(values.shape)}."
            )
        total = values.sum()
        (slopes,) = pulled_back([total], [leaves], slopes=[torch.ones_like(total)], differentiable=True)
    return torch.zeros_like(leaves) if slopes is None else slopes, leaves
