"""A monitor inside Lightning, inside Hugging Face's Trainer, and beside trackers."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from byrote import integrations
from byrote.integrations import mlflow_sink
from monitored import DIGITS, IMAGES, X, Y, cross_entropy, network, watching

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.mark.filterwarnings("ignore:Found .* in eval mode", "ignore:Checkpoint directory", "ignore:Be aware that when")
def test_lightning_measures_at_steps_of_the_optimiser_and_resumes(tmp_path: Path) -> None:
    lightning: Any = pytest.importorskip("lightning.pytorch", reason="needs byrote[lightning]")

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return cross_entropy(self.net, batch).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader, module = DataLoader(TensorDataset(X, Y), batch_size=16), Classifier()
    monitor = watching(module.net)
    options = {**QUIET, "accumulate_grad_batches": 2, "default_root_dir": tmp_path}
    trainer = lightning.Trainer(max_epochs=2, callbacks=[integrations.LightningMonitor(monitor)], **options)
    trainer.fit(module, loader)
    assert monitor.table()["step"].tolist() == [1, 2, 3, 4]
    assert monitor.table()["lr"].tolist() == [0.1] * 4
    trainer.save_checkpoint(tmp_path / "stored.ckpt")
    again = Classifier()
    other = watching(again.net)
    trainer = lightning.Trainer(max_epochs=3, callbacks=[integrations.LightningMonitor(other)], **options)
    trainer.fit(again, loader, ckpt_path=tmp_path / "stored.ckpt", weights_only=True)
    assert other.table()["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert other.table().to_pandas()[:4].equals(monitor.table().to_pandas())
    assert other.table()["distance_from_start"][-1] > other.table()["distance_from_start"][0]


def test_transformers_with_their_default_attention_are_measured_and_resume(tmp_path: Path) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="needs byrote[transformers]")
    pytest.importorskip("accelerate", reason="needs byrote[transformers]")
    tokens = torch.tensor(IMAGES[:24, 16:32], dtype=torch.int64)
    dataset = [{"input_ids": row, "labels": int(label)} for row, label in zip(tokens, DIGITS[:24], strict=True)]

    def model() -> nn.Module:
        config = transformers.BertConfig(
            vocab_size=17, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=16, num_labels=10,
        )  # fmt: skip
        net, generator = transformers.BertForSequenceClassification(config), torch.Generator().manual_seed(0)
        assert net.config._attn_implementation == "sdpa"
        with torch.no_grad():
            for part in net.parameters():
                part.copy_(torch.randn(part.shape, generator=generator) / 5)
        return net

    def loss(net: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits = net(input_ids=batch["input_ids"]).logits
        return nn.functional.cross_entropy(logits, batch["labels"], reduction="none")

    def train(monitor: Any, net: nn.Module, *, steps: int, resume: bool) -> None:
        arguments = transformers.TrainingArguments(
            str(tmp_path), max_steps=steps, per_device_train_batch_size=4, gradient_accumulation_steps=2, save_steps=2,
            report_to="none", disable_tqdm=True, dataloader_pin_memory=False, learning_rate=1e-3, use_cpu=True,
        )  # fmt: skip
        callback = integrations.TransformersMonitor(monitor)
        trainer = transformers.Trainer(net, arguments, train_dataset=dataset, callbacks=[callback])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=resume)

    probe = {"input_ids": tokens, "labels": torch.tensor(DIGITS[:24])}
    net, again = model(), model()
    monitor = watching(net, loss=loss, probe=probe, num_batches=4)
    train(monitor, net, steps=2, resume=False)
    table = monitor.table()
    assert table["step"].tolist() == [1, 2]
    for column in ("lambda_max", "preconditioned_lambda_max", "stability", "fisher_trace", "feature_movement"):
        assert table.arrow[column].null_count == 0, (column, monitor.notes)
    assert abs(table["lambda_max_residual"][-1]) < 0.1 * table["lambda_max"][-1]
    assert net.training
    other = watching(again, loss=loss, probe=probe, num_batches=4)
    train(other, again, steps=4, resume=True)
    assert other.table()["step"].tolist() == [1, 2, 3, 4]
    assert other.table().to_pandas()[:2].equals(table.to_pandas())


def test_mlflow_keeps_rows_in_a_real_store(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow: Any = pytest.importorskip("mlflow", reason="MLflow is not installed")
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
        run = mlflow.start_run()
        monitor = watching(network(), sinks=[mlflow_sink(mlflow, run=run)])
        rows = [monitor.measure(step, lr=0.1) for step in (3, 5)]
        mlflow.end_run()
        history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "byrote/lambda_max")
    assert [(metric.step, metric.value) for metric in history] == [(int(r["step"]), r["lambda_max"]) for r in rows]


def test_an_unknown_name_is_no_integration() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'KerasMonitor'"):
        integrations.KerasMonitor  # noqa: B018
