"""The plain PyTorch loop with a shuffling DataLoader over a TensorDataset."""

from collections.abc import Sequence

import torch
from benchmarks.engine.work import Train, Work, data_sets, new_network
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


def prepare(work: Work) -> Train:
    """One network after the other."""
    learnt, held_out = data_sets(work)

    def train(seeds: Sequence[int]) -> list[float]:
        return [_train(work, learnt, held_out, seed) for seed in seeds]

    return train


def _train(work: Work, learnt: TensorDataset, held_out: TensorDataset, seed: int) -> float:
    network, case = new_network(work, seed), work.case
    optimiser = case.torch_optimiser(network.parameters())
    batches = DataLoader(learnt, batch_size=case.batch_size, shuffle=True)
    tests = DataLoader(held_out, batch_size=len(held_out))
    accuracy = 0.0
    for _ in range(case.epochs):
        network.train()
        for x, y in batches:
            optimiser.zero_grad()
            loss = functional.cross_entropy(network(x), y)
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            right = sum(int((network(x).argmax(1) == y).sum()) for x, y in tests)
        accuracy = right / len(held_out)
    return accuracy
