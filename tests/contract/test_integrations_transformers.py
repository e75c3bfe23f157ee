"""The callback for Hugging Face's Trainer against a loop written by hand: the same visits, so the same table."""

import gc
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import Dataset

from byrote import Recorder
from byrote.core import StoreError
from byrote.integrations import WithIds
from byrote.scoring import Table

pytest.importorskip("transformers", reason="needs byrote[transformers]")
pytest.importorskip("accelerate", reason="needs byrote[transformers]")

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from byrote.integrations.processes import check_epochs
from byrote.integrations.transformers import FILE, RecorderCallback

NUM, BATCH, EPOCHS, SEED = 26, 4, 3, 7
IMAGES, DIGITS = load_digits(return_X_y=True)
TOKENS: Tensor = torch.tensor(np.asarray(IMAGES)[:NUM, 16:48], dtype=torch.int64)
"""Pixels as words: 17 greys, the middle 32 of each digit."""
LABELS: list[int] = np.asarray(DIGITS)[:NUM].tolist()


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_is_collected() -> Iterator[None]:
    """Every training begins with a full collection, which looks at all that was ever imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@final
class Digits(Dataset[dict[str, Any]]):
    """Digits as sentences, without ids."""

    def __init__(self, **columns: Any) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return NUM

    def __getitem__(self, index: int) -> dict[str, Any]:
        others = {name: column[index] for name, column in self._columns.items()}
        return {"input_ids": TOKENS[index], "labels": LABELS[index], **others}


def _model(*, num_labels: int = 10, kind: Any = BertForSequenceClassification) -> Any:
    """Two layers of width 32, at random, dropout off so that a loop says the same."""
    config = BertConfig(
        vocab_size=17,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label={label: str(label) for label in range(num_labels)},
    )
    model, generator = kind(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 5)
    return model


def _arguments(folder: Path, **settings: Any) -> TrainingArguments:
    usual: dict[str, Any] = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 0.1,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "remove_unused_columns": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "data_seed": SEED,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(str(folder), **(usual | settings))


def _trainer(callback: Any, arguments: TrainingArguments, **settings: Any) -> Trainer:
    callbacks = [callback, *settings.pop("callbacks", [])]
    kind = settings.pop("kind", Trainer)
    given = {"model": _model(), "train_dataset": WithIds(Digits()), **settings}
    trainer = kind(args=arguments, callbacks=callbacks, **given)
    trainer.remove_callback(PrinterCallback)
    trainer.model_accepts_loss_kwargs = False  # a mean over sequences is scaled as a loop does, not by tokens
    return trainer


def _callback(**settings: Any) -> RecorderCallback:
    return RecorderCallback(Recorder(NUM, epochs="told"), **settings)


def _order(epoch: int) -> list[list[int]]:
    """Accelerate's order: a permutation from the data's seed and the epoch."""
    return [ids.tolist() for ids in torch.randperm(NUM, generator=_seeded(SEED + epoch)).split(BATCH)]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _loop(*, accumulate: int = 1, regression: bool = False, num_steps: int | None = None) -> Table:
    """A loop of one's own that trains the same model."""
    model = _model(num_labels=1 if regression else 10)
    recorder = Recorder(NUM, epochs="told", regression=regression)
    optimiser, steps = torch.optim.SGD(model.parameters(), lr=0.1), 0
    for batches in map(_order, range(EPOCHS)):
        for start in range(0, len(batches), accumulate):
            if steps == num_steps:
                return recorder.scores()
            together, steps = batches[start : start + accumulate], steps + 1
            for rows in together:
                labels = torch.tensor([LABELS[row] for row in rows], dtype=torch.float32 if regression else torch.int64)
                logits = model(input_ids=TOKENS[rows]).logits
                recorder.update(rows, logits, labels)
                loss = mse_loss(logits[:, 0], labels) if regression else cross_entropy(logits, labels)
                (loss / len(together)).backward()
            optimiser.step()
            optimiser.zero_grad()
        recorder.end_epoch()
    return recorder.scores()


@pytest.fixture(scope="module")
def expected() -> Table:
    return _loop()


def _same(callback: RecorderCallback, expected: Table) -> bool:
    return callback.recorder.scores().arrow.equals(expected.arrow)


def _check_same(table: Table, expected: Table) -> None:
    """Margins to the last bit, so logits too; a loss's last bits depend on what was looked at together with it."""
    for column in expected.columns:
        same = table.arrow[column].equals(expected.arrow[column])
        near = column in {"csl", "el2n", "confidence", "variability"}
        assert same or (near and np.allclose(table[column], expected[column], rtol=1e-6, atol=1e-7)), column


def test_the_table_is_that_of_a_loop(tmp_path: Path, expected: Table) -> None:
    callback = _callback()
    _trainer(callback, _arguments(tmp_path)).train()
    assert _same(callback, expected)
    assert callback.recorder.num_epochs == EPOCHS


def test_ids_travel_through_the_workers_of_a_loader(tmp_path: Path, expected: Table) -> None:
    callback = _callback()
    _trainer(callback, _arguments(tmp_path, dataloader_num_workers=1)).train()
    assert _same(callback, expected)


def test_accumulated_batches_are_recorded_each(tmp_path: Path) -> None:
    callback = _callback()
    _trainer(callback, _arguments(tmp_path, gradient_accumulation_steps=3)).train()
    assert _same(callback, _loop(accumulate=3))


def test_evaluation_is_not_recorded_and_needs_no_other_columns(tmp_path: Path, expected: Table) -> None:
    callback = _callback()
    arguments = _arguments(tmp_path, eval_strategy="steps", eval_steps=2, eval_on_start=True)
    trainer = _trainer(callback, arguments, eval_dataset=WithIds(Digits()))
    trainer.train()
    after = trainer.evaluate()
    assert _same(callback, expected)
    assert 0 < after["eval_loss"] < 10


def test_labels_that_the_trainer_takes_away_are_recorded_from_a_copy(tmp_path: Path, expected: Table) -> None:
    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
        return cross_entropy(outputs.logits, labels)

    data = WithIds(Digits(target=LABELS))
    with pytest.raises(ValueError, match=r"Expected 'labels' in what the model is called with.*targets='target'"):
        _trainer(_callback(), _arguments(tmp_path), compute_loss_func=loss).train()
    callback = _callback(targets="target")
    _trainer(callback, _arguments(tmp_path), compute_loss_func=loss, train_dataset=data).train()
    assert _same(callback, expected)


def _with_text(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {**default_data_collator(items), "key": [item["key"] for item in items]}


def test_ids_may_be_text_that_a_collator_hands_on(tmp_path: Path, expected: Table) -> None:
    names = [f"digit-{row}" for row in range(NUM)]
    callback = RecorderCallback(Recorder(ids=names, epochs="told"), ids="key")
    settings = {"train_dataset": Digits(key=names), "data_collator": _with_text}
    _trainer(callback, _arguments(tmp_path), **settings).train()
    table = callback.recorder.scores()
    assert table["id"].tolist() == names
    assert table.arrow.drop_columns("id").equals(expected.arrow.drop_columns("id"))


def test_numbers_are_predicted_by_a_head_of_one_output(tmp_path: Path) -> None:
    class Numbers(Dataset[Any]):
        def __len__(self) -> int:
            return NUM

        def __getitem__(self, index: int) -> Any:
            return {"input_ids": TOKENS[index], "labels": float(LABELS[index]), "id": index}

    callback = RecorderCallback(Recorder(NUM, epochs="told", regression=True))
    _trainer(callback, _arguments(tmp_path), model=_model(num_labels=1), train_dataset=Numbers()).train()
    assert _same(callback, _loop(regression=True))


@final
class Stops(TrainerCallback):
    """As a machine that goes down."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("save", [{"save_steps": 5}, {"save_steps": 7}, {"save_strategy": "epoch"}], ids=str)
def test_a_training_that_resumes_gives_the_table_of_one_that_was_not_stopped(
    save: dict[str, Any], tmp_path: Path, expected: Table
) -> None:
    """Checkpoints within an epoch (of 7 steps), at its last step, and once it ended."""
    arguments = _arguments(tmp_path, **({"save_strategy": "steps"} | save))
    with pytest.raises(KeyboardInterrupt):
        _trainer(_callback(), arguments, callbacks=[Stops(13)]).train()
    second = _callback()
    _trainer(second, arguments).train(resume_from_checkpoint=True)
    assert second.recorder.num_epochs == EPOCHS
    _check_same(second.recorder.scores(), expected)


def test_a_limit_of_steps_leaves_an_epoch_that_may_go_on(tmp_path: Path, expected: Table) -> None:
    first = _callback()
    _trainer(first, _arguments(tmp_path, max_steps=10, save_strategy="steps", save_steps=10)).train()
    assert first.recorder.num_epochs == 1
    assert _same(first, _loop(num_steps=10))
    second = _callback()
    _trainer(second, _arguments(tmp_path)).train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    _check_same(second.recorder.scores(), expected)


def test_a_checkpoint_without_the_recorders_state_is_refused(tmp_path: Path, expected: Table) -> None:
    arguments = _arguments(tmp_path, save_strategy="steps", save_steps=7)
    with pytest.raises(KeyboardInterrupt):
        _trainer(_callback(), arguments, callbacks=[Stops(8)]).train()
    checkpoint, elsewhere = tmp_path / "checkpoint-7", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (checkpoint / FILE).rename(elsewhere / FILE)
    with pytest.raises(ValueError, match=r"recorder.safetensors beside the checkpoint of step 7.*ended_epochs=1\)"):
        _trainer(_callback(), arguments).train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(StoreError, match="Could not read"):
        _callback().load(checkpoint)
    found = _callback()
    found.load(elsewhere)
    _trainer(found, _arguments(tmp_path)).train(resume_from_checkpoint=str(checkpoint))
    _check_same(found.recorder.scores(), expected)
    late = RecorderCallback(Recorder(NUM, epochs="told", ended_epochs=1))
    _trainer(late, _arguments(tmp_path)).train(resume_from_checkpoint=str(checkpoint))
    early = Recorder.load(elsewhere / FILE)
    early.merge(late.recorder)
    _check_same(early.scores(), expected)


def test_a_state_of_the_first_epoch_that_lies_elsewhere_is_taken(tmp_path: Path, expected: Table) -> None:
    arguments = _arguments(tmp_path, save_strategy="steps", save_steps=3)
    with pytest.raises(KeyboardInterrupt):
        _trainer(_callback(), arguments, callbacks=[Stops(4)]).train()
    found = _callback()
    found.load(tmp_path / "checkpoint-3")
    (tmp_path / "checkpoint-3" / FILE).unlink()
    _trainer(found, _arguments(tmp_path)).train(resume_from_checkpoint=True)
    _check_same(found.recorder.scores(), expected)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    arguments = _arguments(tmp_path)
    with pytest.raises(ValueError, match=r"remove_unused_columns=False\), so that id reach"):
        _trainer(_callback(), _arguments(tmp_path, remove_unused_columns=True))
    with pytest.raises(ValueError, match=r"Expected a column 'id' in every training batch.*WithIds"):
        _trainer(_callback(), arguments, train_dataset=Digits()).train()
    with pytest.raises(ValueError, match=r"Expected ids from 0 to 24, got \d+ to 25"):
        _trainer(RecorderCallback(Recorder(NUM - 1)), arguments).train()
    with pytest.raises(ValueError, match=r"Expected logits at 'scores', got a SequenceClassifierOutput of loss"):
        _trainer(_callback(logits="scores"), arguments).train()
    tokens = _model(kind=BertForTokenClassification)
    with pytest.raises(ValueError, match=r"logits of shape \[batch, class\] for a batch of 4 ids, got \(4, 32, 10\)"):
        _trainer(_callback(), arguments, model=tokens, train_dataset=WithIds(Tokens())).train()


@final
class Tokens(Dataset[Any]):
    """A label for each token."""

    def __len__(self) -> int:
        return NUM

    def __getitem__(self, index: int) -> Any:
        return {"input_ids": TOKENS[index], "labels": TOKENS[index] % 10}


@final
class Twice(Trainer):
    """Calls the model again, with all of its batch or without the ids."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        again = dict(inputs)
        if self.args.run_name == "without":
            del again["id"]
        with torch.no_grad():
            model(**again)
        return super().compute_loss(model, inputs, *args, **kwargs)


def test_a_model_is_called_once_a_batch_with_its_ids(tmp_path: Path, expected: Table) -> None:
    for name in ("with", "without"):
        callback = _callback()
        trainer = _trainer(callback, _arguments(tmp_path, run_name=name), kind=Twice)
        if name == "with":
            with pytest.raises(ValueError, match="got a batch for which it is called again with its ids"):
                trainer.train()
        else:
            trainer.train()
            assert _same(callback, expected)


def _process(rank: int, port: int, folder: str) -> None:
    """One of two that train together; accelerate repeats two examples to fill up, and saves within an epoch."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    callback = _callback()
    several: dict[str, Any] = {"ddp_backend": "gloo", "save_strategy": "steps", "save_steps": 5}
    _trainer(callback, _arguments(Path(folder), **several)).train()
    callback.recorder.save(f"{folder}/{rank}.safetensors")
    torch.distributed.destroy_process_group()


def _two_by_hand(num_steps: int) -> Table:
    """Two processes, in one: of two batches each has one, and gradients are averaged."""
    model, recorder = _model(), Recorder(NUM, epochs="told")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(num_steps):
        epoch, place = divmod(step, 4)
        order = [row for batch in _order(epoch) for row in batch]
        order += order[: 32 - NUM]
        for rank in range(2):
            start = (2 * place + rank) * BATCH
            rows = order[start : start + BATCH]
            labels = torch.tensor([LABELS[row] for row in rows])
            logits = model(input_ids=TOKENS[rows]).logits
            recorder.update(rows, logits, labels)
            (cross_entropy(logits, labels) / 2).backward()
        optimiser.step()
        optimiser.zero_grad()
        if place == 3:
            recorder.end_epoch()
    return recorder.scores()


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
    expected = _two_by_hand(12)
    assert np.unique(expected["num_updates"]).tolist() == [EPOCHS]
    for rank in range(2):
        _check_same(Recorder.load(tmp_path / f"{rank}.safetensors").scores(), expected)
    _check_same(Recorder.load(tmp_path / "checkpoint-5" / FILE).scores(), _two_by_hand(5))


def test_a_recorder_that_finds_epochs_is_refused_where_several_processes_train() -> None:
    with pytest.raises(ValueError, match=r"epochs='told'\) where 2 processes train together"):
        check_epochs(Recorder(3), num_processes=2)
