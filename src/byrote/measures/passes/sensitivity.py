"""How much the training loss depends on each training example, through all the steps it had a part in."""

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportPrivateImportUsage]

from byrote.core import ModelError
from byrote.measures.passes.evaluation import MEMORY, call, derivatives, ordinary, parts, try_out
from byrote.measures.passes.input_gradients import checked_inputs
from byrote.measures.passes.losses import checked_targets, losses
from byrote.measures.passes.steps import Base, Trained, kept_of_each, stepped, untrained
from byrote.models.borrowed import borrowed
from byrote.models.second_derivatives import is_cut_short
from byrote.records import SGD, Adam, AdamW, Scores

MOST = 1 << 32
"""Bytes that an unrolled training may keep unless more are allowed."""

NO_SECOND = (
    "The model has no second derivatives, which unrolled steps need: {}. Replace the layer (a fused kernel?) by one "
    "written in plain operations."
)


class Heldout(NamedTuple):
    """Examples that are not trained on."""

    x: Float[Tensor, "heldout ..."]
    targets: Shaped[Tensor, "heldout"]


class LossSensitivity(NamedTuple):
    """What an unrolled training says."""

    scores: Scores
    """Mean over the moments of ‖∂L_t/∂x_i‖₁; `count` is the number of moments. One training, so no standard error."""
    status: Shaped[np.ndarray, "example"]
    """`measured`, `not finite`, or `not visited` for an example on which no L_t depends."""
    moments: Int[np.ndarray, "moment"]
    """t: steps taken before."""
    losses: Float[np.ndarray, "moment"]
    """L_t."""


def loss_sensitivity(
    model: nn.Module,
    *,
    x: Float[Tensor, "example ..."],
    targets: Shaped[Tensor, "example"],
    optimiser: SGD | Adam | AdamW,
    batches: Sequence[Int[Tensor, "_"]],
    learning_rates: Sequence[float] | None = None,
    moments: Sequence[int] | None = None,
    heldout: Heldout | None = None,
    memory: int = MOST,
) -> LossSensitivity:
    """Train for some steps, and differentiate the loss after them with respect to every training input.

    ḡ_i = mean over t of ‖∂L_t/∂x_i‖₁, L_t being the mean loss after t steps. The derivative is taken through every
    step up to t, the optimiser's moments included, and, where L_t is of the training examples, directly. Steps are
    taken in evaluation mode: dropout does nothing and batch normalisation uses its running averages.

    Backward, step by step: of every step its state is kept, of every moment the adjoints, and one step at a time is
    computed again. With T steps, M moments, n inputs of d numbers, p weights and s = 1, 2 or 3 numbers kept of each
    (SGD, with momentum, Adam) that is (T + 1)·s·p + M·(s·p + n·d) numbers, and one batch's second derivatives; time
    grows with T·M.

    One weight w = 2, one step on ℓ = (wx − y)² at x = 1, y = 0 with η = 1/8: w₁ = w(1 − 2ηx²) = 3/2, L₁ = w₁²x², and
    dL₁/dx = 2w₁²x − 8ηw·w₁x³ = 4.5 − 3:

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 2.0)
    >>> loss_sensitivity(model, x=torch.ones(1, 1), targets=torch.zeros(1), optimiser=SGD(lr=1 / 8, momentum=0.0),
    ...     batches=[torch.tensor([0])]).scores.value
    array([1.5])

    Args:
        model: where training starts; it is left as it was found. Its trainable weights are trained, on copies.
        x: training inputs, in float64 if small sensitivities matter.
        targets: classes (cross-entropy), or numbers (squared error).
        optimiser: as in a recipe.
        batches: positions of the examples of each step, in order.
        learning_rates: η of each step; None: the optimiser's throughout.
        moments: t's to average over, from 0 to the number of steps, in order; None: after every step.
        heldout: what L_t is the mean loss of; None: the training examples.
        memory: bytes that states and adjoints may take.

    Returns:
        Scores, at least 0, in loss per input unit.

    Raises:
        TypeError: the inputs are whole numbers, which have no gradient, or the optimiser is none of these (SAM's inner
            step is not unrolled).
        ValueError: shapes or moments do not fit, or more memory would be needed.
        ModelError: the model fails, draws random numbers or mixes examples, or has no second derivatives.

    Arpit et al. 2017, A Closer Look at Memorization in Deep Networks, §3.2, https://arxiv.org/abs/1706.05394
    """
    if not isinstance(optimiser, (SGD, Adam, AdamW)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"Expected SGD, Adam or AdamW, got {type(optimiser).__name__}: its steps are not unrolled.")
    x, targets = checked_inputs(x), checked_targets(targets, x=x)
    lesson = _Lesson(model, x, targets, optimiser, batches, learning_rates, heldout)
    asked = _checked_moments(moments, len(batches))
    _check_memory(lesson, num_moments=len(asked), memory=memory)
    with borrowed(model, device=x.device):
        lesson.try_out()
        states = lesson.forward()
        values, adjoints = lesson.backward(states, asked)
    return _summed_up(adjoints, values, asked, visited=lesson.visited(asked))


class _Adjoint(NamedTuple):
    """Derivatives of L_t."""

    state: list[Tensor]
    """With respect to the state before the step that is looked at."""
    inputs: Float[Tensor, "example ..."]
    """With respect to the inputs, of all later steps and directly."""


@final
class _Lesson:
    """A short training."""

    def __init__(
        self,
        model: nn.Module,
        x: Float[Tensor, "example ..."],
        targets: Shaped[Tensor, "example"],
        optimiser: Base,
        batches: Sequence[Int[Tensor, "_"]],
        learning_rates: Sequence[float] | None,
        heldout: Heldout | None,
    ) -> None:
        self._model, self._x, self._targets, self.optimiser = model, x, targets, optimiser
        self._batches = _checked_batches(batches, x=x)
        self._rates = _checked_rates(learning_rates, optimiser, num_steps=len(batches))
        self._heldout = None
        if heldout is not None:
            own = checked_inputs(heldout.x)
            self._heldout = Heldout(own, checked_targets(heldout.targets, x=own))
        self._trainable = {name: part for name, part in model.named_parameters() if part.requires_grad}
        if not self._trainable or not len(x):
            raise ValueError("Expected trainable weights and at least one example: there is nothing to train.")
        self._bytes_each = 1

    @property
    def num_steps(self) -> int:
        return len(self._batches)

    @property
    def num_weights(self) -> int:
        return sum(weight.numel() for weight in self._trainable.values())

    @property
    def inputs(self) -> Float[Tensor, "example ..."]:
        return self._x

    def visited(self, moments: Sequence[int]) -> np.ndarray:
        """Examples on which some L_t depends."""
        seen = torch.zeros(len(self._x), dtype=torch.bool, device=self._x.device)
        for batch in self._batches[: moments[-1]]:
            seen[batch] = True
        return (seen | (self._heldout is None)).cpu().numpy()

    def try_out(self) -> None:
        """Refuse what nothing could be said of."""
        self._bytes_each = 2 * try_out(self._model, self._x)

    def forward(self) -> list[Trained]:
        """The state before every step, and after the last."""
        weights = [weight.detach().clone() for weight in self._trainable.values()]
        states = [untrained(weights, self.optimiser)]
        for number, batch in enumerate(self._batches, start=1):
            start = states[-1].like([part.requires_grad_() for part in states[-1].flat()])
            after = self._step(start, self._x[batch], number, again=False)
            states.append(after.like([part.detach() for part in after.flat()]))
        return states

    def backward(self, states: list[Trained], moments: Sequence[int]) -> tuple[list[float], list[_Adjoint]]:
        """L_t, and its derivatives with respect to the inputs, for every moment."""
        values: list[float] = []
        live: list[_Adjoint] = []
        wanted = set(moments)
        for number in range(self.num_steps, -1, -1):
            if number in wanted:
                value, adjoint = self._look(states[number])
                values.append(value)
                live.append(adjoint)
            if number and live:
                live = self._back_through(states[number - 1], number, live)
        return values[::-1], live[::-1]

    def _look(self, state: Trained) -> tuple[float, _Adjoint]:
        """L_t and its derivatives where they begin."""
        x, targets = (self._x, self._targets) if self._heldout is None else self._heldout
        weights = [weight.detach().requires_grad_() for weight in state.weights]
        slopes = [torch.zeros_like(part) for part in state.flat()]
        direct, value = torch.zeros_like(self._x), 0.0
        for here in parts(len(x), bytes_each=self._bytes_each, memory=MEMORY):
            start = x[here].clone().requires_grad_(self._heldout is None)
            loss = self._losses(weights, start, targets[here]).sum() / len(x)
            leaves = [*weights, start] if start.requires_grad else weights
            found = derivatives(loss, leaves)
            value += float(loss.detach())
            for slope, gradient in zip(slopes, found[: len(weights)], strict=False):
                slope += 0 if gradient is None else gradient
            if start.requires_grad and (gradient := found[-1]) is not None:
                direct[here] = gradient
        return value, _Adjoint(slopes, direct)

    def _back_through(self, before: Trained, number: int, live: Sequence[_Adjoint]) -> list[_Adjoint]:
        """Every adjoint, from after a step to before it."""
        batch = self._batches[number - 1]
        leaves = [part.detach().requires_grad_() for part in before.flat()]
        x = self._x[batch].clone().requires_grad_()
        after = list(self._step(before.like(leaves), x, number, again=True).flat())
        if is_cut_short(after):
            raise ModelError(NO_SECOND.format("a function marked as once_differentiable"))
        moved: list[_Adjoint] = []
        for adjoint in live:
            found = self._pulled_back(after, [*leaves, x], adjoint.state)
            if (gradient := found.pop()) is not None:
                adjoint.inputs.index_add_(0, batch, gradient)
            state = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]
            moved.append(_Adjoint(state, adjoint.inputs))
        return moved

    def _pulled_back(self, after: list[Tensor], leaves: list[Tensor], slopes: list[Tensor]) -> list[Tensor | None]:
        try:
            return list(torch.autograd.grad(after, leaves, grad_outputs=slopes, retain_graph=True, allow_unused=True))
        except (RuntimeError, NotImplementedError) as error:
            raise ModelError(NO_SECOND.format(f"{error!s:.200}")) from error

    def _step(self, state: Trained, x: Tensor, number: int, *, again: bool) -> Trained:
        """Take a step; `again` with all that is needed to go back through it."""
        targets = self._targets[self._batches[number - 1]]
        loss = self._losses(state.weights, x, targets).mean()
        gradients = derivatives(loss, state.weights, differentiable=again)
        return stepped(state, gradients, optimiser=self.optimiser, lr=self._rates[number - 1], number=number)

    def _losses(self, weights: Sequence[Tensor], x: Tensor, targets: Tensor) -> Float[Tensor, "batch"]:
        own = dict(zip(self._trainable, weights, strict=True))

        def model(rows: Tensor) -> Tensor:
            return functional_call(self._model, own, (rows,))

        return losses(call(model, x), targets)


def _summed_up(
    adjoints: Sequence[_Adjoint], values: Sequence[float], moments: Sequence[int], *, visited: np.ndarray
) -> LossSensitivity:
    norms = torch.stack([adjoint.inputs.flatten(1).double().abs().sum(1) for adjoint in adjoints]).mean(0).cpu().numpy()
    measured = visited & np.isfinite(norms)
    return LossSensitivity(
        scores=Scores(
            value=np.where(measured, norms, np.nan),
            se=np.full(len(norms), np.nan),
            count=np.where(measured, len(moments), 0),
        ),
        status=np.where(measured, "measured", np.where(visited, "not finite", "not visited")),
        moments=np.asarray(moments, np.int64),
        losses=np.asarray(values, np.float64),
    )


def _check_memory(lesson: _Lesson, *, num_moments: int, memory: int) -> None:
    x, size = lesson.inputs, kept_of_each(lesson.optimiser) * lesson.num_weights
    needed = x.itemsize * ((lesson.num_steps + 1) * size + num_moments * (size + x.numel()))
    if needed > memory:
        raise ValueError(
            f"Unrolling {lesson.num_steps:,} steps with {lesson.num_weights:,} weights and {num_moments:,} moments on "
            f"{len(x):,} inputs would keep {needed / 2**30:.1f} GiB, and {memory / 2**30:.1f} GiB are allowed. Take "
            "fewer steps, moments or examples, a smaller model, or allow more memory."
        )


def _checked_moments(moments: Sequence[int] | None, num_steps: int) -> list[int]:
    if moments is None:
        return list(range(1, num_steps + 1))
    asked = [int(moment) for moment in moments]
    if not asked or asked != sorted(set(asked)) or asked[0] < 0 or asked[-1] > num_steps:
        raise ValueError(f"Expected moments from 0 to {num_steps}, in order and each once, got {list(moments)}.")
    return asked


def _checked_batches(batches: Sequence[Tensor], *, x: Tensor) -> list[Int[Tensor, "_"]]:
    if not len(batches):
        raise ValueError("Expected at least one step, got no batches.")
    for batch in batches:
        if batch.ndim != 1 or not len(batch) or batch.is_floating_point() or batch.dtype == torch.bool:
            raise ValueError(
                "Expected batches as positions of one example or more, got "
                f"{batch.dtype} of shape {tuple(batch.shape)}."
            )
        if int(batch.min()) < 0 or int(batch.max()) >= len(x):
            raise ValueError(
                f"Expected positions from 0 to {len(x) - 1}, got {int(batch.min())} to {int(batch.max())}."
            )
    return [ordinary(batch, dtype=torch.int64).to(x.device) for batch in batches]


def _checked_rates(rates: Sequence[float] | None, optimiser: Base, *, num_steps: int) -> list[float]:
    if rates is None:
        return [optimiser.lr] * num_steps
    if len(rates) != num_steps:
        raise ValueError(f"Expected a learning rate for each of {num_steps} steps, got {len(rates)}.")
    return [float(rate) for rate in rates]
