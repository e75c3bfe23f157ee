"""Callbacks for Hugging Face's `Trainer`; they need `pip install 'byrote[transformers]'`."""

import inspect
from pathlib import Path
from typing import Any, final

from torch.nn import Module

from byrote.core import require
from byrote.integrations.parts import Part, part_of
from byrote.integrations.processes import check_epochs, end_epoch, of_all
from byrote.monitoring import Monitor
from byrote.scoring import Recorder

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
except ImportError:
    require("transformers", extra="transformers", purpose="A callback for Hugging Face's Trainer")
    raise

FILE = "recorder.safetensors"
"""What the recorder's state is called beside a checkpoint."""
MONITOR_FILE = "monitor.safetensors"
"""Likewise the monitor's."""
LABELS = ("labels", "label", "label_ids")


@final
class RecorderCallback(TrainerCallback):
    """Record what a model says of each training example, while `Trainer` trains it.

    Give each example an id: a column of the data set, or `byrote.integrations.WithIds(dataset)`. The column travels
    with its batch, also through the workers of a loader, and is taken away before the model is called, which need not
    know it:

    >>> import tempfile
    >>> from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer
    >>> dataset = [{"input_ids": [2, word], "labels": word % 2, "id": 100 + word} for word in range(3, 9)]
    >>> recorder = Recorder(ids=[each["id"] for each in dataset], epochs="told")
    >>> small = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    >>> model = BertForSequenceClassification(BertConfig(**small))
    >>> arguments = TrainingArguments(
    ...     tempfile.mkdtemp(),
    ...     num_train_epochs=2,
    ...     remove_unused_columns=False,
    ...     save_strategy="no",
    ...     report_to="none",
    ...     disable_tqdm=True,
    ...     dataloader_pin_memory=False,
    ... )
    >>> callback = RecorderCallback(recorder, ids="id")
    >>> trainer = Trainer(model, arguments, train_dataset=dataset, callbacks=[callback])
    >>> trainer.remove_callback(PrinterCallback)
    >>> done = trainer.train()
    >>> recorder.scores()["num_updates"].tolist()
    [2, 2, 2, 2, 2, 2]

    `TrainingArguments(remove_unused_columns=False)` is needed, since `Trainer` otherwise takes the column away
    before it is in a batch; columns that neither the model nor this callback knows are then yours to remove.

    Evaluation is not recorded; each batch of accumulated gradients is. The state is written beside every checkpoint, as
    safetensors, and read again by `train(resume_from_checkpoint=…)`. Epochs end with the trainer's: make the recorder
    with `epochs="told"`, which several processes need.

    The model has to give one row of logits for each example: a head for sequence classification, or one output and
    `Recorder(…, regression=True)`. Logits of tokens are refused.
    """

    def __init__(
        self, recorder: Recorder, *, ids: str = "id", targets: str = "labels", logits: Part = "logits"
    ) -> None:
        """Say which columns are what.

        Args:
            recorder: made for the training examples. It is at hand as `callback.recorder`, too.
            ids: the column of ids.
            targets: the column of targets. Where something takes the labels away before the model is called (label
                smoothing, a loss of your own), have a copy of them in another column, and name that: it is taken away,
                as ids are.
            logits: where the logits are in what the model returns: a key, a place, or a function of it.
        """
        self.recorder = recorder
        self._ids, self._targets, self._logits = ids, targets, logits
        self._listens, self._num_heard, self._open, self._loaded = False, 0, False, False
        self._columns: dict[str, Any] = {}
        self._taken: tuple[str, ...] = ()
        self._model: Module | None = None
        self._handles: list[Any] = []

    def load(self, folder: str | Path) -> None:
        """Go on from the state that lies beside a checkpoint; what was recorded here before is forgotten.

        A training that resumes does so by itself, as long as its checkpoint is where it was written.

        Args:
            folder: the checkpoint's.

        Raises:
            StoreError: there is none.
            SpecError: it is of another recorder.
        """
        self.recorder.load_state_dict(Recorder.load(Path(folder) / FILE).state_dict())
        self._loaded = True

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take away the columns that the model does not know, also when it is evaluated."""
        self._admit(args, kwargs.get("model"))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Listen to the model, and go on from where a training was interrupted.

        Raises:
            ValueError: what is recorded would be wrong: ids that do not reach the model, one process with several GPUs,
                several processes and a recorder that finds epochs, a search over hyperparameters, or a checkpoint
                without the recorder's state.
        """
        self._admit(args, kwargs.get("model"))
        check_epochs(self.recorder, num_processes=args.world_size)
        if args.n_gpu > 1:
            raise ValueError(
                f"Expected one GPU a process, got {args.n_gpu} (nn.DataParallel). Start the training with torchrun or "
                f"accelerate launch, or show it one GPU: CUDA_VISIBLE_DEVICES=0."
            )
        if state.is_hyper_param_search:
            raise ValueError("Expected one training, got a search over hyperparameters: its trials would be added up.")
        if state.global_step > 0:
            self._resume(args, state)
        elif self._open:
            self._end_epoch(args)
        self._listens = False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hear what the model says from now on."""
        self._listens, self._num_heard, self._open = True, 0, True

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After one of several batches whose gradients are accumulated, hear the next."""
        self._check_heard()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hear no more: what the model says from here on is not of a training batch."""
        self._check_heard()
        self._listens = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the recorder's epoch, in all processes; one that a limit of steps cut short may yet go on."""
        if self._open and (_complete(state) or not control.should_training_stop):
            self._end_epoch(args)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the state beside the checkpoint.

        A checkpoint of an epoch's last step is written before the epoch ends, and a training that resumes from it
        begins with the next.
        """
        if self._open and _complete(state):
            self._end_epoch(args)
        everybody = of_all(self.recorder, num_processes=args.world_size)
        if args.should_save:
            everybody.save(_checkpoint(args, state) / FILE)

    def _admit(self, args: TrainingArguments, model: Module | None) -> None:
        """Take away from what the model is called with what it does not know."""
        if model is None or model is self._model:
            return
        known = {*inspect.signature(model.forward).parameters}
        labels = {*LABELS, *(args.label_names or ())}
        self._taken = tuple({self._ids} - known | {self._targets} - known - labels)
        lost = [name for name in self._taken if name not in labels]
        if lost and args.remove_unused_columns:
            raise ValueError(
                f"Expected TrainingArguments(remove_unused_columns=False), so that {' and '.join(sorted(lost))} reach "
                f"the callback, got True. Remove other columns that the model does not know from the data set "
                f"yourself: dataset.remove_columns(…)."
            )
        for handle in self._handles:
            handle.remove()
        self._model = model
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after),
        ]

    def _before(self, module: Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._columns = {name: named[name] for name in (self._ids, self._targets) if name in named}
        return inputs, {name: value for name, value in named.items() if name not in self._taken}

    def _after(self, module: Module, inputs: Any, output: Any) -> None:
        columns, self._columns = self._columns, {}
        if self._listens and module.training and self._ids in columns:
            self._record(columns, output)

    def _record(self, columns: dict[str, Any], output: Any) -> None:
        if self._num_heard:
            raise ValueError(
                "Expected the model to be called once for each training batch, got a batch for which it is called "
                "again with its ids. Leave the ids out of the other calls."
            )
        if self._targets not in columns:
            raise ValueError(
                f"Expected {self._targets!r} in what the model is called with, got a batch without. Label smoothing "
                f"and a loss of your own take labels away before: have a copy of them in another column, and say "
                f"RecorderCallback(…, targets='target')."
            )
        self.recorder.update(columns[self._ids], part_of(output, self._logits, name="logits"), columns[self._targets])
        self._num_heard += 1

    def _check_heard(self) -> None:
        if self._num_heard == 0:
            raise ValueError(
                f"Expected a column {self._ids!r} in every training batch, got one without. Give each example an id: a "
                f"column of the data set, or byrote.integrations.WithIds(dataset); a collator has to leave it in the "
                f"batch."
            )
        self._num_heard = 0

    def _end_epoch(self, args: TrainingArguments) -> None:
        end_epoch(self.recorder, num_processes=args.world_size)
        self._open = False

    def _resume(self, args: TrainingArguments, state: TrainerState) -> None:
        """Go on from what lies beside the checkpoint; where nothing does, the recorder has to say that it knows."""
        folders = _folders(args, state)
        found = [folder for folder in folders if (folder / FILE).is_file()]
        if found:
            self.load(found[0])
        elif not self._loaded and self.recorder.num_epochs == 0:
            raise ValueError(
                f"Expected {FILE} beside the checkpoint of step {state.global_step}, found none in "
                f"{' or '.join(map(str, folders))}. Where it lies elsewhere: callback.load(folder). To record from "
                f"here on: Recorder(…, epochs='told', ended_epochs={int(state.epoch or 0)})."
            )


@final
class TransformersMonitor(TrainerCallback):
    """Measure with a `byrote.Monitor` while `Trainer` trains, at steps of the optimiser.

    >>> import tempfile
    >>> import torch
    >>> from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer
    >>> dataset = [{"input_ids": [2, word], "labels": word % 2} for word in range(3, 9)]
    >>> small = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    >>> model = BertForSequenceClassification(BertConfig(**small))
    >>> def loss(model, batch):
    ...     logits = model(input_ids=batch["input_ids"]).logits
    ...     return torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
    >>> probe = {name: torch.tensor([each[name] for each in dataset]) for name in ("input_ids", "labels")}
    >>> monitor = Monitor(model, loss=loss, probe=probe, overhead=float("inf"))
    >>> arguments = TrainingArguments(
    ...     tempfile.mkdtemp(), max_steps=2, save_strategy="no", report_to="none", disable_tqdm=True,
    ...     dataloader_pin_memory=False,
    ... )
    >>> trainer = Trainer(model, arguments, train_dataset=dataset, callbacks=[TransformersMonitor(monitor)])
    >>> trainer.remove_callback(PrinterCallback)
    >>> done = trainer.train()
    >>> monitor.table()["step"].tolist()
    [1, 2]

    Unless the monitor has an optimiser already, it is given the trainer's, which says learning rates. Its state is
    written beside every checkpoint, as safetensors, and read again by `train(resume_from_checkpoint=…)`. With several
    processes, each needs its own part of the probe.
    """

    def __init__(self, monitor: Monitor) -> None:
        """Take a monitor.

        Args:
            monitor: made for the model that is trained. It is at hand as `callback.monitor`, too.
        """
        self.monitor = monitor

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Learn of the optimiser, and go on from where a training was interrupted.

        Raises:
            ValueError: there is a checkpoint without the monitor's state.
        """
        if self.monitor.optimiser is None:
            self.monitor.optimiser = _own(kwargs.get("optimizer"))
        if state.global_step > 0 and not len(self.monitor.table()):
            folders = _folders(args, state)
            found = [folder for folder in folders if (folder / MONITOR_FILE).is_file()]
            if not found:
                raise ValueError(
                    f"Expected {MONITOR_FILE} beside the checkpoint of step {state.global_step}, found none in "
                    f"{' or '.join(map(str, folders))}. Where it lies elsewhere: monitor.load(path). To measure from "
                    f"here on: monitor.measure({state.global_step}) before the training."
                )
            self.monitor.load(found[0] / MONITOR_FILE)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure, if there is time."""
        self.monitor.step(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the state beside the checkpoint."""
        if args.should_save:
            self.monitor.save(_checkpoint(args, state) / MONITOR_FILE)


def _own(optimiser: Any) -> Any:
    """The optimiser itself, out of accelerate's wrapper."""
    return optimiser.optimizer if type(optimiser).__name__ == "AcceleratedOptimizer" else optimiser


def _folders(args: TrainingArguments, state: TrainerState) -> list[Path]:
    """Where the checkpoint may lie that a training resumes from."""
    named = args.resume_from_checkpoint
    folders = [Path(named)] if isinstance(named, str) and Path(named).is_dir() else []
    return [*folders, _checkpoint(args, state)]


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _complete(state: TrainerState) -> bool:
    """Whether the last step was an epoch's last."""
    return state.epoch is not None and state.epoch == int(state.epoch)
