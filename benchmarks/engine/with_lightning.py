"""Lightning's Trainer: no logger, no checkpoints, no progress bar, no summary, no sanity check."""

import logging
import warnings
from collections.abc import Sequence

import torch
from benchmarks.engine.work import Train, Work, data_sets, new_network
from lightning import LightningModule, Trainer  # pyright: ignore[reportMissingImports]
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Classifier(LightningModule):
    """A network, its loss and its optimiser."""

    def __init__(self, work: Work, seed: int) -> None:
        super().__init__()
        self.network, self.case = new_network(work, seed), work.case
        self.accuracy = 0.0

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """The loss of a batch."""
        return functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor]) -> None:
        """All held-out examples are one batch."""
        self.accuracy = (self.network(batch[0]).argmax(1) == batch[1]).float().mean().item()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As the recipe says."""
        return self.case.torch_optimiser(self.parameters())


def prepare(work: Work) -> Train:
    """One network after the other."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    learnt, held_out = data_sets(work)

    def train(seeds: Sequence[int]) -> list[float]:
        return [_train(work, learnt, held_out, seed) for seed in seeds]

    return train


def _train(work: Work, learnt: TensorDataset, held_out: TensorDataset, seed: int) -> float:
    classifier = Classifier(work, seed)
    trainer = Trainer(
        max_epochs=work.case.epochs,
        accelerator="gpu" if work.device == "cuda" else "cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    batches = DataLoader(learnt, batch_size=work.case.batch_size, shuffle=True)
    trainer.fit(classifier, batches, DataLoader(held_out, batch_size=len(held_out)))
    return classifier.accuracy
