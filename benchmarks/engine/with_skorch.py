"""skorch's NeuralNetClassifier, silent, with the held-out examples as its validation set."""

from collections.abc import Sequence
from functools import partial

from benchmarks.engine.work import Tensors, Train, Work, new_network, tensors
from skorch import NeuralNetClassifier  # pyright: ignore[reportMissingImports]
from skorch.dataset import Dataset  # pyright: ignore[reportMissingImports]
from skorch.helper import predefined_split  # pyright: ignore[reportMissingImports]
from torch import nn


def prepare(work: Work) -> Train:
    """One network after the other."""
    data = tensors(work)

    def train(seeds: Sequence[int]) -> list[float]:
        return [_train(work, data, seed) for seed in seeds]

    return train


def _train(work: Work, data: Tensors, seed: int) -> float:
    case = work.case
    net = NeuralNetClassifier(
        partial(new_network, work, seed),
        criterion=nn.CrossEntropyLoss,  # pyright: ignore[reportArgumentType]
        optimizer=case.torch_optimiser_class,
        max_epochs=case.epochs,
        batch_size=case.batch_size,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=len(data.test_x),
        train_split=predefined_split(Dataset(data.test_x, data.test_y)),  # pyright: ignore[reportArgumentType]
        device=work.device,
        verbose=0,
        lr=case.torch_settings["lr"],
        **{f"optimizer__{name}": value for name, value in case.torch_settings.items() if name != "lr"},
    )
    net.fit(data.train_x, data.train_y)
    return float(net.history[-1, "valid_acc"])  # pyright: ignore[reportArgumentType]
