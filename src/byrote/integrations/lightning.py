"""Callbacks for Lightning's `Trainer`; they need `pip install 'byrote[lightning]'`.

They are for `lightning.pytorch` and `pytorch_lightning` alike.
"""

from typing import Any, final

import torch
from torch import Tensor
from torch.nn import Module

from byrote.core import did_you_mean, require
from byrote.integrations.heard import Heard
from byrote.integrations.parts import Part, described, part_of
from byrote.integrations.processes import check_epochs, end_epoch, of_all
from byrote.monitoring import Monitor
from byrote.scoring import Recorder

try:
    from lightning.pytorch import Callback
except ImportError:
    require("pytorch_lightning", extra="lightning", purpose="A callback for Lightning")
    from pytorch_lightning import Callback

NO_EPOCH = -1


@final
class RecorderCallback(Callback):  # pyright: ignore[reportGeneralTypeIssues]
    """Record what a LightningModule says of each training example, without a change to it.

    Of a module that is called once a batch, `module` says which; what it returns are the logits:

    >>> from lightning.pytorch import LightningModule, Trainer
    >>> from byrote.integrations import WithIds
    >>> class Classifier(LightningModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.net = torch.nn.Linear(2, 2)
    ...
    ...     def training_step(self, batch, batch_idx):
    ...         x, y = batch[:2]
    ...         return torch.nn.functional.cross_entropy(self.net(x), y)
    ...
    ...     def configure_optimizers(self):
    ...         return torch.optim.SGD(self.parameters(), lr=0.1)
    >>> data = WithIds([(torch.tensor([1.0, 0.0]), 0), (torch.tensor([0.0, 1.0]), 1)])  # items are x, y, id
    >>> recorder = Recorder(len(data), epochs="told")
    >>> callback = RecorderCallback(recorder, ids=2, targets=1, module="net")
    >>> quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    >>> trainer = Trainer(max_epochs=3, callbacks=[callback], accelerator="cpu", **quiet)
    >>> trainer.fit(Classifier(), torch.utils.data.DataLoader(data, batch_size=2))
    >>> recorder.scores()["num_updates"].tolist()
    [3, 3]

    Without `module`, the logits are what `training_step` returns beside its loss: `{"loss": loss, "logits": logits}`.

    Validation, the sanity check and tests are not recorded; each batch of accumulated gradients is. The recorder's
    state is in Lightning's checkpoints, as tensors, and comes back with `fit(…, ckpt_path=…)`. Epochs end with
    Lightning's: make the recorder with `epochs="told"`, which several processes (DDP) need; an example that a sampler
    repeats within an epoch then counts once.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        ids: Part,
        targets: Part,
        logits: Part = "logits",
        module: str | None = None,
        name: str = "recorder",
    ) -> None:
        """Say where in a batch the ids and targets are, and where the logits come from.

        Args:
            recorder: made for the training examples. It is at hand as `callback.recorder`, too.
            ids: where a batch has its examples' ids: a key, a place, a tuple of these for one within the other, or a
                function of the batch. A function that gives None for a batch leaves it out.
            targets: likewise.
            logits: likewise in what `training_step`, or the module, returns. Of a module that returns a tensor, it is
                that.
            module: the name of the submodule, such as "net", whose output is the logits; "" is the LightningModule's
                own `forward`. It is heard until the first backward pass of a batch, and has to be called once. None:
                what `training_step` returns.
            name: of its state in a checkpoint. Two callbacks, such as of two data loaders, need two.
        """
        super().__init__()
        self.recorder = recorder
        self._ids, self._targets, self._logits, self._module = ids, targets, logits, module
        self._name, self._epoch, self._loaded = name, NO_EPOCH, False
        self._heard: Heard | None = None

    @property
    def state_key(self) -> str:
        """Under what name the state is in a checkpoint."""
        return f"byrote.{self._name}"

    def state_dict(self) -> dict[str, Any]:
        """The recorder's state, tensors only."""
        return self._state_of(self.recorder)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; what was recorded here before is forgotten."""
        self.recorder.load_state_dict(state_dict["recorder"])
        self._epoch, self._loaded = int(state_dict["epoch"]), True

    def on_save_checkpoint(self, trainer: Any, pl_module: Module, checkpoint: dict[str, Any]) -> None:
        """Of several processes one writes; it has to know what the others saw in the epoch under way."""
        if trainer.world_size > 1:
            everybody = of_all(self.recorder, num_processes=trainer.world_size)
            checkpoint["callbacks"][self.state_key] = self._state_of(everybody)

    def on_train_start(self, trainer: Any, pl_module: Module) -> None:
        """Listen to the module.

        Raises:
            ValueError: several processes, and a recorder that finds epochs; a checkpoint without the recorder's state;
                or there is no such module.
        """
        check_epochs(self.recorder, num_processes=trainer.world_size)
        if trainer.ckpt_path is not None and not self._loaded and self.recorder.num_epochs == 0:
            raise ValueError(
                f"Expected the recorder's state in {trainer.ckpt_path}, under {self.state_key!r}, got a checkpoint "
                f"without: the visits before it are not known. To record from here on: Recorder(…, epochs='told', "
                f"ended_epochs={trainer.current_epoch})."
            )
        self._leave()
        if self._module is not None:
            self._heard = Heard(_submodule(pl_module, self._module), called=f"module={self._module!r}")

    def on_train_batch_start(self, trainer: Any, pl_module: Module, batch: Any, batch_idx: int) -> None:
        """Hear what the module says from now on.

        Of a checkpoint that was written between an epoch's last batch and its end, the epoch ends here.
        """
        if self._epoch not in (NO_EPOCH, trainer.current_epoch):
            self._end_epoch(trainer)
        self._epoch = trainer.current_epoch
        if self._heard is not None:
            self._heard.begin()

    def on_before_backward(self, trainer: Any, pl_module: Module, loss: Tensor) -> None:
        """Hear no more: what is called from here on computes again what was said, or says it of changed weights."""
        if self._heard is not None:
            self._heard.end()

    def on_train_batch_end(self, trainer: Any, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Record the batch.

        Raises:
            ValueError: it has no ids, targets or logits where they were said to be, or they do not fit.
        """
        skipped = self._heard is None and pl_module.automatic_optimization and not outputs
        ids = None if skipped else part_of(batch, self._ids, name="ids")
        if ids is None:
            return
        logits = self._returned(outputs) if self._heard is None else self._said(self._heard.only())
        self.recorder.update(ids, logits, part_of(batch, self._targets, name="targets"))

    def on_train_epoch_end(self, trainer: Any, pl_module: Module) -> None:
        """End the recorder's epoch, in all processes."""
        self._end_epoch(trainer)

    def on_train_end(self, trainer: Any, pl_module: Module) -> None:
        """Take the ear off the module."""
        self._leave()

    def on_exception(self, trainer: Any, pl_module: Module, exception: BaseException) -> None:
        """Take the ear off the module, also of a training that fails."""
        self._leave()

    def _state_of(self, recorder: Recorder) -> dict[str, Any]:
        return {"recorder": recorder.state_dict(), "epoch": torch.tensor(self._epoch)}

    def _end_epoch(self, trainer: Any) -> None:
        end_epoch(self.recorder, num_processes=trainer.world_size)
        self._epoch = NO_EPOCH

    def _leave(self) -> None:
        if self._heard is not None:
            self._heard.leave()
        self._heard = None

    def _said(self, output: Any) -> Any:
        whole = isinstance(output, Tensor) and not callable(self._logits)
        return output if whole else part_of(output, self._logits, name="logits")

    def _returned(self, outputs: Any) -> Any:
        try:
            return part_of(outputs, self._logits, name="logits")
        except ValueError as error:
            raise ValueError(
                f"Expected training_step to return a dictionary with the loss and, at {self._logits!r}, the logits; "
                f'got {described(outputs)}. Return {{"loss": loss, "logits": logits}}, or name the submodule whose '
                f'output they are: RecorderCallback(…, module="net").'
            ) from error


@final
class LightningMonitor(Callback):  # pyright: ignore[reportGeneralTypeIssues]
    """Measure with a `byrote.Monitor` while Lightning trains, at steps of the optimiser.

    >>> from lightning.pytorch import LightningModule, Trainer
    >>> class Classifier(LightningModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    ...
    ...     def training_step(self, batch, batch_idx):
    ...         return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    ...
    ...     def configure_optimizers(self):
    ...         return torch.optim.SGD(self.parameters(), lr=0.1)
    >>> def loss(net, batch):
    ...     return torch.nn.functional.cross_entropy(net(batch[0]), batch[1], reduction="none")
    >>> x = torch.eye(4)[:, :2]
    >>> y = x[:, 0].long()
    >>> module = Classifier()
    >>> monitor = Monitor(module.net, loss=loss, probe=(x, y), overhead=float("inf"))
    >>> quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    >>> trainer = Trainer(max_epochs=2, callbacks=[LightningMonitor(monitor)], accelerator="cpu", **quiet)
    >>> trainer.fit(module, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=2))
    >>> monitor.table()["step"].tolist()
    [1, 2, 3, 4]

    The monitor may be of the LightningModule or of a part of it. Unless it has an optimiser already, it is given the
    module's, which says learning rates; of several, the first. Its state is in Lightning's checkpoints, as tensors, and
    comes back with `fit(…, ckpt_path=…)`. With several processes (DDP), each needs its own part of the probe.
    """

    def __init__(self, monitor: Monitor, *, name: str = "monitor") -> None:
        """Take a monitor.

        Args:
            monitor: made for the module, or for a part of it. It is at hand as `callback.monitor`, too.
            name: of its state in a checkpoint. Two callbacks need two.
        """
        super().__init__()
        self.monitor = monitor
        self._name, self._step = name, 0

    @property
    def state_key(self) -> str:
        """Under what name the state is in a checkpoint."""
        return f"byrote.{self._name}"

    def state_dict(self) -> dict[str, Any]:
        """The monitor's state, tensors only."""
        return self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; what was measured here before is forgotten."""
        self.monitor.load_state_dict(state_dict)

    def on_train_start(self, trainer: Any, pl_module: Module) -> None:
        """Learn of the optimiser."""
        self._step = trainer.global_step
        if self.monitor.optimiser is None and trainer.optimizers:
            self.monitor.optimiser = trainer.optimizers[0]

    def on_train_batch_end(self, trainer: Any, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure, if the optimiser took a step and there is time."""
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            self.monitor.step(self._step)


def _submodule(module: Module, name: str) -> Module:
    known = [known for known, _ in module.named_modules()]
    if name not in known:
        few = ", ".join(repr(each) for each in known[:10]) + (" …" if len(known) > 10 else "")
        raise ValueError(
            f"Expected module as the name of one in {type(module).__name__}, got {name!r}."
            f"{did_you_mean(name, known)} It has {few}."
        )
    return module.get_submodule(name)
