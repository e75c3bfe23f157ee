"""The callback for Lightning against a loop written by hand: the same visits, so the same table, to the last bit."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import Linear, Module, Sequential, Tanh
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, TensorDataset

from byrote import Recorder
from byrote.integrations import WithIds
from byrote.scoring import Table

pytest.importorskip("lightning.pytorch", reason="needs byrote[lightning]")

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import CombinedLoader

from byrote.integrations.lightning import RecorderCallback

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{advice}")
    for advice in (
        "You defined a `validation_step`",
        "`training_step` returned `None`",
        "Checkpoint directory",
        "Found .* in eval mode",
        "Be aware that when using `ckpt_path`",
    )
]

NUM, BATCH, EPOCHS = 30, 8, 3
IMAGES, DIGITS = load_digits(return_X_y=True)
X: Tensor = torch.tensor(np.asarray(IMAGES)[:NUM] / 16, dtype=torch.float32)
Y: Tensor = torch.tensor(np.asarray(DIGITS)[:NUM])
DATA = WithIds(TensorDataset(X, Y))
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def _net() -> Module:
    generator = torch.Generator().manual_seed(0)
    net = Sequential(Linear(64, 8), Tanh(), Linear(8, 10))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return net


def _order(epoch: int) -> list[int]:
    return torch.randperm(NUM, generator=torch.Generator().manual_seed(epoch)).tolist()


@final
class Shuffled(Sampler[int]):
    """An order that is the epoch's alone, so that a training that resumes goes on in it."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(_order(self.epoch))

    def __len__(self) -> int:
        return NUM


@final
class Returning(LightningModule):
    """Returns its logits, and does whatever else a training does between batches."""

    def __init__(self, *, returned: bool = True) -> None:
        super().__init__()
        self.net, self._returned = _net(), returned

    def forward(self, x: Any) -> dict[str, Any]:
        return {"scores": self.net(x)}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch["x"] if isinstance(batch, dict) else batch[0], batch["y"] if isinstance(batch, dict) else batch[1]
        logits = self(x)["scores"]
        loss = cross_entropy(logits, y)
        return {"loss": loss, "logits": logits} if self._returned else loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0] + 1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def _loop(*, epochs: int = EPOCHS, accumulate: int = 1, told: bool = True) -> Table:
    net, recorder = _net(), Recorder(NUM, epochs="told" if told else "found")
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    for epoch in range(epochs):
        batches = torch.tensor(_order(epoch)).split(BATCH)
        for step, ids in enumerate(batches):
            logits = net(X[ids])
            recorder.update(ids, logits, Y[ids])
            (cross_entropy(logits, Y[ids]) / accumulate).backward()
            if (step + 1) % accumulate == 0 or step + 1 == len(batches):
                optimiser.step()
                optimiser.zero_grad()
        recorder.end_epoch()
    return recorder.scores()


def _loader(data: Dataset[Any] = DATA, **settings: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=BATCH, sampler=Shuffled(), **settings)


def _fit(callback: RecorderCallback, model: LightningModule, loader: Any = None, **settings: Any) -> Trainer:
    resume = {"ckpt_path": settings.pop("ckpt_path"), "weights_only": True} if "ckpt_path" in settings else {}
    validation = settings.pop("validation", None)
    callbacks = [*settings.pop("callbacks", []), callback]
    settings = {"max_epochs": EPOCHS, "enable_checkpointing": False} | QUIET | settings
    trainer = Trainer(callbacks=callbacks, **settings)
    trainer.fit(model, _loader() if loader is None else loader, validation, **resume)
    return trainer


@pytest.fixture(scope="module")
def expected() -> Table:
    return _loop()


@final
class Named(Dataset[Any]):
    """Items that are dictionaries."""

    def __getitem__(self, index: int) -> Any:
        return {"x": X[index], "y": Y[index], "meta": {"ids": index}}

    def __len__(self) -> int:
        return NUM


@pytest.mark.parametrize(
    ("returned", "where", "data"),
    [
        (True, {"ids": 2, "targets": 1}, DATA),
        (True, {"ids": ("meta", "ids"), "targets": "y"}, Named()),
        (True, {"ids": lambda batch: batch[2], "targets": lambda batch: batch[1].tolist()}, DATA),
        (False, {"ids": 2, "targets": 1, "module": "net"}, DATA),
        (False, {"ids": 2, "targets": 1, "module": "", "logits": "scores"}, DATA),
    ],
    ids=["returned", "dictionaries", "functions", "submodule", "own-forward"],
)
def test_the_table_is_that_of_a_loop(returned: bool, where: dict[str, Any], data: Any, expected: Table) -> None:
    callback = RecorderCallback(Recorder(NUM, epochs="told"), **where)
    model = Returning(returned=returned)
    _fit(callback, model, _loader(data))
    assert callback.recorder.scores().arrow.equals(expected.arrow)
    assert not model.net._forward_hooks
    assert not model._forward_pre_hooks


def test_neither_validation_nor_its_sanity_check_nor_accumulation_changes_what_is_recorded() -> None:
    for module in (None, "net"):
        callback = RecorderCallback(Recorder(NUM, epochs="told"), ids=2, targets=1, module=module)
        model = Returning(returned=module is None)
        held_out = DataLoader(DATA, batch_size=4)
        _fit(callback, model, validation=held_out, val_check_interval=2, accumulate_grad_batches=3)
        assert callback.recorder.scores().arrow.equals(_loop(accumulate=3).arrow)


def test_epochs_that_are_found_do_too() -> None:
    callback = RecorderCallback(Recorder(NUM), ids=2, targets=1)
    _fit(callback, Returning())
    assert callback.recorder.scores().arrow.equals(_loop(told=False).arrow)


@final
class Resumable:
    """A loader that knows where it is, so that a training can go on within an epoch."""

    def __init__(self) -> None:
        self._epoch, self._done = 0, 0

    def __len__(self) -> int:
        return -(-NUM // BATCH)

    def __iter__(self) -> Iterator[Any]:
        batches = torch.tensor(_order(self._epoch)).split(BATCH)[self._done :]
        for ids in batches:
            last = self._done + 1 == len(self)
            self._epoch, self._done = (self._epoch + 1, 0) if last else (self._epoch, self._done + 1)
            yield X[ids], Y[ids], ids

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._epoch, "done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._epoch, self._done = state["epoch"], state["done"]


@pytest.mark.parametrize("when", ["epoch", "validation", "within", "last-batch"])
def test_a_training_that_resumes_gives_the_table_of_one_that_was_not_stopped(
    when: str, tmp_path: Path, expected: Table
) -> None:
    """Checkpoints at the end of an epoch, after the validation before it, within an epoch and at its last batch."""
    steps = {"within": 6, "last-batch": 8}.get(when)
    every: dict[str, Any] = {"every_n_train_steps": steps} if steps else {"every_n_epochs": 2}
    keep = ModelCheckpoint(tmp_path, save_top_k=-1, filename="kept", save_on_train_epoch_end=when == "epoch", **every)
    validation = DataLoader(DATA, batch_size=BATCH) if when == "validation" else None

    def loader() -> Any:
        return Resumable() if when == "within" else _loader()

    first = RecorderCallback(Recorder(NUM, epochs="told"), ids=2, targets=1)
    stop: dict[str, Any] = {"max_epochs": 2} if steps is None else {"max_epochs": -1, "max_steps": steps}
    stopping = {"callbacks": [keep], "enable_checkpointing": True, "validation": validation, **stop}
    _fit(first, Returning(), loader(), **stopping)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.ckpt"]
    second = RecorderCallback(Recorder(NUM, epochs="told"), ids=2, targets=1)
    _fit(second, Returning(), loader(), ckpt_path=tmp_path / "kept.ckpt", validation=validation)
    assert second.recorder.num_epochs == EPOCHS
    assert second.recorder.scores().arrow.equals(expected.arrow)


def test_a_checkpoint_without_the_recorders_state_is_refused(tmp_path: Path, expected: Table) -> None:
    first = RecorderCallback(Recorder(NUM, epochs="told"), ids=2, targets=1)
    _fit(first, Returning(), max_epochs=1).save_checkpoint(tmp_path / "kept.ckpt")
    other = RecorderCallback(Recorder(NUM, epochs="told"), ids=2, targets=1, name="other")
    with pytest.raises(ValueError, match=r"state in .*kept.ckpt, under 'byrote.other'.*ended_epochs=1\)"):
        _fit(other, Returning(), ckpt_path=tmp_path / "kept.ckpt")
    late = RecorderCallback(Recorder(NUM, epochs="told", ended_epochs=1), ids=2, targets=1, name="other")
    _fit(late, Returning(), ckpt_path=tmp_path / "kept.ckpt")
    first.recorder.merge(late.recorder)
    _check_same(first.recorder.scores(), expected)


def test_two_loaders_have_two_recorders(tmp_path: Path) -> None:
    """The shorter begins again while the longer lasts; both states are in one checkpoint."""
    long, short = WithIds(TensorDataset(X, Y)), WithIds(TensorDataset(X[:16], Y[:16]))

    @final
    class Two(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = _net()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            logits = {name: self.net(part[0]) for name, part in batch.items()}
            loss = sum(cross_entropy(logits[name], part[1]) for name, part in batch.items())
            return {"loss": loss, **logits}

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    def callbacks() -> list[RecorderCallback]:
        return [
            RecorderCallback(Recorder(num, epochs="told"), ids=(key, 2), targets=(key, 1), logits=key, name=key)
            for key, num in (("long", NUM), ("short", 16))
        ]

    loaders = {"long": DataLoader(long, batch_size=BATCH), "short": DataLoader(short, batch_size=BATCH)}
    one, two = callbacks()
    trainer = _fit(one, Two(), CombinedLoader(loaders, "max_size_cycle"), callbacks=[two], max_epochs=2)
    assert one.recorder.scores()["num_updates"].tolist() == [2] * NUM
    assert two.recorder.scores()["num_updates"].tolist() == [2] * 16
    trainer.save_checkpoint(tmp_path / "both.ckpt")
    again, other = callbacks()
    _fit(again, Two(), CombinedLoader(loaders), callbacks=[other], max_epochs=2, ckpt_path=tmp_path / "both.ckpt")
    assert again.recorder.scores().arrow.equals(one.recorder.scores().arrow)
    assert other.recorder.scores().arrow.equals(two.recorder.scores().arrow)
    with pytest.raises(RuntimeError, match="state_key"):
        Trainer(callbacks=[one, callbacks()[0]], **QUIET)


def test_the_older_package_takes_it_too(tmp_path: Path, expected: Table) -> None:
    older = pytest.importorskip("pytorch_lightning")

    class Module(older.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = _net()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    for epochs in (2, EPOCHS):
        callback = RecorderCallback(Recorder(NUM, epochs="told"), ids=2, targets=1, module="net")
        trainer = older.Trainer(callbacks=[callback], max_epochs=epochs, enable_checkpointing=False, **QUIET)
        trainer.fit(Module(), _loader(), ckpt_path=tmp_path / "kept.ckpt" if epochs == EPOCHS else None)
        trainer.save_checkpoint(tmp_path / "kept.ckpt")
    assert callback.recorder.scores().arrow.equals(expected.arrow)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": "id"}, r"Expected ids at 'id', got a list of Tensor, Tensor, Tensor\. Say where they are with ids=…"),
        ({"targets": 5}, r"Expected targets at 5, got a list of Tensor, Tensor, Tensor"),
        ({"ids": lambda batch: batch[2] + 1}, rf"Expected ids from 0 to {NUM - 1}, got "),
        (
            {"logits": "outputs"},
            r"Expected training_step to return .* at .outputs., the logits; got a dict of loss",
        ),
        ({"module": "nets"}, r"one in Returning, got 'nets'\. Did you mean: net\? It has '', 'net', 'net.0'"),
        ({"module": "net.1"}, r"Expected logits of shape \[batch, class\]|targets in \[0, 8\)"),
    ],
    ids=["no-id", "no-target", "unknown-id", "no-logits", "no-module", "not-the-logits"],
)
def test_what_is_missing_is_said(change: dict[str, Any], message: str) -> None:
    callback = RecorderCallback(Recorder(NUM, epochs="told"), **{"ids": 2, "targets": 1, **change})
    model = Returning()
    with pytest.raises(ValueError, match=message):
        _fit(callback, model)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("times", "message"), [(0, "it was called never"), (2, "2 times before the backward pass")])
def test_a_module_is_called_once_a_batch(times: int, message: str) -> None:
    @final
    class Often(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.other = _net(), _net()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            nets: list[Callable[[Any], Any]] = [self.other, *[self.net] * times]
            return cross_entropy(torch.stack([net(batch[0]) for net in nets]).sum(0), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    callback = RecorderCallback(Recorder(NUM, epochs="told"), ids=2, targets=1, module="net")
    with pytest.raises(ValueError, match=message):
        _fit(callback, Often())


def test_a_step_that_is_skipped_and_a_batch_without_ids_are_left_out() -> None:
    @final
    class Skipping(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = _net()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            logits = self.net(batch[0])
            return None if batch_idx == 1 else {"loss": cross_entropy(logits, batch[1]), "logits": logits}

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    callback = RecorderCallback(Recorder(NUM), ids=lambda batch: None if int(batch[2][0]) == 0 else batch[2], targets=1)
    _fit(callback, Skipping(), DataLoader(DATA, batch_size=10), max_epochs=1)
    assert callback.recorder.scores()["num_updates"].tolist() == [0] * 20 + [1] * 10


@final
class Twice(LightningModule):
    """Optimises by hand, and goes through the net again once it has stepped."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.automatic_optimization = _net(), False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimiser: Any = self.optimizers()
        self.manual_backward(cross_entropy(self.net(batch[0]), batch[1]))
        optimiser.step()
        optimiser.zero_grad()
        self.net(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def test_what_a_module_says_after_the_backward_pass_is_not_heard(expected: Table) -> None:
    callback = RecorderCallback(Recorder(NUM, epochs="told"), ids=2, targets=1, module="net")
    _fit(callback, Twice())
    assert callback.recorder.scores().arrow.equals(expected.arrow)


def _process(rank: int, port: int, folder: str) -> None:
    """One of two that train together; the sampler repeats an example, and a checkpoint is written within an epoch."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "byrote"}
    os.environ |= meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    keep = ModelCheckpoint(folder, filename="kept", every_n_train_steps=5, save_top_k=-1)
    callback = RecorderCallback(Recorder(NUM - 1, epochs="told"), ids=2, targets=1, module="", logits="scores")
    loader = DataLoader(WithIds(TensorDataset(X[:-1], Y[:-1])), batch_size=5, shuffle=True)
    several: dict[str, Any] = {"strategy": "ddp", "devices": 2, "enable_checkpointing": True, "max_epochs": 2}
    _fit(callback, Returning(returned=False), loader, callbacks=[keep], **several)
    callback.recorder.save(f"{folder}/{rank}.safetensors")
    torch.distributed.destroy_process_group()


def _two_by_hand(num_steps: int) -> Table:
    """Two processes, in one: of a step, each has half the batch, and gradients are averaged."""
    net, recorder = _net(), Recorder(NUM - 1, epochs="told")
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    items: Any = range(NUM - 1)
    samplers = [DistributedSampler(items, num_replicas=2, rank=rank, seed=0) for rank in range(2)]
    for step in range(num_steps):
        epoch, place = divmod(step, 3)
        for sampler in samplers:
            sampler.set_epoch(epoch)
            ids = torch.tensor(list(sampler)).split(5)[place]
            logits = net(X[ids])
            recorder.update(ids, logits, Y[ids])
            (cross_entropy(logits, Y[ids]) / 2).backward()
        optimiser.step()
        optimiser.zero_grad()
        if place == 2:
            recorder.end_epoch()
    return recorder.scores()


def _check_same(table: Table, expected: Table) -> None:
    """Margins to the last bit, so logits too; a loss's last bits depend on what was looked at together with it."""
    for column in expected.columns:
        same = table.arrow[column].equals(expected.arrow[column])
        near = column in {"csl", "el2n", "confidence", "variability"}
        assert same or (near and np.allclose(table[column], expected[column], rtol=1e-6, atol=1e-7)), column


@pytest.mark.skipif(sys.platform != "linux", reason="forks, so that torch is not loaded again in each process")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_processes_that_train_together_each_hold_what_one_would(tmp_path: Path) -> None:
    context = torch.multiprocessing.get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [context.Process(target=_process, args=(rank, port, str(tmp_path))) for rank in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=60)
        process.kill()
    assert [process.exitcode for process in running] == [0, 0]
    expected = _two_by_hand(6)
    assert np.unique(expected["num_updates"]).tolist() == [2]
    for rank in range(2):
        _check_same(Recorder.load(tmp_path / f"{rank}.safetensors").scores(), expected)
    kept = RecorderCallback(Recorder(NUM - 1, epochs="told"), ids=2, targets=1, module="", logits="scores")
    loader = DataLoader(WithIds(TensorDataset(X[:-1], Y[:-1])), batch_size=5)
    _fit(kept, Returning(returned=False), loader, max_steps=5, max_epochs=-1, ckpt_path=tmp_path / "kept.ckpt")
    _check_same(kept.recorder.scores(), _two_by_hand(5))
