"""The loss over the probe, in as few batches as there can be, and over mini-batches of one size."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from byrote.core import ModelError
from byrote.measures.curvature import Batch, Loss, Objective
from byrote.monitoring.probe import Probe, batches_of, cut, first_rows, is_several
from byrote.monitoring.processes import Processes

AGREE = 0.05
"""Difference, as a share, that rounding may make between the losses of a batch as a whole and cut into parts."""


@final
class Objectives:
    """Two views of one probe: products with the whole are fastest, and covariances need parts."""

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        probe: Any,
        parameters: Iterable[str] | None,
        processes: Processes,
        num_batches: int,
        memory: int,
    ) -> None:
        """See `Monitor`."""
        self._loss, self._sum, self._memory = loss, processes.sum, memory
        batches = batches_of(probe)
        parts = None if is_several(probe) else cut(batches[0], num_batches=num_batches)
        if parts is not None:
            batches = [first_rows(batches[0], parts)]
        self.whole = Objective(
            model, loss=loss, batches=self._placed(batches), parameters=parameters, reduce=self._sum, memory=memory
        )
        self._batches = batches
        self._cut = None if parts is None else self._of(parts)
        self._equal: Objective | None = None
        self._checked = False

    @property
    def device(self) -> torch.device:
        """Where the weights are by now."""
        return self.whole.weights.device

    @property
    def like(self) -> Tensor:
        """Empty, on the device and in the precision in which numbers are added up."""
        return torch.empty(0, dtype=self.whole.weights.total, device=self.device)

    @property
    def parts(self) -> Objective:
        """Mini-batches of one size: the parts of the one batch that was handed over, or those of several that are of
        the commonest size.

        Raises:
            ModelError: the loss of an example is another one when its batch is cut.
        """
        if self._cut is not None:
            self._check_apart(self._cut)
            return self._cut
        counts = self.whole.counts
        if len(set(counts)) == 1:
            return self.whole
        if self._equal is None:
            ((size, _),) = Counter(counts).most_common(1)
            own = [batch for batch, count in zip(self._batches, counts, strict=True) if count == size]
            self._equal = self._of(own)
        return self._equal

    @property
    def complete(self) -> bool:
        """Whether the mini-batches hold every example of the probe."""
        return self.parts is not self._equal

    @property
    def spent(self) -> float:
        """Gradients of the whole probe so far."""
        spent = self.whole.spent
        if self._cut is not None:
            spent += self._cut.spent
        if self._equal is not None:
            spent += self._equal.spent * sum(self._equal.counts) / sum(self.whole.counts)
        return spent

    @property
    def notes(self) -> tuple[str, ...]:
        """What was gone around to measure."""
        views = [view for view in (self.whole, self._cut, self._equal) if view is not None]
        return tuple(dict.fromkeys(note for view in views for note in view.notes))

    def _of(self, batches: list[Batch]) -> Objective:
        return Objective(
            self.whole.model,
            loss=self._loss,
            batches=self._placed(batches),
            parameters=self.whole.weights.names,
            reduce=self._sum,
            memory=self._memory,
        )

    def _placed(self, batches: list[Batch]) -> Probe:
        return Probe(batches, device=lambda: self.device)

    def _check_apart(self, parts: Objective) -> None:
        if self._checked:
            return
        whole = self.whole
        with whole.opened(), parts.opened():
            together = whole.losses(0).to(self.like)
            apart = torch.cat([parts.losses(index) for index in range(len(parts.batches))]).to(self.like)
        if len(together) != len(apart) or float((apart - together).norm()) > AGREE * float(together.norm()):
            raise ModelError(
                "The loss of an example depends on what else is in its batch, so that the probe cannot be cut into "
                "mini-batches. Hand over a list of batches, each as in training: probe=[batch, ...]."
            )
        self._checked = True
