"""What a model says of each example at the weights it has now: losses, and whether its answers are right."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from byrote.core import ModelError, derive, describe_failure
from byrote.measures.curvature.batch_statistics import recompute_statistics
from byrote.measures.curvature.differentiate import Batch, example_losses
from byrote.measures.curvature.objective import FORWARD, Objective

Correct = Callable[[Any, Batch], Tensor]
"""From the model's outputs and the batch, whether each answer is right: [example]."""


def right_class(outputs: Any, batch: Batch) -> Tensor:
    """Whether the largest logit is that of the class, for batches (inputs, classes).

    >>> right_class(torch.tensor([[1.0, 3.0], [1.0, 3.0]]), (None, torch.tensor([1, 0]))).tolist()
    [True, False]
    """
    return outputs.argmax(1) == batch[1]


class Reading(NamedTuple):
    """Of the examples of one split."""

    losses: Float[np.ndarray, "example"]
    right: Float[np.ndarray, "example"] | None
    """1 for a right answer, 0 for a wrong one; None where nobody asked."""
    sizes: list[int]
    """Examples in each batch, one after another."""


class Readings(NamedTuple):
    """Of both splits at the same weights."""

    train: Reading
    """Of the objective's batches."""
    held_out: Reading | None


@final
class Reader:
    """Reads a model at whatever weights it is put to."""

    def __init__(
        self,
        objective: Objective,
        *,
        held_out: Sequence[Batch] | None = None,
        correct: Correct | None = None,
        statistics: Sequence[Batch] | None = None,
        share: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Of some batches.

        Args:
            objective: its loss, and its batches as the training split.
            held_out: batches of another split.
            correct: whether answers are right; the loss then has to call the model once.
            statistics: batches from which BatchNorm's statistics are computed anew at each reading; None: those that
                the model has.
            share: of the batches that are read, drawn at random, at least one of each split.
            seed: of the draw.

        Raises:
            ValueError: the share is not in (0, 1], there are no held-out batches, or the objective is shared by several
                processes.
        """
        if objective.is_shared:
            raise ValueError(
                "Surfaces and paths compare each example with itself, so one process reads all of them. Hand over an "
                "Objective without reduce, whose batches are the whole split."
            )
        if not 0 < share <= 1:
            raise ValueError(f"Expected a share of the batches in (0, 1], got {share!r}.")
        if held_out is not None and not len(held_out):
            raise ValueError("Expected at least one held-out batch, got none. Pass held_out=None to go without.")
        self._objective, self._correct, self._statistics = objective, correct, statistics
        self._train, self.missing = _drawn(objective.batches, share, derive(seed, "train"))
        self._held_out, self.missing_held_out = None, 0.0
        if held_out is not None:
            self._held_out, self.missing_held_out = _drawn(held_out, share, derive(seed, "held out"))
        self._num_examples, self._num_seen = sum(objective.counts), 0

    @property
    def cost(self) -> float:
        """In full-data gradients so far, a forward pass being a third of one; no part of `Objective.spent`."""
        return FORWARD * self._num_seen / self._num_examples

    @torch.no_grad()
    def read(self) -> Readings:
        """At the weights of now, within `Objective.opened`; recomputed statistics stay in the model."""
        objective = self._objective
        if self._statistics is not None:
            self._num_seen += recompute_statistics(objective.model, loss=objective.loss, batches=self._statistics)
        held_out = None if self._held_out is None else self._split(self._held_out)
        return Readings(self._split(self._train), held_out)

    def _split(self, batches: Sequence[Batch]) -> Reading:
        losses, right = list[Tensor](), list[Tensor]()
        for batch in batches:
            own, answers = self._batch(batch)
            losses.append(own.double() if own.device.type != "mps" else own)
            right.extend([] if answers is None else [answers])
            self._num_seen += len(own)
        found = torch.cat(losses).numpy(force=True).astype(np.float64)
        answers = torch.cat(right).numpy(force=True).astype(np.float64) if right else None
        return Reading(found, answers, [len(own) for own in losses])

    def _batch(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        model, outputs = self._objective.model, list[Any]()
        if self._correct is None:
            return example_losses(model, loss=self._objective.loss, batch=batch), None

        def keep(module: nn.Module, inputs: Any, result: Any) -> None:
            outputs.append(result)

        hook = model.register_forward_hook(keep)
        try:
            losses = example_losses(model, loss=self._objective.loss, batch=batch)
        finally:
            hook.remove()
        if len(outputs) != 1:
            raise ModelError(
                "To tell right answers from wrong ones the model's outputs are caught while the loss calls it, so one "
                f"call for each batch is expected, got {len(outputs)}. Call the module itself, once."
            )
        return losses, _answers(self._correct, outputs[0], batch, like=losses)


def _answers(correct: Correct, outputs: Any, batch: Batch, *, like: Tensor) -> Tensor:
    try:
        found: Any = correct(outputs, batch)
    except Exception as error:
        raise ModelError(f"correct(outputs, batch) failed on a batch: {describe_failure(error)}") from error
    if not isinstance(found, Tensor) or found.shape != like.shape:
        got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ModelError(f"Expected correct(outputs, batch) to give {len(like)} truth values, got {got}.")
    return found.to(like.dtype)


def _drawn(batches: Sequence[Batch], share: float, seed: int) -> tuple[list[Batch], float]:
    """Some of the batches, and the share that was left out."""
    count = max(1, math.ceil(share * len(batches) - 1e-9))
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed))
    chosen = sorted(int(place) for place in order[:count])
    return [batches[place] for place in chosen], 1 - count / len(batches)
