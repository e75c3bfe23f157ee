"""A recorder for any training loop."""

import operator
import os
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, final

import torch
import torch.distributed as distributed
from jaxtyping import Bool, Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from byrote.core import StoreError
from byrote.scoring.arrays import as_tensor
from byrote.scoring.epoch import Epoch, Visited
from byrote.scoring.identifiers import Identifiers
from byrote.scoring.recorded import recorded_table
from byrote.scoring.settings import Settings
from byrote.scoring.shapes import checked_batch
from byrote.scoring.table import Table
from byrote.scoring.tally import Rule, Tally, absorb, empty_tally, in_order, join, once_each
from byrote.scoring.waiting import Waiting

Epochs = Literal["found", "told"]
CPU = torch.device("cpu")


@final
class Recorder:
    """Record, in any training loop, what each example's visits say of it: two lines, and almost no time.

    >>> recorder = Recorder(num_examples=2)
    >>> for _ in range(3):
    ...     recorder.update([0, 1], torch.tensor([[2.0, 0.0], [3.0, 0.0]]), [0, 1])
    >>> table = recorder.scores()
    >>> table["aum"].tolist(), table["never_learnt"].tolist()
    ([2.0, -3.0], [0.0, 1.0])

    Logits are those of the batch as the loop computes them, whether the model is in training mode or not: dropout and
    batch normalisation are in them. For scores without these, pass what the model in evaluation mode says.

    Memory is constant, about 100 bytes an example. Nothing is copied to the processor before somebody asks, so a GPU
    never waits; a fault that only the GPU can see, such as an id out of range there, is told then.

    An epoch is *found* when an id comes again: each visit of an example is its next epoch. Where ids come twice
    within an epoch (a sampler that fills up the last batch) or where several processes train, epochs are *told* by
    `end_epoch`, and an example counts once in each.
    """

    def __init__(
        self,
        num_examples: int | None = None,
        *,
        ids: Iterable[Hashable] | None = None,
        epochs: Epochs = "found",
        ended_epochs: int = 0,
        early_epochs: int = 5,
        regression: bool = False,
        fitted_below: float | None = None,
    ) -> None:
        """Make room for the examples.

        Args:
            num_examples: n; ids are then 0 to n − 1.
            ids: instead, each example's id: whole numbers, or anything hashable, at the price of a dictionary's look-up
                for each. They have to be text or whole numbers for the recorder to be saved.
            epochs: whether they are found by ids that come again, or told by `end_epoch`.
            ended_epochs: epochs that ended before, of which another recorder tells, to be merged with this one.
            early_epochs: EL2N is the mean over an example's visits in so many first epochs.
            regression: targets are numbers, and logits are predictions of these.
            fitted_below: for regression, the squared error, in the target's own unit, below which an example counts as
                right; without it, nothing can be said of forgetting, correctness and never learnt.

        Raises:
            TypeError: neither num_examples nor ids, or both.
            ValueError: no examples, an id twice, or a setting out of range.
        """
        if (num_examples is None) == (ids is None):
            raise TypeError("Expected either num_examples or ids. Ids are needed where they do not count from 0.")
        if epochs not in ("found", "told"):
            raise ValueError(f"Expected epochs 'found' or 'told', got {epochs!r}.")
        if early_epochs < 1 or ended_epochs < 0 or (ended_epochs and epochs == "found"):
            raise ValueError(
                f"Expected early_epochs at least 1, and ended_epochs 0, or more where epochs are told, got "
                f"{early_epochs!r} and {ended_epochs!r}."
            )
        if fitted_below is not None and not (regression and fitted_below > 0):
            raise ValueError(
                f"Expected fitted_below as a squared error above 0, and regression=True, got {fitted_below!r}."
            )
        self._ids = Identifiers.counted(_whole(num_examples)) if ids is None else Identifiers.named(ids)
        if self._ids.num_examples < 1:
            raise ValueError(f"Expected at least one example, got {self._ids.num_examples}.")
        self._rule = Rule(regression=regression, fitted_below=fitted_below, early_epochs=early_epochs)
        self._told, self._num_epochs = epochs == "told", ended_epochs
        self._num_outputs: int | None = None
        self._place(empty_tally(self.num_examples, regression=regression))

    @property
    def num_examples(self) -> int:
        """How many examples there is room for."""
        return self._ids.num_examples

    @property
    def epochs(self) -> Epochs:
        """Whether epochs are found or told."""
        return "told" if self._told else "found"

    @property
    def num_epochs(self) -> int:
        """Epochs that were told to end, here or before."""
        return self._num_epochs

    def update(self, ids: Any, logits: Any, targets: Any) -> None:
        """Record a batch.

        Args:
            ids: the examples', shape [batch].
            logits: the model's outputs, shape [batch, class]; [batch] or [batch, 1] for the one logit of a model of two
                classes, and for the predictions of a regression. Tensors or arrays of any precision; copied.
            targets: class codes, or numbers, shape [batch].

        Raises:
            TypeError: class targets are not codes.
            ValueError: shapes do not fit, an id is unknown, or a target is no class.
        """
        rows = self._ids.rows(ids)
        outputs, labels = checked_batch(
            rows, as_tensor(logits, name="logits"), as_tensor(targets, name="targets"), regression=self._rule.regression
        )
        if not len(rows):
            return
        if self._num_outputs not in (None, outputs.shape[1]):
            raise ValueError(f"Expected {self._num_outputs} outputs, as before, got {outputs.shape[1]}.")
        self._num_outputs = outputs.shape[1]
        waiting = self._waiting or self._make_room(outputs)
        if outputs.device != waiting.device:
            self._look()
            waiting = self._make_room(outputs)
        if waiting.add(outputs, rows, labels):
            self._look()

    def end_epoch(self, *, group: Any = None) -> None:
        """End an epoch that is told; where epochs are found, nothing needs to be said.

        Args:
            group: processes of `torch.distributed` that record the same examples, such as
                `torch.distributed.group.WORLD`. All of them call this together; each then holds what all saw, with
                what several saw counted once.

        Raises:
            ValueError: a group, although epochs are found, or its processes are in different epochs.
        """
        self._settle()
        if not self._told:
            if group is not None:
                raise ValueError("Expected Recorder(epochs='told') where several processes end an epoch together.")
            return
        if group is not None:
            self._share(group)
        self._absorb_epoch(self._tally)
        self._epoch.clear()
        self._num_epochs += 1

    def scores(self, *, threshold_ids: Iterable[Hashable] | None = None) -> Table:
        """Everything that the visits until now say, one row for each example in the order of the ids.

        Args:
            threshold_ids: examples whose targets were replaced by an extra class (see
                `byrote.measures.threshold_samples`): an example with a smaller AUM than 99 % of these is `aum_flagged`.

        Returns:
            Columns id, target, csl (summed loss), aum (mean margin), el2n, confidence, variability, correctness,
            forgetting_events, never_learnt, num_updates, status; and aum_flagged, as in `byrote.records.SCORE_COLUMNS`.
            Null is unknown. For regression, errors are in standard deviations of the targets that were seen: csl sums
            squared errors, el2n is the mean early |prediction − target|, mean_residual (in place of confidence) and
            variability its mean and standard deviation over epochs; aum does not exist, what needs a right answer
            needs `fitted_below`. What is null for a reason has it in `notes`.

        Raises:
            TypeError: threshold ids, of a recorder of numbers.
            ValueError: a threshold id is unknown, or what was recorded has a fault that only the device saw.
        """
        if threshold_ids is not None and self._rule.regression:
            raise TypeError("Expected no threshold_ids of a regression: the AUM, which they judge, is of classes.")
        rows = None if threshold_ids is None else self._ids.rows(list(threshold_ids)).cpu().numpy()
        table = recorded_table(self._all_seen(), names=self._ids.names, rule=self._rule, threshold_rows=rows)
        repeated = self._epoch.num_repeated
        if not repeated:
            return table
        left_out = (
            f"{repeated:,} visits are left out: their ids came again in an epoch that is told and has not ended. If "
            f"these were other epochs, call end_epoch() after each."
        )
        return table.with_notes([left_out, *table.notes])

    def merge(self, others: "Recorder | Iterable[Recorder]") -> None:
        """Add what other recorders of the same examples saw, each visit counted once.

        Exact where every example was seen by one recorder, where its epochs in one end before they begin in the
        other, and where one recorder saw it in all its epochs and another in some of the same. Sums cannot tell what
        came first in anything else, so that is refused: there, end each epoch with `end_epoch(group=…)`.

        Args:
            others: one or several.

        Raises:
            TypeError: they are no recorders.
            ValueError: they record other examples or in another way, or an example's visits are intertwined.
        """
        given = _recorders(others)
        known = self._settings()
        for other in given:
            theirs = other._settings()
            known.check(theirs)
            known = replace(known, num_outputs=known.num_outputs or theirs.num_outputs)
        tallies = sorted((each._all_seen().to(CPU) for each in (self, *given)), key=_first_epoch)
        whole = tallies[0]
        for tally in tallies[1:]:
            joined = join(whole, tally, comparable=self._told)
            self._refuse(joined.clashes)
            whole = joined.tally
        self._place(whole)
        self._num_outputs = known.num_outputs
        self._num_epochs = max(each._num_epochs for each in (self, *given))

    def state_dict(self) -> dict[str, Shaped[Tensor, "..."]]:
        """All of it as tensors on the CPU, for `load_state_dict`.

        Raises:
            TypeError: ids are neither text nor whole numbers.
        """
        self._settle()
        rows, visits, targets = (part.cpu() for part in self._epoch.visited())
        tally = {f"tally.{name}": value.cpu().clone() for name, value in self._tally.tensors().items()}
        epoch = {"epoch.rows": rows, "epoch.visits": visits, "epoch.targets": targets}
        return tally | epoch | {"num_epochs": torch.tensor(self._num_epochs), "settings": self._settings().as_tensor()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave; what was recorded here before is forgotten.

        Raises:
            SpecError: it is no recorder's state, or one of other examples or settings.
        """
        stored = Settings.of_state(state)
        self._settings().check(stored)
        self._place(Tally(**{name: state[f"tally.{name}"].cpu() for name in self._tally.tensors()}))
        self._epoch.add_visited(Visited(state["epoch.rows"], state["epoch.visits"], state["epoch.targets"]))
        self._num_epochs = int(state["num_epochs"])
        self._num_outputs = stored.num_outputs or self._num_outputs

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state as a safetensors file, whole or not at all.

        Raises:
            StoreError: it cannot be written.
            TypeError: ids are neither text nor whole numbers.
        """
        file, state = Path(path), self.state_dict()
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            save_file({name: value.contiguous() for name, value in state.items()}, unfinished)
            os.replace(unfinished, file)
        except (OSError, SafetensorError) as error:
            raise StoreError(f"Could not write {file}: {error}.") from error
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Recorder":
        """The recorder that was saved, as it was.

        Raises:
            StoreError: there is no such file, or it is no safetensors file.
            SpecError: it is no recorder's.
        """
        try:
            state = load_file(Path(path))
        except (OSError, SafetensorError) as error:
            raise StoreError(f"Could not read {path}: {error}.") from error
        settings = Settings.of_state(state)
        recorder = cls(
            settings.num_examples if settings.names is None else None,
            ids=settings.names,
            epochs="told" if settings.told else "found",
            early_epochs=settings.rule.early_epochs,
            regression=settings.rule.regression,
            fitted_below=settings.rule.fitted_below,
        )
        recorder.load_state_dict(state)
        return recorder

    def _settings(self) -> Settings:
        names = None if self._ids.counts else tuple(self._ids.names)
        return Settings(
            num_examples=self.num_examples,
            names=names,
            rule=self._rule,
            told=self._told,
            num_outputs=self._num_outputs,
        )

    def _place(self, tally: Tally) -> None:
        """Go on from these sums, where they are, with nothing waiting and an epoch not yet begun.

        What is kept must not be an inference tensor, which nothing could be added to later.
        """
        with torch.inference_mode(False):
            device = tally.visits.device
            self._tally, self._waiting = tally.clone(), None
            self._faults = torch.zeros(2, dtype=torch.int64, device=device)
            num_kept = self.num_examples if self._told else 0
            self._epoch = Epoch(num_kept, regression=self._rule.regression, device=device)

    def _make_room(self, outputs: Shaped[Tensor, "visit output"]) -> Waiting:
        """Move to where the model is."""
        device, visited = outputs.device, self._epoch.visited()
        self._place(self._tally.to(device))
        self._epoch.add_visited(visited)
        self._waiting = Waiting(num_outputs=outputs.shape[1], regression=self._rule.regression, device=device)
        return self._waiting

    def _look(self) -> None:
        """Take in all that waits."""
        waiting = None if self._waiting is None else self._waiting.take()
        if waiting is None:
            return
        numbers, rows, targets, wrong = waiting
        strange = (rows < 0) | (rows >= self.num_examples)
        self._faults += torch.stack([strange.sum(), wrong.sum()])
        at = in_order(torch.where(strange | wrong, self.num_examples, rows))
        numbers, targets = numbers[:, at.order], targets[at.order]
        if self._told:
            self._epoch.add(numbers, at=at, targets=targets)
        else:
            absorb(self._tally, numbers, at=at, targets=targets, rule=self._rule, epoch=None)

    def _settle(self) -> None:
        """Take in all that waits, and tell what only the device has seen."""
        self._look()
        unknown, wrong = self._faults.tolist()
        if unknown or wrong:
            self._faults.zero_()
            raise ValueError(
                f"Expected ids of the {self.num_examples} examples and targets that are classes of the model, got "
                f"{unknown} unknown ids and {wrong} targets that are no class. Their visits are not recorded; "
                "call again to go on without them."
            )

    def _all_seen(self) -> Tally:
        """The sums, with the epoch that is under way."""
        self._settle()
        if not self._told:
            return self._tally
        tally = self._tally.clone()
        self._absorb_epoch(tally)
        return tally

    def _absorb_epoch(self, tally: Tally) -> None:
        """Add the epoch under way, but what a recorder merged into this one already saw in it."""
        rows, visits, targets = self._epoch.visited()
        epoch = self._num_epochs + 1
        new = tally.last_epoch[rows] < epoch
        absorb(tally, visits[:, new], at=once_each(rows[new]), targets=targets[new], rule=self._rule, epoch=epoch)

    def _share(self, group: Any) -> None:
        """Hold what every process of the group saw in this epoch, the first of them first."""
        own = (self._num_epochs, *(part.cpu().numpy() for part in self._epoch.visited()))
        parts: list[Any] = [None] * distributed.get_world_size(group)
        distributed.all_gather_object(parts, own, group=group)
        numbers = sorted({part[0] for part in parts})
        if len(numbers) > 1:
            raise ValueError(f"Expected processes in the same epoch, got some after {numbers} ended epochs.")
        self._epoch.clear()
        for _, *arrays in parts:
            self._epoch.add_visited(Visited(*(torch.from_numpy(array) for array in arrays)))

    def _refuse(self, clashes: Bool[Tensor, "example"]) -> None:
        num = int(clashes.sum())
        if num == 0:
            return
        one = self._ids.names[int(clashes.nonzero()[0, 0])]
        how = (
            "End each epoch with end_epoch(group=…) in all processes"
            if self._told
            else "Make recorders with epochs='told' and end each epoch with end_epoch(group=…)"
        )
        raise ValueError(
            f"Expected every example in one recorder, or its epochs in one after those in the other; {num} of "
            f"{self.num_examples} (for instance {one!r}) were seen by several in turn, and sums do not say in which "
            f"order. {how}."
        )


def _whole(num_examples: Any) -> int:
    try:
        return operator.index(num_examples)
    except TypeError:
        raise TypeError(
            f"Expected num_examples as a whole number, got {num_examples!r}. Ids that are not 0 to n − 1: ids=…"
        ) from None


def _recorders(others: Any) -> list[Recorder]:
    given = list(others) if isinstance(others, Iterable) else [others]
    strange = [type(each).__name__ for each in given if not isinstance(each, Recorder)]
    if strange:
        raise TypeError(f"Expected recorders to merge, one or several, got {strange[0]}.")
    return given


def _first_epoch(tally: Tally) -> int:
    seen = tally.first_epoch[:-1][tally.visits[:-1] > 0]
    return int(seen.min()) if len(seen) else 0
